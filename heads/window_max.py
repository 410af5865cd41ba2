"""Maxima of arbitrary rectangles of a feature map from four look-ups each: a two-dimensional sparse table.

Level n holds the maxima over windows of ``2 ** (n + 1) - 1`` cells (1, 3, 7, 15 ...). Two such windows, one at each
end, cover any run of that length up to twice it, so three levels do for runs of up to 14 cells, where the usual
table of powers of two needs four. A rectangle is the union of four windows. A maximum, unlike a sum, is exact.
"""

from keras import ops

from zoo.heads.roi_bins import Bins


def levels_for(longest: int) -> int:
    """How many levels cover runs of up to ``longest`` cells."""
    levels = 1
    while 2 * (2**levels - 1) < longest:
        levels += 1
    return levels


def _grow(maps, window: int, axis: int, maximum):
    """Windows of ``2 * window + 1`` cells from windows of ``window``; what would cross the end is never looked up."""

    def shift(values, by):
        length = ops.shape(values)[axis]
        return ops.take(values, ops.minimum(ops.arange(length) + by, length - 1), axis=axis)

    twice = maximum(maps, shift(maps, window))
    return maximum(twice, shift(maps, window + 1))


def window_tables(features, row_levels: int, column_levels: int, maximum=ops.maximum):
    """All windows' maxima, ``(column_levels * row_levels * B * Hf * Wf, C)`` from ``features (B, Hf, Wf, C)``."""
    rows = [features]
    for level in range(row_levels - 1):
        rows.append(_grow(rows[-1], 2 ** (level + 1) - 1, 1, maximum))
    columns = [ops.stack(rows)]
    for level in range(column_levels - 1):
        columns.append(_grow(columns[-1], 2 ** (level + 1) - 1, 3, maximum))
    return ops.reshape(ops.stack(columns), (-1, features.shape[-1]))


def _corner(low, high, levels: int):
    """Level, first and second window of every run ``low <= i < high``; each shaped as ``low``."""
    length = high - low
    level = ops.zeros_like(length)
    for n in range(1, levels):
        level = level + ops.cast(length >= 2 ** (n + 1) - 1, "int32")
    window = 2 ** (level + 1) - 1 if isinstance(level, int) else ops.left_shift(ops.ones_like(level), level + 1) - 1
    return level, low, ops.maximum(high - window, low)


def bin_windows(bins: Bins, image, shape, row_levels: int, column_levels: int):
    """Where in :func:`window_tables` the four windows of every bin stand.

    Args:
        bins: of N RoIs, each member ``(N, size)``.
        image: ``(N,)`` int32, which image of the batch an RoI belongs to.
        shape: ``(B, Hf, Wf)`` of the features, ints or scalar tensors.
        row_levels: levels of the table along rows.
        column_levels: levels of the table along columns.

    Returns:
        Four int32 ``(N, size, size)`` and a bool ``(N, size, size)`` that is true where a bin is empty.
    """
    batch, rows, columns = shape
    row_level, row_a, row_b = _corner(bins.top, bins.bottom, row_levels)
    column_level, column_a, column_b = _corner(bins.left, bins.right, column_levels)
    empty = (bins.bottom <= bins.top)[:, :, None] | (bins.right <= bins.left)[:, None, :]
    base = column_level[:, None, :] * row_levels + row_level[:, :, None]
    base = (base * batch + image[:, None, None]) * rows

    def at(row, column):
        place = (base + row[:, :, None]) * columns + column[:, None, :]
        return ops.where(empty, 0, place)

    return [at(row_a, column_a), at(row_a, column_b), at(row_b, column_a), at(row_b, column_b)], empty
