"""From the RPN's outputs to proposals (Ren 2015, section 3.3)."""

import numpy as np
from keras import ops

from zoo.heads import anchors as anchor_boxes
from zoo.heads import boxes as box_math
from zoo.heads.nms import nms

_LOWEST = float(np.finfo(np.float32).min)


def top_scores(scores, count: int):
    """The ``count`` best of ``scores (N, M)``, best first, padded with -1 where M is smaller.

    Returns:
        ``(scores, index)``, both ``(N, count)``; the shapes are static whatever M is.
    """
    candidates = scores.shape[1]
    if candidates is None or candidates < count:
        scores = ops.concatenate([scores, ops.full((ops.shape(scores)[0], count), -1.0)], axis=1)
    best, index = ops.top_k(scores, count)
    return best, ops.where(best >= 0.0, index, 0)


def _best(logits, count: int):
    """Like :func:`top_scores` for numbers of any sign: ``(index, real)``, padding being ``_LOWEST``."""
    candidates = logits.shape[1]
    if candidates is None or candidates < count:
        logits = ops.concatenate([logits, ops.full((ops.shape(logits)[0], count), _LOWEST)], axis=1)
    best, index = ops.top_k(logits, count)
    real = best > _LOWEST
    return ops.where(real, index, 0), real


def propose(
    logits,
    deltas,
    anchors,
    sizes,
    *,
    before_nms: int,
    after_nms: int,
    nms_iou: float = 0.7,
    min_size=16.0,
    rank_by: str = "softmax",
    plus_one: bool = False,
    margin: float = 0.0,
):
    """Decode, clip, drop small boxes, and keep the best after NMS.

    Args:
        logits: ``(B, A, 2)``.
        deltas: ``(B, A, 4)``.
        anchors: ``(A, 4)`` pixels of the prepared image.
        sizes: ``(B, 2)`` true sizes of the prepared images; anchors centred on padding propose nothing.
        before_nms: best boxes looked at; 12000 in training and 6000 at test.
        after_nms: proposals kept, P; 2000 in training and 300 at test.
        nms_iou: threshold of NMS.
        min_size: least width and height, in pixels of the prepared image: a number, or ``(B, 1)``.
        rank_by: what "best" means: ``"softmax"``, the foreground's share, or ``"logit"``, its raw score (ChainerCV).
        plus_one: inclusive pixel convention, of ``anchors`` as of the result.
        margin: how far beyond the image an anchor's centre may lie at the right and bottom; see ``centred_inside``.

    Returns:
        ``(proposals, scores)``: ``(B, P, 4)`` inside their images and ``(B, P)``, the softmax objectness, best first
        by ``rank_by``; score -1 marks padding, whose box is all zeros.
    """
    scores = ops.softmax(logits, axis=-1)[..., 1]
    decoded = box_math.clip(box_math.decode(deltas, anchors[None], plus_one), sizes, plus_one)
    one = 1.0 if plus_one else 0.0
    width, height = decoded[..., 2] - decoded[..., 0] + one, decoded[..., 3] - decoded[..., 1] + one
    good = (width >= min_size) & (height >= min_size) & anchor_boxes.centred_inside(anchors, sizes, margin)
    if rank_by == "logit":
        index, real = _best(ops.where(good, logits[..., 1], _LOWEST), before_nms)
        scores = ops.where(real, ops.take_along_axis(scores, index, axis=1), -1.0)
        # NMS goes by the order alone, and takes scores that fall; these need not.
        order = ops.where(real, 0.0, -1.0)
    else:
        scores, index = top_scores(ops.where(good, scores, -1.0), before_nms)
        order = scores
    decoded = ops.take_along_axis(decoded, index[..., None], axis=1)
    kept, valid = nms(decoded, order, nms_iou, after_nms, plus_one)
    proposals = ops.take_along_axis(decoded, kept[..., None], axis=1)
    scores = ops.take_along_axis(scores, kept, axis=1)
    return ops.where(valid[..., None], proposals, 0.0), ops.where(valid, scores, -1.0)
