"""Anchors: boxes of a few sizes and shapes around every cell of a feature map (Ren 2015, section 3.1.1)."""

from collections.abc import Sequence

import numpy as np
from keras import ops


def cell_anchors(
    sizes: Sequence[float] = (128, 256, 512), ratios: Sequence[float] = (0.5, 1, 2), stride: int = 16
) -> np.ndarray:
    """Anchors of the cell at the origin, centred on it: continuous convention, as ChainerCV's.

    Args:
        sizes: square roots of the anchors' areas, in pixels of the prepared image.
        ratios: height / width.
        stride: pixels a cell spans; the centre is ``(stride / 2, stride / 2)``.

    Returns:
        ``(k, 4)`` float32, in order ratio * len(sizes) + size.

    Example:
        >>> cell_anchors(sizes=[128], ratios=[1])
        array([[-56., -56.,  72.,  72.]], dtype=float32)
    """
    _check_positive("anchor sizes", sizes)
    _check_positive("anchor ratios", ratios)
    shape = np.array([(s / r**0.5, s * r**0.5) for r in ratios for s in sizes])
    return np.concatenate([stride / 2 - shape / 2, stride / 2 + shape / 2], axis=1).astype("float32")


def caffe_cell_anchors(
    scales: Sequence[float] = (8, 16, 32), ratios: Sequence[float] = (0.5, 1, 2), base: int = 16
) -> np.ndarray:
    """Anchors of py-faster-rcnn: inclusive coordinates, sides rounded, centred on (7.5, 7.5) for base 16.

    Returns:
        ``(k, 4)`` float32, in order ratio * len(scales) + scale; the defaults are the nine anchors that
        ``generate_anchors()`` returns. The list in that file's comment is Matlab's, counted from 1.
    """
    _check_positive("anchor scales", scales)
    _check_positive("anchor ratios", ratios)
    centre = 0.5 * (base - 1)
    anchors = []
    for ratio in ratios:
        width = np.round(np.sqrt(base * base / ratio))
        height = np.round(width * ratio)
        for scale in scales:
            half = 0.5 * (np.array([width, height]) * scale - 1)
            anchors.append(np.concatenate([centre - half, centre + half]))
    return np.array(anchors, "float32")


def _check_positive(what: str, values: Sequence[float]) -> None:
    if len(values) == 0 or min(values) <= 0:
        raise ValueError(f"{what} must be one or more positive numbers, got {tuple(values)}")


def grid(cell: np.ndarray, rows, columns, stride: int):
    """Shift a cell's anchors over a feature map of ``rows`` x ``columns`` cells (ints or scalar tensors).

    Returns:
        ``(rows * columns * k, 4)`` float32 in pixels of the prepared image.
    """
    y = ops.cast(ops.arange(rows), "float32") * stride
    x = ops.cast(ops.arange(columns), "float32") * stride
    shifts = ops.stack(
        [
            ops.reshape(ops.tile(x[None, :], (rows, 1)), (-1,)),
            ops.reshape(ops.tile(y[:, None], (1, columns)), (-1,)),
        ],
        axis=-1,
    )
    shifts = ops.concatenate([shifts, shifts], axis=-1)
    return ops.reshape(shifts[:, None, :] + ops.convert_to_tensor(cell)[None], (-1, 4))


def inside(anchors, sizes, plus_one: bool = False):
    """Which anchors lie wholly inside each image (Ren 2015, section 3.1.3: the others are not trained).

    Args:
        anchors: ``(A, 4)``.
        sizes: ``(B, 2)`` true height and width of the prepared images.
        plus_one: inclusive pixel convention: the last pixel inside is ``W - 1``.

    Returns:
        ``(B, A)`` bool.
    """
    sizes = ops.cast(sizes, anchors.dtype) - (1.0 if plus_one else 0.0)
    x1, y1, x2, y2 = (anchors[None, :, i] for i in range(4))
    return (x1 >= 0) & (y1 >= 0) & (x2 <= sizes[:, 1:2]) & (y2 <= sizes[:, 0:1])


def centred_inside(anchors, sizes, margin: float = 0.0):
    """Which anchors have their centre inside each image: the others stand on padding. ``(B, A)`` bool.

    A feature map covers its image up to a part of a cell, so that the centre of the last cells may lie outside.
    ``margin``, in pixels, lets the right and bottom side reach farther: ``stride / 2 - .5`` lets in every cell that
    begins inside the image.
    """
    sizes = ops.cast(sizes, anchors.dtype) + margin
    x = 0.5 * (anchors[:, 0] + anchors[:, 2])[None]
    y = 0.5 * (anchors[:, 1] + anchors[:, 3])[None]
    return (x < sizes[:, 1:2]) & (y < sizes[:, 0:1])
