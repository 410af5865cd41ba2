"""In a batch of differently sized images each is treated by its true size: proposals, detections and losses."""

import keras
import numpy as np
import pytest
import reference
from keras import layers
from tiny import tiny_detector

from zoo.detectors.faster_rcnn import FasterRCNN
from zoo.detectors.preprocessing import Preprocessing

SHAPES = [(64, 96), (96, 64), (64, 64), (80, 64)]


def patch_detector(**options):
    """A detector whose features do not change at the border when zeros follow there: one bias-free convolution of
    patches. What still differs between an image alone and in a batch is the detector's own doing."""
    keras.utils.set_random_seed(3)
    images = keras.Input((None, None, 3))
    features = layers.Conv2D(8, 16, 16, padding="same", use_bias=False, activation="relu")(images)
    pooled = keras.Input((3, 3, 8))
    body = keras.Model(pooled, layers.Dense(16, activation="relu")(layers.Flatten()(pooled)))
    model = FasterRCNN(
        keras.Model(images, features),
        body,
        ("a", "b"),
        Preprocessing(64, 96, std=(60.0, 60.0, 60.0)),
        pool_size=3,
        anchor_sizes=(16, 32),
        rpn_channels=16,
        train_proposals=(300, 60),
        test_proposals=(300, 40),
        proposal_min_size=4.0,
        **options,
    )
    spread_scores(model)
    return model


def spread_scores(model):
    """New layers' weights are so small that all scores are nearly equal, and any rounding reorders them."""
    for layer in (model.rpn.score, model.rpn.loc, model.head.score, model.head.loc):
        layer.kernel.assign(layer.kernel * 30)


def padded(shapes=SHAPES):
    rng = np.random.default_rng(0)
    images = np.zeros((len(shapes), 96, 96, 3), "uint8")
    for image, (h, w) in zip(images, shapes, strict=True):
        image[:h, :w] = rng.integers(0, 256, (h, w, 3))
    return {"images": images, "sizes": np.array(shapes, "int32"), "image_id": np.arange(len(shapes), dtype="int32")}


def alone(x, i):
    h, w = x["sizes"][i]
    return {"images": x["images"][i : i + 1, :h, :w], "image_id": x["image_id"][i : i + 1]}


@pytest.fixture(scope="module")
def patchy():
    # Samples so large that they hold everything: nothing is left to chance.
    return patch_detector(rpn_samples=2000, head_samples=200, head_foreground=1.0)


def test_detections_are_those_of_each_image_alone(patchy):
    x = padded()
    together = {key: np.asarray(value) for key, value in patchy(x).items()}
    assert (together["num_detections"] > 5).all()
    for i, (h, w) in enumerate(SHAPES):
        single = {key: np.asarray(value)[0] for key, value in patchy(alone(x, i)).items()}
        assert together["num_detections"][i] == single["num_detections"]
        np.testing.assert_array_equal(together["classes"][i], single["classes"])
        np.testing.assert_allclose(together["scores"][i], single["scores"], atol=1e-4)
        np.testing.assert_allclose(together["boxes"][i], single["boxes"], atol=1e-2)
        assert (together["boxes"][i] <= [w, h, w, h]).all()


@pytest.mark.parametrize("training", [False, True])
def test_proposals_are_those_of_each_image_alone(patchy, training):
    x = padded()
    raw = patchy._propose(x, training=training)
    boxes, scores = np.asarray(raw["proposals"]), np.asarray(raw["proposal_scores"])
    for i, (h, w) in enumerate(SHAPES):
        single = patchy._propose(alone(x, i), training=training)
        np.testing.assert_allclose(scores[i], np.asarray(single["proposal_scores"])[0], atol=1e-5)
        np.testing.assert_allclose(boxes[i], np.asarray(single["proposals"])[0], atol=1e-3)
        assert (boxes[i] <= [w, h, w, h]).all()


def truths(count):
    rng = np.random.default_rng(1)
    boxes = np.zeros((count, 5, 4), "float32")
    classes = np.full((count, 5), -1, "int32")
    for i, (h, w) in enumerate(SHAPES[:count]):
        boxes[i, :3] = reference.random_boxes(rng, 3, w - 1, h - 1)
        classes[i, :3] = rng.integers(0, 2, 3)
    classes[2] = -1  # an image without objects
    return {"boxes": boxes, "classes": classes}


def loss(model, x, y):
    return float(model.compute_loss(x=x, y=y, y_pred=model(x, training=True), training=True))


def test_the_loss_is_the_mean_of_those_alone(patchy):
    x, y = padded(), truths(4)
    single = [loss(patchy, alone(x, i), {key: value[i : i + 1] for key, value in y.items()}) for i in range(4)]
    assert min(single) > 0
    assert abs(loss(patchy, x, y) - np.mean(single)) < 1e-4 * max(single)


def test_boxes_are_given_in_original_pixels(patchy):
    """Twice as large an image with boxes twice as large is the same after preparation."""
    x = {"images": padded()["images"][:1, :64, :96], "image_id": np.zeros(1, "int32")}
    y = {key: value[:1] for key, value in truths(4).items()}
    # Nearest-neighbour doubling, halved again bilinearly at half-pixel centres, is the image itself.
    large = {**x, "images": x["images"].repeat(2, axis=1).repeat(2, axis=2)}
    assert abs(loss(patchy, x, y) - loss(patchy, large, {**y, "boxes": y["boxes"] * 2})) < 1e-3
    small, found = patchy(x), patchy(large)
    np.testing.assert_allclose(np.asarray(found["boxes"]), 2 * np.asarray(small["boxes"]), atol=0.05)


def test_difficult_objects_are_left_out_unless_wanted(patchy):
    x, y = padded(), truths(4)
    without = {**y, "classes": np.where(np.arange(5) == 1, -1, y["classes"])}
    difficult = {**y, "difficult": np.tile(np.arange(5) == 1, (4, 1))}
    assert loss(patchy, x, difficult) == pytest.approx(loss(patchy, x, without), rel=1e-5)
    assert loss(patchy, x, difficult) != pytest.approx(loss(patchy, x, y), rel=1e-3)
    patchy.use_difficult = True
    assert loss(patchy, x, difficult) == pytest.approx(loss(patchy, x, y), rel=1e-5)
    patchy.use_difficult = False


def test_a_detector_with_padding_inside_keeps_to_true_sizes():
    model = tiny_detector()
    spread_scores(model)
    x = padded([(50, 90), (96, 40), (33, 33), (80, 77)])
    raw = model._propose(x, training=True)
    for boxes, scores, (h, w) in zip(
        *(np.asarray(raw[k]) for k in ("proposals", "proposal_scores", "sizes")), strict=True
    ):
        assert (scores >= 0).sum() > 5
        assert (boxes >= 0).all()
        assert (boxes <= [w, h, w, h]).all()
    found = model(x)
    for boxes, (h, w) in zip(np.asarray(found["boxes"]), x["sizes"], strict=True):
        assert (boxes <= np.array([w, h, w, h]) + 1e-3).all()
        assert boxes.any()
