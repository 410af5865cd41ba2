"""Counts of a data set: classes, sizes, shapes, boxes in a picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo.datasets.doctor_parts import Part

SIZE_EDGES = 2.0 ** np.arange(1, 12.01, 0.5)  # pixels, root of the area
RATIO_EDGES = 2.0 ** np.arange(-4, 4.01, 0.25)  # height / width


@dataclass(frozen=True, eq=False)
class Boxes:
    """All boxes of a data set that are no crowds, in one piece.

    Attributes:
        boxes: (N, 4) float64 in pixels of the original pictures.
        sizes: (N, 2) (height, width) of each box's picture.
        classes: (N,) class index.
        part: (N,) index of the part it is in.
        index: (N,) index of its picture in that part.
    """

    boxes: np.ndarray
    sizes: np.ndarray
    classes: np.ndarray
    part: np.ndarray
    index: np.ndarray


@dataclass(frozen=True)
class ClassCount:
    """A class: its objects, the pictures with any, how many are difficult or crowds, and objects by split."""

    name: str
    objects: int
    pictures: int
    difficult: int
    crowd: int
    by_split: dict[str, int]


def gather(parts: Sequence[Part]) -> Boxes:
    """The boxes of all parts, crowds left out."""
    boxes, sizes, classes, where, index = [], [], [], [], []
    for number, part in enumerate(parts):
        for at in range(len(part.data)):
            sample = part.data.sample(at)
            kept = ~sample.crowd
            boxes.append(sample.boxes[kept].astype(np.float64))
            classes.append(sample.classes[kept])
            count = len(boxes[-1])
            sizes.append(np.tile(np.array(sample.size, np.int64), (count, 1)))
            where.append(np.full(count, number))
            index.append(np.full(count, at))
    empty = np.zeros(0, np.int64)
    return Boxes(
        np.concatenate([*boxes, np.zeros((0, 4))]),
        np.concatenate([*sizes, np.zeros((0, 2), np.int64)]),
        np.concatenate([*classes, empty]),
        np.concatenate([*where, empty]),
        np.concatenate([*index, empty]),
    )


def count_classes(parts: Sequence[Part]) -> list[ClassCount]:
    """Every class of the list, in its order."""
    names = parts[0].data.classes
    objects = np.zeros((len(parts), len(names)), int)
    pictures, difficult, crowd = (np.zeros(len(names), int) for _ in range(3))
    for number, part in enumerate(parts):
        for at in range(len(part.data)):
            sample = part.data.sample(at)
            np.add.at(objects[number], sample.classes, 1)
            np.add.at(difficult, sample.classes[sample.difficult], 1)
            np.add.at(crowd, sample.classes[sample.crowd], 1)
            pictures[np.unique(sample.classes)] += 1
    return [
        ClassCount(
            name,
            int(objects[:, at].sum()),
            int(pictures[at]),
            int(difficult[at]),
            int(crowd[at]),
            {part.split: int(objects[number, at]) for number, part in enumerate(parts) if part.split},
        )
        for at, name in enumerate(names)
    ]


@dataclass(frozen=True, eq=False)
class Histograms:
    """What is drawn: root of the area, height / width (both as counts between edges), boxes in each picture, and
    (height, width) of each picture.
    """

    size_counts: np.ndarray
    ratio_counts: np.ndarray
    per_picture: np.ndarray
    picture_sizes: np.ndarray

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        sizes, counts = np.unique(self.picture_sizes, axis=0, return_counts=True)
        most = np.argsort(-counts)[:20]
        boxes, pictures = np.unique(self.per_picture, return_counts=True)
        return {
            "size_edges": [round(float(edge), 2) for edge in SIZE_EDGES],
            "size_counts": self.size_counts.tolist(),
            "ratio_edges": [round(float(edge), 4) for edge in RATIO_EDGES],
            "ratio_counts": self.ratio_counts.tolist(),
            "boxes_per_picture": {str(int(key)): int(value) for key, value in zip(boxes, pictures, strict=True)},
            "picture_sizes": [
                {"height": int(sizes[at, 0]), "width": int(sizes[at, 1]), "count": int(counts[at])} for at in most
            ],
        }


def histograms(parts: Sequence[Part], boxes: Boxes) -> Histograms:
    """Counts of sizes and shapes; what lies beyond the last edge counts in the last place."""
    sides = boxes.boxes[:, 2:] - boxes.boxes[:, :2]
    size = np.sqrt(sides.prod(axis=1))
    ratio = sides[:, 1] / sides[:, 0]
    numbers = [(len(part.data.sample(at)), part.data.sample(at).size) for part in parts for at in range(len(part.data))]
    return Histograms(
        np.histogram(np.clip(size, SIZE_EDGES[0], SIZE_EDGES[-1]), SIZE_EDGES)[0],
        np.histogram(np.clip(ratio, RATIO_EDGES[0], RATIO_EDGES[-1]), RATIO_EDGES)[0],
        np.array([count for count, _ in numbers], int),
        np.array([size for _, size in numbers], int).reshape(-1, 2),
    )
