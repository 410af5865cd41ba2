"""The middle of a picture as a classifier sees it, in operators that every export format has."""

from __future__ import annotations

from keras import ops

# Short side to side of the crop, as 256 is to 224 (Krizhevsky 2012, section 2).
_SHORT, _CROP = 256, 224


def centre_view(images, size: int):
    """Scale pictures so that their short side is ``size * 256 / 224``, and take the middle ``size x size``.

    The same as :class:`zoo.datasets.class_views.CentreCrop`, which takes OpenCV's area average for what shrinks and
    bilinear interpolation for what grows: both are weighted means of rows and of columns, so that two matrix products
    do, whatever the size. Pictures of ``size x size`` stay as they are.

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
    short = round(size * _SHORT / _CROP)
    # Half of twice: a quotient rounded to the nearest whole number, halves up, without a float.
    scaled = [ops.maximum((2 * side * short + small) // (2 * small), short) for side in (height, width)]
    rows, columns = (
        _weights(side, ops.where(same, size, new), size) for side, new in zip((height, width), scaled, strict=True)
    )
    images = ops.matmul(rows, ops.reshape(images, (batch, height, width * channels)))
    images = ops.transpose(ops.reshape(images, (batch, size, width, channels)), (0, 2, 1, 3))
    images = ops.matmul(columns, ops.reshape(images, (batch, width, size * channels)))
    images = ops.transpose(ops.reshape(images, (batch, size, size, channels)), (0, 2, 1, 3))
    # Halves up, as OpenCV rounds the mean of 2 x 2 pixels.
    return ops.clip(ops.floor(images + 0.5), 0.0, 255.0)


def _weights(old, new, size: int):
    """How much each of ``old`` pixels counts in the middle ``size`` of ``new``: ``(size, old)``, rows sum to 1."""
    old_length, new_length = ops.cast(old, "float32"), ops.cast(new, "float32")
    step = old_length / new_length
    place = ops.cast(ops.arange(size) + (new - size) // 2, "float32")[:, None]
    pixel = ops.cast(ops.arange(old), "float32")[None]
    # Shrinking: the share of the new pixel's span that lies on the old one.
    span = ops.minimum(pixel + 1.0, (place + 1.0) * step) - ops.maximum(pixel, place * step)
    area = ops.maximum(span, 0.0) / step
    # Growing: the two nearest centres, centres at halves, the border repeated.
    centre = ops.clip((place + 0.5) * step - 0.5, 0.0, old_length - 1.0)
    near = ops.maximum(1.0 - ops.abs(centre - pixel), 0.0)
    return ops.where(step > 1.0, area, near)
