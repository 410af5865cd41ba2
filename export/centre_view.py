"""The middle of a picture as a classifier sees it, in operators that every export format has."""

from __future__ import annotations

from keras import ops

from zoo.datasets.class_views import usual_short


def centre_view(images, size: int):
    """Scale pictures so that their short side is `usual_short`'s for ``size``, and take the middle ``size x size``.

    The same as :class:`zoo.datasets.class_views.CentreCrop`, which takes OpenCV's area average for what shrinks
    (``INTER_AREA``) and bilinear interpolation for what grows (``INTER_LINEAR_EXACT``): both are weighted means of rows
    and of columns, so that two matrix products do, whatever the size. What grows is the same to the bit; of what
    shrinks a pixel in thousands may be a level off, where rounding decides. Pictures of ``size x size`` stay as they
    are.

    Args:
        images: ``(B, H, W, 3)`` float32, 0-255.
        size: side of the crop, in pixels.

    Returns:
        ``(B, size, size, 3)`` float32, whole numbers.
    """
    height, width = images.shape[1:3]
    if height == size and width == size:
        return images
    batch, height, width, channels = ops.shape(images)
    height, width = (ops.cast(side, "int32") for side in (height, width))
    small = ops.minimum(height, width)
    same = (height == size) & (width == size)
    short = usual_short(size)
    sides = [ops.maximum(_nearest(side * short, small), short) for side in (height, width)]
    rows, columns = (
        _weights(side, ops.where(same, size, new), size) for side, new in zip((height, width), sides, strict=True)
    )
    images = ops.matmul(rows, ops.reshape(images, (batch, height, width * channels)))
    images = ops.transpose(ops.reshape(images, (batch, size, width, channels)), (0, 2, 1, 3))
    images = ops.matmul(columns, ops.reshape(images, (batch, width, size * channels)))
    images = ops.transpose(ops.reshape(images, (batch, size, size, channels)), (0, 2, 1, 3))
    # OpenCV rounds halves up in what it calculates with whole numbers: bilinear, and the mean of 2 x 2 pixels.
    halves_up = (small <= short) | ((2 * sides[0] == height) & (2 * sides[1] == width))
    images = ops.where(halves_up, ops.floor(images + 0.5), ops.round(images))
    return ops.clip(images, 0.0, 255.0)


def _nearest(over, under):
    """A quotient rounded to the nearest whole number, halves to the even one as Python rounds, without a float."""
    twice = 2 * over + under
    found = twice // (2 * under)
    odd = found - found // 2 * 2
    return found - ops.where(2 * found * under == twice, odd, 0)


def _weights(old, new, size: int):
    """How much each of ``old`` pixels counts in the middle ``size`` of ``new``: ``(size, old)``, rows sum to 1.

    In whole numbers up to the end, none of which passes 32 bits for sides of 16 bits, however narrow the picture is and
    so however large ``new``.
    """
    place = (ops.arange(size, dtype="int32") + (new - size) // 2)[:, None]
    pixel = ops.arange(old, dtype="int32")[None]
    # Shrinking: the share of the new pixel's span, old / new pixels long, that lies on the old one. It begins
    # rest / new behind the start of the first that it touches.
    ahead = place * ops.maximum(old - new, 0)
    first, rest = place + ahead // new, ahead - ahead // new * new
    behind = ops.clip(pixel - first, -1, old // new + 2)
    overlap = ops.minimum((behind + 1) * new, rest + old) - ops.maximum(behind * new, rest)
    area = ops.cast(ops.maximum(overlap, 0), "float32") / ops.cast(old, "float32")
    # Growing: the two nearest centres, centres at halves, the border repeated; weights in 256ths.
    first, rest = _first_centre(old, new, size)
    span = 2 * new
    ahead = rest + ops.arange(size, dtype="int32")[:, None] * (2 * old)
    left, part = first + ahead // span, ahead - ahead // span * span
    right = ops.where((left >= 0) & (left < old - 1), _in_256ths(part, span), 0)
    left = ops.clip(left, 0, old - 1)
    near = ops.where(pixel == left, 256 - right, 0) + ops.where(pixel == left + 1, right, 0)
    return ops.where(new < old, area, ops.cast(near, "float32") / 256.0)


def _first_centre(old, new, size: int):
    """Centre of the first of the middle ``size`` of ``new`` pixels: the old pixel before it, and how far behind that.

    The distance between the two centres is in parts of which ``2 * new`` make an old pixel, 0 to ``2 * new - 1``. It is
    counted from the middle, which old and new pixels share, since ``old * new`` may pass 32 bits.
    """
    half = (old - 1) - (old - 1) // 2 * 2
    # From the middle to that centre. Nothing negative is divided: formats differ in which way they round it.
    back = (size - 1 + (new - size) - (new - size) // 2 * 2) * old
    whole = (back + (4 - half) * new - 1) // (2 * new) - 1
    return (old - 1) // 2 - whole, whole * (2 * new) + half * new - back


def _in_256ths(part, span):
    """``part / span``, in 256ths, rounded, halves up; in two steps of sixteen, so that no product is large."""
    sixteenths = 16 * part // span
    rest = 16 * (16 * part - sixteenths * span)
    more = rest // span
    return 16 * sixteenths + more + (2 * (rest - more * span) + span) // (2 * span)
