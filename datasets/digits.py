"""Scenes composed without end from the real handwritten digits that scikit-learn ships (Alpaydin 1998).

The 1,797 digits are split by index, so that no digit of a test scene ever occurs in a training scene.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from zoo.datasets import backgrounds
from zoo.datasets.records import DetectionDataset, Sample

CLASSES = tuple("0123456789")
SPLITS = {"train": 1297, "val": 200, "test": 300}
MAX_DIGITS = 8
SIZES = ((240, 320), (320, 240), (200, 288), (256, 256), (288, 216), (320, 448))

_SIDE = (24.0, 110.0)  # of the 8x8 bitmap when drawn, in pixels
_INK = 0.3  # a pixel belongs to the digit where its ink covers at least this much
_MARGIN = 2  # pixels between a box and the border
_OVERLAP = 0.25  # largest IoU of two boxes in a scene with overlaps
_SPLIT_SEED = 20130


def digit_scenes(
    split: str = "train",
    count: int = 2000,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    classes: Sequence[str] = CLASSES,
) -> "DigitScenes":
    """A data set of composed scenes; picture i depends on (split, seed, i) alone, never on ``count``.

    Args:
        split: "train", "val" or "test": which digits may occur.
        count: how many scenes; they are composed when asked for, so it may be any number.
        seed: another seed gives other scenes of the same digits.
        size: (height, width) of all scenes; None varies them.
        classes: the ten names in the order to number them.

    >>> scenes = digit_scenes("test", count=3)
    >>> image, sample = scenes.load(0)
    >>> image.shape[:2] == sample.size
    True
    """
    if split not in SPLITS:
        raise ValueError(f"the digit scenes have no split {split!r}; there are {', '.join(SPLITS)}")
    if count < 1:
        raise ValueError(f"count is how many scenes there are, at least 1, not {count}")
    if size is not None and min(size) < 64:
        raise ValueError(f"size is (height, width), each at least 64, not {size}")
    if sorted(classes) != sorted(CLASSES):
        raise ValueError(f"the classes of the digit scenes are {', '.join(CLASSES)}, not {', '.join(classes)}")
    return DigitScenes(split, count, seed, size, tuple(classes))


class DigitScenes(DetectionDataset):
    """See `digit_scenes`."""

    def __init__(
        self, split: str, count: int, seed: int, size: tuple[int, int] | None, classes: tuple[str, ...]
    ) -> None:
        """Nothing is composed yet."""
        self.split, self.count, self.seed, self.size = split, count, seed, size
        super().__init__(f"digits {split}", classes, _Samples(self))

    def sample(self, index: int) -> Sample:
        """The ground truth of scene ``index``; the digits are placed, nothing is painted."""
        size, digits, _ = self._placed(index)
        return self._sample(index, size, digits)

    def load(self, index: int) -> tuple[np.ndarray, Sample]:
        """Scene and ground truth, composed once."""
        size, digits, rng = self._placed(index)
        return paint(size, digits, rng), self._sample(index, size, digits)

    def sizes(self) -> np.ndarray:
        """(height, width) of every scene: int32 (N, 2)."""
        if self.size is not None:
            return np.tile(np.array(self.size, np.int32), (self.count, 1))
        return np.array([SIZES[self._size_number(index)] for index in range(self.count)], np.int32)

    @property
    def max_boxes(self) -> int:
        """No scene has more boxes than this."""
        return MAX_DIGITS

    @property
    def objects(self) -> None:
        """All scenes would have to be placed to count them."""

    def _size_number(self, index: int) -> int:
        # A cheap mix (splitmix64) rather than a generator: sizes() asks for all scenes at once.
        value = (index + 1) * 0x9E3779B97F4A7C15 + self.seed * 0xD1B54A32D192ED03 + len(self.split)
        value = ((value ^ (value >> 30 & (1 << 34) - 1)) * 0xBF58476D1CE4E5B9) % (1 << 64)
        return (value >> 31) % len(SIZES)

    def _placed(self, index: int) -> tuple[tuple[int, int], list["Digit"], np.random.Generator]:
        if not 0 <= index < self.count:
            raise IndexError(f"{self.name}: no scene {index}; there are {self.count}")
        size = self.size or SIZES[self._size_number(index)]
        rng = np.random.default_rng([list(SPLITS).index(self.split), self.seed, index])
        return size, place(size, self.split, rng), rng

    def _sample(self, index: int, size: tuple[int, int], digits: list["Digit"]) -> Sample:
        boxes = np.array([digit.box for digit in digits], np.float32).reshape(-1, 4)
        labels = [self.classes.index(CLASSES[digit.label]) for digit in digits]
        no = [False] * len(digits)
        return Sample(f"{self.split}-{self.seed}-{index:06d}", None, size, boxes, labels, no, no)


class _Samples(Sequence):
    """The ground truth of all scenes, made when asked for."""

    def __init__(self, scenes: DigitScenes) -> None:
        self._scenes = scenes

    def __len__(self) -> int:
        return self._scenes.count

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self._scenes.sample(i) for i in range(*index.indices(len(self)))]
        return self._scenes.sample(index + len(self) if index < 0 else index)


@dataclass(frozen=True, eq=False)
class Digit:
    """One digit of a scene: ink (h, w) float32 from 0 to 1, the scene pixel of its corner, its tight box."""

    label: int
    source: int
    ink: np.ndarray
    left: int
    top: int
    box: tuple[int, int, int, int]


@cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    """All bitmaps (1797, 8, 8) float32 from 0 to 1, and their labels."""
    from sklearn.datasets import load_digits  # slow to import, and only needed here

    bunch = load_digits()
    return (bunch.images / 16).astype(np.float32), bunch.target.astype(np.int32)


@cache
def split_indices(split: str) -> np.ndarray:
    """Which of scikit-learn's 1,797 digits a split may use; the splits share none, all are balanced."""
    labels = _digits()[1]
    rng = np.random.default_rng(_SPLIT_SEED)
    # The k-th digit of every class comes before the (k+1)-th of any: a run of this order is balanced.
    rank = np.empty(len(labels))
    for label in range(10):
        members = np.flatnonzero(labels == label)
        rank[rng.permutation(members)] = np.arange(len(members))
    order = np.lexsort((rng.random(len(labels)), rank))
    start = 0
    for name in ("test", "val", "train"):
        if name == split:
            return np.sort(order[start : start + SPLITS[name]])
        start += SPLITS[name]
    raise KeyError(split)


