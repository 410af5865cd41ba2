"""What training a detector and training a classifier do not have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras

from zoo.backbones.cifar_resnet import CIFAR_MEAN
from zoo.datasets.class_augment import LARGEST_THUMBNAIL, photo_augmentation
from zoo.datasets.class_batches import ClassBatches, CropFlip
from zoo.datasets.class_records import ClassificationDataset
from zoo.datasets.pipeline import Batches
from zoo.datasets.records import DetectionDataset
from zoo.training.classify import check_class_count
from zoo.training.coco_map import CocoMap
from zoo.training.evaluate import METRICS, check_classes, takes_proposals, usual_metric
from zoo.training.top_error import TopError
from zoo.training.voc_map import VocMap
from zoo.weights_io import WeightsMeta

TrainData = DetectionDataset | Batches | ClassificationDataset | ClassBatches
ValData = DetectionDataset | ClassificationDataset


@dataclass(frozen=True)
class Task:
    """How ``fit`` is called.

    Attributes:
        batches: training data.
        classes: names.
        compile: loss and metrics for ``model.compile``.
        validation: batches that ``fit`` measures losses on, each picture once, or ``None``.
        judge: callback that measures what people compare and keeps the best weights, or ``None``.
    """

    batches: Batches | ClassBatches
    classes: tuple[str, ...]
    compile: dict[str, Any]
    validation: Batches | None
    judge: VocMap | CocoMap | TopError | None


def as_batches(model: keras.Model, data: TrainData, batch_size: int, seed: int) -> Batches | ClassBatches:
    """``data`` in batches, its classes compared with the model's."""
    if isinstance(data, DetectionDataset):
        data = Batches(data, batch_size, seed)
    elif isinstance(data, ClassificationDataset):
        side = model.input_shape[1] or 224
        small = side <= LARGEST_THUMBNAIL
        augment = thumbnail_crops(side) if small else photo_augmentation("scale-crop", side, data)
        data = ClassBatches(data, batch_size, augment, seed)
    if isinstance(data, Batches):
        if not hasattr(model, "detect"):
            raise ValueError(f"{data.source.name} has boxes, but {model.name} is a classifier; give class folders")
        check_classes(model.classes, data.source)
        _check_sides(model, data)
        if data.proposals is None and takes_proposals(model):
            raise ValueError(
                f"{model.name} looks at proposals that others make: make them with `zoo proposals`, and give them with "
                "--proposals FOLDER or Batches(data, proposals=zoo.datasets.proposals.open_proposals(FOLDER))"
            )
        if data.proposals is not None and not takes_proposals(model):
            raise ValueError(f"{model.name} does not look at proposals of others, as a Fast R-CNN does; give it none")
    else:
        if hasattr(model, "detect"):
            raise ValueError(f"{data.source.name} has no boxes to train the detector {model.name} on")
        check_class_count(model, data.source)
    return data


def thumbnail_crops(side: int, flip: bool = True) -> CropFlip:
    """Crops as He 2016 takes them from CIFAR (section 4.2), padded by an eighth of their side.

    The padding has the colour that the network sees as zero: He 2016 pads after subtracting the mean.
    """
    return CropFlip(side, side // 8, tuple(round(value) for value in CIFAR_MEAN), flip)


def judging_metric(metric: str | None, val_data: ValData | None) -> Literal["voc", "coco"] | None:
    """What a detector is judged by: what is asked for or, by default, what is usual for the data; else ``None``."""
    if metric is not None and metric not in METRICS:
        raise ValueError(f"metric={metric!r}; choose {' or '.join(map(repr, METRICS))}, or None for the data's own")
    return (metric or usual_metric(val_data)) if isinstance(val_data, DetectionDataset) else None


def make_task(
    batches: Batches | ClassBatches,
    val_data: ValData | None,
    val_every: int,
    best_path: Path,
    meta: WeightsMeta,
    best: float,
    metric: Literal["voc", "coco"] | None = None,
) -> Task:
    """The task that goes with ``batches``; ``metric`` as `judging_metric` gives it."""
    classes = tuple(batches.source.classes)
    if isinstance(batches, Batches):
        validation = judge = None
        if val_data is not None:
            validation = Batches(
                val_data,
                batches.batch_size,
                shuffle=False,
                flip=False,
                drop_remainder=False,
                proposals=batches.proposals,
                most_proposals=batches.most_proposals,
            )
            kind = CocoMap if metric == "coco" else VocMap
            judge = kind(val_data, val_every, batches.batch_size, best_path, meta, best)
            judge.proposals = batches.proposals
        return Task(batches, classes, {}, validation, judge)
    judge = None if val_data is None else TopError(val_data, val_every, 250, best_path, meta, best)
    return Task(batches, classes, _classification(classes), None, judge)


def _check_sides(model: keras.Model, data: Batches) -> None:
    """Pictures that were resized while they were read are no larger than the model is made for."""
    if not data.shorts:
        return
    most = model.preprocessing.long
    if data.long > most:
        raise ValueError(
            f"pictures are resized to a long side of up to {data.long}, but {model.name} is made for {most}; "
            f"build it with the option long={data.long}, or give the batches long={most}"
        )


@keras.saving.register_keras_serializable("zoo")
def top1_error(labels: Any, probabilities: Any) -> Any:
    """1 where the most probable class is not the label, else 0: ``(B,)``."""
    return 1.0 - keras.metrics.sparse_categorical_accuracy(labels, probabilities)


@keras.saving.register_keras_serializable("zoo")
def top5_error(labels: Any, probabilities: Any) -> Any:
    """1 where the label is not among the five most probable classes, else 0: ``(B,)``."""
    return 1.0 - keras.metrics.sparse_top_k_categorical_accuracy(labels, probabilities, k=5)


def _classification(classes: Sequence[str]) -> dict[str, Any]:
    errors = [top1_error, top5_error] if len(classes) > 5 else [top1_error]
    metrics = [keras.metrics.MeanMetricWrapper(error, name=error.__name__) for error in errors]
    return {"loss": keras.losses.SparseCategoricalCrossentropy(), "metrics": metrics}
