"""Resizing and normalising against OpenCV, for single images and for padded batches."""

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.detectors.preprocessing import Preprocessing

MEAN, STD = (120.0, 110.0, 100.0), (2.0, 4.0, 8.0)


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype("uint8")


def expected(image, size, mean=MEAN, std=STD, order="rgb"):
    image = image.astype("float32")
    if order == "bgr":
        image = image[..., ::-1]
    image = (image - np.array(mean, "float32")) / np.array(std, "float32")
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)


def target(height, width, short, long):
    """Girshick 2015: the short side is ``short`` unless the long one would exceed ``long``; halves go up."""
    small, large = min(height, width), max(height, width)
    # Whole numbers: a / b rounded is (2 a + b) // 2 b.
    a, b = (short, small) if short * large <= long * small else (long, large)
    return tuple(max((2 * side * a + b) // (2 * b), 1) for side in (height, width))


CASES = [
    (60, 80),  # as it is
    (30, 40),  # twice as large
    (120, 161),  # about half
    (37, 53),
    (50, 210),  # the long side decides
    (210, 33),
    (7, 5),  # very small
    (1, 1),
    (2, 90),
    (60, 100),
]


@pytest.mark.parametrize(("height", "width"), CASES)
def test_one_image_against_opencv(height, width):
    layer = Preprocessing(60, 100, MEAN, STD)
    image = picture(height, width)
    prepared, sizes, ratio = layer(image[None])
    size = target(height, width, 60, 100)
    assert prepared.shape == (1, *size, 3)
    assert prepared.dtype == "float32"
    assert np.asarray(sizes).tolist() == [list(size)]
    assert sizes.dtype == "int32"
    np.testing.assert_allclose(ratio, [[size[0] / height, size[1] / width]], rtol=1e-6)
    np.testing.assert_allclose(prepared[0], expected(image, size), atol=0.02)
    assert layer.prepared_size(height, width) == size


def test_defaults_are_the_papers():
    layer = Preprocessing()
    for size, wanted in (
        ((375, 500), (600, 800)),
        ((500, 375), (800, 600)),
        ((333, 500), (600, 901)),
        ((300, 600), (500, 1000)),
        ((1200, 1600), (600, 800)),
        ((1, 4000), (1, 1000)),
    ):
        assert layer.prepared_size(*size) == wanted
    grey = np.asarray(layer(np.full((1, 600, 600, 3), 100, "uint8"))[0])
    np.testing.assert_allclose(grey[0, 5, 5], [100 - 123.68, 100 - 116.779, 100 - 103.939], atol=1e-4)


def test_colour_order():
    image = np.zeros((1, 60, 60, 3), "uint8")
    image[..., 0] = 200
    rgb = np.asarray(Preprocessing(60, 60, MEAN)(image)[0])
    bgr = np.asarray(Preprocessing(60, 60, MEAN, order="bgr")(image)[0])
    assert rgb[0, 3, 3].tolist() == [80, -110, -100]
    # The means are given in the order of the channels that come out.
    assert bgr[0, 3, 3].tolist() == [-120, -110, 100]


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_a_padded_batch_against_opencv(order):
    shapes = [(40, 60), (64, 45), (30, 64), (64, 64), (9, 9)]
    layer = Preprocessing(60, 100, MEAN, STD, order)
    # Padding that is not zero must not leak in either.
    batch = np.full((5, 64, 64, 3), 255, "uint8")
    for i, shape in enumerate(shapes):
        batch[i, : shape[0], : shape[1]] = picture(*shape, seed=i)
    prepared, sizes, ratio = map(np.asarray, layer(batch, np.array(shapes, "int32")))
    wanted = [target(*shape, 60, 100) for shape in shapes]
    assert sizes.tolist() == [list(size) for size in wanted]
    assert prepared.shape == (5, max(s[0] for s in wanted), max(s[1] for s in wanted), 3)
    np.testing.assert_allclose(ratio, np.array(wanted) / np.array(shapes), rtol=1e-6)
    for i, (h, w) in enumerate(wanted):
        image = batch[i, : shapes[i][0], : shapes[i][1]]
        np.testing.assert_allclose(prepared[i, :h, :w], expected(image, (h, w), order=order), atol=0.02)
        assert not prepared[i, h:].any()
        assert not prepared[i, :, w:].any()


def test_sizes_agree_however_they_are_computed():
    """A canvas known in advance and sizes computed in the graph must not differ by a pixel."""
    layer = Preprocessing()
    # 322 * 600 / 224 is 862.5; in float64 600 / 224 * 322 falls just short of it.
    assert layer.prepared_size(224, 322) == (600, 863)
    rng = np.random.default_rng(0)
    sizes = np.concatenate([rng.integers(1, 1500, (4000, 2)), [[224, 322], [112, 161], [19, 304], [448, 700]]])
    graph = np.asarray(layer._prepared_sizes(sizes.astype("int32"))).astype(int)
    for size, computed in zip(sizes.tolist(), graph.tolist(), strict=True):
        assert tuple(computed) == target(*size, 600, 1000) == layer.prepared_size(*size)


# ChainerCV's sizes at which truncating in doubles falls a pixel short (281, 291, 562), both limits, and others.
TRUNCATED = [(375, 500), (333, 500), (281, 400), (291, 291), (562, 700), (200, 343), (300, 600), (77, 31), (1, 900)]


def truncated(height, width, short=600, long=1000):
    """``int`` of a product of doubles, as ChainerCV's ``prepare`` has it."""
    scale = short / min(height, width)
    if scale * max(height, width) > long:
        scale = long / max(height, width)
    return max(int(height * scale), 1), max(int(width * scale), 1)


def caffe_factor(height, width, short=600, long=1000):
    """py-faster-rcnn's ``im_scale``."""
    scale = short / min(height, width)
    return long / max(height, width) if np.round(scale * max(height, width)) > long else scale


def test_floor_is_chainercvs_size_and_one_ratio():
    layer = Preprocessing(rounding="floor")
    assert truncated(281, 400)[0] == 599, "doubles must fall short here, or the test is blind to them"
    for size in TRUNCATED[:4]:
        image = picture(*size)
        for prepared, found, ratio in (layer(image[None]), layer(image[None], np.array([size], "int32"))):
            wanted = truncated(*size)
            assert np.asarray(found).tolist() == [list(wanted)]
            np.testing.assert_allclose(ratio, [[wanted[1] / size[1]] * 2], rtol=1e-6)
            np.testing.assert_allclose(prepared[0], expected(image, wanted, layer.mean, layer.std), atol=0.02)


@pytest.mark.parametrize(("short", "long"), [(600, 1000), (200, 300), (480, 2000)])
@pytest.mark.parametrize("rounding", ["floor", "factor"])
def test_graphs_without_doubles_give_the_sizes_that_doubles_give(rounding, short, long):
    rng = np.random.default_rng(short)
    # Sides that share a factor: where the product with the quotient is a whole number or a half, rounding decides.
    multiples = rng.integers(1, 60, (6000, 2)) * rng.integers(1, 40, (6000, 1))
    sizes = np.concatenate([np.array(TRUNCATED), multiples, rng.integers(1, 2500, (3000, 2))]).astype("int32")
    layer = Preprocessing(short, long, rounding=rounding)
    graph = np.asarray(layer._prepared_sizes(sizes)).astype(int)
    exact = 0
    for size, computed in zip(sizes.tolist(), graph.tolist(), strict=True):
        factor = caffe_factor(*size, short, long)
        wanted = truncated(*size, short, long)
        if rounding == "factor":
            wanted = tuple(max(int(np.round(side * factor)), 1) for side in size)
        assert tuple(computed) == wanted == layer.prepared_size(*size)
        target, side = (short, min(size)) if wanted[np.argmin(size)] >= short - 1 else (long, max(size))
        exact += tuple(max(target * each // side, 1) for each in size) != wanted
    assert exact > 100, "in whole numbers they come out otherwise, or nothing was tested"


@pytest.mark.parametrize("size", [(375, 500), (224, 322), (333, 501), (601, 1001), (300, 601), (451, 752), (31, 77)])
def test_factor_is_opencvs_with_fx_and_fy(size):
    layer = Preprocessing(rounding="factor")
    image, factor = picture(*size), caffe_factor(*size)
    wanted = cv2.resize(image.astype("float32") - np.array(layer.mean, "float32"), None, fx=factor, fy=factor)
    for given in (None, np.array([size], "int32")):
        prepared, found, ratio = layer(image[None], given)
        assert np.asarray(found).tolist() == [list(wanted.shape[:2])]
        np.testing.assert_allclose(ratio, [[factor, factor]], rtol=1e-6)
        np.testing.assert_allclose(prepared[0], wanted, atol=0.1)
    assert layer.prepared_size(*size) == wanted.shape[:2]


def test_a_padded_batch_of_either_rounding_is_each_image_alone():
    shapes = [(40, 60), (64, 45), (30, 64), (9, 9)]
    batch = np.full((4, 64, 64, 3), 255, "uint8")
    for i, (h, w) in enumerate(shapes):
        batch[i, :h, :w] = picture(h, w, seed=i)
    for rounding in ("floor", "factor"):
        layer = Preprocessing(60, 100, MEAN, STD, rounding=rounding)
        prepared, sizes, ratio = map(np.asarray, layer(batch, np.array(shapes, "int32")))
        for i, (h, w) in enumerate(shapes):
            alone, size, scale = map(np.asarray, layer(batch[i : i + 1, :h, :w]))
            rows, columns = size[0]
            assert sizes[i].tolist() == [rows, columns]
            np.testing.assert_array_equal(ratio[i], scale[0])
            np.testing.assert_allclose(prepared[i, :rows, :columns], alone[0], atol=1e-4)
            assert not prepared[i, rows:].any()
            assert not prepared[i, :, columns:].any()


def test_shapes_unknown_beforehand():
    layer = Preprocessing(60, 100, MEAN, STD)
    image = picture(37, 53)
    signature = [tf.TensorSpec((None, None, None, 3), tf.uint8)]
    compiled = tf.function(lambda x: layer(x), input_signature=signature)
    for i, value in enumerate(compiled(image[None])):
        np.testing.assert_allclose(value, layer(image[None])[i], atol=1e-4)


def test_number_types_give_the_same():
    layer = Preprocessing(60, 100)
    image = picture(45, 50)[None]
    wanted = np.asarray(layer(image)[0])
    for dtype in ("int32", "float32", "float64", "float16"):
        np.testing.assert_array_equal(np.asarray(layer(image.astype(dtype))[0]), wanted)


def test_mixed_precision_leaves_pixels_alone():
    image = picture(45, 50)[None]
    layer = Preprocessing(60, 100, dtype="mixed_bfloat16")
    prepared = layer(image)[0]
    assert prepared.dtype == "float32"
    np.testing.assert_array_equal(prepared, Preprocessing(60, 100)(image)[0])


def test_the_symbolic_shape():
    layer = Preprocessing(60, 100)
    known = layer(keras.Input((30, 40, 3), dtype="uint8"))
    assert [value.shape for value in known] == [(None, 60, 80, 3), (None, 2), (None, 2)]
    unknown = layer(keras.Input((None, None, 3)))
    assert unknown[0].shape == (None, None, None, 3)


def test_config_round_trip():
    layer = Preprocessing(64, 96, MEAN, STD, "bgr", rounding="floor", name="prepare")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    image = picture(30, 50)[None]
    for a, b in zip(layer(image), again(image), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (again.name, again.rounding) == ("prepare", "floor")
    assert again.describe() == layer.describe()
    for fact in ("BGR", "120.0, 110.0, 100.0", "64", "96"):
        assert fact in layer.describe()


def test_bad_arguments():
    for short, long in ((0, 10), (20, 10), (-1, -1)):
        with pytest.raises(ValueError, match=f"short={short} and long={long}"):
            Preprocessing(short, long)
    with pytest.raises(ValueError, match=r"'rgb' or 'bgr', got 'gbr'"):
        Preprocessing(order="gbr")
    with pytest.raises(ValueError, match=r"'nearest', 'floor', 'factor', got 'up'"):
        Preprocessing(rounding="up")
