"""What every registered model has to do; a model added to the registry is tested here without further words."""

import math

import keras
import numpy as np
import pytest

import zoo
from zoo.filling import shapes_of

# Networks for ImageNet, which detectors are built on; those for CIFAR-10 have tests of their own.
CLASSIFIERS = [name for name in zoo.list_models(task="classification") if "include_top" in zoo.info(name).options]
# Fast R-CNNs, SPPnets and R-CNNs, which share backbones and heads, are tested in test_fast_rcnn_models.py and
# test_baseline_models.py.
OTHERS = ("fast_rcnn_", "sppnet_", "rcnn_")
DETECTORS = [name for name in zoo.list_models(task="detection") if not name.startswith(OTHERS)]
# The same builder with more or fewer blocks as another backbone, which is looked at for all that depth does not change.
DEPTHS = {
    "vgg11": "vgg16",
    "vgg13": "vgg16",
    "vgg19": "vgg16",
    "resnet34": "resnet18",
    "resnet101": "resnet50",
    "resnet152": "resnet50",
}
OTHER_DEPTHS = [name for name in DETECTORS if name.removeprefix("faster_rcnn_") in DEPTHS]


def layers_of(*shapes: tuple[int, ...]) -> int:
    """Parameters of layers with kernels of these shapes, the outputs last, and as many biases as outputs."""
    return sum(math.prod(shape) + shape[-1] for shape in shapes)


def faster_rcnn(convolutions: int, channels: int, rpn: int, bins: int, fc6: int, fc7: int) -> int:
    """Parameters of a detector as py-faster-rcnn defines it, nine anchors and VOC's 21 classes; and a step counter."""
    own = layers_of((9 * channels, rpn), (rpn, 18), (rpn, 36))
    head = layers_of((bins * bins * channels, fc6), (fc6, fc7), (fc7, 21), (fc7, 84))
    return convolutions + own + head + 1


# Sums over the layers that papers and releases give. Grouped kernels see half of the channels.
ALEXNET_CONVOLUTIONS = layers_of((363, 96), (25 * 48, 256), (9 * 256, 384), (9 * 192, 384), (9 * 192, 256))
ONE_TOWER_CONVOLUTIONS = layers_of((363, 64), (25 * 64, 192), (9 * 192, 384), (9 * 384, 256), (9 * 256, 256))
VGG_M_CONVOLUTIONS = layers_of((147, 96), (25 * 96, 256), (9 * 256, 512), (9 * 512, 512), (9 * 512, 512))
VGG11_CONVOLUTIONS = layers_of(
    *((9 * a, b) for a, b in ((3, 64), (64, 128), (128, 256), (256, 256), (256, 512), *[(512, 512)] * 3))
)
# Published counts, 1000 classes: Krizhevsky 2012 with two groups, Simonyan 2015, keras.applications. ResNet-18 and -34
# and AlexNet's one tower are torchvision's, the ResNets with what keras.applications' layout has besides: a bias and
# two moving statistics for each of the 4,800 or 8,512 channels that are normalised.
PUBLISHED = {
    "alexnet": 60_965_224,
    "caffenet": 60_965_224,
    "alexnet_one_tower": 61_100_840,
    "vgg_cnn_m_1024": VGG_M_CONVOLUTIONS + layers_of((18432, 4096), (4096, 1024), (1024, 1000)),
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "resnet18": 11_689_512 + 3 * 4_800,
    "resnet34": 21_797_672 + 3 * 8_512,
    "resnet50": 25_636_712,
    "resnet101": 44_707_176,
    "resnet152": 60_419_944,
    # keras.applications' counts without the top; the RPN of AlexNet and its kind is 256 wide, as ZF's.
    "faster_rcnn_alexnet": faster_rcnn(ALEXNET_CONVOLUTIONS, 256, 256, 6, 4096, 4096),
    "faster_rcnn_caffenet": faster_rcnn(ALEXNET_CONVOLUTIONS, 256, 256, 6, 4096, 4096),
    "faster_rcnn_alexnet_one_tower": faster_rcnn(ONE_TOWER_CONVOLUTIONS, 256, 256, 6, 4096, 4096),
    "faster_rcnn_vgg_cnn_m_1024": faster_rcnn(VGG_M_CONVOLUTIONS, 512, 512, 6, 4096, 1024),
    "faster_rcnn_vgg11": faster_rcnn(VGG11_CONVOLUTIONS, 512, 512, 7, 4096, 4096),
    "faster_rcnn_vgg13": faster_rcnn(
        VGG11_CONVOLUTIONS + layers_of((9 * 64, 64), (9 * 128, 128)), 512, 512, 7, 4096, 4096
    ),
    "faster_rcnn_vgg16": faster_rcnn(14_714_688, 512, 512, 7, 4096, 4096),
    "faster_rcnn_vgg19": faster_rcnn(20_024_384, 512, 512, 7, 4096, 4096),
}
SMALL = {
    "short": 96,
    "long": 160,
    "anchor_sizes": (16, 32, 64),
    "proposals": 20,
    "train_proposals": 60,
    "head_samples": 16,
}
NAMES = ("circle", "square", "star")


