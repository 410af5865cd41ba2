"""The same detector on JAX: one process does everything (jax_run.py), the tests compare what it saved."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import reference
from tiny import tiny_detector, tiny_fast, under_conventions

from zoo.detectors.preprocessing import Preprocessing

pytestmark = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")


def inputs():
    rng = np.random.default_rng(0)
    features = np.round(2 * rng.normal(size=(2, 13, 17, 4))).astype("float32")
    features[..., 0] = np.maximum(features[..., 0], 0)
    features[..., 1] = rng.choice(np.array([-0.0, 0.0], "float32"), features.shape[:3])
    rois = rng.uniform(-60, 330, (2, 20, 4)).astype("float32")
    rois[:, ::2] = np.round(rois[:, ::2] / 8) * 8
    rois[:, 0] = [0, 0, 17 * 16, 13 * 16]
    boxes = np.stack([reference.random_boxes(rng, 40, 40, 40, whole=True) for _ in range(6)])
    scores = np.sort(rng.integers(0, 8, (6, 40)) / 8, axis=1)[:, ::-1].astype("float32")
    scores[0, 25:] = -1
    images = rng.integers(0, 256, (4, 64, 96, 3)).astype("uint8")
    truth_boxes = np.zeros((4, 3, 4), "float32")
    truth_boxes[:, 0] = [[8, 8, 40, 40], [10, 20, 30, 36], [0, 0, 0, 0], [20, 30, 52, 60]]
    truth_boxes[:, 1] = [[50, 10, 80, 50]] * 4
    return {
        "ids": np.array([0, 5, 2**31 - 1], "int32"),
        "features": features,
        "rois": rois,
        "rois_inside": np.clip(rois, 0, [272, 208, 272, 208]).astype("float32"),
        "upstream": rng.normal(size=(2, 20, 7, 7, 4)).astype("float32"),
        "boxes": boxes,
        "scores": scores,
        "images": images,
        "sizes": np.array([[64, 96], [64, 96], [50, 80], [64, 70]], "int32"),
        "image_id": np.arange(4, dtype="int32"),
        "truth_boxes": truth_boxes,
        "proposals": np.concatenate(
            [np.repeat(truth_boxes, 8, axis=1) + np.arange(24)[:, None] % 8, boxes[:4]], axis=1
        ),
        "num_proposals": np.array([64, 60, 64, 64], "int32"),
        "truth_classes": np.array([[0, 1, -1], [1, 1, -1], [-1, -1, -1], [0, 1, -1]], "int32"),
    }


@pytest.fixture(scope="module")
def model():
    model = tiny_detector()
    # New layers give all boxes nearly the same score, which any rounding reorders.
    for layer in (model.rpn.score, model.rpn.loc, model.head.score, model.head.loc):
        layer.kernel.assign(layer.kernel * 30)
    return model


@pytest.fixture(scope="module")
def fast():
    """At two scales, with statistics of its own, under the release's boxes."""
    model = tiny_fast(scales=(64, 96), long=160, convention="fast-rcnn", score_threshold=0.01)
    rng = np.random.default_rng(4)
    for layer in (model.head.score, model.head.loc):
        layer.kernel.assign(rng.normal(0, 0.5, layer.kernel.shape))
    model.set_target_statistics(rng.normal(0, 0.1, (2, 4)), rng.uniform(0.1, 0.3, (2, 4)), new=True)
    return model


@pytest.fixture(scope="module")
def given():
    return inputs()


