"""Box arithmetic: area, IoU, clipping and the box deltas of R-CNN. Shapes: see ``zoo.heads``."""

import math

from keras import ops

# exp() of a larger value only overflows; 1000 / 16 is the bound that Detectron made customary.
MAX_LOG_SCALE = math.log(1000.0 / 16.0)


def split(boxes):
    """Return the four coordinates of ``boxes (..., 4)``, each ``(...)``."""
    return boxes[..., 0], boxes[..., 1], boxes[..., 2], boxes[..., 3]


def area(boxes, plus_one: bool = False):
    """Area in square pixels of ``boxes (..., 4)``; a swapped or empty box has area 0."""
    x1, y1, x2, y2 = split(boxes)
    one = 1.0 if plus_one else 0.0
    return ops.maximum(x2 - x1 + one, 0.0) * ops.maximum(y2 - y1 + one, 0.0)


def iou(a, b, plus_one: bool = False):
    """Intersection over union of every pair of two sets of boxes (Girshick 2015, section 2.3).

    Args:
        a: ``(..., N, 4)`` boxes.
        b: ``(..., M, 4)`` boxes.
        plus_one: inclusive pixel convention, width ``x2 - x1 + 1``.

    Returns:
        ``(..., N, M)`` in [0, 1]; 0 where both boxes are empty.

    Example:
        >>> import numpy as np
        >>> iou(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2]]))  # 2 / 6
    """
    a, b = ops.convert_to_tensor(a), ops.convert_to_tensor(b)
    a, b = ops.expand_dims(a, -2), ops.expand_dims(b, -3)
    ax1, ay1, ax2, ay2 = split(a)
    bx1, by1, bx2, by2 = split(b)
    one = 1.0 if plus_one else 0.0
    width = ops.maximum(ops.minimum(ax2, bx2) - ops.maximum(ax1, bx1) + one, 0.0)
    height = ops.maximum(ops.minimum(ay2, by2) - ops.maximum(ay1, by1) + one, 0.0)
    inter = width * height
    union = area(a, plus_one) + area(b, plus_one) - inter
    return ops.where(union > 0.0, inter / ops.where(union > 0.0, union, 1.0), 0.0)


def clip(boxes, sizes, plus_one: bool = False):
    """Clip ``boxes (B, N, 4)`` to images of ``sizes (B, 2)``, height and width in pixels.

    In the inclusive convention the last coordinate is ``W - 1``, in the continuous one ``W``.
    """
    sizes = ops.cast(sizes, boxes.dtype) - (1.0 if plus_one else 0.0)
    height, width = sizes[:, 0][:, None], sizes[:, 1][:, None]
    x1, y1, x2, y2 = split(boxes)
    return ops.stack(
        [
            ops.clip(x1, 0.0, width),
            ops.clip(y1, 0.0, height),
            ops.clip(x2, 0.0, width),
            ops.clip(y2, 0.0, height),
        ],
        axis=-1,
    )


def _centre(boxes, plus_one: bool):
    x1, y1, x2, y2 = split(boxes)
    one = 1.0 if plus_one else 0.0
    width, height = x2 - x1 + one, y2 - y1 + one
    return x1 + 0.5 * width, y1 + 0.5 * height, width, height


def encode(boxes, references, plus_one: bool = False):
    """Box deltas ``(tx, ty, tw, th)`` that turn ``references`` into ``boxes`` (Ren 2015, equation 2).

    ``tx = (x - xa) / wa``, ``tw = log(w / wa)``, with centres and sizes; both inputs ``(..., 4)``. Boxes without
    extent (padding) give finite numbers, which the caller masks.
    """
    x, y, w, h = _centre(boxes, plus_one)
    xa, ya, wa, ha = _centre(references, plus_one)
    tiny = 1e-3
    wa, ha = ops.maximum(wa, tiny), ops.maximum(ha, tiny)
    return ops.stack(
        [
            (x - xa) / wa,
            (y - ya) / ha,
            ops.log(ops.maximum(w, tiny) / wa),
            ops.log(ops.maximum(h, tiny) / ha),
        ],
        axis=-1,
    )


def decode(deltas, references, plus_one: bool = False):
    """Apply box deltas: the inverse of :func:`encode`, with ``tw`` and ``th`` bounded by ``log(1000 / 16)``.

    Like py-faster-rcnn, the inclusive convention puts ``x2`` at centre + width / 2 without taking the 1 off again.
    """
    xa, ya, wa, ha = _centre(references, plus_one)
    tx, ty, tw, th = split(deltas)
    x, y = tx * wa + xa, ty * ha + ya
    w = ops.exp(ops.minimum(tw, MAX_LOG_SCALE)) * wa
    h = ops.exp(ops.minimum(th, MAX_LOG_SCALE)) * ha
    return ops.stack([x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h], axis=-1)
