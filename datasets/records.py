"""What every detection data set looks like: samples with boxes, and pictures read on demand."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoo.datasets.fast_images import read_image_fast
from zoo.datasets.images import ImageError, read_image


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture's ground truth.

    Attributes:
        image_id: the picture's name within its data set.
        path: its file, or None where it is composed in memory.
        size: (height, width) in pixels.
        boxes: (G, 4) float64, (x1, y1, x2, y2) in continuous pixels; G may be 0. (Not float32: rounded, a box may
            miss an overlap threshold that it reaches, and the metrics differ from the official ones.)
        classes: (G,) int32, index into the data set's ``classes`` (0-based, no background).
        difficult: (G,) bool, neither counted nor punished in evaluation.
        crowd: (G,) bool, a box around many objects.
        areas: (G,) float64, the objects' own areas in square pixels, by which COCO's metric sorts them into small,
            medium and large (COCO gives that of the outline, not of the box); None where there are only boxes.
    """

    image_id: str
    path: Path | None
    size: tuple[int, int]
    boxes: np.ndarray
    classes: np.ndarray
    difficult: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Arrays take their declared types; sizes that do not agree are refused."""
        boxes = np.asarray(self.boxes, np.float64).reshape(-1, 4)
        fixed = {"boxes": boxes, "size": (int(self.size[0]), int(self.size[1]))}
        kinds = {"classes": np.int32, "difficult": bool, "crowd": bool}
        for name, dtype in (kinds if self.areas is None else {**kinds, "areas": np.float64}).items():
            fixed[name] = np.asarray(getattr(self, name), dtype).reshape(-1)
            if len(fixed[name]) != len(boxes):
                raise ValueError(f"{self.image_id}: {len(boxes)} boxes but {len(fixed[name])} {name}")
        for name, value in fixed.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        """How many boxes there are."""
        return len(self.boxes)


class DetectionDataset:
    """Samples, their class names, and the pictures behind them.

    Args:
        name: shown to people, for example "bccd train".
        classes: class names; a sample's class index points into them.
        samples: the ground truth, in the order of the data set.
        notes: what was dropped or clipped while reading, each naming its file.
        category_ids: the number by which the data's own files call each class (COCO's have gaps); None where
            they have none. Result files need them.
    """

    def __init__(
        self,
        name: str,
        classes: Iterable[str],
        samples: Sequence[Sample],
        notes: Iterable[str] = (),
        category_ids: Iterable[int] | None = None,
    ) -> None:
        """See the class."""
        self.name = name
        self.classes = tuple(classes)
        self.samples = samples
        self.notes = tuple(notes)
        self.category_ids = None if category_ids is None else tuple(category_ids)

    def __len__(self) -> int:
        """How many pictures there are."""
        return len(self.samples)

    def __repr__(self) -> str:
        """Name and counts."""
        return f"<{type(self).__name__} {self.name!r}: {len(self):,} images, {len(self.classes)} classes>"

    def sample(self, index: int) -> Sample:
        """The ground truth of picture ``index``."""
        return self.samples[index]

    def image(self, index: int) -> np.ndarray:
        """Picture ``index`` as uint8 RGB (H, W, 3)."""
        return self.load(index)[0]

    def load(self, index: int) -> tuple[np.ndarray, Sample]:
        """Picture and ground truth together, read once."""
        sample = self.sample(index)
        if sample.path is None:
            raise ValueError(f"{sample.image_id}: this data set has no picture for it")
        image = read_image_fast(sample.path)
        if image.shape[:2] != sample.size:
            image = _as_annotated(image, sample)
        return image, sample

    def sizes(self) -> np.ndarray:
        """(height, width) of every picture: int32 (N, 2), without reading any."""
        return np.array([sample.size for sample in self.samples], np.int32).reshape(-1, 2)

    @property
    def max_boxes(self) -> int:
        """No picture has more boxes than this."""
        return max((len(sample) for sample in self.samples), default=0)

    @property
    def objects(self) -> int | None:
        """How many objects count, neither difficult nor crowds; None where it takes long to tell."""
        return sum(int((~(sample.difficult | sample.crowd)).sum()) for sample in self.samples)

    def subset(self, indices: Iterable[int]) -> "DetectionDataset":
        """The pictures ``indices`` of this data set, in that order, as a data set of its own."""
        return Subset(self, [int(index) for index in indices])


class Subset(DetectionDataset):
    """Some pictures of another data set."""

    def __init__(self, parent: DetectionDataset, indices: Sequence[int]) -> None:
        """``indices`` count in the parent's order."""
        for index in indices:
            if not 0 <= index < len(parent):
                raise IndexError(f"{parent.name}: no picture {index}; it has {len(parent)} (0 to {len(parent) - 1})")
        self.parent, self.indices = parent, tuple(indices)
        samples = [parent.sample(index) for index in indices]
        name = f"{parent.name}, {len(samples)} of {len(parent)}"
        super().__init__(name, parent.classes, samples, parent.notes, parent.category_ids)

    def load(self, index: int) -> tuple[np.ndarray, Sample]:
        """Picture and ground truth together, read once."""
        return self.parent.load(self.indices[index])


def _as_annotated(image: np.ndarray, sample: Sample) -> np.ndarray:
    """The picture in the size its annotation speaks of, or an error: its boxes would mean nothing."""
    height, width = image.shape[:2]
    if (width, height) == sample.size:
        # Some tools annotate the pixels as stored and ignore the camera's EXIF rotation: so do we, then.
        stored = read_image(sample.path, exif=False)
        if stored.shape[:2] == sample.size:
            return stored
    raise ImageError(
        str(sample.path),
        f"the picture is {width}x{height} (width x height), its annotation says "
        f"{sample.size[1]}x{sample.size[0]}; correct the annotation or replace the picture",
    )