@pytest.fixture(scope="module")
def saved(model, fast, given, tmp_path_factory):
    folder = tmp_path_factory.mktemp("jax")
    model.save(folder / "model.keras")
    fast.save(folder / "fast.keras")
    np.savez(folder / "inputs.npz", **given)
    names = [str(folder / name) for name in ("model.keras", "fast.keras", "inputs.npz", "outputs.npz")]
    script = Path(__file__).with_name("jax_run.py")
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    # Compiling is most of the work here, and the numbers are small: do not optimise machine code.
    environment["XLA_FLAGS"] = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    done = subprocess.run([sys.executable, script, *names], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(np.load(folder / "outputs.npz"))


def test_sampling(saved, given):
    expected = [reference.uniform(int(i), 7, 1000, 2) for i in given["ids"]]
    np.testing.assert_array_equal(saved["uniform"], np.array(expected, "float32"))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("clipped", [False, True])
def test_roi_pooling(saved, given, clipped, training):
    rois = given["rois_inside" if clipped else "rois"]
    pooled, back = reference.roi_pool(given["features"], rois, 7, 16, given["upstream"])
    np.testing.assert_array_equal(saved[f"pooled_{clipped}_{training}"], pooled)
    gradient = saved[f"gradient_{clipped}_{training}"]
    if training:
        np.testing.assert_allclose(gradient, back, rtol=1e-5, atol=1e-5)
    else:
        # Equal cells share the gradient there: the same in sum.
        np.testing.assert_allclose(gradient.sum((1, 2)), back.sum((1, 2)), rtol=1e-3, atol=1e-3)


def test_nms(saved, given):
    for i in range(6):
        kept = reference.greedy_nms(given["boxes"][i], given["scores"][i], 0.5, 12)
        assert saved["nms_index"][i][saved["nms_valid"][i]].tolist() == kept


def test_preprocessing(saved, given):
    layer = Preprocessing(60, 100)
    prepared, sizes, _ = layer(given["images"][:1])
    np.testing.assert_allclose(saved["prepared"], prepared, atol=1e-3)
    np.testing.assert_array_equal(saved["prepared_sizes"], sizes)
    padded, sizes, _ = map(np.asarray, layer(given["images"], given["sizes"]))
    np.testing.assert_array_equal(saved["padded_sizes"], sizes)
    # The canvas is the largest any image can need, since compiled shapes cannot wait for the sizes.
    assert saved["padded"].shape == (4, 100, 100, 3)
    rows, columns = padded.shape[1:3]
    np.testing.assert_allclose(saved["padded"][:, :rows, :columns], padded, atol=1e-3)
    assert not saved["padded"][:, rows:].any()
    assert not saved["padded"][:, :, columns:].any()


def compare(saved, prefix, found):
    count = np.asarray(found["num_detections"])
    assert (count > 3).all()
    np.testing.assert_array_equal(saved[f"{prefix}_num_detections"], count)
    np.testing.assert_array_equal(saved[f"{prefix}_classes"], found["classes"])
    np.testing.assert_allclose(saved[f"{prefix}_scores"], found["scores"], atol=1e-3)
    np.testing.assert_allclose(saved[f"{prefix}_boxes"], found["boxes"], atol=1e-3 * 96)


@pytest.mark.parametrize("i", [0, 1])
def test_a_saved_detector_finds_the_same(saved, model, given, i):
    compare(saved, f"found_{i}", model(given["images"][i : i + 1]))


def test_the_references_conventions_are_the_same(saved, model, given):
    other = under_conventions(model)
    compare(saved, "found_other", other({"images": given["images"], "sizes": given["sizes"]}))


def test_the_loss_is_the_same(saved, model, given):
    x = {"images": given["images"], "image_id": given["image_id"]}
    y = {"boxes": given["truth_boxes"], "classes": given["truth_classes"]}
    model.reset_metrics()
    loss = model.compute_loss(x=x, y=y, y_pred=model(x, training=True), training=True)
    # The same anchors and RoIs are sampled, so nothing but rounding is left.
    np.testing.assert_allclose(saved["fit_loss"][0], loss, rtol=1e-4)
    for name, tracker in model.trackers.items():
        np.testing.assert_allclose(saved[f"fit_{name}"][0], tracker.result(), rtol=1e-4)


def test_fit(saved):
    losses = saved["fit_loss"]
    assert len(losses) == 4
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    assert saved["step"] == 4
    assert np.isfinite(saved["validation"]).all()


def test_a_fast_rcnn_finds_the_same_and_has_the_same_loss(saved, fast, given):
    x = {key: given[key] for key in ("images", "image_id", "proposals", "num_proposals")}
    y = {"boxes": given["truth_boxes"], "classes": given["truth_classes"]}
    compare(saved, "found_fast", fast(x))
    fast.reset_metrics()
    loss = fast.compute_loss(x=x, y=y, y_pred=fast(x, training=True), training=True)
    np.testing.assert_allclose(saved["fast_loss"][0], loss, rtol=1e-4)
    for name, tracker in fast.trackers.items():
        np.testing.assert_allclose(saved[f"fast_{name}"][0], tracker.result(), rtol=1e-4)
    assert saved["fast_loss"][1] < saved["fast_loss"][0]