def small(name: str) -> dict[str, object]:
    """Options for small pictures, with narrow hidden layers: the default widths have their own test."""
    width = zoo.info(name).options["head_units"]
    return {**SMALL, "head_units": 256 if isinstance(width, int) else (256, 128)}


def pictures(seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((96, 128), (150, 101), (40, 90))]


def sharpen(model) -> None:
    """Make a random detector decide: scale its last layers until RoIs get scores and boxes that differ."""

    def spread(layer, outputs, to: float) -> None:
        values = keras.ops.convert_to_numpy(outputs)
        values = values.reshape(-1, layer.bias.shape[0])
        scale = to / values.std(axis=0).mean()
        layer.kernel.assign(layer.kernel * scale)
        layer.bias.assign((layer.bias - values.mean(axis=0)) * scale)

    for _ in range(2):
        raw = model(pictures()[0][None], training=True)
        spread(model.rpn.score, raw["rpn_logits"], 2.0)
        spread(model.rpn.loc, raw["rpn_deltas"], 0.3)
        logits, deltas = model.head(model.roi_pool(raw["features"], raw["proposals"]))
        spread(model.head.score, logits, 2.0)
        spread(model.head.loc, deltas, 0.5)


def assert_same(a, b, tolerance: float = 1e-3) -> None:
    assert a.class_names == b.class_names
    np.testing.assert_allclose(a.scores, b.scores, atol=tolerance)
    np.testing.assert_allclose(a.boxes, b.boxes, atol=0.1)


def check_count(name: str, count: int) -> None:
    assert count == zoo.info(name).params
    assert name not in PUBLISHED or count == PUBLISHED[name]


def check_static_shapes(raw: dict[str, object], count: int) -> None:
    assert {key: tuple(value.shape) for key, value in raw.items()} == {
        "boxes": (count, 100, 4),
        "scores": (count, 100),
        "classes": (count, 100),
        "num_detections": (count,),
    }


def check_every_weight_learns(model) -> None:
    x = {
        "images": pictures()[0][None],
        "sizes": np.array([[96, 128]], "int32"),
        "image_id": np.array([3], "int32"),
    }
    y = {
        "boxes": np.array([[[10, 10, 60, 60], [50, 20, 110, 90]]], "float32"),
        "classes": np.array([[0, 2]], "int32"),
    }
    found = gradients(model, lambda: model.compute_loss(x, y, model(x, training=True), training=True))
    dead = [path for path, size in found.items() if size == 0.0 and not path.endswith("conv/bias")]
    assert not dead, f"no gradient reaches {dead}"


def gradients(model, loss_of) -> dict[str, float]:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = loss_of()
    found = tape.gradient(loss, model.trainable_variables)
    assert np.isfinite(float(loss))
    return {
        v.path: 0.0 if g is None else float(tf.reduce_max(tf.abs(tf.convert_to_tensor(g))))
        for v, g in zip(model.trainable_variables, found, strict=True)
    }


