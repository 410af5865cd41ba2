"""What the RPN and the box head are trained towards: matching to ground truth, sampling, box deltas."""

from typing import NamedTuple

from keras import ops

from zoo.heads import anchors as anchor_boxes
from zoo.heads import boxes as box_math
from zoo.heads.proposals import top_scores
from zoo.heads.sampling import uniform


class RPNTargets(NamedTuple):
    """A sample of anchors: S slots an image, those of weight 0 unused."""

    index: object  # (B, S) int32 into the anchors
    label: object  # (B, S) float32, 1 object, 0 background
    weight: object  # (B, S) float32, 1 where the slot is used
    deltas: object  # (B, S, 4) float32; meaningful where label is 1


class RoITargets(NamedTuple):
    """A sample of RoIs: R an image, those of weight 0 unused."""

    rois: object  # (B, R, 4)
    label: object  # (B, R) int32, 0 background, class + 1 otherwise
    weight: object  # (B, R) float32
    deltas: object  # (B, R, 4) float32, not yet normalised; meaningful where label > 0


def match(candidates, boxes, valid, plus_one: bool = False):
    """Best ground truth of every candidate.

    Args:
        candidates: ``(B or 1, N, 4)``.
        boxes: ``(B, G, 4)``.
        valid: ``(B, G)`` bool; false is padding, which matches nothing.
        plus_one: inclusive pixel convention, width ``x2 - x1 + 1``.

    Returns:
        ``(overlaps (B, N, G), best IoU (B, N), its index (B, N))``; IoU is -1 where there is no ground truth.
    """
    overlaps = ops.where(valid[:, None, :], box_math.iou(candidates, boxes, plus_one), -1.0)
    return overlaps, ops.max(overlaps, axis=-1), ops.argmax(overlaps, axis=-1)


def rpn_labels(
    anchors,
    boxes,
    valid,
    sizes,
    *,
    positive_iou: float = 0.7,
    negative_iou: float = 0.3,
    plus_one: bool = False,
):
    """Label anchors as Ren 2015, section 3.1.2, does.

    Positive: IoU at least ``positive_iou`` with an object, or the highest IoU that an object has with any anchor
    (every anchor that ties). Negative: IoU below ``negative_iou`` with all. Others, and anchors that cross the
    image's border, are left out. ``plus_one``: all boxes are in the inclusive pixel convention.

    Returns:
        ``(labels (B, A), matched (B, A))``: int32 1, 0 or -1 (left out), and the index of the best object.
    """
    inside = anchor_boxes.inside(anchors, sizes, plus_one)
    overlaps, best, matched = match(anchors[None], boxes, valid, plus_one)
    overlaps = ops.where(inside[..., None], overlaps, -1.0)
    highest = ops.max(overlaps, axis=1, keepdims=True)
    # An object that touches no anchor has a highest IoU of 0, shared by all of them: it must claim none.
    claimed = ops.any((overlaps == highest) & (highest > 0.0), axis=-1)
    positive = inside & ((best >= positive_iou) | claimed)
    negative = inside & (best < negative_iou) & ~positive
    labels = ops.where(positive, 1, ops.where(negative, 0, -1))
    return ops.cast(labels, "int32"), matched


