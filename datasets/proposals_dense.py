"""Dense proposals: boxes of every size and shape, everywhere (Girshick 2015, section 5.5)."""

from dataclasses import asdict, dataclass

import numpy as np

from zoo.datasets.proposals import Scored, clipped, ranked, tidy

_MOST_SIZES = 64


@dataclass(frozen=True)
class DenseBoxes:
    """A sliding window of several sizes and shapes, whatever the picture shows.

    Attributes:
        smallest: square root of the smallest boxes' area, in pixels of the picture.
        factor: from one size to the next; the largest is as large as the picture.
        ratios: height / width.
        step: how far a window moves, as a share of its own side.
        most: boxes kept, or None for all (tens of thousands).
        seed: of the order, in which large boxes come rather early: a part of the boxes covers the picture evenly.

    >>> DenseBoxes(smallest=50, factor=2, ratios=(1,), step=1, most=None)(np.zeros((100, 100, 3), np.uint8)).shape
    (5, 4)
    """

    smallest: float = 32.0
    factor: float = 2**0.5
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    step: float = 0.25
    most: int | None = 2000
    seed: int = 0

    name = "dense"

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if self.smallest < 1 or self.factor <= 1 or self.step <= 0 or not self.ratios or min(self.ratios) <= 0:
            raise ValueError(
                f"smallest={self.smallest} is at least 1, factor={self.factor} above 1, step={self.step} and "
                f"ratios={self.ratios} above 0"
            )
        if self.most is not None and self.most < 1:
            raise ValueError(f"most is at least 1, or None, not {self.most}")

    @property
    def settings(self) -> dict[str, object]:
        """All attributes."""
        return {**asdict(self), "ratios": list(self.ratios)}

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Boxes (P, 4) float32 inside ``image`` (H, W, 3)."""
        height, width = image.shape[:2]
        parts = [np.array([[0.0, 0.0, width, height]])]
        size = self.smallest
        for _ in range(_MOST_SIZES):
            for ratio in self.ratios:
                parts.append(_grid((size * ratio**0.5, size / ratio**0.5), (height, width), self.step))
            size *= self.factor
            if size > max(height, width):
                break
        boxes = clipped(np.concatenate(parts), (height, width))
        boxes = boxes[tidy(boxes)]
        return boxes[ranked(boxes, self.seed)][: self.most]

    def scored(self, image: np.ndarray) -> Scored:
        """The boxes; there are no scores."""
        return self(image), None


def _grid(box: tuple[float, float], size: tuple[int, int], step: float) -> np.ndarray:
    """All places of a box (height, width) within ``size``, from border to border: (N, 4)."""
    starts = []
    for side, whole in zip(box, size, strict=True):
        if side > whole:
            return np.zeros((0, 4))
        starts.append(np.linspace(0, whole - side, int(np.ceil((whole - side) / (step * side))) + 1))
    y, x = (each.ravel() for each in np.meshgrid(*starts, indexing="ij"))
    return np.stack([x, y, x + box[1], y + box[0]], axis=1)
