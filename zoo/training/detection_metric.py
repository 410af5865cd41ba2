"""Average precision as a Keras metric, for evaluation loops of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np

from zoo.datasets.coco_metrics import evaluate_coco
from zoo.datasets.metric_inputs import ImageDetections
from zoo.datasets.records import Sample
from zoo.datasets.voc_metrics import evaluate_voc
from zoo.training.evaluate import METRICS


class DetectionMetric(keras.metrics.Metric):
    """Collects detections and objects batch by batch, and measures them when the result is asked for.

    Average precision ranks the detections of all images, so that nothing can be summed up before: the metric keeps
    them all. It needs values, not the placeholders of a compiled step; call it on what ``predict_on_batch`` gives.
    Boxes and objects have to be in the same pixels; COCO's sizes are those of the images only if both are in pixels
    of these.

    Args:
        classes: K class names.
        metric: ``"voc"`` (11 points, IoU .5) or ``"coco"``.
        name: in the logs.

    Example:
        >>> metric = DetectionMetric(("cat", "dog"))
        >>> y = {"boxes": [[[0, 0, 9, 9]]], "classes": [[1]]}
        >>> metric.update_state(y, {**y, "scores": [[0.9]]})
        >>> float(metric.result())
        1.0
    """

    def __init__(
        self, classes: Sequence[str], metric: Literal["voc", "coco"] = "voc", name: str = "mean_average_precision"
    ) -> None:
        """See the class."""
        super().__init__(name=name)
        if metric not in METRICS:
            raise ValueError(f"metric={metric!r}; choose {' or '.join(map(repr, METRICS))}")
        self.classes, self.metric = tuple(classes), metric
        self._found: list[ImageDetections] = []
        self._samples: list[Sample] = []

    def update_state(self, y_true: Mapping[str, Any], y_pred: Mapping[str, Any], sample_weight: None = None) -> None:
        """Add B images.

        Args:
            y_true: ``boxes`` (B, G, 4), ``classes`` (B, G) with -1 for padding, and ``difficult`` (B, G) if there
                is such a thing: what ``Batches`` gives.
            y_pred: ``boxes`` (B, D, 4), ``scores`` (B, D), ``classes`` (B, D) with -1 for padding: what a detector
                gives.
            sample_weight: not used; images cannot be weighed.
        """
        if sample_weight is not None:
            raise ValueError("average precision cannot be weighed: leave sample_weight out")
        boxes, classes = _values(y_true, "boxes"), _values(y_true, "classes")
        hard = _values(y_true, "difficult").astype(bool) if "difficult" in y_true else np.zeros(classes.shape, bool)
        found = [_values(y_pred, key) for key in ("boxes", "scores", "classes")]
        if len(boxes) != len(found[0]):
            raise ValueError(f"y_true has {len(boxes)} images, y_pred {len(found[0])}")
        for number in range(len(boxes)):
            real = classes[number] >= 0
            one = (boxes[number][real], classes[number][real], hard[number][real], np.zeros(real.sum(), bool))
            self._samples.append(Sample(f"image {len(self._samples)}", None, (1, 1), *one))
            self._found.append(tuple(part[number] for part in found))

    def result(self) -> float:
        """The mAP (for COCO, AP) of all images so far; NaN if they have no objects."""
        measure = evaluate_coco if self.metric == "coco" else evaluate_voc
        return measure(self._found, self._samples, self.classes).map

    def reset_state(self) -> None:
        """Forget all images."""
        super().reset_state()
        self._found, self._samples = [], []

    def get_config(self) -> dict[str, Any]:
        """Arguments of ``__init__``."""
        return {"classes": list(self.classes), "metric": self.metric, "name": self.name}


def _values(batch: Mapping[str, Any], key: str) -> np.ndarray:
    if key not in batch:
        raise ValueError(f"there are no {key!r} among {', '.join(batch)}")
    try:
        return keras.ops.convert_to_numpy(batch[key])
    except Exception as error:
        raise ValueError(
            f"{key!r} has no value yet: this metric does not work inside a compiled step; call it on the outputs of "
            "predict_on_batch, or compile with run_eagerly=True"
        ) from error
