"""RoI pooling equals, bit for bit, a loop over Caffe's definition; its gradient goes to the first largest cell."""

import functools

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf

from zoo.heads.roi_bins import roi_bins
from zoo.heads.roi_pool import RoIMaxPool

CHANNELS = 5
MAPS = [(13, 17), (38, 50), (1, 1)]
both_modes = pytest.mark.parametrize("training", [False, True])


def feature_map(seed, rows, columns, batch=2):
    """Channels with ties among zeros, among whole numbers, between -0.0 and 0.0, below zero, and with none."""
    rng = np.random.default_rng(seed)
    f = rng.normal(size=(batch, rows, columns, CHANNELS)).astype("float32")
    f[..., 0] = np.maximum(f[..., 0], 0)
    f[..., 1] = np.round(2 * f[..., 1])
    f[..., 2] = rng.choice(np.array([-0.0, 0.0], "float32"), f.shape[:3])
    f[..., 3] = -np.abs(f[..., 3]) - 0.5
    return f


def degenerate(rows, columns, stride=16):
    """RoIs that no detector should ask for, and all kinds of halves."""
    w, h = columns * stride, rows * stride
    below = float(np.nextafter(np.float32(8), np.float32(0)))
    return [
        [0, 0, w, h],  # the whole image
        [0, 0, w - 1, h - 1],
        [-w, -h, 2 * w, 2 * h],  # more than the image
        [8, 8, 8, 8],  # a point, on a half: 8 / 16
        [24, 24, 40, 40],  # 1.5 and 2.5: to 2 and 3, where to-even says 2 and 2
        [-8, -24, 40, 56],  # -.5 and -1.5: to -1 and -2
        [below, below, 3 * below, 40],  # just below a half: floor(x + .5) would round it up
        [20, 20, 21, 21],  # one pixel
        [-500, -500, -300, -300],  # above and to the left
        [w + 100, h + 100, w + 300, h + 200],  # below and to the right
        [w + 300, 0, w + 500, h],  # to the right alone
        [-40, -40, 0.3 * w, 0.4 * h],  # over a corner
        [0.9 * w, 0.9 * h, 0.3 * w, 0.2 * h],  # swapped corners
        [0, 0, 1e9, 1e9],
    ]


def rois_on(seed, rows, columns, count=24, batch=2, inside=False):
    rng = np.random.default_rng(seed)
    size = np.array([columns, rows, columns, rows]) * 16.0
    rois = rng.uniform(-60, size + 60, (batch, count, 4))
    # Whole multiples of 8 make halves common.
    rois[:, ::2] = np.round(rois[:, ::2] / 8) * 8
    rois = np.concatenate([np.sort(rois[..., ::2]), np.sort(rois[..., 1::2])], -1)[..., [0, 2, 1, 3]]
    rois = np.concatenate([rois, np.tile(degenerate(rows, columns), (batch, 1, 1))], 1)
    return (np.clip(rois, 0, size) if inside else rois).astype("float32")


@functools.cache
def unknown(size, clipped, training, max_cells=130):
    """The layer and its gradient as a graph that knows no shape: what ``fit`` and ``predict`` run."""
    layer = RoIMaxPool(size, 16, max_cells, clipped)
    signature = [tf.TensorSpec((None, None, None, CHANNELS)), tf.TensorSpec((None, None, 4)), tf.TensorSpec(None)]
    return tf.function(functools.partial(value_and_gradient, layer, training), input_signature=signature)


def value_and_gradient(layer, training, features, rois, upstream):
    with tf.GradientTape() as tape:
        tape.watch(features)
        pooled = layer(features, rois, training=training)
        total = tf.reduce_sum(pooled * upstream)
    return pooled, tape.gradient(total, features)


def check(run, features, rois, size):
    upstream = np.random.default_rng(9).normal(size=(*rois.shape[:2], size, size, CHANNELS)).astype("float32")
    pooled, back = reference.roi_pool(features, rois, size, 16, upstream)
    found, gradient = run(tf.constant(features), tf.constant(rois), tf.constant(upstream))
    np.testing.assert_array_equal(found.numpy(), pooled)
    np.testing.assert_allclose(gradient.numpy(), back, rtol=1e-5, atol=1e-5)


@both_modes
@pytest.mark.parametrize("shape", MAPS)
@pytest.mark.parametrize(("size", "clipped"), [(7, False), (7, True), (6, False), (6, True), (14, True)])
def test_compiled_without_shapes(size, clipped, shape, training):
    features, rois = feature_map(size, *shape), rois_on(size, *shape, inside=clipped)
    check(unknown(size, clipped, training), features, rois, size)


@both_modes
@pytest.mark.parametrize(("shape", "clipped"), [((13, 17), False), ((38, 50), True), ((1, 1), False)])
def test_eager(shape, clipped, training):
    layer = RoIMaxPool(7, 16, max_cells=50, clipped=clipped)
    run = functools.partial(value_and_gradient, layer, training)
    check(run, feature_map(1, *shape), rois_on(1, *shape, inside=clipped), 7)


@both_modes
def test_compiled_with_shapes(training):
    # Knowing the shapes, the graph optimiser simplifies more: it takes x + 0 for x, which here makes -0.0 into 0.
    layer = RoIMaxPool(7, 16, clipped=True)
    run = tf.function(functools.partial(value_and_gradient, layer, training))
    check(run, feature_map(2, 13, 17), rois_on(2, 13, 17, inside=True), 7)


