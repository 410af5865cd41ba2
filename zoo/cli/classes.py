"""Choosing classification data for ``zoo train`` and ``zoo eval``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.datasets.class_batches import ClassBatches
    from zoo.datasets.class_records import ClassificationDataset


def class_train_and_val(
    spec: str, split: str | None, val_split: str | None
) -> tuple[ClassificationDataset, ClassificationDataset | None]:
    """Training and validation data; the splits train and val by default, and no validation where there is no val."""
    from zoo.datasets.class_sources import class_splits, load_classes

    known = class_splits(spec)
    if split is None and known:
        split = next((name for name in ("train", "trainval") if name in known), None)
        if split is None:
            raise ValueError(f"{spec} has the splits {', '.join(known)} and none called train; choose one with --split")
    data = load_classes(spec, split)
    if val_split is None:
        val_split = next((name for name in ("val", "validation") if name in known), "none")
    if val_split == "none":
        return data, None
    return data, load_classes(spec, val_split, data.classes)


def class_batches(
    model: str, data: ClassificationDataset, batch_size: int, seed: int, flip: bool, workers: int
) -> ClassBatches:
    """Training batches for the classifier called ``model``, cropped to its input."""
    import zoo
    from zoo.backbones.cifar_resnet import CIFAR_MEAN
    from zoo.datasets.class_batches import ClassBatches, CropFlip

    side = zoo.get(model, classes=2).input_shape[1] or 224
    # Padding of the colour that the network sees as zero (He 2016 pads after subtracting the mean).
    fill = tuple(round(value) for value in CIFAR_MEAN)
    return ClassBatches(data, batch_size, CropFlip(side, side // 8, fill, flip), seed, workers)
