"""SPPnet and R-CNN as artifacts: bins of a pyramid, and crops of a picture, inside."""

import numpy as np
import pytest
import tensorflow as tf
from export_helpers import picture
from tiny_baselines import decisive, tiny_rcnn, tiny_spp

import zoo

SIZES = ((90, 120), (70, 60))
IMAGES = [picture(*size, seed=4) for size in SIZES]
MODELS = {"sppnet": tiny_spp, "rcnn": tiny_rcnn}
FILES = {"saved_model": "versions", "onnx": "model.onnx", "tflite": "model.tflite"}


def boxes(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Boxes (count, 4) anywhere in a picture."""
    rng = np.random.default_rng(seed)
    start = rng.uniform(0, 0.7, (count, 2)) * (width, height)
    end = np.minimum(start + rng.uniform(8, 30, (count, 2)), (width, height))
    return np.concatenate([start, end], axis=1).astype("float32")


GIVEN = [boxes(20, *size) for size in SIZES]


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return decisive(MODELS[request.param](proposals=30, max_detections=12))


@pytest.mark.parametrize("kind", FILES)
def test_it_detects_what_the_model_detects(kind, model, tmp_path):
    exported = getattr(zoo.export, kind)(model, tmp_path / FILES[kind], images=IMAGES, proposals=GIVEN)
    assert all(entry["expected"] == entry["matched"] > 3 for entry in exported.report["images"])
    artifact = zoo.export.open_artifact(exported.path)
    # Another batch, size and number of proposals than it was compared on.
    given = {
        "images": np.stack([picture(64, 101, seed=seed) for seed in (5, 6)]),
        "proposals": np.stack([boxes(9, 64, 101, seed) for seed in (5, 6)]),
    }
    expected, found = model(given), artifact.predict_on_batch(given)
    assert np.asarray(expected["num_detections"]).min() > 3
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=2e-3, err_msg=name)
    if kind != "saved_model":
        return
    # What the network computes: of an R-CNN for each crop, so that it needs the proposals.
    serve = artifact.loaded.signatures["features"]
    wanted = {"images", "proposals"} if model.name == "tiny_rcnn" else {"images"}
    assert set(serve.structured_input_signature[1]) == wanted
    features = serve(**{name: tf.constant(given[name]) for name in wanted})["features"]
    if model.name == "tiny_rcnn":
        crops = model.preprocessing.crops(
            model.preprocessing.colours(given["images"]),
            given["proposals"].reshape(-1, 4),
            np.repeat([0, 1], 9).astype("int32"),
            np.array([[64, 101]] * 2),
        )
        best = tf.reduce_max(model.extractor(crops), (1, 2))
        np.testing.assert_allclose(tf.reduce_max(features, (2, 3)), tf.reshape(best, (2, 9, -1)), rtol=1e-3, atol=1e-5)
