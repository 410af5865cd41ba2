"""Average precision as the PASCAL VOC devkit measures it, and the recall of proposals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo.datasets.records import DetectionDataset, Sample

ImageDetections = tuple[np.ndarray, np.ndarray, np.ndarray]
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
    ground_truth: DetectionDataset | Sequence[Sample],
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
        strict: the overlap has to exceed ``iou`` (the devkit's rule), not just to reach it.

    >>> from zoo.datasets.digits import digit_scenes
    >>> scenes = digit_scenes("test", count=5)
    >>> perfect = [(s.boxes, np.ones(len(s)), s.classes) for s in scenes.samples]
    >>> evaluate_voc(perfect, scenes).map
    1.0
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation is one of {', '.join(INTERPOLATIONS)}, not {interpolation!r}")
    if classes is None:
        if not isinstance(ground_truth, DetectionDataset):
            raise ValueError("give classes=(names, ...): plain samples do not carry class names")
        classes = ground_truth.classes
    names = tuple(classes)
    samples = ground_truth.samples if isinstance(ground_truth, DetectionDataset) else ground_truth
    _check_count(detections, samples, "detections")
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


def proposal_recall(
    proposals: Sequence[np.ndarray], ground_truth: DetectionDataset | Sequence[Sample], iou: float = 0.5
) -> float:
    """Share of the ground-truth boxes, difficult ones left out, that a proposal overlaps by ``iou`` or more.

    Args:
        proposals: for each picture (P, 4) boxes, of whatever class.
        ground_truth: a data set, or its samples, in the same order.
        iou: the overlap that is asked for.

    Returns NaN if no box counts.
    """
    samples = ground_truth.samples if isinstance(ground_truth, DetectionDataset) else ground_truth
    _check_count(proposals, samples, "proposals")
    covered = total = 0
    for boxes, sample in zip(proposals, samples, strict=True):
        counted = sample.boxes[~(sample.difficult | sample.crowd)]
        total += len(counted)
        if len(counted) and len(boxes):
            covered += int((box_iou(np.asarray(boxes), counted).max(axis=0) >= iou).sum())
    return covered / total if total else float("nan")


def box_iou(boxes: np.ndarray, others: np.ndarray, plus_one: bool = False) -> np.ndarray:
    """Intersection over union of each of ``boxes`` (N, 4) with each of ``others`` (M, 4): float64 (N, M).

    Two boxes without area have an overlap of 0.
    """
    more = 1.0 if plus_one else 0.0
    a, b = np.asarray(boxes, np.float64)[:, None], np.asarray(others, np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + more
    common = np.prod(np.maximum(sides, 0.0), axis=-1)
    area_a = np.prod(a[..., 2:] - a[..., :2] + more, axis=-1)
    area_b = np.prod(b[..., 2:] - b[..., :2] + more, axis=-1)
    union = area_a + area_b - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


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
        boxes, score, label = _checked(given, sample, count)
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


def _checked(given: ImageDetections, sample: Sample, count: int) -> ImageDetections:
    """One picture's detections as arrays without padding; what would spoil the ranking is refused."""
    boxes, scores, labels = (np.asarray(part) for part in given)
    boxes = boxes.reshape(-1, 4)
    if not len(boxes) == len(scores) == len(labels):
        raise ValueError(f"{sample.image_id}: {len(boxes)} boxes, {len(scores)} scores, {len(labels)} classes")
    kept = labels != -1
    boxes, scores, labels = boxes[kept], scores[kept].astype(np.float64), labels[kept].astype(int)
    if not (np.isfinite(scores).all() and np.isfinite(boxes).all()):
        raise ValueError(f"{sample.image_id}: a detection's box or score is not a finite number")
    for name, values in (("a detection", labels), ("a ground-truth box", sample.classes)):
        if len(values) and not (values.min() >= 0 and values.max() < count):
            raise ValueError(f"{sample.image_id}: {name} has a class outside 0 to {count - 1}")
    return boxes, scores, labels


def _check_count(given: Sequence[object], samples: Sequence[Sample], what: str) -> None:
    if len(given) != len(samples):
        raise ValueError(f"{what} of {len(given)} pictures, but ground truth of {len(samples)}")
