"""What every registered model has to do; a model added to the registry is tested here without further words."""

import keras
import numpy as np
import pytest

import zoo

CLASSIFIERS = zoo.list_models(task="classification")
DETECTORS = zoo.list_models(task="detection")

# Published counts, 1000 classes: Krizhevsky 2012 with two groups, Simonyan 2015, keras.applications. ResNet-18 is
# torchvision's 11,689,512 plus what keras.applications' layout has besides: a bias and two moving statistics for
# each of the 4,800 channels that are normalised. Faster R-CNN on VGG-16 is the sum over py-faster-rcnn's layers.
PUBLISHED = {
    "alexnet": 60_965_224,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "resnet18": 11_689_512 + 3 * 4_800,
    "resnet50": 25_636_712,
    "resnet101": 44_707_176,
    "resnet152": 60_419_944,
    # Thirteen convolutions, RPN (3x3, scores, deltas), fc6, fc7, scores and deltas of 21 classes, the step counter.
    "faster_rcnn_vgg16": 14_714_688
    + (4608 * 512 + 512 + 512 * 18 + 18 + 512 * 36 + 36)
    + (25088 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 21 + 21 + 4096 * 84 + 84)
    + 1,
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


def check_default_count(name: str) -> None:
    count = zoo.get(name).count_params()
    assert count == zoo.info(name).params
    assert name not in PUBLISHED or count == PUBLISHED[name]


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
    assert {"alexnet", "vgg16", "vgg19", "resnet50", "resnet101", "resnet152"} <= set(CLASSIFIERS)
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
    with pytest.raises(ValueError, match="conv9"):
        zoo.get(name, include_top=False, stages=["conv9"])


@pytest.mark.parametrize("name", DETECTORS)
def test_detector(name, tmp_path):
    keras.utils.set_random_seed(0)
    check_default_count(name)
    model = zoo.get(name, classes=NAMES, **SMALL)
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

    # Static shapes from one call.
    raw = model.predict_on_batch(np.stack([images[0], images[0]]))
    assert {key: value.shape for key, value in raw.items()} == {
        "boxes": (2, 100, 4),
        "scores": (2, 100),
        "classes": (2, 100),
        "num_detections": (2,),
    }

    # Backward: every trainable weight learns.
    x = {
        "images": images[0][None],
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

    # Saved and loaded, both ways.
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.classes == NAMES
    assert_same(loaded.detect(images[1]), alone[1])
    del loaded
    (tmp_path / "model.keras").unlink()
    model.save_weights(tmp_path / "model.weights.h5")
    other = zoo.get(name, classes=NAMES, **SMALL)
    other.load_weights(tmp_path / "model.weights.h5")
    assert_same(other.detect(images[1]), alone[1])
