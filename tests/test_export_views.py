"""What an exported classifier looks at is what `zoo eval` shows the Keras model."""

from fractions import Fraction

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from zoo.backbones.cifar_resnet import recursion
from zoo.datasets.class_views import CentreCrop
from zoo.export.centre_view import centre_view
from zoo.export.subject import subject

SIZE = 32


@pytest.fixture(scope="module")
def view():
    spec = tf.TensorSpec((None, None, None, 3), tf.uint8)
    return tf.function(lambda x: centre_view(tf.cast(x, tf.float32), SIZE), input_signature=[spec], autograph=False)


def picture(height, width):
    rng = np.random.default_rng(height * 1000 + width)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), np.uint8))
    return np.asarray(coarse.resize((width, height), Image.BICUBIC))


@pytest.mark.parametrize("size", [(300, 400), (97, 64), (74, 74), (37, 60), (60, 37), (38, 333), (640, 1000)])
def test_shrunk_pictures_are_opencvs_area_means(view, size):
    image = picture(*size)
    mine, theirs = view(image[None]).numpy()[0], CentreCrop(SIZE)(image)[0].astype(float)
    assert np.abs(mine - theirs).max() <= 1
    assert (mine != theirs).mean() < 0.001


@pytest.mark.parametrize("size", [(20, 25), (30, 36), (8, 8), (36, 50), (1, 1), (2, 900), (31, 17), (35, 36)])
def test_enlarged_pictures_are_opencvs_bilinear_ones_to_the_bit(view, size):
    image = np.random.default_rng(size).integers(0, 256, (*size, 3), np.uint8)
    np.testing.assert_array_equal(view(image[None]).numpy()[0], CentreCrop(SIZE)(image)[0])


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_halves_are_rounded_as_opencv_rounds_them(factor):
    """Of 2 x 2 pixels up, of more to the even number."""
    image = np.random.default_rng(factor).integers(0, 256, (256 * factor, 256 * factor, 3), np.uint8)
    mine = centre_view(tf.cast(image[None], tf.float32), 224).numpy()[0]
    np.testing.assert_array_equal(mine, CentreCrop(224)(image)[0])


@pytest.mark.parametrize("size", [(200, 16_000), (60_000, 300)])
def test_very_long_pictures(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    mine = centre_view(tf.cast(image[None], tf.float32), 224).numpy()[0]
    assert (mine != CentreCrop(224)(image)[0]).mean() < 0.001


def bilinear_middle(image, size):
    """The view of a picture that grows, in numbers of 64 bits; sides are rounded as Python rounds, halves to even."""
    small, short = min(image.shape[:2]), 256 if size in (224, 227) else round(size * 256 / 224)
    total = image.astype(np.int64)
    for axis in (0, 1):
        old = image.shape[axis]
        new = max(round(Fraction(old * short, small)), short)
        centre = np.arange(size, dtype=np.int64) + (new - size) // 2
        # Of 2 * new to an old pixel; what is beyond the outermost centres has their colour.
        place = np.clip((2 * centre + 1) * old - new, 0, (old - 1) * 2 * new)
        left, part = place // (2 * new), place % (2 * new)
        right = ((512 * part + 2 * new) // (4 * new)).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        beyond = np.minimum(left + 1, old - 1)
        total = (256 - right) * total.take(left, axis) + right * total.take(beyond, axis)
    return (total + 32768) // 65536


@pytest.mark.parametrize("size", [(32, 8000), (40, 8000), (8000, 32), (16, 3000)])
def test_narrow_strips_are_enlarged_to_the_bit(size):
    """Old side by new side, and place by either, pass 32 bits: 8000 x 64,000."""
    image = np.random.default_rng(size).integers(0, 256, (*size, 3), np.uint8)
    mine = centre_view(tf.cast(image[None], tf.float32), 224).numpy()[0]
    np.testing.assert_array_equal(mine, bilinear_middle(image, 224))
    np.testing.assert_array_equal(mine, CentreCrop(224)(image)[0])


@pytest.mark.parametrize("size", [(1, 65_535), (60_001, 1)])
def test_the_narrowest_strips(view, size):
    """Enlarged to more than two million pixels; OpenCV would have to make them all."""
    image = np.random.default_rng(size).integers(0, 256, (*size, 3), np.uint8)
    np.testing.assert_array_equal(view(image[None]).numpy()[0], bilinear_middle(image, SIZE))


@pytest.mark.parametrize("size", [(512, 513), (681, 512), (1024, 1538)])
def test_sides_that_shrink_to_a_half_are_rounded_as_python_rounds(size):
    """A view of a picture scaled to a pixel more shows other areas."""
    image = np.random.default_rng(size).integers(0, 256, (*size, 3), np.uint8)
    mine = centre_view(tf.cast(image[None], tf.float32), 224).numpy()[0]
    assert (mine != CentreCrop(224)(image)[0]).mean() < 0.001


def test_pictures_of_the_networks_size_stay_as_they_are(view):
    image = picture(SIZE, SIZE)
    np.testing.assert_array_equal(view(image[None]).numpy()[0], image)
    np.testing.assert_array_equal(centre_view(tf.cast(image[None], tf.float32), SIZE).numpy()[0], image)


def test_every_picture_of_a_batch_is_viewed_alone(view):
    images = np.stack([picture(50, 70), picture(50, 70)[::-1]])
    both = view(images).numpy()
    for one, image in zip(both, images, strict=True):
        np.testing.assert_array_equal(one, view(image[None]).numpy()[0])


def test_networks_of_a_thousand_layers_are_walked_through():
    """As ResNet-1202: Keras calls itself for every layer."""
    images = x = keras.Input((4, 4, 3))
    for _ in range(700):
        x = keras.layers.Identity()(x)
    x = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x))
    with recursion(20_000):
        model = keras.Model(images, keras.layers.Softmax()(x))
    features = subject(model).features(np.full((1, 9, 9, 3), 7, np.float32))["features"]
    np.testing.assert_allclose(features, [[7, 7, 7]], rtol=1e-6)
