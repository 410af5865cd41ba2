"""Spatial pyramid pooling against loops, the body behind it against one dense layer, and SPPnet as a detector."""

import keras
import numpy as np
import pytest
import reference
from test_fast_rcnn_targets import batch
from test_roi_pool import CHANNELS, feature_map, rois_on
from tiny import tiny_fast
from tiny_baselines import LEVELS, decisive, tiny_spp, trained, uncompiled

from zoo.compression import compress
from zoo.detectors.sppnet import SPPNet, pyramid_body
from zoo.heads.spatial_pyramid import SpatialPyramidPool
from zoo.training.svm import train_svms
from zoo.weights_io import weight_names


@pytest.mark.parametrize("levels", [(6, 3, 2, 1), (7, 3, 2, 1), (4,)])
def test_every_level_is_roi_pooling(levels):
    features, rois = feature_map(1, 13, 17), rois_on(2, 13, 17)
    pool = SpatialPyramidPool(levels)
    found = np.asarray(pool(features, rois))
    assert found.shape == (*rois.shape[:2], sum(side * side for side in levels), CHANNELS)
    assert pool.compute_output_shape(features.shape, rois.shape) == found.shape
    start = 0
    for side in levels:
        wanted = reference.roi_pool(features, rois, side, 16)[0].reshape(*rois.shape[:2], side * side, CHANNELS)
        np.testing.assert_array_equal(found[:, :, start : start + side * side], wanted)
        start += side * side
    again = SpatialPyramidPool.from_config(pool.get_config())
    np.testing.assert_array_equal(again(features, rois), found)


def test_levels_fall():
    for levels in ((), (1, 2), (3, 3), (2, 0)):
        with pytest.raises(ValueError, match="the finest first"):
            SpatialPyramidPool(levels)


def hidden(seed=0):
    """Flatten, two dense layers and dropout, as VGG's."""
    keras.utils.set_random_seed(seed)
    pooled = keras.Input((4, 4, 3), name="pooled")
    x = keras.layers.Dense(10, "relu", bias_initializer="ones", name="fc6")(keras.layers.Flatten()(pooled))
    x = keras.layers.Dense(6, "tanh", name="fc7")(keras.layers.Dropout(0.5, name="drop6")(x))
    return keras.Model(pooled, x, name="body")


def test_the_body_is_one_dense_layer_on_all_bins():
    body, rng = hidden(), np.random.default_rng(0)
    made = pyramid_body(body, LEVELS)
    assert {layer.name for layer in made.layers} >= {"fc6", "fc6_pyramid", "drop6", "fc7"}
    assert made.get_layer("fc6").kernel.shape == body.get_layer("fc6").kernel.shape
    for name in ("fc6", "fc7"):
        made.get_layer(name).set_weights(body.get_layer(name).get_weights())
    bins = rng.normal(size=(5, 21, 3)).astype("float32")
    np.testing.assert_allclose(made(bins), body(bins[:, :16].reshape(5, 4, 4, 3)), atol=1e-6)

    coarse = rng.normal(size=(15, 10)).astype("float32")
    made.get_layer("fc6_pyramid").kernel.assign(coarse)
    kernel = np.concatenate([np.asarray(body.get_layer("fc6").kernel), coarse])
    x = np.maximum(bins.reshape(5, -1) @ kernel + np.asarray(body.get_layer("fc6").bias), 0)
    wanted = np.tanh(x @ np.asarray(body.get_layer("fc7").kernel) + np.asarray(body.get_layer("fc7").bias))
    np.testing.assert_allclose(made(bins), wanted, atol=1e-5)


def test_bodies_that_are_not_dense_are_refused():
    pooled = keras.Input((4, 4, 3), name="pooled")
    convolutions = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(pooled))
    with pytest.raises(ValueError, match="head='fc'"):
        pyramid_body(keras.Model(pooled, convolutions), LEVELS)
    with pytest.raises(ValueError, match="4 bins a side"):
        pyramid_body(hidden(), (6, 3, 2, 1))


def test_training_moves_dense_layers_and_no_convolution():
    x, y = batch()
    model = tiny_spp()
    model.measure_targets([(x, y)])
    moved = trained(model, x, y)
    fixed = {path for path in moved if path.startswith("conv") or "/box_" in path}
    assert len(fixed) == 10
    assert {path for path, by in moved.items() if by == 0.0} == fixed
    assert any("fc_pyramid" in path for path in moved), "the coarser levels are learnt"


@pytest.mark.parametrize("options", [{}, {"scales": (64, 96), "long": 160}])
def test_only_the_pooling_differs_from_fast_rcnn(options):
    """With the coarser levels at zero it is the Fast R-CNN of the same weights; with weights there it is not."""
    x, _ = batch()
    fast, scales = decisive(tiny_fast(**options)), {key: options[key] for key in options if key == "scales"}
    config = {**fast.get_config(), "pool_size": LEVELS}
    config["body"] = keras.saving.serialize_keras_object(pyramid_body(fast.head.body, LEVELS))
    model = SPPNet.from_config(config)
    assert model.scales == scales.get("scales", ())
    weights, own = weight_names(fast), weight_names(model)
    assert own.keys() - weights.keys() == {"fc_pyramid/kernel"}
    for name, weight in weights.items():
        own[name].assign(weight)
    found, wanted = model(x), fast(x)
    assert (np.asarray(found["num_detections"]) > 3).all()
    np.testing.assert_allclose(found["boxes"], wanted["boxes"], atol=1e-3)
    layer = model.head.body.get_layer("fc_pyramid")
    layer.kernel.assign(np.random.default_rng(0).normal(0, 0.1, layer.kernel.shape))
    assert abs(np.asarray(model(x)["scores"]) - np.asarray(wanted["scores"])).max() > 0.01


def test_saved_and_loaded_with_machines(tmp_path):
    from test_svm import Marked, Near

    data = Marked()
    model = decisive(tiny_spp(data.classes, score_threshold=0.0))
    image, boxes = data.image(1), Near().boxes(data.sample(1), data.image(1))
    with uncompiled():
        made = train_svms(model, data, Near(), mirrored=False)
        found = made.detect(image, proposals=boxes, score_threshold=0.0)
        made.save(tmp_path / "m.keras")
        loaded = keras.saving.load_model(tmp_path / "m.keras")
        again = loaded.detect(image, proposals=boxes, score_threshold=0.0)
    assert len(found) > 0
    assert isinstance(loaded, SPPNet)
    assert not any("conv" in weight.path for weight in loaded.trainable_weights)
    np.testing.assert_array_equal(again.boxes, found.boxes)


def test_it_is_compressed_like_any_other():
    model = tiny_spp()
    small = compress(model, {"fc": 8, "fc_pyramid": 4})
    assert small.zoo_meta.options["ranks"] == {"fc": 8, "fc_pyramid": 4}
    x, _ = batch()
    assert np.asarray(small(x)["boxes"]).shape == (2, 20, 4)
