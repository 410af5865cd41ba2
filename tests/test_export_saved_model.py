"""A SavedModel detects what the Keras model detects, in any process, and serves broken pictures a status."""

import io
import json

import numpy as np
import pytest
import tensorflow as tf
from export_helpers import decided_detector, picture, run_alone, tiny_classifier
from PIL import Image
from serving_stand_in import Servable

import zoo
from zoo.export import ExportError
from zoo.export.warmup import FILE

SIZES = ((90, 120), (120, 90), (70, 70))


@pytest.fixture(scope="module")
def detector():
    return decided_detector()


@pytest.fixture(scope="module")
def exported(detector, tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "tiny"
    return zoo.export.saved_model(detector, path, images=[picture(*size) for size in SIZES])


def encoded(image, kind):
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()


def test_the_report_tells_that_it_was_compared(exported):
    report = json.loads(exported.report_path.read_text())
    assert report == json.loads(json.dumps(exported.report))
    assert report["ok"]
    assert report["runtime"] == f"tensorflow {tf.__version__}"
    assert [entry["size"] for entry in report["images"]] == [list(size) for size in SIZES]
    assert all(entry["expected"] == entry["matched"] > 3 for entry in report["images"])
    assert report["worst_box"] < 0.5


def test_it_needs_nothing_of_this_package(detector, exported, tmp_path):
    image = picture(77, 101, seed=5)
    code = f"""
import tensorflow as tf
loaded = tf.saved_model.load({str(exported.path)!r})
images = given["images"]
both = loaded.signatures["serving_default"](images=tf.constant(images))
results = {{"both." + k: v.numpy() for k, v in both.items()}}
floats = loaded.signatures["serving_float"](images=tf.constant(images[:1], tf.float32))
results |= {{"floats." + k: v.numpy() for k, v in floats.items()}}
features = loaded.signatures["features"](images=tf.constant(images))
results |= {{"features." + k: v.numpy() for k, v in features.items()}}
results["json"] = loaded.signatures["metadata"](query=tf.constant([""]))["json"].numpy()[0].decode()
"""
    found = run_alone(code, tmp_path, ("zoo", "keras"), images=np.stack([image, image[::-1]]))
    expected = {name: np.asarray(value) for name, value in detector(np.stack([image, image[::-1]])).items()}
    assert expected["num_detections"].min() > 3
    for name, value in expected.items():
        np.testing.assert_allclose(found[f"both.{name}"], value, atol=1e-3)
        np.testing.assert_allclose(found[f"floats.{name}"], value[:1], atol=1e-3)
    prepared, sizes, _ = detector.preprocessing(np.stack([image, image[::-1]]))
    np.testing.assert_allclose(found["features.features"], detector.extractor(prepared), atol=1e-4)
    np.testing.assert_array_equal(found["features.prepared_sizes"], sizes)
    metadata = json.loads(str(found["json"]))
    assert metadata["classes"] == ["a", "b"]
    assert metadata["preprocessing"]["short"] == 160
    assert metadata["postprocessing"]["score_threshold"] == detector.score_threshold


def test_pictures_of_mixed_sizes_and_a_broken_one_in_a_batch(detector, exported):
    images = [picture(*size, seed=3) for size in SIZES]
    data = [encoded(images[0], "PNG"), b"no picture", encoded(images[1], "PNG"), encoded(images[2], "PNG")[:200]]
    data.append(encoded(images[2], "JPEG"))
    serve = tf.saved_model.load(str(exported.path)).signatures["serve_encoded"]
    found = {name: value.numpy() for name, value in serve(image_bytes=tf.constant(data)).items()}
    assert found["status"].tolist() == [0, 1, 0, 1, 0]
    assert [bool(text) for text in found["error"]] == [False, True, False, True, False]
    assert found["sizes"].tolist() == [[90, 120], [0, 0], [120, 90], [0, 0], [70, 70]]
    for row in (1, 3):
        assert found["num_detections"][row] == 0
        assert not found["boxes"][row].any()
        assert (found["classes"][row] == -1).all()
    for row, image in ((0, images[0]), (2, images[1])):
        expected = detector(image[None])
        assert int(expected["num_detections"][0]) > 3
        for name in expected:
            np.testing.assert_allclose(found[name][row], expected[name][0], atol=1e-3)
    assert found["num_detections"][4] > 0


def test_versions_count_up_and_older_ones_stay(tmp_path, monkeypatch):
    """And a failed export leaves nothing behind."""
    model, folder = tiny_classifier(), tmp_path / "kinds"
    first, second = (zoo.export.saved_model(model, folder) for _ in range(2))
    assert (first.path, second.path) == (folder / "1", folder / "2")
    with pytest.raises(ExportError, match="is itself an artifact"):
        zoo.export.saved_model(model, first.path)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}

    def fail(*_):
        raise RuntimeError("the disk is full")

    monkeypatch.setattr("zoo.export.to_saved_model.write_warmup", fail)
    with pytest.raises(RuntimeError):
        zoo.export.saved_model(model, folder, version=1)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2"]


