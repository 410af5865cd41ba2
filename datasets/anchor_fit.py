"""How well anchors cover the boxes of a data set, and anchors that would cover them better.

Shapes are (width, height) in pixels of the prepared picture; K shapes stand on every cell of the feature map, as
`zoo.heads.anchors` puts them (Ren 2015, section 3.1.1).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

_STEPS = (1.25, 1.1, 1.04)  # factors by which sizes and ratios are tried larger and smaller
_SAMPLE = 4000  # boxes that a search looks at
_PIECE = 20_000  # boxes compared with all anchors at once


@dataclass(frozen=True)
class AnchorPlan:
    """What a detector does: the anchors, the feature map's stride, and how pictures are resized before.

    Attributes:
        sizes: square roots of the anchors' areas.
        ratios: height / width.
        stride: pixels a cell spans.
        short, long: the short side becomes ``short``, unless the long one would exceed ``long``.
    """

    sizes: tuple[float, ...] = (128, 256, 512)
    ratios: tuple[float, ...] = (0.5, 1, 2)
    stride: int = 16
    short: int = 600
    long: int = 1000

    def __post_init__(self) -> None:
        """Refuse numbers that make no anchors."""
        if not self.sizes or not self.ratios or min(*self.sizes, *self.ratios, self.stride) <= 0:
            raise ValueError(f"anchor sizes, ratios and stride are positive numbers, not {self}")
        if not 0 < self.short <= self.long:
            raise ValueError(f"need 0 < short <= long, got short={self.short} and long={self.long}")

    @property
    def shapes(self) -> np.ndarray:
        """(K, 2) float64 width and height."""
        return grid_shapes(self.sizes, self.ratios)


def grid_shapes(sizes: Sequence[float], ratios: Sequence[float]) -> np.ndarray:
    """(K, 2) width and height of sizes x ratios.

    >>> grid_shapes([100], [1, 4])
    array([[100., 100.],
           [ 50., 200.]])
    """
    return np.array([(size / ratio**0.5, size * ratio**0.5) for ratio in ratios for size in sizes], np.float64)


def prepare(boxes: np.ndarray, sizes: np.ndarray, plan: AnchorPlan) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (N, 4) and their pictures' sizes (N, 2) as the detector sees them: resized, sides in whole pixels."""
    sizes = sizes.astype(np.float64)
    scale = np.minimum(plan.short / sizes.min(axis=1), plan.long / sizes.max(axis=1))
    new = np.maximum(np.floor(sizes * scale[:, None] + 0.5 + 1e-4), 1)
    factor = (new / sizes)[:, ::-1]
    return boxes * np.tile(factor, 2), new


def best_iou(boxes: np.ndarray, sizes: np.ndarray, shapes: np.ndarray, stride: int, inside: bool = False) -> np.ndarray:
    """The highest IoU that any anchor has with each box.

    The overlap of two intervals never grows with the distance of their centres, so that for each shape the anchor
    whose centre is nearest in x and in y is the best one: no grid need be laid out.

    Args:
        boxes: (N, 4) in pixels of the prepared pictures.
        sizes: (N, 2) height and width of these.
        shapes: (K, 2) width and height of the anchors.
        stride: cells are so wide, their centres at (i + .5) * stride.
        inside: only anchors that lie wholly inside the picture, as in training (Ren 2015, section 3.1.3).

    Returns:
        (N,) float64; 0 where no anchor overlaps.
    """
    best = np.zeros(len(boxes))
    for start in range(0, len(boxes), _PIECE):
        piece = slice(start, start + _PIECE)
        best[piece] = _overlaps(boxes[piece], sizes[piece], shapes, stride, inside).max(axis=1)
    return best


def _overlaps(boxes: np.ndarray, sizes: np.ndarray, shapes: np.ndarray, stride: int, inside: bool) -> np.ndarray:
    """(N, K) IoU of each box with the nearest anchor of each shape; 0 where there is none."""
    both = np.ones((len(boxes), len(shapes)))
    for axis in (0, 1):
        side, length = shapes[None, :, axis], sizes[:, 1 - axis, None]
        low, high = np.zeros_like(side), np.ceil(length / stride) - 1
        if inside:
            # The kept ones begin at 0 or later and end at the border or before; a hair for rounding.
            low = np.maximum(low, np.ceil((side / 2) / stride - 0.5 - 1e-9))
            high = np.minimum(high, np.floor((length - side / 2) / stride - 0.5 + 1e-9))
        centre = ((boxes[:, axis] + boxes[:, axis + 2]) / 2)[:, None]
        cell = np.clip(np.rint(centre / stride - 0.5), low, np.maximum(high, low))
        distance = np.abs(centre - (cell + 0.5) * stride)
        width = (boxes[:, axis + 2] - boxes[:, axis])[:, None]
        shared = np.minimum(np.minimum(width, side), (width + side) / 2 - distance)
        both *= np.where(low <= high, np.maximum(shared, 0), 0)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)[:, None]
    return both / (area + shapes.prod(axis=1)[None] - both)