def test_every_backbone_has_its_detector():
    assert set(CLASSIFIERS) == {name for name in PUBLISHED if not name.startswith("faster_rcnn_")}
    assert not DEPTHS.keys() & set(DEPTHS.values())
    assert {f"faster_rcnn_{name}" for name in CLASSIFIERS} <= set(DETECTORS)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifier(name):
    keras.utils.set_random_seed(0)
    model = zoo.get(name)
    assert model.count_params() == zoo.info(name).params
    assert name not in PUBLISHED or model.count_params() == PUBLISHED[name]
    side = model.input_shape[1] or 64
    image = np.random.default_rng(0).integers(0, 256, (1, side, side, 3)).astype("float32")
    answer = keras.ops.convert_to_numpy(model(image))
    assert answer.shape == (1, 1000)
    np.testing.assert_allclose(answer.sum(), 1.0, atol=1e-5)

    # Before the softmax, which a random network may saturate.
    logits = keras.Model(model.inputs, model.layers[-1].input)
    found = gradients(model, lambda: keras.ops.mean(keras.ops.square(logits(image, training=True))))
    # A bias before a batch norm moves nothing: its gradient is there, and zero up to rounding.
    dead = [path for path, size in found.items() if size == 0.0 and not path.endswith("conv/bias")]
    assert not dead, f"no gradient reaches {dead}"


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_feature_extractor_names_its_stages_and_strides(name):
    model = zoo.get(name, include_top=False)
    maps = model(np.zeros((1, 75, 90, 3), "float32"))
    assert list(maps) == list(model.strides) == ["conv1", "conv2", "conv3", "conv4", "conv5"]
    for stage, features in maps.items():
        stride = model.strides[stage]
        assert tuple(features.shape[1:3]) == (-(-75 // stride), -(-90 // stride)), stage
    if name not in DEPTHS:
        with pytest.raises(ValueError, match="conv9"):
            zoo.get(name, include_top=False, stages=["conv9"])


@pytest.mark.parametrize("name", [name for name in DETECTORS if name not in OTHER_DEPTHS])
def test_detector(name, tmp_path):
    keras.utils.set_random_seed(0)
    # None of a hundred million weights is drawn to count them.
    check_count(name, sum(map(math.prod, shapes_of(zoo.info(name).builder).values())))
    model = zoo.get(name, classes=NAMES, **small(name))
    sharpen(model)

    # Alone, and in a mixed list: the same.
    images = pictures()
    alone = [model.detect(image) for image in images]
    assert any(len(found) for found in alone)
    for found, image in zip(alone, images, strict=True):
        height, width = image.shape[:2]
        assert found.size == (height, width)
        assert (found.boxes >= 0).all()
        assert (found.boxes <= [width, height, width, height]).all()
        assert set(found.class_names) <= set(NAMES)
    for found, before in zip(model.detect([*images, images[0]], batch_size=2), [*alone, alone[0]], strict=True):
        assert_same(found, before)

    check_static_shapes(model.predict_on_batch(np.stack([images[0], images[0]])), 2)
    check_every_weight_learns(model)

    # Saved and loaded, both ways.
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.classes == NAMES
    assert_same(loaded.detect(images[1]), alone[1])
    del loaded
    (tmp_path / "model.keras").unlink()
    model.save_weights(tmp_path / "model.weights.h5")
    other = zoo.get(name, classes=NAMES, **small(name))
    other.load_weights(tmp_path / "model.weights.h5")
    for ours, theirs in zip(other.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=ours.path)


@pytest.mark.parametrize("name", OTHER_DEPTHS)
def test_detector_of_another_depth(name):
    keras.utils.set_random_seed(0)
    model = zoo.get(name, **SMALL)  # nothing of which the number of parameters depends on
    check_count(name, model.count_params())
    check_static_shapes(model(pictures()[0][None]), 1)
    check_every_weight_learns(model)
