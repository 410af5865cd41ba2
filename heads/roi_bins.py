"""Which feature-map cells belong to which bin of an RoI, as Caffe's RoI pooling defines it."""

from typing import NamedTuple

from keras import ops


class Bins(NamedTuple):
    """First (included) and last (excluded) row and column of every bin, clipped to the map; each ``(N, size)``."""

    top: object
    bottom: object
    left: object
    right: object


def _round_half_away(x):
    """C's ``round``. ``ops.round`` sends halves to even, and ``floor(x + .5)`` errs just below a half."""
    whole = ops.trunc(x)
    return whole + ops.where(ops.abs(x - whole) >= 0.5, ops.sign(x), 0.0)


def _axis(start, end, cells, size: int):
    """Bins along one axis: ``start`` and ``end`` in cells ``(N,)``, map length ``cells``."""
    start, end = _round_half_away(start), _round_half_away(end)
    extent = ops.maximum(end - start + 1.0, 1.0)
    # A divisor that only looks variable: compilers turn division by a constant into multiplication by its
    # reciprocal, whose rounding differs.
    divisor = ops.where(extent > 0.0, float(size), 1.0)
    step = ops.expand_dims(extent / divisor, -1)
    p = ops.cast(ops.arange(size), "float32")
    # start is a whole number: adding it before or after rounding is the same as long as both are exact.
    low = ops.floor(p * step) + start[:, None]
    high = ops.ceil((p + 1.0) * step) + start[:, None]
    cells = ops.cast(cells, "float32")
    return (
        ops.cast(ops.clip(low, 0.0, cells), "int32"),
        ops.cast(ops.clip(high, 0.0, cells), "int32"),
    )


def roi_bins(rois, rows, columns, size: int, stride: int) -> Bins:
    """Bins of RoIs on a feature map of ``rows`` x ``columns`` cells.

    Start ``s = round(x1 / stride)`` and end ``e = round(x2 / stride)``, halves away from zero; extent
    ``max(e - s + 1, 1)``; bin p covers ``floor(p * extent / size) + s`` up to ``ceil((p + 1) * extent / size) + s``,
    in float32 (integer arithmetic differs at extents 57, 114 and 121 for 7 bins).

    Args:
        rois: ``(N, 4)`` float32 in pixels of the prepared image; they may lie outside it.
        rows: height of the feature map, an int or a scalar tensor.
        columns: width of the feature map, likewise.
        size: bins a side.
        stride: pixels a cell spans; a power of two, so that the division is exact.

    Source: Girshick 2015, section 2.1, and the layer of its Caffe release.
    """
    scaled = rois * (1.0 / stride)
    left, right = _axis(scaled[:, 0], scaled[:, 2], columns, size)
    top, bottom = _axis(scaled[:, 1], scaled[:, 3], rows, size)
    return Bins(top, bottom, left, right)
