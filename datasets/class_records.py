"""What every classification data set looks like: one class a picture, pictures read on demand."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np


class ClassificationDataset:
    """Pictures and their classes.

    Args:
        name: shown to people, for example "cifar10 train".
        classes: class names; a label points into them.
        labels: (N,) class index of each picture.
        image_ids: the name of each picture within the data set.
        read: gives picture ``index`` as uint8 RGB (H, W, 3); called from several threads.
        notes: what was dropped while reading, each naming its file.
    """

    def __init__(
        self,
        name: str,
        classes: Iterable[str],
        labels: Sequence[int] | np.ndarray,
        image_ids: Sequence[str],
        read: Callable[[int], np.ndarray],
        notes: Iterable[str] = (),
    ) -> None:
        """Refuse labels that point nowhere."""
        self.name, self.classes, self.notes = name, tuple(classes), tuple(notes)
        self.labels, self.image_ids = np.asarray(labels, np.int32).reshape(-1), tuple(image_ids)
        self._read = read
        if len(self.labels) != len(self.image_ids):
            raise ValueError(f"{name}: {len(self.labels)} labels but {len(self.image_ids)} pictures")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise ValueError(
                f"{name}: labels from {self.labels.min()} to {self.labels.max()}, {len(self.classes)} classes"
            )

    def __len__(self) -> int:
        """How many pictures there are."""
        return len(self.labels)

    def __repr__(self) -> str:
        """Name and size."""
        return f"<{type(self).__name__} {self.name!r}: {len(self)} images, {len(self.classes)} classes>"

    def image(self, index: int) -> np.ndarray:
        """Picture ``index`` as uint8 RGB (H, W, 3)."""
        return self._read(int(index))

    def subset(self, indices: Iterable[int], name: str | None = None) -> "ClassificationDataset":
        """Some of the pictures, in the order given; all classes stay."""
        kept = [int(index) for index in indices]
        wrong = [index for index in kept if not 0 <= index < len(self)]
        if wrong:
            raise IndexError(f"{self.name} has pictures 0 to {len(self) - 1}, not {wrong[0]}")
        return ClassificationDataset(
            name or self.name,
            self.classes,
            self.labels[kept],
            [self.image_ids[index] for index in kept],
            lambda index: self._read(kept[index]),
            self.notes,
        )
