"""An image at several scales: each RoI looks at the one that shows it nearest its usual size (Girshick 2015, 2.4)."""

from collections.abc import Sequence

import keras
from keras import ops

from zoo.heads import boxes as box_math

# Side of the squares that networks for ImageNet see.
CANONICAL = 224.0


def nearest_level(rois, ratios, plus_one: bool = False, side: float = CANONICAL):
    """The scale at which an RoI's area is nearest ``side ** 2`` pixels; of two as near, the first.

    Nearest by the difference of areas, as the paper's release measures it (He 2014, section 2.3, says only "closest").

    Args:
        rois: ``(B, R, 4)`` in pixels of the original image.
        ratios: ``(L, B, 2)``, prepared by original height and width at each of L scales.
        plus_one: ``rois`` are in the inclusive pixel convention.
        side: in pixels of the prepared image.

    Returns:
        ``(B, R)`` int32.

    Example:
        >>> nearest_level(np.array([[[0.0, 0, 224, 224]]]), np.array([[[0.5, 0.5]], [[1.0, 1.0]]])).numpy()
        array([[1]], dtype=int32)
    """
    scale = ops.prod(ops.cast(ratios, "float32"), axis=-1)
    area = box_math.area(ops.cast(rois, "float32"), plus_one)[None] * scale[..., None]
    gaps = ops.abs(area - side * side)
    # Not argmin, of which Keras makes operators on TensorFlow that TFLite lacks.
    least, level = gaps[0], ops.zeros(ops.shape(gaps[0]), "int32")
    for number in range(1, gaps.shape[0]):
        level = ops.where(gaps[number] < least, number, level)
        least = ops.minimum(gaps[number], least)
    return level


def stack_maps(maps: Sequence):
    """Feature maps of several sizes as one batch, each at the top left, with zeros to its right and below.

    Args:
        maps: L of ``(B, Hf, Wf, C)``, Hf and Wf differing.

    Returns:
        ``(stacked (L * B, Hf, Wf, C), extents (L, 2))``: map ``b`` of scale ``l`` has place ``l * B + b``, and
        ``extents`` int32 are each scale's rows and columns.
    """
    shapes = [ops.shape(each)[1:3] for each in maps]
    rows, columns = (_largest([shape[axis] for shape in shapes]) for axis in (0, 1))
    stacked = ops.concatenate([_padded(each, rows, columns) for each in maps], axis=0)
    extents = [ops.stack([ops.cast(side, "int32") for side in shape]) for shape in shapes]
    return stacked, ops.stack(extents)


def _largest(numbers: list):
    if all(isinstance(number, int) for number in numbers):
        return max(numbers)
    return ops.max(ops.stack([ops.cast(number, "int32") for number in numbers]))


def _padded(features, rows, columns):
    batch, height, width = ops.shape(features)[:3]
    channels, dtype = features.shape[-1], keras.backend.standardize_dtype(features.dtype)
    right = ops.zeros((batch, height, columns - width, channels), dtype)
    features = ops.concatenate([features, right], axis=2)
    below = ops.zeros((batch, rows - height, columns, channels), dtype)
    return ops.concatenate([features, below], axis=1)
