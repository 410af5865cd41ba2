"""Proposals against a loop over Ren 2015: decode, clip, drop the small, rank, suppress."""

import numpy as np
import pytest
import reference
import tensorflow as tf

from zoo.heads import anchors as anchor_boxes
from zoo.heads.proposals import propose, top_scores

CELL = anchor_boxes.cell_anchors([16, 40], [0.5, 1, 2], 16)
SIZES = np.array([[96, 128], [70, 90]], "int32")


def rpn_outputs(seed=0, rows=6, columns=8):
    rng = np.random.default_rng(seed)
    anchors = np.asarray(anchor_boxes.grid(CELL, rows, columns, 16))
    logits = rng.normal(0, 2, (2, len(anchors), 2)).astype("float32")
    deltas = rng.normal(0, 0.4, (2, len(anchors), 4)).astype("float32")
    return logits, deltas, anchors


def expected(logits, deltas, anchors, size, before, after, iou, least, one=0.0, rank=None, margin=0.0):
    """Boxes and softmax scores, best first by ``rank (A,)``, the softmax if none."""
    score = reference.softmax(logits)[:, 1]
    rank = score if rank is None else rank
    found = []
    for i in range(len(anchors)):
        box = reference.clip(reference.decode(deltas[i].astype(float), anchors[i].astype(float), one), size, one)
        centre = (anchors[i, 0] + anchors[i, 2]) / 2, (anchors[i, 1] + anchors[i, 3]) / 2
        on_image = centre[0] < size[1] + margin and centre[1] < size[0] + margin
        if on_image and box[2] - box[0] + one >= least and box[3] - box[1] + one >= least:
            found.append((rank[i], box, score[i]))
    found.sort(key=lambda each: -each[0])
    found = found[:before]
    kept = reference.greedy_nms([each[1] for each in found], [0.0] * len(found), iou, after, one)
    return np.array([found[i][1] for i in kept]), np.array([found[i][2] for i in kept])


def agree(boxes, scores, wanted):
    """One image's proposals are the wanted ones, and padding after them."""
    want, values = wanted
    count = len(want)
    assert count > 15
    np.testing.assert_allclose(scores[:count], values, atol=1e-6)
    np.testing.assert_allclose(boxes[:count], want, atol=1e-3)
    assert (scores[count:] == -1).all()
    assert not boxes[count:].any()


@pytest.mark.parametrize(("before", "after", "iou"), [(150, 40, 0.7), (60, 100, 0.5), (5000, 400, 0.7)])
def test_against_a_loop(before, after, iou):
    logits, deltas, anchors = rpn_outputs()
    options = {"before_nms": before, "after_nms": after, "nms_iou": iou, "min_size": 12.0}
    boxes, scores = map(np.asarray, propose(logits, deltas, anchors, SIZES, **options))
    assert boxes.shape == (2, after, 4)
    assert scores.shape == (2, after)
    for i in range(2):
        agree(boxes[i], scores[i], expected(logits[i], deltas[i], anchors, SIZES[i], before, after, iou, 12.0))


@pytest.mark.parametrize(("before", "after"), [(150, 100), (5000, 400)])
def test_ranked_by_the_raw_logit(before, after):
    logits, deltas, anchors = rpn_outputs(4)
    # Far below zero, where a softmax would still have ranked by the difference.
    logits = logits * 3 - 20
    options = {"before_nms": before, "after_nms": after, "min_size": 12.0}
    boxes, scores = map(np.asarray, propose(logits, deltas, anchors, SIZES, rank_by="logit", **options))
    for i in range(2):
        args = (logits[i], deltas[i], anchors, SIZES[i], before, after, 0.7, 12.0)
        agree(boxes[i], scores[i], expected(*args, rank=logits[i, :, 1]))
    other = np.asarray(propose(logits, deltas, anchors, SIZES, **options)[0])
    assert not np.allclose(boxes, other), "the two ways to rank must differ here"


def test_inclusive_boxes():
    logits, deltas, _ = rpn_outputs(5)
    anchors = np.asarray(anchor_boxes.grid(anchor_boxes.caffe_cell_anchors([1, 2.5]), 6, 8, 16))
    options = {"before_nms": 200, "after_nms": 60, "min_size": 20.0}
    boxes, scores = map(np.asarray, propose(logits, deltas, anchors, SIZES, plus_one=True, **options))
    for i in range(2):
        agree(
            boxes[i],
            scores[i],
            expected(logits[i], deltas[i], anchors, SIZES[i], 200, 60, 0.7, 20.0, one=1.0),
        )
        assert boxes[i].max(0).tolist() == [*boxes[i].max(0)[:2], SIZES[i, 1] - 1, SIZES[i, 0] - 1]


