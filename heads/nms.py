"""Greedy non-maximum suppression of many groups of boxes at once, with static output shapes."""

import keras
import numpy as np
from keras import ops


def nms(boxes, scores, threshold: float, keep: int, plus_one: bool = False):
    """Keep the best boxes, dropping each that overlaps a better kept one by IoU above ``threshold``.

    Args:
        boxes: ``(N, M, 4)`` float32, groups of M boxes (an image's proposals, or one class of one image),
            **in descending order of score**.
        scores: ``(N, M)`` float32; a score below 0 marks padding, which is never kept.
        threshold: IoU in [0, 1]; equal overlap is kept.
        keep: how many boxes at the most, a Python int.
        plus_one: inclusive pixel convention, width ``x2 - x1 + 1``.

    Returns:
        ``(index, valid)``: ``(N, keep)`` int32 into M, in descending order of score, and ``(N, keep)`` bool;
        where not valid the index is 0.

    Source: Girshick 2015 section 2.3 and Ren 2015 section 3.3 (thresholds .3 and .7).
    """
    if plus_one:
        boxes = boxes + ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0], boxes.dtype)
    if keras.backend.backend() == "tensorflow":
        return _nms_tensorflow(boxes, scores, threshold, keep)
    return _nms_loop(boxes, scores, threshold, keep)


def _nms_tensorflow(boxes, scores, threshold: float, keep: int):
    import tensorflow as tf

    # Rank 3 takes TensorFlow's tiled algorithm, which is made of plain ops: exact, and fit for export. Shifting
    # scores by 1 lets its threshold of 1 drop the padding but keep true zeros.
    # It drops at IoU >= threshold, the papers at >. Just above 0 lie denormal numbers, which TensorFlow takes
    # for 0: the least normal number stands in for them.
    above = float(np.maximum(np.nextafter(np.float32(threshold), np.float32(2)), np.finfo(np.float32).tiny))
    index, count = _suppress(tf.inside_function())(
        boxes,
        scores + 1.0,
        keep,
        iou_threshold=above,
        score_threshold=1.0 - 1e-6,
        sorted_input=True,
        canonicalized_coordinates=True,
        # Pairs are compared a square of tiles at a time: groups of a few hundred boxes want small ones.
        tile_size=128,
    )
    index = tf.reshape(index, (-1, keep))
    valid = tf.range(keep)[None] < count[:, None]
    return tf.where(valid, index, 0), valid


def _suppress(traced: bool):
    """What ``tf.image.non_max_suppression_padded`` calls, or within a function the Python that it is made of.

    TensorFlow keeps one graph of it for the whole process, made for whatever sizes came first. Where these were unknown
    and a caller knows them, its optimiser spoils that graph for tf2onnx; so each caller has a graph of its own.
    """
    from tensorflow.python.ops.image_ops_impl import non_max_suppression_padded_v2

    return non_max_suppression_padded_v2.python_function if traced else non_max_suppression_padded_v2


def _nms_loop(boxes, scores, threshold: float, keep: int):
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    groups = ops.shape(boxes)[0]

    def step(i, state):
        alive, index, valid = state
        best = ops.argmax(alive, axis=1)
        score = ops.take_along_axis(alive, best[:, None], axis=1)
        box = ops.take_along_axis(boxes, best[:, None, None], axis=1)
        low = ops.maximum(box[..., :2], boxes[..., :2])
        high = ops.minimum(box[..., 2:], boxes[..., 2:])
        inter = ops.prod(ops.maximum(high - low, 0.0), axis=-1)
        union = area + ops.prod(box[..., 2:] - box[..., :2], axis=-1) - inter
        overlaps = inter > threshold * union
        # The chosen box leaves too, even when it has no area and so does not overlap itself.
        chosen = ops.arange(ops.shape(boxes)[1])[None] == best[:, None]
        is_valid = score >= 0.0
        index = ops.slice_update(index, (0, i), ops.where(is_valid, ops.cast(best[:, None], "int32"), 0))
        valid = ops.slice_update(valid, (0, i), is_valid)
        return ops.where(overlaps | chosen, -1.0, alive), index, valid

    start = (scores, ops.zeros((groups, keep), "int32"), ops.zeros((groups, keep), "bool"))
    _, index, valid = ops.fori_loop(0, keep, step, start)
    return index, valid
