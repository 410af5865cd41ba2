"""From the box head's outputs to detections: per-class NMS (Girshick 2015, section 3)."""

from keras import ops

from zoo.heads import boxes as box_math
from zoo.heads.nms import nms
from zoo.heads.proposals import top_scores

SCORINGS = ("softmax", "svm")


def class_scores(logits, scoring: str = "softmax"):
    """Scores in [0, 1] of the K classes, ``(..., K)``, from ``logits (..., K + 1)`` with the background first.

    ``"softmax"`` is the network's own classifier. With ``"svm"`` the logits are the margins of one support vector
    machine a class (Girshick 2014), and the score ``1 / (1 + exp(-2 margin))``: it rises with the margin, so that
    ranking, non-maximum suppression and average precision are those of the margins; the plane itself is at .5, the
    usual threshold of .05 at a margin of -1.47. In 32 bits margins a hundredth apart have scores of their own up to 6.
    """
    if scoring == "svm":
        return ops.sigmoid(2.0 * logits)[..., 1:]
    return ops.softmax(logits, axis=-1)[..., 1:]


def detections(
    logits,
    deltas,
    rois,
    roi_scores,
    sizes,
    *,
    deviations,
    score_threshold: float = 0.05,
    nms_iou: float = 0.3,
    most: int = 100,
    plus_one: bool = False,
    deltas_plus_one: bool | None = None,
    scoring: str = "softmax",
):
    """Detections of static shape, best first.

    Args:
        logits: ``(B, R, K + 1)``, class 0 the background. R may be unknown to the graph, but is at least 1.
        deltas: ``(B, R, K + 1, 4)``, normalised by ``deviations``.
        rois: ``(B, R, 4)``.
        roi_scores: ``(B, R)``; below 0 is padding.
        sizes: ``(B, 2)`` to clip to.
        deviations: four numbers.
        score_threshold: lower scores are dropped.
        nms_iou: threshold of NMS within a class.
        most: D, detections an image.
        plus_one: inclusive pixel convention, of ``rois`` as of the result.
        deltas_plus_one: the same of the deltas alone, if it differs; see :func:`zoo.heads.targets.roi_targets`.
        scoring: what the logits are, see :func:`class_scores`.

    Returns:
        ``boxes (B, D, 4)`` zero-padded, ``scores (B, D)`` zero-padded, ``classes (B, D)`` int32 padded with -1,
        ``num_detections (B,)`` int32.
    """
    batch, count = ops.shape(rois)[:2]  # a graph's tensor where it does not know the number
    classes = logits.shape[-1] - 1
    scores = class_scores(logits, scoring)
    usable = (roi_scores >= 0.0)[..., None] & (scores >= score_threshold)
    scores = ops.where(usable, scores, -1.0)
    scaled = deltas[:, :, 1:] * ops.convert_to_tensor(deviations, "float32")
    decoded = box_math.decode(scaled, rois[:, :, None], plus_one if deltas_plus_one is None else deltas_plus_one)
    flat = box_math.clip(ops.reshape(decoded, (batch, count * classes, 4)), sizes, plus_one)
    # One NMS over B * K groups, a class of an image each.
    decoded = ops.transpose(ops.reshape(flat, (batch, count, classes, 4)), (0, 2, 1, 3))
    decoded = ops.reshape(decoded, (batch * classes, count, 4))
    scores = ops.reshape(ops.transpose(scores, (0, 2, 1)), (batch * classes, count))
    order = ops.argsort(-scores, axis=1)
    scores = ops.take_along_axis(scores, order, axis=1)
    decoded = ops.take_along_axis(decoded, order[..., None], axis=1)
    keep = most if rois.shape[1] is None else min(most, count)
    index, valid = nms(decoded, scores, nms_iou, keep, plus_one)
    decoded = ops.take_along_axis(decoded, index[..., None], axis=1)
    scores = ops.where(valid, ops.take_along_axis(scores, index, axis=1), -1.0)
    decoded = ops.reshape(decoded, (batch, classes * keep, 4))
    scores, index = top_scores(ops.reshape(scores, (batch, classes * keep)), most)
    found = scores >= 0.0
    boxes = ops.take_along_axis(decoded, index[..., None], axis=1)
    label = ops.cast(index // keep, "int32")
    return {
        "boxes": ops.where(found[..., None], boxes, 0.0),
        "scores": ops.where(found, scores, 0.0),
        "classes": ops.where(found, label, -1),
        "num_detections": ops.sum(ops.cast(found, "int32"), axis=1),
    }
