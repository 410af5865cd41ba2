"""Classification data from class folders, from a zip of them, or from tensorflow-datasets."""

import io
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from zoo.datasets.class_records import ClassificationDataset
from zoo.datasets.images import IMAGE_SUFFIXES, ImageError, natural_key, read_image

TFDS = "tfds:"
_ALLOWED = (
    "a folder with a folder of pictures per class, a .zip of such a folder, or tfds:NAME for a set of "
    "tensorflow-datasets such as tfds:cifar10 or tfds:imagenet2012"
)


def load_classes(
    spec: str | Path, split: str | None = None, classes: Sequence[str] | None = None
) -> ClassificationDataset:
    """Open a classification data set.

    Args:
        spec: a folder of class folders, or of splits that hold class folders; a ``.zip`` of either; or
            ``tfds:NAME``.
        split: name of the folder that holds the class folders, or a split of tensorflow-datasets; ``None`` where
            the class folders stand at the top.
        classes: class names in the order to number them; ``None`` for the sorted names of the folders.

    Raises:
        ValueError: there is no such data set or split, or it has other classes; the message says what there is.

    >>> load_classes("cifar10.zip", "test")              # doctest: +SKIP
    <ClassificationDataset 'cifar10 test': 10000 images, 10 classes>
    """
    if str(spec).startswith(TFDS):
        return _from_tfds(str(spec).removeprefix(TFDS), split, classes)
    path = Path(spec)
    if path.is_dir():
        files = _Folder(path)
    elif path.is_file() and zipfile.is_zipfile(path):
        files = _Zip(path)
    else:
        what = "is a file, but no zip archive" if path.is_file() else "does not exist"
        raise ValueError(f"{spec} {what}; give {_ALLOWED}")
    return _from_files(files, path, split, classes)


def class_splits(spec: str | Path) -> tuple[str, ...]:
    """Names of the splits that a folder or zip of class folders has; empty if its classes stand at the top."""
    if str(spec).startswith(TFDS):
        import tensorflow_datasets as tfds

        return tuple(tfds.builder(str(spec).removeprefix(TFDS)).info.splits)
    path = Path(spec)
    if not path.exists():
        raise ValueError(f"{spec} does not exist; give {_ALLOWED}")
    pictures = _pictures(_Folder(path) if path.is_dir() else _Zip(path))
    return tuple(sorted({picture.split for picture in pictures} - {""}))


class _Folder:
    """Files under a folder, by relative name with forward slashes."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        return [path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file()]

    def read(self, name: str) -> bytes | Path:
        return self.root / name


class _Zip:
    """Files in a zip archive; nothing is unpacked."""

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, threading.Lock()
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise ValueError(f"{path} cannot be opened as a zip archive ({error}); fetch it again") from error

    def names(self) -> list[str]:
        return [info.filename for info in self._zip.infolist() if not info.is_dir()]

    def read(self, name: str) -> bytes | Path:
        try:
            with self._lock:
                return self._zip.read(name)
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            raise ImageError(f"{self.path}:{name}", f"cannot be read from the archive ({error})") from error


class _Picture(NamedTuple):
    """A picture's place: split folder ("" if there is none), class folder, and the file's whole name."""

    split: str
    label: str
    file: str

    @property
    def image_id(self) -> str:
        return f"{self.label}/{PurePosixPath(self.file).name}"


def _pictures(files: _Folder | _Zip) -> list[_Picture]:
    """Pictures as CLASS/FILE or SPLIT/CLASS/FILE, perhaps below one folder around everything, as archives have it."""
    names = [name for name in files.names() if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES]
    parts = {name: PurePosixPath(name).parts for name in names}
    parts = {name: each for name, each in parts.items() if not any(part.startswith((".", "__MACOSX")) for part in each)}
    while parts and min(map(len, parts.values())) > 3 and len({each[0] for each in parts.values()}) == 1:
        parts = {name: each[1:] for name, each in parts.items()}
    splits = {2: lambda each: "", 3: lambda each: each[0]}
    return [_Picture(splits[len(each)](each), each[-2], name) for name, each in parts.items() if len(each) in splits]


def _from_files(files: _Folder | _Zip, path: Path, split: str | None, classes) -> ClassificationDataset:
    pictures = _pictures(files)
    splits = sorted({picture.split for picture in pictures} - {""})
    chosen = [picture for picture in pictures if picture.split == (split or "")]
    if not chosen:
        if split is None and splits:
            raise ValueError(f"{path} has the splits {', '.join(splits)}; choose one")
        if split is not None and pictures:
            raise ValueError(f"{path} has no split {split!r}; it has {', '.join(splits) or 'none'}")
        raise ValueError(f"{path} holds no pictures in class folders; give {_ALLOWED}")
    found = sorted({picture.label for picture in chosen}, key=natural_key)
    known = tuple(found if classes is None else classes)
    strange = [label for label in found if label not in known]
    if strange:
        raise ValueError(
            f"{path} has folders of other classes: {', '.join(strange[:8])}; known are {', '.join(known[:20])}"
        )
    chosen.sort(key=lambda picture: natural_key(picture.image_id))
    number = {name: index for index, name in enumerate(known)}
    return ClassificationDataset(
        f"{path.stem} {split}" if split else path.stem,
        known,
        [number[picture.label] for picture in chosen],
        [picture.image_id for picture in chosen],
        lambda index: read_image(files.read(chosen[index].file), name=f"{path}/{chosen[index].file}"),
    )


def _from_tfds(name: str, split: str | None, classes: Sequence[str] | None) -> ClassificationDataset:
    """A prepared set of tensorflow-datasets with ``image`` and ``label``, read through its random-access source."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name)
    except tfds.core.registered.DatasetNotFoundError as error:
        raise ValueError(f"tensorflow-datasets knows no {name!r} ({str(error).splitlines()[0]})") from error
    features = builder.info.features or {}
    if "image" not in features or "label" not in features:
        raise ValueError(f"tfds:{name} has the features {', '.join(features)}, not image and label")
    split = split or "train"
    if not builder.is_prepared():
        raise ValueError(
            f"tfds:{name} is not prepared in {builder.data_dir}; run `tfds build {name}` where there is a network "
            "(imagenet2012 first needs its archives in the folder downloads/manual), or copy a prepared folder there"
        )
    if split not in builder.info.splits:
        raise ValueError(f"tfds:{name} has no split {split!r}; it has {', '.join(builder.info.splits)}")
    known = tuple(features["label"].names)
    if classes is not None and tuple(classes) != known:
        raise ValueError(
            f"tfds:{name} has the classes {', '.join(known[:8])} ..., not {', '.join(tuple(classes)[:8])} ..."
        )
    encoded = {"image": tfds.decode.SkipDecoding()}
    images, labels = [], []
    for example in tfds.as_numpy(builder.as_dataset(split=split, decoders=encoded, shuffle_files=False)):
        images.append(bytes(example["image"]))
        labels.append(int(example["label"]))
    ids = [f"{split}/{index}" for index in range(len(labels))]
    return ClassificationDataset(
        f"{name} {split}",
        known,
        np.asarray(labels),
        ids,
        lambda index: read_image(io.BytesIO(images[index]).getvalue(), name=f"tfds:{name} {ids[index]}"),
    )