def test_one_size_only(detector, tmp_path):
    image = picture(96, 64)
    exported = zoo.export.saved_model(detector, tmp_path / "fixed", size=(96, 64), images=[image])
    assert exported.report["images"][0]["matched"] > 3
    loaded = tf.saved_model.load(str(exported.path))
    data = [encoded(image, "PNG"), encoded(picture(64, 96), "PNG")]
    assert loaded.signatures["serve_encoded"](image_bytes=tf.constant(data))["status"].numpy().tolist() == [0, 3]
    with pytest.raises(ValueError, match="64 x 96"):
        zoo.export.check_parity(detector, exported.path, [picture(64, 96)])


def test_classifiers(tmp_path):
    model = tiny_classifier()
    exported = zoo.export.saved_model(model, tmp_path / "classifier")
    assert exported.report["ok"]
    assert exported.report["worst_score"] < 1e-3
    serve = tf.saved_model.load(str(exported.path)).signatures["serve_encoded"]
    image = picture(32, 32)
    found = serve(image_bytes=tf.constant([encoded(image, "PNG"), b""]))
    probabilities = np.asarray(model(image[None].astype("float32")))[0]
    np.testing.assert_allclose(found["probabilities"][0], probabilities, atol=1e-5)
    assert found["classes"][0, 0] == probabilities.argmax()
    assert found["status"].numpy().tolist() == [0, 1]
    assert not found["probabilities"][1].numpy().any()


def warm_up(folder):
    """Read and run the warm-up requests as TensorFlow Serving does; gives their signatures and results."""
    logs = pytest.importorskip(
        "tensorflow_serving.apis.prediction_log_pb2", reason="tensorflow-serving-api is not installed"
    )
    model = Servable(folder)
    for record in tf.data.TFRecordDataset(str(folder / "assets.extra" / FILE)):
        log = logs.PredictionLog.FromString(record.numpy())
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        yield request.model_spec, inputs, model.run(request.model_spec.signature_name, inputs)


def test_warm_up_requests_are_what_the_server_reads(exported):
    seen = []
    for spec, _, found in warm_up(exported.path):
        assert spec.name == "tiny"
        assert set(found) >= ({"features"} if spec.signature_name == "features" else {"boxes", "num_detections"})
        seen.append(spec.signature_name)
    assert seen == ["serving_default", "serving_float", "serve_encoded", "features"]


def test_every_signature_can_be_batched(detector, exported):
    """TensorFlow Serving joins requests along the first axis of their inputs, and cuts the outputs along theirs."""
    model = Servable(exported.path)
    image = picture(80, 60, seed=2)
    data = [encoded(image, "PNG"), b"", encoded(picture(50, 90), "JPEG")]
    inputs = {
        "serving_default": ("images", np.stack([image] * 3)),
        "serving_float": ("images", np.stack([image] * 3).astype(np.float32)),
        "serve_encoded": ("image_bytes", np.array(data, object)),
        "features": ("images", np.stack([image] * 3)),
        "metadata": ("query", np.array([b"", b"a", b"b"], object)),
    }
    assert set(inputs) == set(exported_signatures(model))
    for name, (key, value) in inputs.items():
        assert all(len(found) == 3 for found in model.run(name, {key: value}).values()), name
    # An empty batch has its uses too: nothing is computed, nothing fails.
    found = model.run("serve_encoded", {"image_bytes": np.array([], object)})
    assert {len(value) for value in found.values()} == {0}


def exported_signatures(model):
    """Without what TensorFlow adds itself."""
    return [name for name in model.signatures if not name.startswith("__")]


def test_the_metadata_explain_every_signature(exported):
    (told,) = Servable(exported.path).run("metadata", {"query": np.array([b"?"], object)})["json"]
    metadata = json.loads(told)
    assert metadata == json.loads((exported.path / "assets.extra" / "zoo.json").read_text())
    assert set(metadata["signatures"]) == set(exported_signatures(Servable(exported.path)))
    assert metadata["status"]["0"] == "good"
    assert "many pixels" in metadata["status"]["2"]
    assert (exported.path / "assets.extra" / "labels.txt").read_text() == "a\nb\n"


def test_images_as_floats_and_a_limit_of_pixels(detector, tmp_path):
    image = picture(60, 80)
    exported = zoo.export.saved_model(
        detector, tmp_path / "floats", dtype="float32", max_pixels=60 * 80, images=[image]
    )
    assert exported.report["images"][0]["matched"] > 3
    for spec, inputs, _ in warm_up(exported.path):
        if "images" in inputs:
            assert inputs["images"].dtype == np.float32, spec.signature_name
    model = Servable(exported.path)
    data = [encoded(image, "PNG"), encoded(picture(60, 81), "PNG"), encoded(picture(60, 81), "JPEG")]
    found = model.run("serve_encoded", {"image_bytes": np.array(data, object)})
    assert found["status"].tolist() == [0, 2, 2]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"version": 0}, "counts versions from 1"),
        ({"dtype": "int8"}, "'uint8' or 'float32'"),
        ({"max_pixels": 0}, "largest picture"),
    ],
)
def test_options_that_mean_nothing(options, told, detector, tmp_path):
    with pytest.raises(ExportError, match=told):
        zoo.export.saved_model(detector, tmp_path / "model", **options)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported(tmp_path):
    import keras

    images = keras.Input((None, None, 3))
    mapper = keras.Model(images, keras.layers.Conv2D(4, 3)(images), name="mapper")
    with pytest.raises(ExportError, match="mapper is neither a detector"):
        zoo.export.saved_model(mapper, tmp_path / "mapper")
    assert not list(tmp_path.iterdir())