def test_the_loop_obeys_facts_about_float32():
    """Integer arithmetic differs at extents 57, 114 and 121 for 7 bins, and nowhere else below 128."""
    differ = []
    for extent in range(1, 128):
        found = reference.bins(0, 16 * (extent - 1), 10**6, 7, 16)
        whole = [(p * extent // 7, -(-(p + 1) * extent // 7)) for p in range(7)]
        differ += [extent] if found != whole else []
    assert differ == [57, 114, 121]


@pytest.mark.parametrize("size", [6, 7, 14])
def test_bins_of_every_extent(size):
    cells, extents = 200, np.arange(1, 190)
    starts = np.array([0, 3, -5])
    rois = np.array([[16 * s, 0, 16 * (s + e - 1), 0] for s in starts for e in extents], "float32")
    expected = np.array([reference.bins(r[0], r[2], cells, size, 16) for r in rois])
    signature = [tf.TensorSpec((None, 4)), tf.TensorSpec((), tf.int32)]
    compiled = tf.function(lambda r, n: roi_bins(r, n, n, size, 16), input_signature=signature)
    for found in (roi_bins(rois, cells, cells, size, 16), compiled(rois, cells)):
        np.testing.assert_array_equal(np.stack([found.left, found.right], -1), expected)
    # The same along the other axis.
    found = roi_bins(rois[:, [1, 0, 3, 2]], cells, cells, size, 16)
    np.testing.assert_array_equal(np.stack([found.top, found.bottom], -1), expected)


@pytest.mark.parametrize("clipped", [False, True])
def test_extents_where_integers_differ(clipped):
    features = np.random.default_rng(3).normal(size=(1, 3, 130, CHANNELS)).astype("float32")
    # Ascending along the row: one cell more in a bin is another maximum.
    features[0, :, :, 0] = np.arange(130)
    rois = np.array([[[16 * s, 0, 16 * (s + e - 1), 40] for s in (0, 4) for e in (57, 114, 121)]], "float32")
    check(unknown(7, clipped, True), features, rois, 7)
    check(unknown(7, clipped, False), features, rois, 7)


def test_an_empty_bin_is_zero_even_among_negatives():
    features = np.full((1, 4, 4, 1), -3, "float32")
    rois = np.array([[[-500, -500, -300, -300], [0, 0, 63, 63]]], "float32")
    pooled = RoIMaxPool(2)(features, rois).numpy()
    assert pooled[0, 0].ravel().tolist() == [0] * 4
    assert pooled[0, 1].ravel().tolist() == [-3] * 4


def test_another_stride():
    rng = np.random.default_rng(4)
    features = rng.normal(size=(1, 20, 15, CHANNELS)).astype("float32")
    rois = reference.random_boxes(rng, 20, 120, 160)[None]
    pooled, _ = reference.roi_pool(features, rois, 7, 8)
    np.testing.assert_array_equal(RoIMaxPool(7, stride=8, clipped=True)(features, rois).numpy(), pooled)


@both_modes
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_is_exact_and_does_not_round_boxes(policy, training):
    dtype = policy.removeprefix("mixed_")
    layer = RoIMaxPool(7, 16, max_cells=80, clipped=True, dtype=policy)
    features = tf.cast(np.random.default_rng(5).normal(size=(1, 6, 80, CHANNELS)), dtype)
    # 520 / 16 is a half, 519 / 16 is not; bfloat16 knows 520 alone.
    rois = np.array([[[519, 0, 1031, 80], [520, 0, 1032, 80], [521, 17, 1033, 83]]], "float32")
    upstream = tf.cast(np.random.default_rng(6).integers(-3, 4, (1, 3, 7, 7, CHANNELS)), dtype)
    found, gradient = value_and_gradient(layer, training, features, rois, upstream)
    values = tf.cast(features, "float32").numpy()
    pooled, back = reference.roi_pool(values, rois, 7, 16, tf.cast(upstream, "float32").numpy())
    assert found.dtype == gradient.dtype == dtype
    np.testing.assert_array_equal(tf.cast(found, "float32").numpy(), pooled)
    np.testing.assert_array_equal(tf.cast(gradient, "float32").numpy(), back)


def test_config_round_trip():
    layer = RoIMaxPool(6, 8, 40, True, name="pool")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert isinstance(again, RoIMaxPool)
    assert (again.size, again.stride, again.max_cells, again.clipped, again.name) == (6, 8, 40, True, "pool")
    symbolic = again(keras.Input((12, 9, 4)), keras.Input((30, 4)))
    assert symbolic.shape == (None, 30, 6, 6, 4)


def test_a_map_larger_than_promised():
    layer = RoIMaxPool(7, 16, max_cells=20)
    rois = np.zeros((1, 1, 4), "float32")
    assert layer(np.zeros((1, 20, 20, 1), "float32"), rois).shape == (1, 1, 7, 7, 1)
    for shape in ((1, 21, 5, 1), (1, 5, 21, 1)):
        with pytest.raises(ValueError, match=r"21.*max_cells=20.*larger max_cells"):
            layer(np.zeros(shape, "float32"), rois)


@pytest.mark.parametrize("bad", [{"size": 0}, {"stride": 0}, {"max_cells": 0}])
def test_bad_arguments(bad):
    with pytest.raises(ValueError, match="at least 1"):
        RoIMaxPool(**bad)
