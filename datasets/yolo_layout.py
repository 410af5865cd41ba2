"""Where things lie in a YOLO text folder: data.yaml, images, labels, splits."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from zoo.datasets.checks import checked_classes, read_text, relative_name
from zoo.datasets.images import IMAGE_SUFFIXES
from zoo.datasets.notes import AnnotationError, Reading

LAYOUT = "data.yaml, or images/NAME.jpg with labels/NAME.txt"

_YAML = ("data.yaml", "data.yml", "dataset.yaml")
# Names that data.yaml gives to splits; "valid" is another tool's word for "val". Others are taken if they name folders.
SPLITS = ("train", "val", "valid", "test")
# What else may stand there, and could be taken for the folder of a split.
NO_SPLITS = ("path", "names", "nc", "download", "yaml_file", "license", "readme", "images", "labels")


@dataclass(frozen=True)
class YoloLayout:
    """A YOLO data set's parts.

    Attributes:
        root: its folder.
        classes: names from data.yaml; None where there is none.
        parts: folders of pictures, or lists of them, by split; under "" where there are no splits.
    """

    root: Path
    classes: tuple[str, ...] | None
    parts: dict[str, tuple[Path, ...]]

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(name for name in self.parts if name)

    def sources(self, split: str | None) -> tuple[Path, ...]:
        """Folders and lists of a split's pictures; of all for None."""
        if split is None:
            return tuple(dict.fromkeys(path for paths in self.parts.values() for path in paths))
        if split not in self.splits:
            known = ", ".join(self.splits) or "none; without a split every picture is taken"
            raise AnnotationError(f"{self.root}: there is no split {split!r}; splits: {known}")
        return self.parts[split]


def is_yolo(folder: Path) -> bool:
    """Whether a folder is in one of the layouts."""
    if any((folder / name).is_file() for name in _YAML):
        return True
    return (folder / "images").is_dir() and (folder / "labels").is_dir()


def find_layout(root: Path, reading: Reading) -> YoloLayout:
    """The layout of a folder, or of a data.yaml; what it says of other places is noted in ``reading``."""
    file = root if root.is_file() else next((root / name for name in _YAML if (root / name).is_file()), None)
    if file is not None:
        return _from_yaml(file, reading)
    if not is_yolo(root):
        raise AnnotationError(f"{root}: not a YOLO folder; expected {LAYOUT}")
    images = root / "images"
    folders = sorted(path for path in images.iterdir() if path.is_dir())
    parts = {folder.name: (folder,) for folder in folders} or {"": (images,)}
    return YoloLayout(root, None, parts)


def _from_yaml(file: Path, reading: Reading) -> YoloLayout:
    content = _parse(file, reading)
    root = _root(file, content.get("path"), reading)
    given = {str(name): value if isinstance(value, list) else [value] for name, value in content.items() if value}
    others = [name for name in given if name not in SPLITS + NO_SPLITS and _are_places(root, given[name])]
    parts, out = {}, ""
    for split in (*SPLITS, *others):
        entries = given.get(split, ())
        places = tuple(place for entry in entries if (place := _inside(file, root, split, entry, reading)) is not None)
        if places:
            parts[split] = places
        elif entries:
            out = out or _leads_out(file, root, split, entries[0])
    if not parts and out:
        raise AnnotationError(out)
    if not parts:
        raise AnnotationError(f"{file}: names no pictures; give train, val or test, or folders of other splits")
    return YoloLayout(root, _names(file, content), parts)


def _are_places(root: Path, entries: list) -> bool:
    """Whether these are folders in the data set, or lists of pictures: data.yaml may hold remarks as well."""
    names = [relative_name(entry, root) if isinstance(entry, str) else None for entry in entries]
    return bool(names) and all(name is not None and name.parts and _is_place(root / name) for name in names)


def _is_place(path: Path) -> bool:
    # A remark may be too long for a file's name, which Path.is_dir raises for.
    if not os.path.isdir(path):
        return path.suffix == ".txt" and os.path.isfile(path)
    return any(each.suffix.lower() in IMAGE_SUFFIXES for each in path.rglob("*"))


def _parse(file: Path, reading: Reading) -> dict:
    try:
        import yaml
    except ImportError as error:
        raise AnnotationError(f"{file}: reading YAML needs PyYAML: pip install pyyaml") from error
    try:
        content = yaml.safe_load(read_text(file, reading))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise AnnotationError(f"{file}{line}: not YAML that can be read ({error})") from error
    if not isinstance(content, dict):
        raise AnnotationError(f"{file}: is not a table of train, val, names and so on")
    return content


def _names(file: Path, content: dict) -> tuple[str, ...]:
    names = content.get("names")
    if isinstance(names, dict):
        if set(names) != set(range(len(names))):
            raise AnnotationError(f"{file}: the numbers in names have to be 0 to {len(names) - 1} without gaps")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise AnnotationError(f"{file}: has no names of classes (names: [cat, dog])")
    try:
        found = checked_classes([str(name) for name in names])
    except ValueError as error:
        raise AnnotationError(f"{file}: {error}") from error
    if content.get("nc", len(found)) != len(found):
        raise AnnotationError(f"{file}: nc is {content['nc']}, but there are {len(found)} names")
    return found


def _root(file: Path, given: object, reading: Reading) -> Path:
    """The data set's folder. ``path`` often speaks of another machine: then it is the YAML file's own."""
    if given is None:
        return file.parent
    inner = relative_name(str(given), file.parent)
    if inner is not None and (file.parent / inner).is_dir():
        return file.parent / inner
    reading.note("leads-out", file, f"path {str(given)!r} is no folder in {file.parent}, which is used instead")
    return file.parent


def _inside(file: Path, root: Path, split: str, entry: object, reading: Reading) -> Path | None:
    """The folder or list that an entry names; None for one that an export has left out."""
    name = relative_name(str(entry), root)
    if name is not None:
        return root / name
    # Some exports write ../train/images and mean train/images; and ../test/images without any such folder.
    parts = PurePosixPath(str(entry)).parts
    stripped = PurePosixPath(*(part for part in parts if part != ".."))
    exported = parts[0] == ".." and parts.count("..") == 1
    if not stripped.is_absolute() and (root / stripped).exists():
        reading.note("leads-out", file, f"{split}: {entry} leads out of the data set; {stripped} is taken instead")
        return root / stripped
    if exported:
        reading.note("leads-out", file, f"{split}: {entry} leads out of the data set; it has no {stripped}, left out")
        return None
    raise AnnotationError(_leads_out(file, root, split, entry))


def _leads_out(file: Path, root: Path, split: str, entry: object) -> str:
    return f"{file}: {split}: {entry!r} leads out of the data set; write it relative to {root}"
