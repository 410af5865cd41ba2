"""Runs a detector over a data set and measures it."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np

from zoo.datasets.coco_metrics import CocoResult, evaluate_coco
from zoo.datasets.metric_inputs import ImageDetections
from zoo.datasets.proposals import ProposalSource
from zoo.datasets.records import DetectionDataset
from zoo.datasets.voc_metrics import VocResult, evaluate_voc
from zoo.detections import Detections
from zoo.detectors.threshold import lowered_threshold

METRICS = ("voc", "coco")


class Detector(Protocol):
    """What an evaluated model has to offer; any object that has it will do."""

    classes: tuple[str, ...]

    def detect(
        self, x: Sequence[np.ndarray], score_threshold: float | None = None, batch_size: int = 1
    ) -> list[Detections]:
        """Detections of each image."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What came of it.

    Attributes:
        result: AP per class (``ap``), their mean (``map``) and the curves.
        detections: one entry per image, in the order of the data set.
        seconds: time inside ``model.detect``: preprocessing, network, NMS, and the first call's tracing;
            reading files is left out.
    """

    result: VocResult | CocoResult
    detections: list[Detections]
    seconds: float

    @property
    def triples(self) -> list[ImageDetections]:
        """Boxes, scores and classes of each image, as the functions of ``zoo.datasets`` take them."""
        return [(one.boxes, one.scores, one.classes) for one in self.detections]

    @property
    def images_per_second(self) -> float:
        """Speed; 0 for an empty data set."""
        return len(self.detections) / self.seconds if self.seconds else 0.0


def evaluate(
    model: Detector,
    dataset: DetectionDataset,
    *,
    metric: Literal["voc", "coco"] = "voc",
    score_threshold: float = 0.05,
    iou: float = 0.5,
    interpolation: Literal["11point", "area"] = "11point",
    batch_size: int = 4,
    proposals: ProposalSource | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Average precision of ``model`` on ``dataset``.

    Args:
        model: has ``classes`` and ``detect``; its classes must be those of the data set, in the same order.
        dataset: ground truth; load it with ``classes=model.classes``.
        metric: ``"voc"`` for average precision at one overlap, ``"coco"`` for COCO's twelve figures.
        score_threshold: detections below it are left out (.05 as in py-faster-rcnn). A detector whose own threshold is
            greater has this one meanwhile, for which its predictions are compiled anew.
        iou: overlap that a detection has to exceed; for VOC alone.
        interpolation: ``"11point"`` (VOC 2007) or ``"area"`` (VOC 2010 on); for VOC alone.
        batch_size: images of similar size that the model takes at once.
        proposals: for a Fast R-CNN, where its proposals come from (`zoo.datasets.proposals`); by default it finds them
            itself by selective search, which takes time. ``zoo.datasets.proposals_choice.First`` takes fewer.
        progress: called with the number of images after each piece.

    Example:
        >>> evaluate(model, zoo.datasets.load("digits", "test")).result.map    # doctest: +SKIP
    """
    if metric not in METRICS:
        raise ValueError(f"metric={metric!r}; choose {' or '.join(map(repr, METRICS))}")
    check_classes(model.classes, dataset)
    if proposals is not None and not takes_proposals(model):
        raise ValueError("the model does not look at proposals of others, as a Fast R-CNN does; give it none")
    with lowered_threshold(model, score_threshold):
        found, seconds = _detections(model, dataset, score_threshold, batch_size, proposals, progress)
    triples = [(one.boxes, one.scores, one.classes) for one in found]
    if metric == "coco":
        result = evaluate_coco(triples, dataset)
    else:
        result = evaluate_voc(triples, dataset, iou=iou, interpolation=interpolation)
    return Evaluation(result, found, seconds)


def _detections(
    model: Detector,
    dataset: DetectionDataset,
    score_threshold: float,
    batch_size: int,
    proposals: ProposalSource | None,
    progress: Callable[[int], None] | None,
) -> tuple[list[Detections], float]:
    """Detections of every image, and the seconds that ``model.detect`` took."""
    found: list[Detections] = []
    seconds = 0.0
    # A bounded number of images in memory, several batches of them: the model groups them by size.
    # Of a slow model progress is told after each batch.
    piece = batch_size if getattr(model, "slow", False) else max(16, 4 * batch_size)
    for start in range(0, len(dataset), piece):
        indices = range(start, min(start + piece, len(dataset)))
        images = [dataset.image(index) for index in indices]
        given = {}
        if proposals is not None:
            pairs = zip(indices, images, strict=True)
            given["proposals"] = [proposals.boxes(dataset.sample(index), image) for index, image in pairs]
        started = time.perf_counter()
        results = model.detect(images, score_threshold=score_threshold, batch_size=batch_size, **given)
        seconds += time.perf_counter() - started
        paths = [dataset.sample(index).path for index in indices]
        found += [replace(result, path=path) for result, path in zip(results, paths, strict=True)]
        if progress is not None:
            progress(len(indices))
    return found, seconds


def usual_metric(dataset: DetectionDataset) -> Literal["voc", "coco"]:
    """What people measure such data by: COCO's figures if they come from a COCO file, else VOC's."""
    return "voc" if dataset.category_ids is None else "coco"


def takes_proposals(model: object) -> bool:
    """Whether a model looks at proposals that others make, as Fast R-CNN does."""
    return hasattr(model, "detect") and "proposals" in inspect.signature(model.detect).parameters


def check_classes(classes: Sequence[str], dataset: DetectionDataset) -> None:
    """Raise if a model's classes are not those of the data set, in order: indices would mean other things."""
    if tuple(classes) != tuple(dataset.classes):
        raise ValueError(
            f"the model knows the classes {', '.join(classes)}, the data set {dataset.name} has "
            f"{', '.join(dataset.classes)}; load the data set with classes=model.classes, or build the "
            "model with "
            "classes=dataset.classes"
        )
