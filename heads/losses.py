"""The losses of Fast and Faster R-CNN, each per image and then averaged over the batch."""

from keras import ops

from zoo.heads.targets import RoITargets, RPNTargets


def smooth_l1(difference, sigma: float = 1.0):
    """Elementwise ``.5 (sigma x)^2`` where ``|x| < 1 / sigma^2``, else ``|x| - .5 / sigma^2``.

    Source: Girshick 2015, equation 3; sigma as in py-faster-rcnn (3 for the RPN, 1 for the box head).
    """
    square = sigma * sigma
    size = ops.abs(difference)
    return ops.where(size < 1.0 / square, 0.5 * square * size * size, size - 0.5 / square)


def _mean_over_samples(values, weight):
    """Sum of ``values (B, N)`` over an image's used samples by their number, averaged over images."""
    used = ops.maximum(ops.sum(weight, axis=1), 1.0)
    return ops.mean(ops.sum(values * weight, axis=1) / used)


def _cross_entropy(logits, label):
    """Softmax cross entropy of ``logits (..., K)`` with integer ``label (...)``."""
    classes = ops.arange(logits.shape[-1], dtype="int32")
    one_hot = ops.cast(ops.cast(label, "int32")[..., None] == classes, logits.dtype)
    return -ops.sum(one_hot * ops.log_softmax(logits, axis=-1), axis=-1)


def rpn_losses(logits, deltas, targets: RPNTargets, sigma: float = 3.0):
    """Objectness and box loss of the RPN (Ren 2015, equation 1, both terms normalised by the sampled anchors).

    Args:
        logits: ``(B, A, 2)``.
        deltas: ``(B, A, 4)``.
        targets: the sample.
        sigma: of :func:`smooth_l1`.

    Returns:
        Two scalars.
    """
    logits = ops.take_along_axis(logits, targets.index[..., None], axis=1)
    deltas = ops.take_along_axis(deltas, targets.index[..., None], axis=1)
    objectness = _mean_over_samples(_cross_entropy(logits, targets.label), targets.weight)
    box = ops.sum(smooth_l1(deltas - targets.deltas, sigma), axis=-1)
    # Where the label is 0 the difference is to an arbitrary box: leave it out before it is multiplied.
    box = ops.where(targets.label > 0.0, box, 0.0)
    return objectness, _mean_over_samples(box, targets.weight)


def head_losses(logits, deltas, targets: RoITargets, deviations, sigma: float = 1.0):
    """Classification and box loss of the box head (Girshick 2015, equation 1 with lambda 1).

    Args:
        logits: ``(B, R, K + 1)``.
        deltas: ``(B, R, K + 1, 4)``, normalised; only those of the RoI's own class are trained.
        targets: the sample.
        deviations: four numbers that the target deltas are divided by.
        sigma: of :func:`smooth_l1`.

    Returns:
        Two scalars.
    """
    classification = _mean_over_samples(_cross_entropy(logits, targets.label), targets.weight)
    own = ops.take_along_axis(deltas, targets.label[..., None, None], axis=2)[:, :, 0]
    box = ops.sum(smooth_l1(own - targets.deltas / ops.convert_to_tensor(deviations, "float32"), sigma), axis=-1)
    box = ops.where(targets.label > 0, box, 0.0)
    return classification, _mean_over_samples(box, targets.weight)


def proposal_recall(proposals, proposal_scores, boxes, valid, threshold: float = 0.5, plus_one: bool = False):
    """Share of the batch's objects that a proposal covers by IoU ``threshold``, and their number.

    Returns:
        ``(recall, objects)``: two scalars; recall is 0 where there are no objects.
    """
    from zoo.heads.boxes import iou

    overlaps = ops.where((proposal_scores >= 0.0)[:, None, :], iou(boxes, proposals, plus_one), -1.0)
    found = (ops.max(overlaps, axis=-1) >= threshold) & valid
    objects = ops.sum(ops.cast(valid, "float32"))
    return ops.sum(ops.cast(found, "float32")) / ops.maximum(objects, 1.0), objects
