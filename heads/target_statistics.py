"""Means and deviations of the box deltas that a head is trained towards, class by class (Girshick 2015, section 2.3).

"All experiments ... normalize the ground-truth regression targets v_i to have zero mean and unit variance." The paper's
release takes the statistics of each class by itself, over all its pairs of a RoI and an object that overlap enough.
"""

from collections.abc import Iterable

import numpy as np
from keras import ops

from zoo.heads.targets import RoITargets

Example = tuple[np.ndarray, np.ndarray, np.ndarray]
_LEAST = 1e-3  # a deviation that targets are divided by; alike ones (a single object) have none


def target_statistics(
    examples: Iterable[Example],
    classes: int,
    *,
    foreground_iou: float = 0.5,
    plus_one: bool = False,
    deltas_plus_one: bool | None = None,
    mirrored: bool = True,
    default: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2),
) -> tuple[np.ndarray, np.ndarray]:
    """Means and deviations of the deltas of each class's foreground, in float64, one picture at a time.

    Foreground are the proposals and, as they join them, the objects themselves, whose deltas are 0.

    Args:
        examples: for each picture its proposals ``(P, 4)``, boxes ``(G, 4)`` and classes ``(G,)``; -1 is no object.
        classes: K.
        foreground_iou: least overlap.
        plus_one: boxes are in the inclusive pixel convention.
        deltas_plus_one: as for :func:`zoo.heads.targets.roi_targets`.
        mirrored: each picture also counts mirrored, as half of a training's pictures are: the mean of ``tx`` is 0.
        default: deviations of a class without objects, whose means are 0.

    Returns:
        ``(means, deviations)``, both ``(K, 4)`` float32; deviations are at least .001.

    Raises:
        ValueError: no picture has an object.

    Example:
        >>> box = np.array([[10.0, 10, 30, 30]])
        >>> means, deviations = target_statistics([(box + [4, 0, 4, 0], box, np.array([0]))], 1, mirrored=False)
        >>> means[0].tolist(), deviations[0].round(3).tolist()
        ([-0.10000000149011612, 0.0, 0.0, 0.0], [0.10000000149011612, 0.0010000000474974513, ...])
    """
    count, first, second = np.zeros((classes, 1)), np.zeros((classes, 4)), np.zeros((classes, 4))
    for proposals, boxes, labels in examples:
        labels = np.asarray(labels).reshape(-1)
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)[labels >= 0]
        labels = labels[labels >= 0]
        if not len(labels):
            continue
        rois = np.concatenate([np.asarray(proposals, np.float64).reshape(-1, 4), boxes])
        overlaps = _ious(rois, boxes, float(plus_one))
        best = overlaps.argmax(axis=1)
        good = overlaps[np.arange(len(rois)), best] >= foreground_iou
        widths = plus_one if deltas_plus_one is None else deltas_plus_one
        deltas = _deltas(boxes[best[good]], rois[good], float(widths))
        which = labels[best[good]]
        np.add.at(count, which, 1.0)
        np.add.at(first, which, deltas)
        np.add.at(second, which, deltas**2)
    if not count.any():
        raise ValueError("no picture has an object: there is nothing to take the means of box deltas of")
    seen = count[:, 0] > 0
    means, squares = first / np.maximum(count, 1.0), second / np.maximum(count, 1.0)
    if mirrored:
        means[:, 0] = 0.0
    deviations = np.maximum(np.sqrt(np.maximum(squares - means**2, 0.0)), _LEAST)
    deviations[~seen] = default
    return means.astype(np.float32), deviations.astype(np.float32)


def normalised(targets: RoITargets, means, deviations) -> RoITargets:
    """Targets whose deltas have lost their class's mean and been divided by its deviation, both ``(K, 4)``."""
    own = ops.maximum(targets.label - 1, 0)
    mean, deviation = (ops.take(ops.convert_to_tensor(each), own, axis=0) for each in (means, deviations))
    return targets._replace(deltas=(targets.deltas - mean) / deviation)


def denormalised(deltas, means, deviations):
    """The inverse for a head's outputs ``(..., K + 1, 4)``; those of the background stay."""
    keep = [ops.zeros((1, 4)), ops.ones((1, 4))]
    mean, deviation = (
        ops.concatenate([own, ops.convert_to_tensor(each)]) for own, each in zip(keep, (means, deviations), strict=True)
    )
    return deltas * deviation + mean


def rescaled(kernel, bias, before: tuple, after: tuple) -> tuple[np.ndarray, np.ndarray]:
    """A regressor that means the same under other statistics.

    Args:
        kernel: ``(F, 4 * (K + 1))``.
        bias: ``(4 * (K + 1),)``.
        before: means and deviations, each ``(K, 4)``, by which it was trained.
        after: those by which its outputs will be read.

    Returns:
        Kernel and bias, float32.
    """
    (mean, deviation), (new_mean, new_deviation) = (
        [np.concatenate([row, np.asarray(part, np.float64)]).reshape(-1) for row, part in zip(_NONE, each, strict=True)]
        for each in (before, after)
    )
    factor = deviation / new_deviation
    kernel = np.asarray(kernel, np.float64) * factor
    bias = (np.asarray(bias, np.float64) * deviation + mean - new_mean) / new_deviation
    return kernel.astype(np.float32), bias.astype(np.float32)


# The background has no statistics.
_NONE = (np.zeros((1, 4)), np.ones((1, 4)))


def _ious(a: np.ndarray, b: np.ndarray, one: float) -> np.ndarray:
    """Overlaps (N, M) of boxes (N, 4) and (M, 4)."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    inter = np.maximum(high - low + one, 0.0).prod(axis=-1)
    areas = [np.maximum(each[:, 2:] - each[:, :2] + one, 0.0).prod(axis=-1) for each in (a, b)]
    union = areas[0][:, None] + areas[1][None] - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def _deltas(boxes: np.ndarray, rois: np.ndarray, one: float) -> np.ndarray:
    """What turns ``rois`` (N, 4) into ``boxes`` (N, 4), as :func:`zoo.heads.boxes.encode` has it."""
    size, own = (np.maximum(each[:, 2:] - each[:, :2] + one, 1e-3) for each in (boxes, rois))
    centre, place = (each[:, :2] + each[:, 2:] for each in (boxes, rois))
    return np.concatenate([(centre - place) / 2 / own, np.log(size / own)], axis=1)