def test_a_margin_and_a_least_size_for_each_image():
    logits, deltas, anchors = rpn_outputs(6)
    least = np.array([[12.0], [25.0]], "float32")
    options = {"before_nms": 5000, "after_nms": 400, "min_size": least, "margin": 7.5}
    boxes, scores = map(np.asarray, propose(logits, deltas, anchors, SIZES, **options))
    for i in range(2):
        args = (logits[i], deltas[i], anchors, SIZES[i], 5000, 400, 0.7, least[i, 0])
        agree(boxes[i], scores[i], expected(*args, margin=7.5))
    without = expected(logits[1], deltas[1], anchors, SIZES[1], 5000, 400, 0.7, 25.0)
    assert len(without[0]) < (scores[1] >= 0).sum(), "some proposals come from cells on the border"


def test_all_stay_inside_their_images_and_have_the_least_size():
    logits, deltas, anchors = rpn_outputs(1)
    options = {"before_nms": 300, "after_nms": 200, "nms_iou": 0.9, "min_size": 20.0}
    boxes, scores = map(np.asarray, propose(logits, deltas * 3, anchors, SIZES, **options))
    for i in range(2):
        real = boxes[i][scores[i] >= 0]
        assert len(real) > 20
        assert (real >= 0).all()
        assert (real[:, 2] <= SIZES[i, 1]).all()
        assert (real[:, 3] <= SIZES[i, 0]).all()
        assert (real[:, 2:] - real[:, :2] >= 20).all()
    touching = boxes[1][:, 2] == 90
    assert touching.any(), "clipping to the second image's own width must have happened"


def test_the_least_size_is_allowed():
    anchors = np.array([[0, 0, 16, 30], [0, 40, 15.9, 70]], "float32")
    options = {"before_nms": 2, "after_nms": 2, "min_size": 16.0}
    size = np.array([[100, 100]])
    _, scores = propose(np.zeros((1, 2, 2), "float32"), np.zeros((1, 2, 4), "float32"), anchors, size, **options)
    np.testing.assert_allclose(scores, [[0.5, -1]], rtol=0, atol=1e-6)


def test_anchors_on_padding_propose_nothing():
    # Without deltas a proposal is its clipped anchor, so one centred on padding would still reach into the image.
    anchors = np.asarray(anchor_boxes.grid(CELL, 6, 8, 16))
    logits = np.zeros((1, len(anchors), 2), "float32")
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    outside = (centres[:, 0] >= 90) | (centres[:, 1] >= 70)
    logits[0, outside, 1] = 9
    options = {"before_nms": 300, "after_nms": 300, "nms_iou": 1.0, "min_size": 4.0}
    _, scores = map(np.asarray, propose(logits, np.zeros((1, 288, 4), "float32"), anchors, SIZES[1:], **options))
    # A processor's exponential may be off in the last digit.
    equal = np.isclose(scores, 0.5, rtol=0, atol=1e-6)
    assert ((scores == -1) | equal).all()
    assert equal.sum() == (~outside).sum()


def test_hopeless_logits_still_propose():
    # A softmax that underflows to 0 is a score, not padding.
    logits = np.tile(np.array([200.0, -200.0], "float32"), (1, 2, 1))
    anchors = np.array([[0, 0, 32, 32], [40, 40, 90, 90]], "float32")
    options = {"before_nms": 2, "after_nms": 2}
    _, scores = propose(logits, np.zeros((1, 2, 4), "float32"), anchors, np.array([[100, 100]]), **options)
    assert np.asarray(scores).tolist() == [[0, 0]]


def test_numbers_that_are_none_propose_nothing():
    logits, deltas, anchors = rpn_outputs(2)
    deltas[0, ::2] = np.nan
    logits[1] = np.nan
    options = {"before_nms": 100, "after_nms": 50}
    boxes, scores = map(np.asarray, propose(logits, deltas, anchors, SIZES, **options))
    assert np.isfinite(boxes[0]).all()
    assert (scores[0] >= 0).any()


def test_compiled_without_shapes_the_results_have_them():
    signature = [tf.TensorSpec(s) for s in ((None, None, 2), (None, None, 4), (None, 4))]
    signature.append(tf.TensorSpec((None, 2), tf.int32))
    compiled = tf.function(
        lambda *inputs: propose(*inputs, before_nms=150, after_nms=40, min_size=12.0), input_signature=signature
    )
    boxes, scores = compiled.get_concrete_function().structured_outputs
    assert tuple(boxes.shape)[1:] == (40, 4)
    assert tuple(scores.shape)[1:] == (40,)
    inputs = rpn_outputs(3)
    eager = propose(*inputs, SIZES, before_nms=150, after_nms=40, min_size=12.0)
    for a, b in zip(compiled(*inputs, SIZES), eager, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_top_scores():
    scores = np.array([[0.1, 0.9, -1, 0.9, 0], [-1, -1, -1, 0.2, -1]], "float32")
    best, index = map(np.asarray, top_scores(scores, 4))
    np.testing.assert_array_equal(best, np.array([[0.9, 0.9, 0.1, 0], [0.2, -1, -1, -1]], "float32"))
    assert index.tolist() == [[1, 3, 0, 4], [3, 0, 0, 0]]
    best, index = map(np.asarray, top_scores(scores, 7))
    assert best.shape == index.shape == (2, 7)
    assert best[0].tolist()[4:] == [-1, -1, -1]
    assert index[0].tolist() == [1, 3, 0, 4, 0, 0, 0]
