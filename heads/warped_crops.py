"""Boxes cut out of images and warped to one size, as R-CNN shows them to its network (Girshick 2014, appendix A)."""

from keras import ops


def warped_crops(images, rois, image, sizes, side: int, context: int = 16):
    """Square crops of boxes, each with some of what surrounds it, whatever the box's shape.

    Before warping a box is widened so that in the crop it lies ``context`` pixels away from all borders. Bilinear,
    pixel centres at halves, without antialiasing, as the release's ``imresize``. What lies beyond the image is 0: the
    mean colour, where images have lost theirs. (The release rounds widened boxes to whole pixels; these are not.)

    Args:
        images: ``(B, H, W, C)`` float32, zero-padded at the right and bottom.
        rois: ``(N, 4)`` float32 in continuous pixels.
        image: ``(N,)`` int32, which image each box is of.
        sizes: ``(B, 2)``, true heights and widths.
        side: of a crop in pixels.
        context: p of appendix A, in pixels of the crop.

    Returns:
        ``(N, side, side, C)`` float32.

    Example:
        >>> import numpy as np
        >>> ramp = np.arange(8, dtype="float32")[None, None, :, None] * np.ones((1, 8, 1, 1), "float32")
        >>> crop = warped_crops(ramp, np.array([[2.0, 2, 6, 6]]), np.array([0]), np.array([[8, 8]]), 8, context=2)
        >>> crop[0, 4, :, 0].numpy().tolist()
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    """
    rows, columns, channels = ops.shape(images)[1:]
    sizes = ops.take(ops.cast(sizes, "float32"), image, axis=0)
    x1, y1, x2, y2 = (rois[:, i] for i in range(4))
    wide = side / (side - 2.0 * context)
    low_y, high_y, part_y, inside_y = _places(y1, y2, sizes[:, 0], wide, side)
    low_x, high_x, part_x, inside_x = _places(x1, x2, sizes[:, 1], wide, side)
    flat, first = ops.reshape(images, (-1, channels)), (image * rows)[:, None]

    def pixels(y, x):
        return ops.take(flat, ((first + y) * columns)[:, :, None] + x[:, None, :], axis=0)

    part_x, part_y = part_x[:, None, :, None], part_y[:, :, None, None]
    above = pixels(low_y, low_x) * (1.0 - part_x) + pixels(low_y, high_x) * part_x
    below = pixels(high_y, low_x) * (1.0 - part_x) + pixels(high_y, high_x) * part_x
    inside = (inside_y[:, :, None] & inside_x[:, None, :])[..., None]
    return ops.where(inside, above * (1.0 - part_y) + below * part_y, 0.0)


def _places(start, end, length, wide: float, side: int):
    """Along one axis: the two pixels that each of ``side`` places lies between, how far, and whether in the image.

    ``start``, ``end`` and ``length`` are ``(N,)``; the results ``(N, side)``.
    """
    centre, extent = ((start + end) / 2.0)[:, None], ((end - start) * wide)[:, None]
    step = ops.cast(ops.arange(side), "float32") + 0.5
    place = centre - extent / 2.0 + step[None] * (extent / side)
    inside = (place >= 0.0) & (place <= length[:, None])
    last = length[:, None] - 1.0
    place = ops.clip(place - 0.5, 0.0, last)
    low = ops.floor(place)
    return ops.cast(low, "int32"), ops.cast(ops.minimum(low + 1.0, last), "int32"), place - low, inside