def place(size: tuple[int, int], split: str, rng: np.random.Generator) -> list[Digit]:
    """Choose digits and where they go. One scene in four may have overlapping digits, one in 25 has none."""
    height, width = size
    count = 0 if rng.random() < 0.04 else int(rng.integers(1, MAX_DIGITS + 1))
    allowed = _OVERLAP if rng.random() < 0.25 else 0.0
    placed: list[Digit] = []
    bitmaps, labels = _digits()
    sources = split_indices(split)
    for _ in range(count):
        source = int(sources[rng.integers(len(sources))])
        largest = min(_SIDE[1], 0.45 * min(size))
        side = float(np.exp(rng.uniform(np.log(_SIDE[0]), np.log(largest))))
        ink = _ink(bitmaps[source], side, rng.uniform(0.85, 1.18), rng.uniform(-15, 15))
        x1, y1, inner_w, inner_h = cv2.boundingRect((ink > _INK).view(np.uint8))
        # All tries at once: a random number drawn alone costs as much as a hundred.
        tries = rng.random((12, 2))
        lefts = (_MARGIN + tries[:, 0] * (width - 2 * _MARGIN - inner_w + 1)).astype(int).tolist()
        tops = (_MARGIN + tries[:, 1] * (height - 2 * _MARGIN - inner_h + 1)).astype(int).tolist()
        for left, top in zip(lefts, tops, strict=True):
            box = (left, top, left + inner_w, top + inner_h)
            if all(_fits(box, other.box, allowed) for other in placed):
                placed.append(Digit(int(labels[source]), source, ink, left - x1, top - y1, box))
                break
    # The largest is painted first: no digit hides a smaller one.
    return sorted(placed, key=lambda digit: -(digit.box[2] - digit.box[0]) * (digit.box[3] - digit.box[1]))


def _ink(bitmap: np.ndarray, side: float, aspect: float, degrees: float) -> np.ndarray:
    """The 8x8 bitmap drawn at ``side`` pixels, turned: (h, w) float32 from 0 to 1."""
    scale_x, scale_y = side / 8 * aspect**0.5, side / 8 / aspect**0.5
    reach = int(np.ceil(0.68 * side + 2))
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag([scale_x, scale_y])
    shift = np.array([reach, reach]) - matrix @ np.array([3.5, 3.5])
    drawn = cv2.warpAffine(
        bitmap, np.column_stack([matrix, shift]), (2 * reach + 1, 2 * reach + 1), flags=cv2.INTER_CUBIC
    )
    # Steeper than the bitmap's gray ramp: the strokes get an edge instead of a haze.
    return np.clip((drawn - 0.32) * 2.2, 0, 1)


def _fits(box: tuple[int, ...], other: tuple[int, ...], allowed: float) -> bool:
    """Whether two boxes overlap no more than allowed (as IoU; 0: they have a gap)."""
    gap = 2 if allowed == 0 else 0
    wide = min(box[2], other[2]) - max(box[0], other[0]) + gap
    tall = min(box[3], other[3]) - max(box[1], other[1]) + gap
    if wide <= 0 or tall <= 0:
        return True
    areas = (box[2] - box[0]) * (box[3] - box[1]) + (other[2] - other[0]) * (other[3] - other[1])
    return allowed > 0 and wide * tall / (areas - wide * tall) < allowed


def paint(size: tuple[int, int], digits: list[Digit], rng: np.random.Generator) -> np.ndarray:
    """Background and digits as uint8 RGB (H, W, 3)."""
    plain = backgrounds.background(size, rng)
    image = plain.copy()
    colours: list[np.ndarray] = []
    for number, digit in enumerate(digits):
        height, width = digit.ink.shape
        top, left = max(digit.top, 0), max(digit.left, 0)
        bottom, right = min(digit.top + height, size[0]), min(digit.left + width, size[1])
        ink = digit.ink[top - digit.top : bottom - digit.top, left - digit.left : right - digit.left, None]
        x1, y1, x2, y2 = digit.box
        under = np.array(cv2.mean(plain[y1:y2, x1:x2])[:3], np.float32)
        touched = [colours[k] for k in range(number) if not _fits(digit.box, digits[k].box, 0)]
        colours.append(backgrounds.ink_colour(under, touched, rng))
        patch = image[top:bottom, left:right]
        patch += ink * (colours[-1] - patch)
    # Rounds, and stays within 0 to 255.
    return cv2.convertScaleAbs(np.maximum(image, 0, out=image))