@dataclass(frozen=True)
class Coverage:
    """How well anchors cover boxes: mean of the best IoU, and the share of boxes where it is at least .5 and .7."""

    mean: float
    at_50: float
    at_70: float


def coverage(best: np.ndarray) -> Coverage:
    """From the best IoU of every box; nan where there are no boxes."""
    if not len(best):
        return Coverage(np.nan, np.nan, np.nan)
    return Coverage(float(best.mean()), float((best >= 0.5).mean()), float((best >= 0.7).mean()))


def fit_grid(
    boxes: np.ndarray, sizes: np.ndarray, stride: int, size_count: int, ratio_count: int, seed: int = 0
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Anchor sizes and ratios that cover the boxes best.

    What is made large is the mean of the best IoU plus the share of boxes that reach .5: the mean alone would give
    up a rare kind of box. A search from two beginnings, the quantiles of the boxes' own sizes and sizes at equal
    factors: each number in turn is made larger or smaller while that helps.

    Args:
        boxes: (N, 4) in prepared pixels, at least one.
        sizes: (N, 2) of the prepared pictures.
        stride: as for `best_iou`.
        size_count: how many sizes.
        ratio_count: how many ratios.
        seed: which boxes are looked at where there are more than 4,000.

    Returns:
        Sizes, whole numbers, and ratios, two digits.
    """
    chosen = _some(len(boxes), seed)
    boxes, sizes = boxes[chosen], sizes[chosen]
    sides = boxes[:, 2:] - boxes[:, :2]
    roots = np.sqrt(sides.prod(axis=1))
    ratios = np.quantile(sides[:, 1] / sides[:, 0], (np.arange(ratio_count) + 0.5) / ratio_count)

    def score(values: np.ndarray) -> float:
        best = best_iou(boxes, sizes, grid_shapes(values[:size_count], values[size_count:]), stride)
        return float(best.mean() + (best >= 0.5).mean())

    starts = [
        np.quantile(roots, (np.arange(size_count) + 0.5) / size_count),
        np.geomspace(*np.quantile(roots, (0.05, 0.95)), size_count),
    ]
    found = [_climb(np.concatenate([start, ratios]), score) for start in starts]
    numbers = max(found, key=score)
    rounded_sizes = sorted({float(max(1, round(value))) for value in numbers[:size_count]})
    return tuple(rounded_sizes), tuple(sorted({float(f"{value:.2g}") for value in numbers[size_count:]}))


def _climb(numbers: np.ndarray, score: Callable[[np.ndarray], float]) -> np.ndarray:
    """Multiply or divide one number at a time by ever smaller steps, as long as the score grows."""
    best = score(numbers)
    for step in _STEPS:
        improved = True
        while improved:
            improved = False
            for at in range(len(numbers)):
                for factor in (step, 1 / step):
                    tried = numbers.copy()
                    tried[at] *= factor
                    if (value := score(tried)) > best + 1e-5:
                        numbers, best, improved = tried, value, True
    return numbers


def k_means(sides: np.ndarray, count: int, seed: int = 0, rounds: int = 100) -> np.ndarray:
    """Anchor shapes by k-means with 1 - IoU of concentric boxes as the distance (Redmon 2017, section 2).

    Args:
        sides: (N, 2) width and height of the boxes.
        count: how many shapes.
        seed: of the first choice.
        rounds: most passes.

    Returns:
        (count, 2), smallest area first.
    """
    rng = np.random.default_rng(seed)
    sides = sides[_some(len(sides), seed)].astype(np.float64)
    centres = sides[[rng.integers(len(sides))]]
    while len(centres) < count:
        # k-means++: what is far from all centres is likelier to become one.
        distance = (1 - shape_iou(sides, centres)).min(axis=1)
        total = distance.sum()
        weights = distance / total if total > 0 else np.full(len(sides), 1 / len(sides))
        centres = np.concatenate([centres, sides[[rng.choice(len(sides), p=weights)]]])
    owner = np.full(len(sides), -1)
    for _ in range(rounds):
        nearest = shape_iou(sides, centres).argmax(axis=1)
        if (nearest == owner).all():
            break
        owner = nearest
        for number in np.unique(owner):
            centres[number] = np.median(sides[owner == number], axis=0)
    return centres[np.argsort(centres.prod(axis=1), kind="stable")]


def shape_iou(sides: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """(N, K) IoU of boxes and shapes, both (width, height), with one centre."""
    both = np.minimum(sides[:, None], shapes[None]).prod(axis=2)
    return both / (sides.prod(axis=1)[:, None] + shapes.prod(axis=1)[None] - both)


def _some(count: int, seed: int) -> np.ndarray:
    if count <= _SAMPLE:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, _SAMPLE, replace=False))
