"""The input conventions: which pixel a network sees, for each release's name."""

import keras
import numpy as np
import pytest

import zoo
from zoo.backbones.inputs import INPUTS, input_convention

# One pixel, red 200, green 120, blue 30, after each release's own preprocessing.
SEEN = {
    "caffe": (30 - 103.939, 120 - 116.779, 200 - 123.68),
    "chainer": (200 - 122.7717, 120 - 115.9465, 30 - 102.9801),
    "chainer_imagenet": (200 - 123.68, 120 - 116.779, 30 - 103.939),
    "chainer_resnet": (200 - 123.15163084, 120 - 115.90288257, 30 - 103.0626238),
    "caffe_resnet": (30 - 103.0626238, 120 - 115.90288257, 200 - 123.15163084),
    "py": (30 - 102.9801, 120 - 115.9465, 200 - 122.7717),
    "torch": ((200 / 255 - 0.485) / 0.229, (120 / 255 - 0.456) / 0.224, (30 / 255 - 0.406) / 0.225),
    "bvlc": (30 - 104, 120 - 117, 200 - 123),
    "raw": (200, 120, 30),
}
PIXEL = np.full((1, 32, 32, 3), (200, 120, 30), "uint8")
WITH_INPUTS = [name for name in zoo.list_models() if "include_top" in zoo.info(name).options]


@pytest.mark.parametrize("name", INPUTS)
def test_a_pixel_as_a_classifier_and_a_detector_see_it(name):
    classifier = zoo.get("resnet18", include_top=False, stages=["conv1"], inputs=name)
    np.testing.assert_allclose(classifier.get_layer("normalise")(PIXEL)[0, 5, 5], SEEN[name], rtol=1e-5, atol=1e-5)
    detector = zoo.get("faster_rcnn_resnet18", inputs=name, short=32, long=32)
    prepared, *_ = detector.preprocessing(PIXEL)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(prepared)[0, 5, 5], SEEN[name], rtol=1e-5, atol=1e-4)


def test_every_convention_is_tested_and_says_whose_it_is():
    assert set(SEEN) == set(INPUTS)
    assert all(convention.source for convention in INPUTS.values())


def test_defaults_are_the_ones_that_shipped_weights_were_made_with():
    for name in WITH_INPUTS:
        assert zoo.info(name).options["inputs"] == "caffe", name
    for name in zoo.list_models(task="detection"):
        assert zoo.info(name).options["inputs"] == "chainer_imagenet", name


def test_in_words():
    assert INPUTS["bvlc"].describe() == "BGR 0-255, minus (104.0, 117.0, 123.0)"
    assert INPUTS["raw"].describe() == "RGB 0-255"
    assert "divided by" in INPUTS["torch"].describe()


@pytest.mark.parametrize("name", ["cafe", "", None, 3])
def test_an_unknown_name_is_refused_with_those_that_there_are(name):
    with pytest.raises(ValueError, match=r"unknown input convention.*'caffe'.*'raw'"):
        input_convention(name)
    with pytest.raises(ValueError, match="unknown input convention"):
        zoo.get("faster_rcnn_resnet18", inputs=name)
