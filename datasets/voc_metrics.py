"""Average precision as the PASCAL VOC devkit measures it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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

INTERPOLATIONS = ("11point", "area")


@dataclass(frozen=True, eq=False)
class VocResult:
    """What `evaluate_voc` measured.

    Attributes:
        classes: the K class names.
        ap: (K,) float64, average precision; NaN for a class without (not difficult) ground truth.
        map: mean of ``ap`` over the classes that have ground truth; NaN if none has.
        recall, precision, scores: K arrays each, one value per counted detection, by descending score.
        positives: (K,) ground-truth boxes that count.
        found: (K,) detections that were given.
        iou, interpolation: as asked for.
    """

    classes: tuple[str, ...]
    ap: np.ndarray
    map: float
    recall: tuple[np.ndarray, ...]
    precision: tuple[np.ndarray, ...]
    scores: tuple[np.ndarray, ...]
    positives: np.ndarray
    found: np.ndarray
    iou: float
    interpolation: str

    def to_dict(self) -> dict[str, object]:
        """Scores and counts by class name, ready for JSON; None where there is no ground truth."""

        def number(value: float) -> float | None:
            return None if np.isnan(value) else float(value)

        return {
            "map": number(self.map),
            "iou": self.iou,
            "interpolation": self.interpolation,
            "ap": {name: number(value) for name, value in zip(self.classes, self.ap, strict=True)},
            "positives": dict(zip(self.classes, self.positives.tolist(), strict=True)),
            "detections": dict(zip(self.classes, self.found.tolist(), strict=True)),
        }


def evaluate_voc(
    detections: Sequence[ImageDetections],
    ground_truth: GroundTruth,
    classes: Sequence[str] | None = None,
    iou: float = 0.5,
    interpolation: str = "11point",
    plus_one: bool = False,
    strict: bool = True,
) -> VocResult:
    """Match detections with ground truth and measure average precision per class (Everingham 2010, devkit).

    Detections of a class are taken by descending score, ties in the order given. Each goes to the box of its
    class that it overlaps most in its picture; it is right if the overlap passes ``iou`` and no detection
    before it took that box. One that goes to a difficult (or crowd) box neither counts nor punishes.

    Args:
        detections: for each picture, in the order of the ground truth, boxes (D, 4), scores (D,) and 0-based
            classes (D,); rows with class -1 are padding.
        ground_truth: a data set, or its samples.
        classes: class names; None takes the data set's.
        iou: the overlap that is asked for.
        interpolation: "11point" (VOC 2007) or "area" under the monotone curve (VOC 2010 on).
        plus_one: add 1 to widths and heights, as the devkit does with its inclusive corners. The boxes of
            `load_voc` are continuous already: without it they score as in the devkit.
        strict: the overlap has to exceed ``iou`` (Everingham 2010, section 4.2; py-faster-rcnn), not just to
            reach it (the devkit's own program; ChainerCV).

    >>> from zoo.datasets.digits import digit_scenes
    >>> scenes = digit_scenes("test", count=5)
    >>> perfect = [(s.boxes, np.ones(len(s)), s.classes) for s in scenes.samples]
    >>> evaluate_voc(perfect, scenes).map
    1.0
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation is one of {', '.join(INTERPOLATIONS)}, not {interpolation!r}")
    names, samples = class_names(ground_truth, classes), samples_of(ground_truth)
    check_count(detections, samples, "detections")
    matches = _match(detections, samples, len(names), plus_one)
    passed = matches.overlap > iou if strict else matches.overlap >= iou

    curves, aps, found = [], np.full(len(names), np.nan), np.zeros(len(names), int)
    for label in range(len(names)):
        mine = np.flatnonzero(matches.label == label)
        found[label] = len(mine)
        mine = mine[np.argsort(-matches.score[mine], kind="stable")]
        curve = _curve(mine, matches, passed, matches.positives[label])
        curves.append(curve)
        if matches.positives[label]:
            aps[label] = voc_ap(curve[0], curve[1], interpolation)
    mean = float(np.nanmean(aps)) if matches.positives.any() else float("nan")
    recalls, precisions, scores = (tuple(part) for part in zip(*curves, strict=True)) if curves else ((), (), ())
    return VocResult(names, aps, mean, recalls, precisions, scores, matches.positives, found, iou, interpolation)


def voc_ap(recall: np.ndarray, precision: np.ndarray, interpolation: str = "11point") -> float:
    """Average precision of a curve: recall and precision (D,) after each detection, by descending score.

    >>> voc_ap(np.array([0.5, 1.0]), np.array([1.0, 1.0]), "area")
    1.0
    """
    if interpolation == "11point":
        # k / 10, not k * 0.1: 3 * 0.1 exceeds 0.3, and a recall of 3 in 10 would miss its point.
        best = [precision[recall >= k / 10].max(initial=0.0) for k in range(11)]
        return float(np.mean(best))
    if interpolation == "area":
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        return float(np.sum(np.diff(recall, prepend=0.0) * envelope))
    raise ValueError(f"interpolation is one of {', '.join(INTERPOLATIONS)}, not {interpolation!r}")


@dataclass(frozen=True, eq=False)
class _Matches:
    """All detections of all pictures in a row, each with the box of its class that it overlaps most."""

    score: np.ndarray
    label: np.ndarray
    overlap: np.ndarray  # -1 where the picture has no box of the class
    box: np.ndarray  # number of the box, counted over all pictures
    ignored: np.ndarray  # per box: difficult or crowd
    positives: np.ndarray  # per class: boxes that count


def _match(detections: Sequence[ImageDetections], samples: Sequence[Sample], count: int, plus_one: bool) -> _Matches:
    scores, labels, overlaps, best_boxes, ignored = [], [], [], [], []
    positives = np.zeros(count, int)
    first = 0
    for given, sample in zip(detections, samples, strict=True):
        boxes, score, label = checked(given, sample, count)
        ignore = sample.difficult | sample.crowd
        positives += np.bincount(sample.classes[~ignore], minlength=count)
        overlap, box = np.full(len(boxes), -1.0), np.zeros(len(boxes), int)
        if len(boxes) and len(sample):
            table = box_iou(boxes, sample.boxes, plus_one)
            table[label[:, None] != sample.classes] = -1.0
            box = table.argmax(axis=1)
            overlap = table[np.arange(len(boxes)), box]
        for part, new in zip(
            (scores, labels, overlaps, best_boxes, ignored),
            (score, label, overlap, box + first, ignore),
            strict=True,
        ):
            part.append(new)
        first += len(sample)
    kinds = (float, int, float, int, bool)
    parts = (scores, labels, overlaps, best_boxes, ignored)
    joined = [np.concatenate([np.zeros(0, kind), *part]) for part, kind in zip(parts, kinds, strict=True)]
    return _Matches(*joined, positives)


def _curve(
    ranked: np.ndarray, matches: _Matches, passed: np.ndarray, positives: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Recall, precision and scores of one class, its detections given by rank."""
    hit, box = passed[ranked], matches.box[ranked]
    neutral = np.zeros(len(ranked), bool)
    neutral[hit] = matches.ignored[box[hit]]
    right = np.zeros(len(ranked), bool)
    places = np.flatnonzero(hit & ~neutral)
    right[places[np.unique(box[places], return_index=True)[1]]] = True  # the first to reach a box takes it
    true, counted = np.cumsum(right[~neutral]), np.arange(1, int((~neutral).sum()) + 1)
    recall = true / positives if positives else np.full(len(true), np.nan)
    return recall, true / counted, matches.score[ranked][~neutral]
