"""What a detector takes from a backbone, and how a backbone's stages are read off as features."""

from collections.abc import Sequence
from dataclasses import dataclass

import keras


@dataclass(frozen=True)
class DetectorParts:
    """A backbone cut in two for an R-CNN.

    Attributes:
        extractor: ``(B, H, W, 3)`` normalised images to ``(B, ceil(H / stride), ceil(W / stride), C)``.
        body: ``(N, pool_size, pool_size, C)`` pooled features to ``(N, F)``.
        pool_size: bins a side of RoI pooling.
        stride: pixels a cell of the feature map spans.
    """

    extractor: keras.Model
    body: keras.Model
    pool_size: int
    stride: int = 16


def feature_model(
    name: str, inputs, stages: dict, strides: dict[str, int], wanted: Sequence[str] | None = None
) -> keras.Model:
    """A model from images to a dict of the wanted stages' feature maps (all of them by default).

    Its ``strides`` tells how many pixels a cell of each map spans.
    """
    if wanted is None:
        wanted = list(stages)
    unknown = [stage for stage in wanted if stage not in stages]
    if unknown or not wanted:
        raise ValueError(f"{name} has no stage {', '.join(unknown) or '(none given)'}; it has {', '.join(stages)}")
    model = keras.Model(inputs, {stage: stages[stage] for stage in wanted}, name=name)
    model.strides = {stage: strides[stage] for stage in wanted}
    return model


def class_count(classes) -> int:
    """Number of classes from a number, class names, or nothing (ImageNet's 1000)."""
    if classes is None:
        return 1000
    if isinstance(classes, int):
        count = classes
    else:
        count = len(tuple(classes))
    if count < 1:
        raise ValueError(f"a classifier needs at least one class, got {classes!r}")
    return count