def rpn_targets(
    anchors,
    boxes,
    valid,
    sizes,
    image_id,
    step,
    *,
    samples: int = 256,
    positive_fraction: float = 0.5,
    positive_iou: float = 0.7,
    negative_iou: float = 0.3,
    plus_one: bool = False,
) -> RPNTargets:
    """Sample anchors: at most ``positive_fraction`` positive, the rest negative (Ren 2015, section 3.1.3)."""
    labels, matched = rpn_labels(
        anchors, boxes, valid, sizes, positive_iou=positive_iou, negative_iou=negative_iou, plus_one=plus_one
    )
    chance = uniform(image_id, step, ops.shape(anchors)[0], salt=1)
    most = int(samples * positive_fraction)
    score, positives = top_scores(ops.where(labels == 1, chance, -1.0), most)
    is_positive = score >= 0.0
    score, negatives = top_scores(ops.where(labels == 0, chance, -1.0), samples)
    room = samples - ops.sum(ops.cast(is_positive, "int32"), axis=1, keepdims=True)
    is_negative = (score >= 0.0) & (ops.arange(samples, dtype="int32")[None] < room)
    index = ops.concatenate([positives, negatives], axis=1)
    chosen = ops.take_along_axis(boxes, ops.take_along_axis(matched, index, axis=1)[..., None], axis=1)
    return RPNTargets(
        index=index,
        label=ops.concatenate([ops.cast(is_positive, "float32"), ops.zeros_like(score)], axis=1),
        weight=ops.cast(ops.concatenate([is_positive, is_negative], axis=1), "float32"),
        deltas=box_math.encode(chosen, ops.take(anchors, index, axis=0), plus_one),
    )


def roi_targets(
    proposals,
    proposal_scores,
    boxes,
    classes,
    image_id,
    step,
    *,
    samples: int = 128,
    foreground_fraction: float = 0.25,
    foreground_iou: float = 0.5,
    background_iou: tuple[float, float] = (0.0, 0.5),
    plus_one: bool = False,
    deltas_plus_one: bool | None = None,
) -> RoITargets:
    """Sample RoIs for the box head (Girshick 2015, section 2.3); ground truth joins the proposals.

    Args:
        proposals: ``(B, P, 4)``.
        proposal_scores: ``(B, P)``; below 0 is padding.
        boxes: ``(B, G, 4)`` ground truth in the same pixels.
        classes: ``(B, G)`` int32, -1 for padding.
        image_id: ``(B,)`` int32.
        step: scalar int32.
        samples: R.
        foreground_fraction: at most this share is foreground, rounded to whole RoIs, but one may always be.
        foreground_iou: least IoU of foreground.
        background_iou: IoU of background, low end included; Fast R-CNN takes ``(.1, .5)``.
        plus_one: all boxes are in the inclusive pixel convention.
        deltas_plus_one: the same of the deltas' widths alone, if they differ: the Fast R-CNN release has overlaps of
            inclusive boxes and deltas relative to ``x2 - x1``.
    """
    valid = classes >= 0
    candidates = ops.concatenate([proposals, boxes], axis=1)
    usable = ops.concatenate([proposal_scores >= 0.0, valid], axis=1)
    _, best, matched = match(candidates, boxes, valid, plus_one)
    # An image without objects has no IoU at all: everything in it is background.
    overlap = ops.where(ops.any(valid, axis=1, keepdims=True), best, background_iou[0])
    foreground = usable & (overlap >= foreground_iou)
    background = usable & (overlap >= background_iou[0]) & (overlap < background_iou[1])
    chance = uniform(image_id, step, ops.shape(candidates)[1], salt=2)
    # One at least: of two samples a quarter would be none, and a class could never be learnt.
    most = max(1, round(samples * foreground_fraction))
    # The foreground's quota is the most-th best chance; foreground then ranks before all background.
    quota = top_scores(ops.where(foreground, chance, -1.0), most)[0][:, -1:]
    foreground = foreground & (chance >= quota)
    rank = ops.where(foreground, 1.0 + chance, ops.where(background, chance, -1.0))
    score, index = top_scores(rank, samples)
    rois = ops.take_along_axis(candidates, index[..., None], axis=1)
    target = ops.take_along_axis(matched, index, axis=1)
    label = ops.take_along_axis(ops.cast(classes, "int32"), target, axis=1) + 1
    return RoITargets(
        rois=rois,
        label=ops.where(score >= 1.0, label, 0),
        weight=ops.cast(score >= 0.0, "float32"),
        deltas=box_math.encode(
            ops.take_along_axis(boxes, target[..., None], axis=1),
            rois,
            plus_one if deltas_plus_one is None else deltas_plus_one,
        ),
    )
