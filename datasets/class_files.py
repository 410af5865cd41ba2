"""Class folders, on disk or in a zip archive."""

import os
import threading
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from zoo.datasets.class_names import number_classes
from zoo.datasets.class_records import ClassificationDataset
from zoo.datasets.images import IMAGE_SUFFIXES, ImageError, natural_key, read_image

# A single folder around everything is a split if it is called like one, and otherwise only packing.
_SPLITS = ("train", "training", "trainval", "val", "valid", "validation", "test", "testing")


class FileClasses:
    """Pictures as CLASS/FILE or SPLIT/CLASS/FILE, perhaps below folders around everything, as archives have them.

    Args:
        path: a folder or a zip archive.
        allowed: what else could have been given, for errors.

    Attributes:
        splits: names of the splits; empty if the class folders stand at the top.
        notes: what was left out.
    """

    def __init__(self, path: Path, allowed: str) -> None:
        """List the files once; of a folder with a million pictures this takes seconds."""
        self.path, self._allowed = path, allowed
        if path.is_dir():
            self._files: _Folder | _Zip = _Folder(path)
        elif zipfile.is_zipfile(path):
            self._files = _Zip(path)
        else:
            raise ValueError(f"{path} is a file, but no zip archive (or a damaged one); give {allowed}")
        self._found, self.notes = _sort_out(self._files.folders(), path)
        self.splits = tuple(sorted(set(self._found) - {""}))

    def load(self, split: str | None = None, classes: Sequence[str] | None = None) -> ClassificationDataset:
        """The pictures of one split, by class and then by name; see `zoo.datasets.class_sources.load_classes`."""
        pictures = self._found.get(split or "")
        if not pictures:
            if split is None and self.splits:
                raise ValueError(f"{self.path} has the splits {', '.join(self.splits)}; choose one")
            if split is not None and self._found:
                raise ValueError(f"{self.path} has no split {split!r}; it has {', '.join(self.splits) or 'none'}")
            raise ValueError(f"{self.path} holds no pictures in class folders; give {self._allowed}")
        found = sorted(pictures, key=natural_key)
        known, numbers = number_classes(found, classes, str(self.path))
        ids: list[str] = []
        files: list[str] = []
        labels: list[int] = []
        for label in found:
            folders = {name: folder for folder, names in pictures[label] for name in names}
            order = sorted(folders, key=natural_key)
            ids += [f"{label}/{name}" for name in order]
            files += [f"{folders[name]}/{name}" for name in order]
            labels += [numbers[label]] * len(order)
        source, path = self._files, self.path
        return ClassificationDataset(
            f"{path.stem} {split}" if split else path.stem,
            known,
            labels,
            ids,
            lambda index: read_image(source.read(files[index]), name=f"{path}/{files[index]}"),
            self.notes,
        )


class _Folder:
    """Files under a folder; hidden folders are not looked into."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folders(self) -> dict[str, list[str]]:
        """Names of the files in each folder; folders with forward slashes, below the root."""
        found: dict[str, list[str]] = {}
        _list(str(self.root), "", (), found)
        return found

    def read(self, name: str) -> Path:
        return self.root / name


def _list(path: str, folder: str, above: tuple[tuple[int, int], ...], found: dict[str, list[str]]) -> None:
    """Add the files below ``path``; links are followed unless they lead back to a folder ``above``."""
    state = os.stat(path)
    place = (state.st_dev, state.st_ino)
    if place in above:
        return
    with os.scandir(path) as entries:
        for entry in entries:
            # Of what kind an entry is comes with the listing: no file is asked for by itself.
            if not entry.is_dir():
                found.setdefault(folder, []).append(entry.name)
            elif not entry.name.startswith("."):
                _list(entry.path, f"{folder}/{entry.name}" if folder else entry.name, (*above, place), found)


class _Zip:
    """Files in a zip archive; nothing is unpacked."""

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, threading.Lock()
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise ValueError(f"{path} cannot be opened as a zip archive ({error}); fetch it again") from error

    def folders(self) -> dict[str, list[str]]:
        """As in `_Folder`; folders as the archive spells them."""
        found: dict[str, list[str]] = {}
        for info in self._zip.infolist():
            if not info.is_dir():
                folder, _, name = info.filename.rpartition("/")
                found.setdefault(folder, []).append(name)
        return found

    def read(self, name: str) -> bytes:
        try:
            with self._lock:
                return self._zip.read(name)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
            raise ImageError(f"{self.path}/{name}", f"cannot be read from the archive ({error})") from error


# By split ("" for none) and class: folders, each with the names of its pictures.
_Found = dict[str, dict[str, list[tuple[str, list[str]]]]]


def _sort_out(folders: dict[str, list[str]], path: Path) -> tuple[_Found, tuple[str, ...]]:
    """Tell splits, classes and packing apart; what does not lie as deep as most pictures do is left out, and told."""
    places: list[tuple[list[str], str, list[str]]] = []
    for folder, names in folders.items():
        parts = [part for part in folder.split("/") if part not in ("", ".")]
        pictures = [name for name in names if _is_picture(name)]
        if pictures and not any(part.startswith((".", "__MACOSX")) for part in parts):
            places.append((parts, folder, pictures))
    counts: Counter[int] = Counter()
    for parts, _, pictures in places:
        counts[len(parts)] += len(pictures)
    deep = max(counts, key=lambda depth: (counts[depth], -depth), default=0)
    astray = [f"{folder}/{name}".lstrip("/") for parts, folder, names in places if len(parts) != deep for name in names]
    good = [place for place in places if len(place[0]) == deep]
    while good and _is_packing([parts for parts, _, _ in good]):
        for parts, _, _ in good:
            del parts[0]
    if not good or not 1 <= len(good[0][0]) <= 2:
        return {}, ()
    found: _Found = {}
    for parts, folder, pictures in good:
        split = parts[0] if len(parts) == 2 else ""
        found.setdefault(split, {}).setdefault(parts[-1], []).append((folder, pictures))
    return found, _note(path, astray)


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _is_packing(places: list[list[str]]) -> bool:
    """Whether one folder stands around everything and can go."""
    if len(places[0]) < 2 or len({parts[0] for parts in places}) > 1:
        return False
    return len(places[0]) > 2 or places[0][0].lower() not in _SPLITS


def _note(path: Path, astray: list[str]) -> tuple[str, ...]:
    if not astray:
        return ()
    more = f" and {len(astray) - 1} more" if len(astray) > 1 else ""
    return (f"{path}: {astray[0]}{more} left out: not in a class folder as the other pictures are",)
