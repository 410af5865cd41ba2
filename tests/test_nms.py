"""Both implementations of NMS against the greedy loop that defines it."""

import numpy as np
import pytest
import reference
import tensorflow as tf

from zoo.heads import nms as module

WAYS = [module._nms_tensorflow, module._nms_loop]
both = pytest.mark.parametrize("way", WAYS)


def run(way, boxes, scores, threshold, keep):
    index, valid = way(tf.constant(boxes, tf.float32), tf.constant(scores, tf.float32), threshold, keep)
    index, valid = np.asarray(index), np.asarray(valid)
    assert index.shape == valid.shape == (len(boxes), keep)
    assert index.dtype == np.int32
    assert valid.dtype == bool
    assert not index[~valid].any(), "where not valid the index is 0"
    counts = valid.sum(1)
    assert (valid == (np.arange(keep)[None] < counts[:, None])).all(), "valid ones come first"
    return [row[ok].tolist() for row, ok in zip(index, valid, strict=True)]


def expected(boxes, scores, threshold, keep):
    return [reference.greedy_nms(b, s, threshold, keep) for b, s in zip(boxes, scores, strict=True)]


def groups(seed, count, members, side=40):
    """Groups of boxes on whole pixels, so that overlaps tie, with scores from a few values, so that they tie."""
    rng = np.random.default_rng(seed)
    boxes = np.stack([reference.random_boxes(rng, members, side, side, whole=True) for _ in range(count)])
    scores = np.sort(rng.integers(0, 8, (count, members)) / 8, axis=1)[:, ::-1]
    padding = rng.integers(0, members, count)
    scores = np.where(np.arange(members)[None] < members - padding[:, None], scores, -1.0)
    return boxes, scores.astype("float32")


@both
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_random_groups(way, threshold):
    boxes, scores = groups(int(threshold * 10), 8, 60)
    found = run(way, boxes, scores, threshold, 30)
    assert found == expected(boxes, scores, threshold, 30)
    assert max(map(len, found)) > 5


@both
def test_more_boxes_than_one_tile(way):
    rng = np.random.default_rng(0)
    boxes = reference.random_boxes(rng, 1200, 60, 60)[None]
    scores = np.linspace(1, 0, 1200, dtype="float32")[None]
    assert run(way, boxes, scores, 0.4, 60) == expected(boxes, scores, 0.4, 60)


@both
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_overlap_exactly_at_the_threshold_is_kept(way, threshold):
    # Boxes of height 1 and widths 10 k and 10 k t: an IoU of t, which float32 must not push over the edge.
    steps = np.arange(1, 60)
    wide = np.stack([0 * steps, 0 * steps, 10 * steps, 0 * steps + 1], 1)
    narrow = np.stack([0 * steps, 0 * steps, np.round(10 * steps * threshold), 0 * steps + 1], 1)
    boxes = np.stack([wide, narrow], 1).astype("float32")
    scores = np.tile(np.array([[0.9, 0.8]], "float32"), (len(boxes), 1))
    assert run(way, boxes, scores, threshold, 2) == [[0, 1]] * len(boxes)
    boxes[:, 1, 2] += 0.001 * boxes[:, 0, 2]
    assert run(way, boxes, scores, threshold, 2) == [[0]] * len(boxes)


@both
def test_a_threshold_of_one_keeps_even_equal_boxes_and_of_zero_drops_any_overlap(way):
    boxes = np.array([[[0, 0, 4, 4], [0, 0, 4, 4], [3, 3, 9, 9], [4, 0, 8, 3]]], "float32")
    scores = np.array([[0.9, 0.8, 0.7, 0.6]], "float32")
    assert run(way, boxes, scores, 1.0, 4) == [[0, 1, 2, 3]]
    assert run(way, boxes, scores, 0.0, 4) == [[0, 3]]


@both
def test_equal_scores_prefer_the_earlier(way):
    boxes = np.array([[[1, 1, 9, 9], [0, 0, 9, 9], [0, 0, 9, 9], [20, 0, 29, 9]]], "float32")
    assert run(way, boxes, np.full((1, 4), 0.5, "float32"), 0.5, 4) == [[0, 3]]


@both
def test_boxes_without_area_overlap_nothing_and_are_kept_once(way):
    boxes = np.array([[[5, 5, 5, 5], [5, 5, 5, 5], [0, 0, 9, 9], [2, 3, 8, 3], [0, 0, 9, 9]]], "float32")
    scores = np.array([[0.9, 0.8, 0.7, 0.6, 0.5]], "float32")
    assert run(way, boxes, scores, 0.5, 5) == [[0, 1, 2, 3]]


@both
def test_a_score_of_zero_is_kept_and_padding_is_not(way):
    boxes = np.array([[[0, 0, 4, 4], [8, 8, 9, 9], [0, 0, 0, 0], [4, 0, 9, 3]]] * 2, "float32")
    scores = np.array([[0.4, 0, -1, -1], [-1, -1, -1, -1]], "float32")
    assert run(way, boxes, scores, 0.5, 3) == [[0, 1], []]


@both
def test_padding_suppresses_nothing(way):
    boxes = np.array([[[0, 0, 9, 9], [0, 0, 9, 9]]], "float32")
    assert run(way, boxes, np.array([[0, -1]], "float32"), 0.5, 2) == [[0]]


@both
def test_a_suppressed_box_suppresses_nothing(way):
    # Each overlaps its neighbour by 4 / 6: the second goes, so the third stays.
    boxes = np.array([[[0, 0, 5, 1], [1, 0, 6, 1], [2, 0, 7, 1], [3, 0, 8, 1]]], "float32")
    scores = np.array([[0.9, 0.8, 0.7, 0.6]], "float32")
    assert run(way, boxes, scores, 0.5, 4) == [[0, 2]]


@both
def test_more_wanted_than_there_are(way):
    boxes, scores = groups(3, 3, 5)
    assert run(way, boxes, scores, 0.5, 9) == expected(boxes, scores, 0.5, 9)


@both
def test_compiled_with_unknown_shapes(way):
    signature = [tf.TensorSpec((None, None, 4)), tf.TensorSpec((None, None))]
    compiled = tf.function(lambda b, s: way(b, s, 0.5, 12), input_signature=signature)
    for seed, count, members in ((4, 3, 30), (5, 1, 7)):
        boxes, scores = groups(seed, count, members)
        wrapped = lambda b, s, threshold, keep: compiled(b, s)  # noqa: E731
        assert run(wrapped, boxes, scores, 0.5, 12) == expected(boxes, scores, 0.5, 12)


@pytest.mark.parametrize("way", WAYS)
def test_inclusive_boxes(way, monkeypatch):
    monkeypatch.setattr(module, "_nms_tensorflow", way)
    boxes, scores = groups(7, 4, 60, side=12)
    index, valid = map(np.asarray, module.nms(tf.constant(boxes), tf.constant(scores), 0.5, 30, plus_one=True))
    found = [row[ok].tolist() for row, ok in zip(index, valid, strict=True)]
    wanted = [reference.greedy_nms(b, s, 0.5, 30, one=1.0) for b, s in zip(boxes, scores, strict=True)]
    assert found == wanted
    assert wanted != expected(boxes, scores, 0.5, 30), "the two conventions must differ here"


def test_the_backend_chooses():
    boxes, scores = groups(6, 2, 20)
    assert run(module.nms, boxes, scores, 0.5, 10) == run(WAYS[0], boxes, scores, 0.5, 10)
