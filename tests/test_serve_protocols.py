"""Both protocols on every address, with an artifact whose answers are known."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from serve_fakes import MOST, FakeArtifact, expected, served


@pytest.fixture(scope="module")
def client():
    with served(FakeArtifact()) as found:
        yield found


def pixels(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image, kind="PNG", **more):
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **more)
    return {"b64": base64.b64encode(file.getvalue()).decode()}


def same(found, image):
    for name, value in expected(image).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, err_msg=name)


def test_status_and_metadata_as_tensorflow_serving_tells_them(client):
    good = {"error_code": "OK", "error_message": ""}
    for path in ("v1/models/fake-net", "v1/models/fake-net/versions/1"):
        assert client.get(path).json() == {
            "model_version_status": [{"version": "1", "state": "AVAILABLE", "status": good}]
        }
    found = client.get("v1/models/fake-net/metadata").json()
    assert found["model_spec"] == {"name": "fake-net", "signature_name": "", "version": "1"}
    signatures = found["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) == {"serving_default", "serve_encoded", "metadata"}
    images = signatures["serving_default"]["inputs"]["images"]
    assert images["dtype"] == "DT_UINT8"
    assert [side["size"] for side in images["tensor_shape"]["dim"]] == ["-1", "-1", "-1", "3"]
    boxes = signatures["serve_encoded"]["outputs"]["boxes"]
    assert boxes["dtype"] == "DT_FLOAT"
    assert [side["size"] for side in boxes["tensor_shape"]["dim"]] == ["-1", str(MOST), "4"]
    assert signatures["serve_encoded"]["inputs"]["image_bytes"]["dtype"] == "DT_STRING"


def test_rows_of_numbers_and_files_of_any_sizes(client):
    images = [pixels(20, 30), pixels(20, 30, 1), pixels(31, 17, 2)]
    rows = [images[0].tolist(), encoded(images[1]), {"images": images[2].tolist()}]
    answer = client.predict({"instances": rows})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()["predictions"]
    assert len(found) == 3
    for row, image in zip(found, images, strict=True):
        assert set(row) == {"boxes", "scores", "classes", "num_detections"}
        same(row, image)


@pytest.mark.parametrize("name", ["images", "image_bytes", None])
def test_columns(client, name):
    images = [pixels(9, 8), pixels(9, 8, 1)]
    column = [image.tolist() if name == "images" else encoded(image) for image in images]
    found = client.predict({"inputs": column if name is None else {name: column}}).json()["outputs"]
    for i, image in enumerate(images):
        same({key: value[i] for key, value in found.items()}, image)


def test_serve_encoded_answers_the_good_pictures_and_tells_of_the_bad(client):
    image = pixels(12, 10)
    damaged = {"b64": encoded(pixels(40, 40))["b64"][:400]}
    rows = [{"b64": "bm8gcGljdHVyZQ=="}, encoded(image), {"image_bytes": damaged}]
    answer = client.predict({"signature_name": "serve_encoded", "instances": rows})
    assert answer.status_code == 200
    bad, good, cut = answer.json()["predictions"]
    same(good, image)
    assert (good["status"], good["error"], good["sizes"]) == (0, "", [12, 10])
    assert (bad["status"], bad["sizes"], bad["num_detections"]) == (1, [0, 0], 0)
    assert "not an image" in bad["error"]
    assert set(bad["classes"]) == {-1}
    assert "damaged" in cut["error"] or "truncated" in cut["error"]
    # Without any good picture there is nothing to answer.
    answer = client.predict({"signature_name": "serve_encoded", "instances": [rows[0]]})
    assert answer.status_code == 400
    assert "not an image" in answer.json()["error"]


def test_the_signature_metadata(client):
    for body, key in (({"instances": ["", ""]}, "predictions"), ({"inputs": {"query": ["", ""]}}, "outputs")):
        found = client.predict({"signature_name": "metadata", **body}).json()[key]
        assert [json.loads(text)["classes"] for text in found] == [["dark", "bright"]] * 2


def test_pictures_are_turned_upright_as_detect_does(client):
    image = np.zeros((16, 32, 3), np.uint8)
    image[2:6, 4:9] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter to the right
    picture = encoded(image, "PNG", exif=exif)
    found = client.predict({"signature_name": "serve_encoded", "instances": [picture]}).json()["predictions"][0]
    assert found["sizes"] == [32, 16]
    same(found, np.rot90(image, -1))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "BMP"])
def test_other_kinds_of_pictures(client, kind):
    image = np.full((24, 24, 3), 200, np.uint8)
    found = client.predict({"instances": [encoded(image, kind)]}).json()["predictions"][0]
    assert found["scores"][0] == pytest.approx(200 / 255, abs=0.02)


def test_health_and_metadata_of_the_open_inference_protocol(client):
    assert client.get("v2").json()["name"] == "zoo"
    assert client.get("v2").json()["extensions"] == []
    assert client.get("v2/health/live").json()["live"] is True
    assert client.get("v2/health/ready").status_code == 200
    assert client.get("v2/models/fake-net/ready").json() == {"name": "fake-net", "ready": True}
    found = client.get("v2/models/fake-net/versions/1").json()
    assert (found["name"], found["versions"], found["platform"]) == ("fake-net", ["1"], "onnx_onnxv1")
    assert found["inputs"] == [
        {"name": "images", "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
        {"name": "image_bytes", "datatype": "BYTES", "shape": [-1]},
    ]
    assert found["outputs"] == [
        {"name": "boxes", "datatype": "FP32", "shape": [-1, MOST, 4]},
        {"name": "scores", "datatype": "FP32", "shape": [-1, MOST]},
        {"name": "classes", "datatype": "INT32", "shape": [-1, MOST]},
        {"name": "num_detections", "datatype": "INT32", "shape": [-1]},
    ]
    assert found["parameters"]["classes"] == ["dark", "bright"]


@pytest.mark.parametrize("flat", [True, False])
def test_infer_with_numbers(client, flat):
    images = np.stack([pixels(6, 7), pixels(6, 7, 1)])
    data = images.ravel().tolist() if flat else images.tolist()
    tensor = {"name": "images", "shape": [2, 6, 7, 3], "datatype": "UINT8", "data": data}
    answer = client.infer({"id": "ask-1", "inputs": [tensor]})
    assert answer.status_code == 200
    found = answer.json()
    assert (found["model_name"], found["model_version"], found["id"]) == ("fake-net", "1", "ask-1")
    assert [(each["name"], each["datatype"], each["shape"]) for each in found["outputs"]] == [
        ("boxes", "FP32", [2, MOST, 4]),
        ("scores", "FP32", [2, MOST]),
        ("classes", "INT32", [2, MOST]),
        ("num_detections", "INT32", [2]),
    ]
    arrays = {each["name"]: np.reshape(each["data"], each["shape"]) for each in found["outputs"]}
    for i, image in enumerate(images):
        same({name: value[i] for name, value in arrays.items()}, image)


def test_infer_with_files_and_chosen_outputs(client):
    images = [pixels(5, 9), pixels(11, 4)]
    data = [encoded(image)["b64"] for image in images]
    tensor = {"name": "image_bytes", "shape": [2], "datatype": "BYTES", "data": data}
    found = client.infer({"inputs": [tensor], "outputs": [{"name": "scores"}]}).json()
    assert "id" not in found
    (scores,) = found["outputs"]
    assert scores["shape"] == [2, MOST]
    np.testing.assert_allclose(np.reshape(scores["data"], (2, MOST))[:, 0], [x[..., 0].mean() / 255 for x in images])


def test_an_artifact_of_floats_and_of_one_size():
    artifact = FakeArtifact(size=(8, 6), dtype="float32")
    with served(artifact) as client:
        assert client.get("v2/models/fake-net").json()["inputs"][0] == {
            "name": "images", "datatype": "FP32", "shape": [-1, 8, 6, 3],
        }  # fmt: skip
        image = pixels(8, 6).astype(np.float32) / 2
        tensor = {"name": "images", "shape": [1, 8, 6, 3], "datatype": "FP32", "data": image.ravel().tolist()}
        outputs = {each["name"]: each["data"] for each in client.infer({"inputs": [tensor]}).json()["outputs"]}
        assert outputs["scores"][0] == pytest.approx(image[..., 0].mean() / 255, rel=1e-6)
        same(client.predict({"instances": [encoded(pixels(8, 6))]}).json()["predictions"][0], pixels(8, 6))
        answer = client.predict({"instances": [encoded(pixels(6, 8))]})
        assert answer.status_code == 400
        assert "exported for 6 x 8" in answer.json()["error"]
        rows = [encoded(pixels(6, 8)), encoded(pixels(8, 6))]
        found = client.predict({"signature_name": "serve_encoded", "instances": rows}).json()["predictions"]
        assert [row["status"] for row in found] == [3, 0]


def test_metrics_count_what_happened(client):
    client.predict({"instances": [encoded(pixels(9, 9))]})
    client.predict({"instances": "nothing"})
    text = client.get("metrics").text
    assert 'zoo_requests_total{api="tensorflow_serving",status="200"}' in text
    assert 'zoo_requests_total{api="tensorflow_serving",status="400"}' in text
    assert client.metric("zoo_batch_images_sum") >= client.metric("zoo_batch_images_count") > 0
    assert client.metric("zoo_requests_in_progress") == 0
    assert client.metric("process_resident_memory_bytes") > 1e7
