"""The registered SPPnets and R-CNNs: one a backbone, their sizes, and the classifier's weights in them."""

import math

import keras
import numpy as np
import pytest
from test_contract import CLASSIFIERS, layers_of

import zoo
from zoo.arguments import RegistryError
from zoo.detectors.rcnn import RCNN
from zoo.detectors.sppnet import SPPNet
from zoo.filling import shapes_of
from zoo.registry import _base
from zoo.weights_io import save_weights_file

NAMES = ("circle", "square")
# Channels of the last convolution, widths of fc6 and fc7.
DENSE = {
    **dict.fromkeys(("alexnet", "caffenet", "alexnet_one_tower"), (256, 4096, 4096)),
    "vgg_m": (512, 4096, 1024),
    **dict.fromkeys(("vgg11", "vgg13", "vgg16", "vgg19"), (512, 4096, 4096)),
    **dict.fromkeys(("resnet18", "resnet34"), (256, 512, 512)),
}


@pytest.mark.parametrize("kind", ["sppnet", "rcnn"])
def test_every_backbone_has_its_detector(kind):
    names = zoo.list_models(f"{kind}_*")
    assert sorted(_base(zoo.info(name)).name for name in names) == sorted(CLASSIFIERS)
    assert all(zoo.info(name).params for name in names)
    assert "warped to 227 x 227" in zoo.info("rcnn_caffenet").preprocessing


@pytest.mark.parametrize("name", DENSE)
def test_declared_counts(name):
    """Beside a Fast R-CNN: 14 more bins for fc6, and no regression of 84 numbers nor their statistics."""
    channels, fc6, fc7 = DENSE[name]
    fast = zoo.info(f"fast_rcnn_{name}").params
    assert zoo.info(f"sppnet_{name}").params == fast + (9 + 4 + 1) * channels * fc6
    assert zoo.info(f"rcnn_{name}").params == fast - layers_of((fc7, 84)) - 2 * 4 * 20


@pytest.mark.parametrize("name", ["sppnet_resnet50", "rcnn_resnet18"])
def test_counts_are_those_of_the_model(name):
    assert sum(math.prod(shape) for shape in shapes_of(zoo.info(name).builder).values()) == zoo.info(name).params


def test_options_reach_the_model():
    spp = zoo.get("sppnet_resnet18", classes=NAMES, head_units=16, levels=(7, 2), bbox="none", convention="caffe")
    assert isinstance(spp, SPPNet)
    assert (spp.pool_size, spp.bbox, spp.convention) == ((7, 2), "none", "caffe")
    trained = {variable.path.split("/")[-2] for variable in spp.trainable_variables}
    assert trained == {"fc6", "fc6_pyramid", "fc7", "score"}
    some = zoo.get("sppnet_resnet18", classes=NAMES, head_units=16, train_from="conv4")
    assert any("conv4" in variable.path for variable in some.trainable_variables)
    assert not any("conv3" in variable.path for variable in some.trainable_variables)
    made = zoo.get("rcnn_resnet18", classes=NAMES, head_units=16, side=96, context=8, at_once=4, inputs="caffe")
    assert isinstance(made, RCNN)
    warping = made.preprocessing
    assert (warping.side, warping.context, warping.at_once, warping.order) == (96, 8, 4, "bgr")
    assert (made.bbox, made.background_from) == ("none", 0.0)
    for wrong, says in (({"levels": (6, 3)}, "7 bins a side"), ({"head": "conv5"}, "head='fc'")):
        with pytest.raises(ValueError, match=says):
            zoo.get("sppnet_resnet18", classes=NAMES, head_units=16, **wrong)
    with pytest.raises(RegistryError, match="no option 'short'"):
        zoo.get("rcnn_resnet18", short=600)


def test_rcnn_is_the_classifier_on_a_crop(tmp_path):
    """A picture of 224 pixels and a box around all of it: what comes before the class layer is the same."""
    keras.utils.set_random_seed(0)
    classifier = zoo.get("resnet18", classes=3, norm="frozen")
    save_weights_file(classifier, tmp_path / "c.weights.h5", meta=classifier.zoo_meta)
    # Nothing says how colours come: the classifier has its default, which the detector's is not.
    model = zoo.get("rcnn_resnet18", tmp_path / "c.weights.h5", NAMES, head="conv5", context=0)
    assert (model.preprocessing.order, model.preprocessing.mean) == ("bgr", (103.939, 116.779, 123.68))
    assert set(model.zoo_meta.new_layers) == {"sampling_step", "head/score"}
    image = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3)).astype("uint8")
    raw = model._look({"images": image, "proposals": np.array([[[0.0, 0, 224, 224]]], "float32")}, training=False)
    vectors = model.head.body(model._pool(raw, raw["proposals"])[:, 0])
    average = keras.Model(classifier.inputs, classifier.get_layer("avg_pool").output)
    np.testing.assert_allclose(vectors, average(image), rtol=1e-3, atol=1e-3)


def test_a_classifiers_dense_layers_start_the_pyramid():
    """Every layer of VGG-11 but the last has its place, fc6 the finest level; the coarser ones are beside it."""
    ours, theirs = (shapes_of(zoo.info(name).builder) for name in ("sppnet_vgg11", "vgg11"))
    more = {name for name in ours if ours[name] != theirs.get(name)}
    assert {name.rpartition("/")[0] for name in more if "/" in name} == {"fc6_pyramid", "head/score", "head/loc"}
    assert {name.rpartition("/")[0] for name in theirs.keys() - ours.keys()} == {"fc8"}
    assert ours["fc6_pyramid/kernel"] == (14 * 512, 4096)
