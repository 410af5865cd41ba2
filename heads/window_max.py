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


def _grow(maps, window: int, step, maximum):
    """Windows of ``2 * window + 1`` cells, ``step`` apart, from windows of ``window``; the list gets shorter."""
    length = ops.shape(maps)[0]
    far = (window + 1) * step
    keep = max(length - far, 0) if isinstance(length, int) and isinstance(far, int) else ops.maximum(length - far, 0)
    by = window * step
    # Slices along the first axis copy nothing.
    return maximum(maximum(maps[:keep], maps[by : by + keep]), maps[far : far + keep])


def window_tables(features, row_levels: int, column_levels: int, maximum=ops.maximum):
    """All windows' maxima, ``(column_levels * row_levels * B * Hf * Wf, C)`` from ``features (B, Hf, Wf, C)``.

    The map is one long list of cells, in which the cell below is ``Wf`` places on. Windows that cross the map's end
    hold cells of the next row or image; no bin ever looks them up.
    """
    columns, channels = ops.shape(features)[2], features.shape[-1]
    cells = ops.reshape(features, (-1, channels))
    rows = [cells]
    for level in range(row_levels - 1):
        rows.append(_grow(rows[-1], 2 ** (level + 1) - 1, columns, maximum))
    tables = [*rows]
    for level in range(column_levels - 1):
        rows = [_grow(row, 2 ** (level + 1) - 1, 1, maximum) for row in rows]
        tables += rows
    # Fill every table up to the length of the first: their places are computed, not stored.
    parts = [cells]
    for table in tables[1:]:
        parts += [table, cells[: ops.shape(cells)[0] - ops.shape(table)[0]]]
    return ops.concatenate(parts, axis=0)


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
