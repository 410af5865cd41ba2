"""COCO's assignment of detections to objects, for all thresholds and object sizes at once, without its loops.

What pycocotools' ``evaluateImg`` does one detection at a time is done here for the first detections of all pictures
and classes together, then for the second ones, and so on: within a picture and class the order matters, between them
it does not. Detections that overlap no object enough for the lowest threshold need no turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo.datasets.metric_inputs import ImageDetections, checked
from zoo.datasets.records import Sample

# Square pixels, both ends included; an object outside the range neither counts nor punishes.
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
IOUS = np.linspace(0.5, 0.95, 10)

_PAIRS_AT_ONCE = 1 << 20


@dataclass(frozen=True, eq=False)
class Found:
    """N detections in a row, by group and within it by falling score (ties in the order given).

    A group is the detections of one class in one picture: class * pictures + picture.
    """

    group: np.ndarray
    rank: np.ndarray  # place within the group, from 0
    boxes: np.ndarray
    scores: np.ndarray

    def best(self, most: int) -> "Found":
        """The first ``most`` of each group."""
        kept = self.rank < most
        return Found(self.group[kept], self.rank[kept], self.boxes[kept], self.scores[kept])


@dataclass(frozen=True, eq=False)
class Objects:
    """M ground-truth boxes in a row, by group."""

    group: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    ignored: np.ndarray  # crowd or difficult: neither counts nor punishes, and takes any number of detections


@dataclass(frozen=True, eq=False)
class Matches:
    """What became of the N detections, for A ranges of area and T thresholds.

    Attributes:
        right: (A, T, N) bool, it has an object that counts.
        neutral: (A, T, N) bool, it is neither right nor wrong. All others are wrong.
        counted: (A, M) bool, objects that count.
    """

    right: np.ndarray
    neutral: np.ndarray
    counted: np.ndarray


def arrange(detections: Sequence[ImageDetections], samples: Sequence[Sample], classes: int) -> tuple[Found, Objects]:
    """All pictures' detections and objects in a row each; bad input raises `ValueError`."""
    parts = [checked(given, sample, classes) for given, sample in zip(detections, samples, strict=True)]
    pictures = np.arange(len(samples))
    boxes = _joined([part[0] for part in parts], (0, 4))
    scores = _joined([part[1] for part in parts], (0,))
    labels = _joined([part[2] for part in parts], (0,)).astype(np.int64)
    group = labels * len(samples) + np.repeat(pictures, [len(part[1]) for part in parts])
    order = np.lexsort((-scores, group))
    group = group[order]
    rank = np.arange(len(group)) - np.searchsorted(group, group)
    found = Found(group, rank, boxes[order], scores[order])

    boxes = _joined([sample.boxes for sample in samples], (0, 4))
    areas = _joined([box_areas(s.boxes) if s.areas is None else s.areas for s in samples], (0,))
    crowd = _joined([sample.crowd for sample in samples], (0,)).astype(bool)
    difficult = _joined([sample.difficult for sample in samples], (0,)).astype(bool)
    labels = _joined([sample.classes for sample in samples], (0,)).astype(np.int64)
    group = labels * len(samples) + np.repeat(pictures, [len(sample) for sample in samples])
    order = np.argsort(group, kind="stable")
    return found, Objects(group[order], boxes[order], areas[order], crowd[order], (crowd | difficult)[order])


def match(found: Found, objects: Objects, ious: np.ndarray = IOUS) -> Matches:
    """Each detection by rank goes to a free object of its group that it overlaps by a threshold or more.

    Of several it takes one that counts before one that does not, then that with the highest overlap, then the last.
    The overlap with a crowd is the share of the detection inside it. One without an object is neutral if its own
    area is outside the range.
    """
    pairs = _pairs(found, objects, np.min(ious))
    shape = (len(AREAS), len(ious), len(found.group))
    matched, on_ignored, counted = np.zeros(shape, bool), np.zeros(shape, bool), []
    area = box_areas(found.boxes)
    for number, (low, high) in enumerate(AREAS.values()):
        ignored = objects.ignored | (objects.areas < low) | (objects.areas > high)
        counted.append(~ignored)
        _assign(pairs, ignored, objects.ignored, ious, matched[number], on_ignored[number])
        on_ignored[number] |= ~matched[number] & ((area < low) | (area > high))
    return Matches(matched & ~on_ignored, on_ignored, np.array(counted))


