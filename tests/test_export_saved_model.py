"""A SavedModel detects what the Keras model detects, in any process, and serves broken pictures a status."""

import io
import json

import numpy as np
import pytest
import tensorflow as tf
from export_helpers import decided_detector, picture, run_alone, tiny_classifier
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from PIL import Image
from tensorflow.core.framework import tensor_pb2

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
results["json"] = loaded.signatures["metadata"]()["json"].numpy().decode()
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
    assert metadata["preprocessing"]["short"] == 64
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


def test_versions_count_up_and_older_ones_stay(detector, exported, monkeypatch):
    """And a failed export leaves nothing behind."""
    folder = exported.path.parent
    second = zoo.export.saved_model(detector, folder, images=[picture(64, 80)])
    assert second.path == folder / "2"
    with pytest.raises(ExportError, match="is itself an artifact"):
        zoo.export.saved_model(detector, exported.path)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}

    def fail(*_):
        raise RuntimeError("the disk is full")

    monkeypatch.setattr("zoo.export.to_saved_model.write_warmup", fail)
    with pytest.raises(RuntimeError):
        zoo.export.saved_model(detector, folder, version=1)
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


def prediction_logs():
    """TensorFlow Serving's messages, as far as they are written here, from their published definitions."""
    file = descriptor_pb2.FileDescriptorProto(name="warmup.proto", package="warmup", syntax="proto3")
    file.dependency.append("tensorflow/core/framework/tensor.proto")
    kinds = {
        "ModelSpec": [("name", 1, "string", None), ("signature_name", 3, "string", None)],
        "Entry": [("key", 1, "string", None), ("value", 2, "message", ".tensorflow.TensorProto")],
        "PredictRequest": [("model_spec", 1, "message", ".warmup.ModelSpec"), ("inputs", 2, "list", ".warmup.Entry")],
        "PredictLog": [("request", 1, "message", ".warmup.PredictRequest")],
        "PredictionLog": [("predict_log", 6, "message", ".warmup.PredictLog")],
    }
    types = {"string": 9, "message": 11, "list": 11}
    for name, fields in kinds.items():
        message = file.message_type.add(name=name)
        for field, number, kind, of in fields:
            added = message.field.add(name=field, number=number, type=types[kind], label=3 if kind == "list" else 1)
            if of:
                added.type_name = of
    pool = descriptor_pool.Default()
    assert tensor_pb2.DESCRIPTOR.name in file.dependency
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("warmup.PredictionLog"))


def test_warm_up_requests_are_what_the_server_reads(exported):
    kind = prediction_logs()
    file = exported.path / "assets.extra" / FILE
    loaded = tf.saved_model.load(str(exported.path))
    seen = []
    for record in tf.data.TFRecordDataset(str(file)):
        request = kind.FromString(record.numpy()).predict_log.request
        assert request.model_spec.name == "tiny"
        signature = request.model_spec.signature_name
        inputs = {entry.key: tf.constant(tf.make_ndarray(entry.value)) for entry in request.inputs}
        found = loaded.signatures[signature](**inputs)
        assert set(found) >= ({"features"} if signature == "features" else {"boxes", "num_detections"})
        seen.append(signature)
    assert seen == ["serving_default", "serving_float", "serve_encoded", "features"]


def test_what_cannot_be_exported(tmp_path):
    import keras

    images = keras.Input((None, None, 3))
    mapper = keras.Model(images, keras.layers.Conv2D(4, 3)(images), name="mapper")
    with pytest.raises(ExportError, match="mapper is neither a detector"):
        zoo.export.saved_model(mapper, tmp_path / "mapper")
    assert not list(tmp_path.iterdir())
