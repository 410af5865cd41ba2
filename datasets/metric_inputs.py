"""What the metrics take: detections per picture and the ground truth they are measured against, checked."""

from collections.abc import Sequence

import numpy as np

from zoo.datasets.records import DetectionDataset, Sample

# One picture's boxes (D, 4), scores (D,) and 0-based classes (D,); rows with class -1 are padding.
ImageDetections = tuple[np.ndarray, np.ndarray, np.ndarray]
GroundTruth = DetectionDataset | Sequence[Sample]


def samples_of(ground_truth: GroundTruth) -> Sequence[Sample]:
    """The samples of a data set, or the samples themselves."""
    return ground_truth.samples if isinstance(ground_truth, DetectionDataset) else ground_truth


def class_names(ground_truth: GroundTruth, classes: Sequence[str] | None) -> tuple[str, ...]:
    """The names given, or else the data set's; plain samples have none."""
    if classes is not None:
        return tuple(classes)
    if not isinstance(ground_truth, DetectionDataset):
        raise ValueError("give classes=(names, ...): plain samples do not carry class names")
    return ground_truth.classes


def check_count(given: Sequence[object], samples: Sequence[Sample], what: str) -> None:
    """Raise unless there is one entry for each picture."""
    if len(given) != len(samples):
        raise ValueError(f"{what} of {len(given)} pictures, but ground truth of {len(samples)}")


def checked(given: ImageDetections, sample: Sample, count: int) -> ImageDetections:
    """One picture's detections as arrays without padding; what would spoil the ranking is refused.

    Args:
        given: boxes, scores and classes.
        sample: the picture's ground truth, whose classes are checked as well.
        count: how many classes there are.

    Returns boxes float64 (D, 4), scores float64 (D,), classes int64 (D,).
    """
    boxes, scores, labels = (np.asarray(part) for part in given)
    boxes = boxes.reshape(-1, 4)
    if not len(boxes) == len(scores) == len(labels):
        raise ValueError(f"{sample.image_id}: {len(boxes)} boxes, {len(scores)} scores, {len(labels)} classes")
    kept = labels != -1
    boxes, scores, labels = boxes[kept].astype(np.float64), scores[kept].astype(np.float64), labels[kept].astype(int)
    if not (np.isfinite(scores).all() and np.isfinite(boxes).all()):
        raise ValueError(f"{sample.image_id}: a detection's box or score is not a finite number")
    for name, values in (("a detection", labels), ("a ground-truth box", sample.classes)):
        if len(values) and not (values.min() >= 0 and values.max() < count):
            raise ValueError(f"{sample.image_id}: {name} has a class outside 0 to {count - 1}")
    return boxes, scores, labels


def box_iou(boxes: np.ndarray, others: np.ndarray, plus_one: bool = False) -> np.ndarray:
    """Intersection over union of each of ``boxes`` (N, 4) with each of ``others`` (M, 4): float64 (N, M).

    Two boxes without area have an overlap of 0. ``plus_one`` adds 1 to widths and heights: corners that are
    inclusive pixels.
    """
    more = 1.0 if plus_one else 0.0
    a, b = np.asarray(boxes, np.float64)[:, None], np.asarray(others, np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + more
    common = np.prod(np.maximum(sides, 0.0), axis=-1)
    area_a = np.prod(a[..., 2:] - a[..., :2] + more, axis=-1)
    area_b = np.prod(b[..., 2:] - b[..., :2] + more, axis=-1)
    union = area_a + area_b - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)
