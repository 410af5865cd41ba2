"""The registered Fast R-CNNs: all by their shapes, and one that does all that is asked of a detector."""

import math

import keras
import numpy as np
import pytest
from test_contract import CLASSIFIERS, NAMES, PUBLISHED, assert_same, gradients, layers_of, pictures

import zoo
from zoo.arguments import RegistryError
from zoo.detectors.fast_rcnn import FastRCNN
from zoo.filling import shapes_of
from zoo.registry import _base

DETECTORS = zoo.list_models("fast_rcnn_*")
SMALL = {"short": 96, "long": 160, "head_samples": 16, "proposals": 50, "head_units": 64}


def boxes_of(image: np.ndarray, count: int = 40, seed: int = 1) -> np.ndarray:
    """Boxes anywhere in an image."""
    rng = np.random.default_rng(seed)
    height, width = image.shape[:2]
    corners = rng.uniform(0, 1, (count, 2, 2)) * [width - 12, height - 12]
    return np.concatenate([corners.min(1), corners.max(1) + 12], axis=1).astype("float32")


def test_every_backbone_has_its_detector():
    assert {"fast_rcnn_caffenet", "fast_rcnn_vgg_m", "fast_rcnn_vgg16"} <= set(DETECTORS)
    assert sorted(_base(zoo.info(name)).name for name in DETECTORS) == sorted(CLASSIFIERS)


@pytest.mark.parametrize("name", DETECTORS)
def test_count(name):
    """A Faster R-CNN's without its RPN, and two numbers for each of four deltas of VOC's twenty classes."""
    count = sum(math.prod(shape) for shape in shapes_of(zoo.info(name).builder).values())
    assert count == zoo.info(name).params
    sibling = f"faster_rcnn_{_base(zoo.info(name)).name}"
    channels = {"alex": 256, "caff": 256, "vgg1": 512, "vgg_": 512}.get(sibling.removeprefix("faster_rcnn_")[:4])
    if channels is None:
        channels = 1024 if zoo.info(name).options["head"] == "conv5" else 256
    hidden = zoo.info(sibling).options["rpn_channels"]
    rpn = layers_of((9 * channels, hidden), (hidden, 18), (hidden, 36))
    assert count == PUBLISHED.get(sibling, zoo.info(sibling).params) - rpn + 2 * 4 * 20


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    model = zoo.get("fast_rcnn_resnet18", classes=NAMES, **SMALL)
    image = pictures()[0]
    raw = model({"images": image[None], "proposals": boxes_of(image)[None]}, training=True)
    outputs = model.head(model._pool(raw, raw["proposals"]))
    for layer, values, spread in zip((model.head.score, model.head.loc), outputs, (2.0, 0.5), strict=True):
        values = keras.ops.convert_to_numpy(values).reshape(-1, layer.bias.shape[0])
        scale = spread / values.std(axis=0).mean()
        layer.kernel.assign(layer.kernel * scale)
        layer.bias.assign((layer.bias - values.mean(axis=0)) * scale)
    return model


def test_alone_and_in_a_mixed_list(model):
    images = pictures()
    alone = [model.detect(image, proposals=boxes_of) for image in images]
    assert all(len(found) for found in alone)
    for found, image in zip(alone, images, strict=True):
        height, width = image.shape[:2]
        assert found.size == (height, width)
        assert (found.boxes >= 0).all()
        assert (found.boxes <= [width, height, width, height]).all()
        assert set(found.class_names) <= set(NAMES)
    mixed = [*images, images[0]]
    for found, before in zip(model.detect(mixed, proposals=boxes_of, batch_size=2), [*alone, alone[0]], strict=True):
        assert_same(found, before)
    given = [boxes_of(image) for image in mixed]
    for found, before in zip(model.detect(mixed, proposals=given), [*alone, alone[0]], strict=True):
        assert_same(found, before)


def test_every_weight_learns(model):
    image = pictures()[0]
    truth = np.array([[[10, 10, 60, 60], [50, 20, 110, 90]]], "float32")
    jitter = np.random.default_rng(0).uniform(-9, 9, (1, 30, 4))
    x = {"images": image[None], "image_id": np.array([3], "int32")}
    x["proposals"] = np.concatenate([truth.repeat(15, axis=1) + jitter, boxes_of(image)[None]], axis=1).astype(
        "float32"
    )
    y = {"boxes": truth, "classes": np.array([[0, 2]], "int32")}
    found = gradients(model, lambda: model.compute_loss(x, y, model(x, training=True), training=True))
    dead = [path for path, size in found.items() if size == 0.0 and not path.endswith("conv/bias")]
    assert not dead, f"no gradient reaches {dead}"


def test_saved_and_loaded(model, tmp_path):
    image = pictures()[1]
    before = model.detect(image, proposals=boxes_of)
    rng = np.random.default_rng(0)
    model.set_target_statistics(rng.normal(0, 0.05, (3, 4)), rng.uniform(0.05, 0.3, (3, 4)))
    assert_same(model.detect(image, proposals=boxes_of), before)

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, FastRCNN)
    assert loaded.classes == NAMES
    assert_same(loaded.detect(image, proposals=boxes_of), before)
    zoo.weights_io.save_weights_file(model, tmp_path / "model.weights.h5", meta=model.zoo_meta)
    other = zoo.load(tmp_path / "model.weights.h5")
    assert other.zoo_meta.options == SMALL
    assert_same(other.detect(image, proposals=boxes_of), before)
    # Of other classes: the layers that know them, and their statistics, are new.
    new = zoo.get("fast_rcnn_resnet18", weights=tmp_path / "model.weights.h5", classes=("cat", "dog"))
    assert set(new.zoo_meta.new_layers) == {"head/score", "head/loc", "box_means", "box_deviations"}
    np.testing.assert_allclose(new.box_deviations, [[0.1, 0.1, 0.2, 0.2]] * 2, rtol=1e-6)


def test_options_reach_the_model():
    scales = (480, 576, 688, 864, 1200)
    more = {"bbox": "none", "refine": False, "box_weight": 0.5, "convention": "fast-rcnn", "background_from": 0.0}
    made = zoo.get("fast_rcnn_resnet18", classes=("a",), head_units=16, short=scales, long=2000, **more)
    assert made.scales == scales
    assert [(each.short, each.long) for each in made.pyramid] == [(side, 2000) for side in scales]
    assert {key: getattr(made, key) for key in more} == more
    assert zoo.get("fast_rcnn_resnet18", classes=("a",), head_units=16, short=(300,)).preprocessing.short == 300
    frozen = zoo.get("fast_rcnn_alexnet", classes=("a",), head_units=16, train_from="conv2_1")
    assert not any("conv1" in variable.path for variable in frozen.trainable_variables)
    assert any("conv2" in variable.path for variable in frozen.trainable_variables)
    # The stage's own name is that of the layer behind both of its halves; they are trained all the same.
    stage = zoo.get("fast_rcnn_alexnet", classes=("a",), head_units=16, train_from="conv2")
    assert [v.path for v in stage.trainable_variables] == [v.path for v in frozen.trainable_variables]
    with pytest.raises(RegistryError, match="no option 'anchor_sizes'"):
        zoo.get("fast_rcnn_resnet18", anchor_sizes=(32,))