def box_areas(boxes: np.ndarray) -> np.ndarray:
    """Width times height of (N, 4) boxes: float64 (N,)."""
    boxes = np.asarray(boxes, np.float64)
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


@dataclass(frozen=True, eq=False)
class _Pairs:
    """P pairs of a detection and an object of its group that overlap enough, by turn and detection."""

    found: np.ndarray
    thing: np.ndarray
    iou: np.ndarray
    turns: np.ndarray  # where each turn's pairs begin, and P


def _pairs(found: Found, objects: Objects, lowest: float) -> _Pairs:
    first = np.searchsorted(objects.group, found.group)
    count = np.searchsorted(objects.group, found.group, side="right") - first
    ends = np.cumsum(count)
    total = int(ends[-1]) if len(ends) else 0
    cuts = np.unique(np.searchsorted(ends, np.arange(0, max(total, 1), _PAIRS_AT_ONCE)))
    kept = []
    for low, high in zip(cuts, [*cuts[1:], len(count)], strict=True):
        some = count[low:high]
        one = np.repeat(np.arange(low, high), some)
        thing = first[one] + np.arange(len(one)) - np.repeat(np.cumsum(some) - some, some)
        iou = _overlap(found.boxes[one], objects.boxes[thing], objects.crowd[thing])
        near = iou >= lowest
        kept.append((one[near], thing[near], iou[near]))
    one, thing, iou = (_joined([part[i] for part in kept], (0,)) for i in range(3))
    one, thing = one.astype(np.int64), thing.astype(np.int64)
    # A detection's turn is its place among those of its group that have a pair at all.
    having, which = np.unique(one, return_inverse=True)
    group = found.group[having]
    turn = (np.arange(len(having)) - np.searchsorted(group, group))[which]
    order = np.argsort(turn, kind="stable")
    last = int(turn.max()) + 1 if len(turn) else 0
    return _Pairs(one[order], thing[order], iou[order], np.searchsorted(turn[order], np.arange(last + 1)))


def _assign(
    pairs: _Pairs,
    ignored: np.ndarray,
    many: np.ndarray,
    ious: np.ndarray,
    matched: np.ndarray,
    on_ignored: np.ndarray,
) -> None:
    """Fill ``matched`` and ``on_ignored`` (T, N) for one range of area; ``many``: objects that are never used up."""
    starts = np.flatnonzero(np.diff(pairs.found, prepend=-1))  # of each detection's pairs
    owner = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(pairs.found)))
    # The pairs of a detection from the least to the most wanted; a place in that order is worth its number.
    order = np.lexsort((pairs.thing, pairs.iou, ~ignored[pairs.thing], owner))
    worth = np.empty(len(order), np.int64)
    worth[order] = np.arange(len(order))
    taken = np.zeros((len(ignored), len(ious)), bool)
    for low, high in zip(pairs.turns[:-1], pairs.turns[1:], strict=True):
        thing = pairs.thing[low:high]
        possible = (pairs.iou[low:high, None] >= ious) & (~taken[thing] | many[thing, None])
        here = starts[np.searchsorted(starts, low) : np.searchsorted(starts, high)]
        best = np.maximum.reduceat(np.where(possible, worth[low:high, None], -1), here - low, axis=0)
        row, level = np.nonzero(best >= 0)
        chosen = pairs.thing[order[best[row, level]]]
        one = pairs.found[here[row]]
        matched[level, one] = True
        on_ignored[level, one] = ignored[chosen]
        taken[chosen, level] = True


def _overlap(boxes: np.ndarray, others: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Overlap of each box with the other of its row, rounded as pycocotools rounds it."""
    sides = np.minimum(boxes[:, 2:], others[:, 2:]) - np.maximum(boxes[:, :2], others[:, :2])
    common = np.where((sides > 0).all(axis=1), sides[:, 0] * sides[:, 1], 0.0)
    area = box_areas(boxes)
    whole = np.where(crowd, area, area + box_areas(others) - common)
    return np.divide(common, whole, out=np.zeros_like(common), where=whole > 0)


def _joined(parts: list[np.ndarray], empty: tuple[int, ...]) -> np.ndarray:
    return np.concatenate([np.zeros(empty, np.float64), *parts]) if parts else np.zeros(empty, np.float64)
