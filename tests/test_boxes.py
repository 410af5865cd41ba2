"""Box arithmetic against scalar loops and literals worked out by hand."""

import math

import numpy as np
import pytest
import reference
import tensorflow as tf

from zoo.heads import boxes as box_math

DEGENERATE = np.array(
    [
        [3, 3, 3, 3],  # a point
        [2, 5, 9, 5],  # a line
        [8, 8, 2, 2],  # swapped corners
        [8, 1, 2, 9],  # swapped in x alone
        [-9, -9, -4, -4],
        [0, 0, 10, 10],
    ],
    "float32",
)


def boxes(seed, count=12):
    return np.concatenate([reference.random_boxes(np.random.default_rng(seed), count, 20, 15), DEGENERATE])


@pytest.mark.parametrize("plus_one", [False, True])
def test_iou_of_every_pair(plus_one):
    a, b = boxes(0), boxes(1, 7)
    found = np.asarray(box_math.iou(a, b, plus_one))
    np.testing.assert_allclose(found, reference.ious(a, b, float(plus_one)), atol=1e-6)
    assert found.dtype == np.float32
    assert (found > 0.05).sum() > 20, "the boxes must overlap for this to show anything"


def test_iou_literals():
    a = np.array([[0, 0, 2, 2]], "float32")
    b = np.array([[1, 0, 3, 2], [2, 0, 4, 2], [0, 0, 2, 2], [5, 5, 6, 6]], "float32")
    np.testing.assert_allclose(np.asarray(box_math.iou(a, b))[0], [2 / 6, 0, 1, 0], rtol=1e-6)
    # Inclusive: 3x3 boxes that share 2x3, 1x3, all and no pixels.
    np.testing.assert_allclose(np.asarray(box_math.iou(a, b, plus_one=True))[0], [6 / 12, 3 / 15, 1, 0], rtol=1e-6)


def test_iou_of_batches_and_a_shared_set():
    a = np.stack([boxes(2), boxes(3)])
    b = boxes(4, 5)[None]
    found = np.asarray(box_math.iou(a, b))
    assert found.shape == (2, 18, 11)
    for i in range(2):
        np.testing.assert_allclose(found[i], reference.ious(a[i], b[0]), atol=1e-6)


def test_iou_of_empty_boxes_is_zero_with_a_finite_gradient():
    empty = tf.zeros((3, 4))
    with tf.GradientTape() as tape:
        tape.watch(empty)
        found = box_math.iou(empty, empty)
        total = tf.reduce_sum(found)
    assert np.asarray(found).tolist() == np.zeros((3, 3)).tolist()
    assert np.isfinite(np.asarray(tape.gradient(total, empty))).all()


def test_area():
    assert np.asarray(box_math.area(DEGENERATE)).tolist() == [0, 0, 0, 0, 25, 100]
    assert np.asarray(box_math.area(DEGENERATE, plus_one=True)).tolist() == [1, 8, 0, 0, 36, 121]


def test_clip_uses_each_images_own_size():
    a = np.stack([boxes(5), boxes(6)]) * 2 - 10
    sizes = np.array([[7, 19], [22, 9]], "int32")
    found = np.asarray(box_math.clip(a, sizes))
    expected = [[reference.clip(box, size) for box in part] for part, size in zip(a, sizes, strict=True)]
    np.testing.assert_array_equal(found, np.array(expected, "float32"))
    inclusive = np.asarray(box_math.clip(np.full((1, 1, 4), 1e6, "float32"), sizes[:1], plus_one=True))
    assert inclusive.ravel().tolist() == [18, 6, 18, 6]


def test_encode_literals():
    anchor = np.array([0, 0, 10, 20], "float32")
    box = np.array([5, 10, 25, 30], "float32")
    np.testing.assert_allclose(box_math.encode(box, anchor), [1, 0.5, math.log(2), 0], atol=1e-6)
    # Inclusive: 11 x 21 centred on (5.5, 10.5), and 21 x 21 centred on (15.5, 20.5).
    np.testing.assert_allclose(
        box_math.encode(box, anchor, plus_one=True), [10 / 11, 10 / 21, math.log(21 / 11), 0], atol=1e-6
    )


def test_encode_and_decode_against_loops():
    rng = np.random.default_rng(7)
    a, b = reference.random_boxes(rng, 40, 300, 200), reference.random_boxes(rng, 40, 300, 200)
    deltas = np.asarray(box_math.encode(a, b))
    expected = [reference.encode(p.astype(float), q.astype(float)) for p, q in zip(a, b, strict=True)]
    np.testing.assert_allclose(deltas, expected, rtol=1e-4, atol=1e-4)
    unbounded = np.abs(deltas[:, 2:]).max(1) < math.log(62)
    assert unbounded.sum() > 30
    np.testing.assert_allclose(box_math.decode(deltas, b)[unbounded], a[unbounded], atol=2e-3)
    deltas = rng.normal(0, 1, (40, 4)).astype("float32")
    expected = [reference.decode(d.astype(float), q.astype(float)) for d, q in zip(deltas, b, strict=True)]
    np.testing.assert_allclose(box_math.decode(deltas, b), expected, rtol=1e-5, atol=1e-2)


def test_decode_bounds_the_exponent():
    found = np.asarray(box_math.decode(np.array([0, 0, 1e4, 5.0], "float32"), np.array([0, 0, 16, 16], "float32")))
    np.testing.assert_allclose(found, [8 - 500, 8 - 500, 8 + 500, 8 + 500], rtol=1e-5)


def test_decode_inclusive_keeps_py_faster_rcnns_extra_pixel():
    anchor = np.array([0, 0, 9, 19], "float32")
    found = np.asarray(box_math.decode(np.zeros(4, "float32"), anchor, plus_one=True))
    assert found.tolist() == [0, 0, 10, 20]


def test_encode_of_padding_is_finite():
    nothing = np.zeros((1, 4), "float32")
    box = np.array([[1, 2, 1000, 600]], "float32")
    for a, b in ((nothing, box), (box, nothing), (nothing, nothing)):
        assert np.isfinite(np.asarray(box_math.encode(a, b))).all()
