"""A data set whose classes are numbered as another list has them, as a model's."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from zoo.datasets.checks import checked_classes
from zoo.datasets.records import DetectionDataset, Sample


class Renumbered(DetectionDataset):
    """Another data set with the classes ``classes``; each object keeps the name of its class.

    Args:
        parent: the data set.
        classes: names in the order to number them, all of the parent's among them.

    Raises:
        ValueError: the parent has a class that is not among them.

    >>> from zoo.datasets.digits import digit_scenes
    >>> data = Renumbered(digit_scenes("test", 1), "9876543210 x".replace(" ", ""))
    >>> data.classes[data.sample(0).classes[0]] == str(digit_scenes("test", 1).sample(0).classes[0])
    True
    """

    def __init__(self, parent: DetectionDataset, classes: Sequence[str]) -> None:
        """Reads nothing."""
        names = checked_classes(classes)
        if unknown := [name for name in parent.classes if name not in names]:
            raise ValueError(f"{parent.name}: has the classes {', '.join(unknown)}; known: {', '.join(names)}")
        self.parent = parent
        places = np.array([names.index(name) for name in parent.classes], np.int32)
        samples = [replace(sample, classes=places[sample.classes]) for sample in parent.samples]
        ids = parent.category_ids
        if ids is not None:
            known = dict(zip(parent.classes, ids, strict=True))
            # As `zoo.datasets.coco` numbers classes that only the caller knows.
            ids = [known.get(name, max(known.values(), default=0) + 1 + at) for at, name in enumerate(names)]
        super().__init__(parent.name, names, samples, parent.notes, ids)

    def load(self, index: int) -> tuple[np.ndarray, Sample]:
        """Picture and ground truth together, read once."""
        return self.parent.load(index)[0], self.sample(index)
