"""Choosing classification data for ``zoo train`` and ``zoo eval``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.cli.console import say
from zoo.cli.data import tell_notes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.datasets.class_batches import ClassBatches
    from zoo.datasets.class_records import ClassificationDataset
    from zoo.datasets.class_sources import ClassSource

AUGMENTATIONS = ("crop-flip", "scale-crop", "alexnet", "vgg", "resnet")
_HELD_OUT = 10  # one picture in so many, where a folder has no splits


def class_train_and_val(
    spec: str, split: str | None, val_split: str | None, classes: Sequence[str] | None = None
) -> tuple[ClassificationDataset, ClassificationDataset | None]:
    """Training and validation data; the splits train and val by default.

    Where there are no splits at all every tenth picture is held out; where there is no val, nothing is validated.
    """
    source = _open(spec)
    known = source.splits
    if split is None and known:
        split = next((name for name in ("train", "trainval") if name in known), None)
        if split is None:
            raise ValueError(f"{spec} has the splits {', '.join(known)} and none called train; choose one with --split")
    data = source.load(split, classes)
    tell_notes(data)
    if val_split is None and not known and len(data) >= 2 * _HELD_OUT:
        # Pictures stand in the order of their classes, so that every class gives its share.
        held_out = range(_HELD_OUT // 2, len(data), _HELD_OUT)
        say(f"{spec} has no splits: every {_HELD_OUT}th picture is held out for validation")
        return data.subset(sorted(set(range(len(data))) - set(held_out))), data.subset(held_out)
    if val_split is None:
        val_split = next((name for name in ("val", "validation") if name in known), "none")
    if val_split == "none":
        return data, None
    return data, source.load(val_split, data.classes)


def class_evaluation_data(
    spec: str, split: str | None, classes: Sequence[str] | None
) -> tuple[ClassificationDataset, str | None]:
    """Data to measure on, and the split's name: without one ``test`` or else ``val``, if there are such."""
    source = _open(spec)
    split = split or next((name for name in ("test", "val", "validation") if name in source.splits), None)
    data = source.load(split, classes)
    tell_notes(data)
    return data, split


def class_batches(
    side: int,
    data: ClassificationDataset,
    batch_size: int,
    seed: int,
    workers: int,
    flip: bool = True,
    augmentation: str | None = None,
    short: Sequence[int] | None = None,
) -> ClassBatches:
    """Training batches of ``side x side`` pictures.

    Args:
        side: what the network sees.
        data: training data.
        batch_size: pictures a batch.
        seed: of order and augmentation.
        workers: batches prepared at the same time.
        flip: mirror half of the pictures.
        augmentation: one of ``AUGMENTATIONS``; ``None`` for ``crop-flip`` or, where the network sees photographs,
            ``scale-crop``.
        short: short side of photographs before they are cropped, or the least and the greatest of them.
    """
    from zoo.datasets.class_augment import LARGEST_THUMBNAIL, photo_augmentation
    from zoo.datasets.class_batches import ClassBatches
    from zoo.training.tasks import thumbnail_crops

    if short is not None and len(short) > 2:
        raise ValueError(f"--short {' '.join(map(str, short))}: give one number, or the least and the greatest")
    kind = augmentation or ("scale-crop" if side > LARGEST_THUMBNAIL else "crop-flip")
    if kind != "crop-flip":
        sides = None if short is None else (short[0], short[-1])
        augment = photo_augmentation(kind, side, data, flip=flip, short=sides)
        low, high = augment.short
        say(f"Pictures: {kind}, short side {low if low == high else f'{low} to {high}'}, crops of {side}")
        return ClassBatches(data, batch_size, augment, seed, workers)
    if short is not None:
        raise ValueError("--short: crop-flip does not scale pictures; choose another --augmentation")
    return ClassBatches(data, batch_size, thumbnail_crops(side, flip), seed, workers)


def _open(spec: str) -> ClassSource:
    from zoo.cache import cache_folder
    from zoo.datasets.class_sources import open_classes

    return open_classes(spec, index_folder=cache_folder() / "tfds")
