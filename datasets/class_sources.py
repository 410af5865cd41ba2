"""Classification data from class folders, from a zip of them, or from tensorflow-datasets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from zoo.datasets.class_files import FileClasses
from zoo.datasets.class_records import ClassificationDataset

TFDS = "tfds:"
ALLOWED = (
    "a folder with a folder of pictures per class, a .zip of such a folder, or tfds:NAME for a set of "
    "tensorflow-datasets such as tfds:cifar10 or tfds:imagenet2012"
)


class ClassSource(Protocol):
    """A data set before one has chosen a split.

    Attributes:
        splits: names of its splits; empty if all pictures stand together.
    """

    splits: tuple[str, ...]

    def load(self, split: str | None = None, classes: Sequence[str] | None = None) -> ClassificationDataset:
        """One split, see `load_classes`."""


def open_classes(spec: str | Path, index_folder: str | Path | None = None) -> ClassSource:
    """Look what a classification data set holds; no picture is read.

    Args:
        spec: a folder of class folders, or of splits that hold class folders; a ``.zip`` of either; ``tfds:NAME``;
            or ``tfds:PATH`` with the folder of a prepared set of tensorflow-datasets.
        index_folder: folder in which to keep where the pictures of a set of tensorflow-datasets lie, and their
            labels, so that its files are searched only once; ``None`` to search them each time.

    Raises:
        ValueError: there is no such data set; the message says what there is.
    """
    if str(spec).startswith(TFDS):
        from zoo.datasets.class_tfds import TfdsClasses

        return TfdsClasses(str(spec).removeprefix(TFDS), index_folder)
    path = Path(spec)
    if not path.exists():
        raise ValueError(f"{spec} does not exist; give {ALLOWED}")
    return FileClasses(path, ALLOWED)


def load_classes(
    spec: str | Path, split: str | None = None, classes: Sequence[str] | None = None
) -> ClassificationDataset:
    """Open one split of a classification data set.

    Args:
        spec: see `open_classes`.
        split: name of the folder that holds the class folders, or a split of tensorflow-datasets such as ``train``
            or ``train[:90%]``; ``None`` where the class folders stand at the top.
        classes: class names in the order to number them; ``None`` for the sorted names of the folders.

    Raises:
        ValueError: there is no such data set or split, or it has other classes; the message says what there is.

    >>> load_classes("cifar10.zip", "test")              # doctest: +SKIP
    <ClassificationDataset 'cifar10 test': 10000 images, 10 classes>
    """
    return open_classes(spec).load(split, classes)


def class_splits(spec: str | Path) -> tuple[str, ...]:
    """Names of the splits that a data set has; empty if its classes stand at the top."""
    return open_classes(spec).splits
