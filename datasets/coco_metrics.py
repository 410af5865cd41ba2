"""The twelve figures of COCO's detection challenge, equal to those of pycocotools."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo.datasets.coco_matching import AREAS, IOUS, Found, Matches, arrange, match
from zoo.datasets.metric_inputs import GroundTruth, ImageDetections, check_count, class_names, samples_of
from zoo.datasets.records import Sample

RECALLS = np.linspace(0.0, 1.0, 101)
LIMITS = (1, 10, 100)  # detections of one class in one picture
FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@dataclass(frozen=True, eq=False)
class CocoResult:
    """What `evaluate_coco` measured. T = 10 IoUs, R = 101 recalls, K classes, A = 4 areas, L = 3 limits.

    Attributes:
        classes: the K class names.
        precision: (T, R, K, A) float64 with at most 100 detections, the highest at that recall or beyond; NaN for a
            class without ground truth of that area.
        recall: (T, K, A, L) float64, the highest that is reached; NaN likewise.
        positives: (K,) ground-truth boxes that count.
        found: (K,) detections that were given.
    """

    classes: tuple[str, ...]
    precision: np.ndarray
    recall: np.ndarray
    positives: np.ndarray
    found: np.ndarray

    @property
    def figures(self) -> dict[str, float]:
        """The twelve figures by name, in the order of COCO's table; NaN where nothing counts."""
        areas = [*AREAS]
        values = [_mean(self.precision[..., 0])]
        values += [_mean(self.precision[np.isclose(IOUS, iou)][..., 0]) for iou in (0.5, 0.75)]
        values += [_mean(self.precision[..., areas.index(name)]) for name in ("small", "medium", "large")]
        values += [_mean(self.recall[..., 0, limit]) for limit in range(len(LIMITS))]
        values += [_mean(self.recall[..., areas.index(name), -1]) for name in ("small", "medium", "large")]
        return dict(zip(FIGURES, values, strict=True))

    @property
    def map(self) -> float:
        """AP, the first figure: what COCO ranks by."""
        return _mean(self.precision[..., 0])

    @property
    def ap(self) -> np.ndarray:
        """(K,) AP of each class over all IoUs; NaN for a class without ground truth."""
        return self.precision[..., 0].mean(axis=(0, 1))

    @property
    def ap50(self) -> np.ndarray:
        """(K,) AP of each class at an IoU of .5."""
        return self.precision[0, ..., 0].mean(axis=0)

    @property
    def ar(self) -> np.ndarray:
        """(K,) average recall of each class over all IoUs, with at most 100 detections."""
        return self.recall[:, :, 0, -1].mean(axis=0)

    def to_dict(self) -> dict[str, object]:
        """Figures, and scores and counts by class name, ready for JSON; None where there is no ground truth."""
        return {
            **{name: _plain(value) for name, value in self.figures.items()},
            "ap": _by_name(self.classes, self.ap),
            "ap50": _by_name(self.classes, self.ap50),
            "ar": _by_name(self.classes, self.ar),
            "positives": dict(zip(self.classes, self.positives.tolist(), strict=True)),
            "detections": dict(zip(self.classes, self.found.tolist(), strict=True)),
        }


def evaluate_coco(
    detections: Sequence[ImageDetections], ground_truth: GroundTruth, classes: Sequence[str] | None = None
) -> CocoResult:
    """Measure detections as COCO's server does for boxes (cocodataset.org, detection evaluation).

    AP is the mean precision at 101 recalls, of all classes and of the IoUs .5, .55, ... .95, which have to be
    reached. Objects are small, medium or large by ``sample.areas`` (by their boxes' area where there is none). A
    crowd box neither counts nor punishes, and takes any number of detections. COCO knows no difficult boxes: they
    are treated as crowd boxes are, with the usual overlap.

    Between detections of equal score the order of the pictures decides: by number where all image ids are numbers,
    as in pycocotools, else the order given.

    Args:
        detections: for each picture, in the order of the ground truth, boxes (D, 4), scores (D,) and 0-based
            classes (D,); rows with class -1 are padding. Of each class the 100 best count.
        ground_truth: a data set, or its samples.
        classes: class names; None takes the data set's.

    >>> from zoo.datasets.digits import digit_scenes
    >>> scenes = digit_scenes("test", count=5)
    >>> perfect = [(s.boxes, np.ones(len(s)), s.classes) for s in scenes.samples]
    >>> round(evaluate_coco(perfect, scenes).figures["AP75"], 6)
    1.0
    """
    names, samples = class_names(ground_truth, classes), samples_of(ground_truth)
    check_count(detections, samples, "detections")
    order = _reading_order(samples)
    found, objects = arrange([detections[i] for i in order], [samples[i] for i in order], len(names))
    pictures = max(1, len(samples))
    given = np.bincount(found.group // pictures, minlength=len(names))
    found = found.best(LIMITS[-1])
    matches = match(found, objects)
    labels = objects.group // pictures
    positives = np.array([np.bincount(labels[counted], minlength=len(names)) for counted in matches.counted])

    shape = (len(IOUS), len(names), len(AREAS))
    precision, recall = np.full((len(RECALLS), *shape), np.nan), np.full((*shape, len(LIMITS)), np.nan)
    bounds = np.searchsorted(found.group, np.arange(len(names) + 1) * pictures)
    for label in range(len(names)):
        part = slice(bounds[label], bounds[label + 1])
        for area in np.flatnonzero(positives[:, label]):
            total = positives[area, label]
            precision[:, :, label, area] = _precision(found, matches, area, part, total)
            for place, limit in enumerate(LIMITS):
                right = matches.right[area, :, part] & (found.rank[part] < limit)
                recall[:, label, area, place] = right.sum(axis=1) / total
    return CocoResult(names, precision.swapaxes(0, 1), recall, positives[0], given)


def _precision(found: Found, matches: Matches, area: int, part: slice, total: int) -> np.ndarray:
    """(R, T) precision of one class at each recall, made monotone; 0 beyond the highest recall reached."""
    ranked = np.argsort(-found.scores[part], kind="stable")
    right = np.cumsum(matches.right[area, :, part][:, ranked], axis=1)
    decided = np.cumsum(~matches.neutral[area, :, part][:, ranked], axis=1)
    precision = np.divide(right, decided, out=np.zeros(right.shape), where=decided > 0)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    precision = np.concatenate([precision, np.zeros((len(precision), 1))], axis=1)
    recall = right / total
    return np.array([row[np.searchsorted(it, RECALLS)] for row, it in zip(precision, recall, strict=True)]).T


def _reading_order(samples: Sequence[Sample]) -> list[int]:
    order = range(len(samples))
    if all(sample.image_id.isdecimal() for sample in samples):
        return sorted(order, key=lambda index: int(samples[index].image_id))
    return list(order)


def _mean(values: np.ndarray) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _by_name(names: Sequence[str], values: np.ndarray) -> dict[str, float | None]:
    return {name: _plain(value) for name, value in zip(names, values, strict=True)}
