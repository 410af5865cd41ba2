"""What is wrong with each detection, and which objects were missed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo.datasets.coco_matching import box_areas
from zoo.datasets.metric_inputs import (
    GroundTruth,
    ImageDetections,
    box_iou,
    check_count,
    checked,
    class_names,
    samples_of,
)
from zoo.datasets.records import Sample

KINDS = ("correct", "duplicate", "class", "localisation", "both", "background")
NOT_COUNTED = -1  # padding, a score below the threshold, or a difficult or crowd box: none of the kinds
_CORRECT, _DUPLICATE, _CLASS, _LOCALISATION, _BOTH, _BACKGROUND = range(len(KINDS))


@dataclass(frozen=True, eq=False)
class ErrorReport:
    """What `find_errors` found in N pictures and K classes.

    Attributes:
        classes: the K class names.
        kinds: for each picture (D,) int8, each detection's place in ``KINDS``, or ``NOT_COUNTED``.
        missed: for each picture (G,) bool, objects that count and have no correct detection.
        counts: (K, 6) detections by their class and kind, columns as in ``KINDS``.
        positives: (K,) objects that count.
        missed_counts: (K,) of these, the missed ones.
        confused: (K, K) detections of the kind "class": row the class found, column that of the object.
        badness: (N,) float64, sum of the scores of a picture's errors plus its missed objects.
    """

    classes: tuple[str, ...]
    kinds: tuple[np.ndarray, ...]
    missed: tuple[np.ndarray, ...]
    counts: np.ndarray
    positives: np.ndarray
    missed_counts: np.ndarray
    confused: np.ndarray
    badness: np.ndarray

    def worst(self, count: int) -> list[int]:
        """Up to ``count`` pictures by falling badness; none without an error."""
        order = np.argsort(-self.badness, kind="stable")[:count]
        return [int(index) for index in order if self.badness[index] > 0]

    def to_dict(self) -> dict[str, object]:
        """Counts by class name, and which classes were taken for which; ready for JSON."""
        rows = zip(self.classes, self.counts.tolist(), self.missed_counts.tolist(), strict=True)
        pairs = sorted(zip(*np.nonzero(self.confused), strict=True), key=lambda pair: -self.confused[pair])
        return {
            "by_class": {name: {**dict(zip(KINDS, row, strict=True)), "missed": missed} for name, row, missed in rows},
            "confused": [
                {"found": self.classes[row], "object": self.classes[column], "count": int(self.confused[row, column])}
                for row, column in pairs
            ],
        }


def find_errors(
    detections: Sequence[ImageDetections],
    ground_truth: GroundTruth,
    classes: Sequence[str] | None = None,
    score: float = 0.5,
    iou: float = 0.5,
    background: float = 0.1,
) -> ErrorReport:
    """Sort detections into the kinds of error of TIDE (Bolya 2020, section 2.2); the first that fits holds.

    correct: overlaps an object of its class by more than ``iou``, and none of a higher score did before.
    duplicate: it does, but another one took the object (as `evaluate_voc` matches them).
    class: overlaps an object of another class by more than ``iou``.
    localisation: overlaps an object of its class by at least ``background``.
    both: overlaps an object of another class by at least ``background``.
    background: overlaps no object by as much as that.

    An object without a correct detection is missed, whether or not an error is near it, so that correct and
    missed add up to the objects. Difficult and crowd objects are not counted, nor is what is found there: in a crowd,
    what lies in its box by more than ``iou`` of its own area.

    Args:
        detections: for each picture, in the order of the ground truth, boxes (D, 4), scores (D,) and 0-based
            classes (D,); rows with class -1 are padding.
        ground_truth: a data set, or its samples.
        classes: class names; None takes the data set's.
        score: detections below it are left out: that at which the detector is to be used.
        iou: overlap that a good box exceeds.
        background: overlap from which on a box has to do with an object.

    >>> from zoo.datasets.digits import digit_scenes
    >>> scenes = digit_scenes("test", count=5)
    >>> found = [(s.boxes, np.ones(len(s)), (s.classes + 1) % 10) for s in scenes.samples]
    >>> report = find_errors(found, scenes)
    >>> bool(report.confused.sum() > 0), bool((report.missed_counts == report.positives).all())
    (True, True)
    """
    names, samples = class_names(ground_truth, classes), samples_of(ground_truth)
    check_count(detections, samples, "detections")
    if not 0 <= background <= iou <= 1:
        raise ValueError(f"background={background}, iou={iou}: both lie between 0 and 1, the first below the second")
    size = len(names)
    counts, confused = np.zeros((size, len(KINDS)), int), np.zeros((size, size), int)
    positives, missed_counts = np.zeros(size, int), np.zeros(size, int)
    kinds, missed, badness = [], [], np.zeros(len(samples))
    for number, (given, sample) in enumerate(zip(detections, samples, strict=True)):
        boxes, scores, labels = checked(given, sample, size)
        kind, rival, taken = _judge(boxes, scores, labels, sample, (score, iou, background))
        counted = ~(sample.difficult | sample.crowd)
        missed.append(counted & ~taken)
        judged = kind >= 0
        np.add.at(counts, (labels[judged], kind[judged]), 1)
        np.add.at(confused, (labels[kind == _CLASS], rival[kind == _CLASS]), 1)
        positives += np.bincount(sample.classes[counted], minlength=size)
        missed_counts += np.bincount(sample.classes[missed[-1]], minlength=size)
        badness[number] = scores[kind > _CORRECT].sum() + missed[-1].sum()
        rows = np.full(len(np.asarray(given[2])), NOT_COUNTED, np.int8)
        rows[np.asarray(given[2]) != -1] = kind
        kinds.append(rows)
    return ErrorReport(names, tuple(kinds), tuple(missed), counts, positives, missed_counts, confused, badness)


def _judge(
    boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, sample: Sample, limits: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kind (D,) of each detection, class (D,) of the other object it lies on, and whether each object was found."""
    least, iou, background = limits
    table = box_iou(boxes, sample.boxes)
    same = labels[:, None] == sample.classes
    # A crowd's box is around many: what lies in it by more than ``iou`` of its own area may be one of them, as COCO has
    # it.
    in_crowd = (same & sample.crowd & (_inside(boxes, sample.boxes) > iou)).any(axis=1)
    own, other = np.where(same, table, -1.0), np.where(same, -1.0, table)
    own_best, other_best = own.max(axis=1, initial=-1.0), other.max(axis=1, initial=-1.0)
    fits = (own_best > iou, other_best > iou, own_best >= background, other_best >= background)
    kind = np.select(fits, (_CORRECT, _CLASS, _LOCALISATION, _BOTH), _BACKGROUND).astype(np.int8)
    kind[scores < least] = NOT_COUNTED
    rival, taken = np.full(len(boxes), -1), np.zeros(len(sample), bool)
    if len(sample):
        rival = sample.classes[other.argmax(axis=1)]
        ranked = np.argsort(-scores, kind="stable")
        ranked = ranked[kind[ranked] == _CORRECT]
        things, first = np.unique(own[ranked].argmax(axis=1), return_index=True)
        kind[np.delete(ranked, first)] = _DUPLICATE
        taken[things] = True
        ignored = (sample.difficult | sample.crowd)[own.argmax(axis=1)]
        kind[ignored & ((kind == _CORRECT) | (kind == _DUPLICATE))] = NOT_COUNTED
        kind[in_crowd & (kind != _CORRECT)] = NOT_COUNTED
    return kind, rival, taken


def _inside(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The share (N, M) of each box's own area that lies in each of ``others``."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common, own = np.prod(np.maximum(high - low, 0), axis=-1), box_areas(boxes)[:, None]
    return np.divide(common, own, out=np.zeros_like(common), where=own > 0)
