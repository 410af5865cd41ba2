"""Every bad request is answered 4xx with a sentence: no stack trace, no file read."""

import base64
import doctest
import io
import json
import sys
import zlib

import numpy as np
import pytest
from PIL import Image
from serve_fakes import FakeArtifact, served

from zoo.export.serving import bodies, limits

GOOD = np.zeros((4, 5, 3), np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8)


@pytest.fixture(scope="module")
def client():
    with served(FakeArtifact(), max_images=4, max_pixels=1_000_000, room_pixels=2_000_000) as found:
        yield found


def b64(data):
    return {"b64": base64.b64encode(data).decode()}


def encoded(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def png_header(width, height):
    """A PNG of which nothing but the header is there."""

    def chunk(name, data):
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def tensor(**changed):
    good = {"name": "images", "shape": [1, 4, 5, 3], "datatype": "UINT8", "data": GOOD.ravel().tolist()}
    return {"inputs": [{**good, **changed}]}


def refused(answer, status, words):
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    sentence = answer.json()["error"]
    assert words in sentence
    assert len(sentence) < 400
    for sign in ("Traceback", 'File "', ".py"):
        assert sign not in sentence
    return sentence


PREDICT = {
    "neither": ({}, 400, "exactly one"),
    "both": ({"instances": [], "inputs": []}, 400, "exactly one"),
    "unknown key": ({"instances": [], "model": "/etc/passwd"}, 400, "unknown key 'model'"),
    "unknown signature": ({"signature_name": "train", "instances": []}, 400, "no signature 'train'"),
    "no list": ({"instances": {"a": 1}}, 400, "give a list"),
    "nothing": ({"instances": []}, 400, "no image"),
    "a path": ({"instances": ["/etc/passwd"]}, 400, "opens no files"),
    "an address": ({"instances": [{"b64": "http://localhost/a.png"}]}, 400, "is not base64"),
    "a path as base64": ({"instances": [{"b64": "/etc/passwd"}]}, 400, "opens no files"),
    "a path that is base64": ({"instances": [{"b64": "/etc/hosts/a"}]}, 400, "not an image"),
    "a path as file": ({"instances": [{"path": "/etc/passwd"}]}, 400, "an object with ['path']"),
    "a path in serve_encoded": ({"signature_name": "serve_encoded", "instances": ["/etc/passwd"]}, 400, "no files"),
    "numbers in serve_encoded": ({"signature_name": "serve_encoded", "instances": [[[[1, 2, 3]]]]}, 400, "is a list"),
    "text as bytes": ({"instances": [b64(b"not an image")]}, 400, "looks like text"),
    "a damaged picture": ({"instances": [b64(encoded(NOISE)[:2000])]}, 400, "instances[0]"),
    "no text": ({"instances": [{"b64": 5}]}, 400, "is a number"),
    "an empty picture": ({"instances": [{"b64": ""}]}, 400, "empty"),
    "null": ({"instances": [None]}, 400, "is a null"),
    "a number": ({"instances": [3]}, 400, "is a number"),
    "too flat": ({"instances": [[1, 2, 3]]}, 400, "shape [3]"),
    "gray": ({"instances": [[[[1], [2]]]]}, 400, "shape [1, 2, 1]"),
    "channels first": ({"instances": [np.zeros((3, 4, 5), int).tolist()]}, 400, "[height, width, 3]"),
    "no pixels": ({"instances": [[]]}, 400, "without any pixel"),
    "ragged": ({"instances": [[[[1, 2, 3]], [[1, 2, 3], [4, 5, 6]]]]}, 400, "not all of one length"),
    "fractions": ({"instances": [[[[0.5, 0.5, 0.5]]]]}, 400, "whole numbers"),
    "truth values": ({"instances": [[[[True, False, True]]]]}, 400, "something else than numbers"),
    "words": ({"instances": [[[["a", "b", "c"]]]]}, 400, "something else than numbers"),
    # As an array of text each would take as much room as the longest.
    "a long word": ({"instances": [[["x" * 100_000, *"a" * 50_000]]]}, 400, "something else than numbers"),
    "nulls": ({"instances": [[[[None, 1, 2]]]]}, 400, "something else than numbers"),
    "too large numbers": ({"instances": [[[[0, 0, 256]]]]}, 400, "from 0 to 256"),
    "negative numbers": ({"instances": [[[[0, 0, -1]]]]}, 400, "from -1 to 0"),
    "endless numbers": ({"instances": [[[[0, 0, 10**30]]]]}, 400, "something else than numbers"),
    "too many pixels": ({"instances": [b64(png_header(1100, 1000))]}, 413, "1100 x 1000 pixels"),
    "400 megapixels": ({"instances": [b64(png_header(20_000, 20_000))]}, 413, "1,000,000"),
    "too many images": ({"instances": [b64(encoded(GOOD))] * 5}, 413, "5 images"),
    "too many together": ({"instances": [b64(encoded(np.zeros((900, 900, 3), np.uint8)))] * 3}, 413, "2,430,000"),
    "wrong input": ({"inputs": {"pictures": []}}, 400, "has ['pictures']"),
    "one in columns": ({"inputs": {"b64": "AAAA"}}, 400, "give a list"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "status", "words"), PREDICT.values(), ids=PREDICT)
def test_predict(client, body, status, words):
    refused(client.predict(body), status, words)


INFER = {
    "no inputs": ({}, 400, "'inputs'"),
    "no list": ({"inputs": {"name": "images"}}, 400, "'inputs'"),
    "two": ({"inputs": [{}, {}]}, 400, "one object"),
    "no name": ({"inputs": [{"shape": []}]}, 400, "without 'name'"),
    "no data": ({"inputs": [{"name": "images", "shape": [1], "datatype": "UINT8"}]}, 400, "without 'data'"),
    "another input": (tensor(name="pictures"), 400, "no input 'pictures'"),
    "a name as long as the request": (tensor(name="x" * 100_000), 400, "no input 'xxx"),
    "half a character": (tensor(shape="\ud800"), 400, "whole numbers"),
    "another type": (tensor(datatype="FP32"), 400, "takes UINT8"),
    "a type that is no text": (tensor(datatype=["UINT8"]), 400, "takes UINT8"),
    "another rank": (tensor(shape=[4, 5, 3]), 400, "[batch, height, width, 3]"),
    "a negative side": (tensor(shape=[-1, 4, 5, 3]), 400, "whole numbers"),
    "a fraction": (tensor(shape=[1.0, 4, 5, 3]), 400, "whole numbers"),
    "a shape that is none": (tensor(shape="1x4x5x3"), 400, "whole numbers"),
    "another shape": (tensor(shape=[1, 5, 5, 3]), 400, "its data has shape [60]"),
    "nested otherwise": (tensor(data=np.zeros((1, 5, 4, 3), int).tolist()), 400, "its data has shape [1, 5, 4, 3]"),
    "a shape beyond all": (tensor(shape=[4, 2**40, 2**40, 3]), 400, "its data has shape"),
    "no batch": (tensor(shape=[0, 4, 5, 3], data=[]), 400, "no image"),
    "data that is no list": (tensor(data="/etc/passwd"), 400, "give a list"),
    "other numbers": (tensor(data=[300] * 60), 400, "from 300 to 300"),
    "another output": ({**tensor(), "outputs": [{"name": "masks"}]}, 400, "no output 'masks'"),
    "outputs that are none": ({**tensor(), "outputs": ["boxes"]}, 400, "'outputs'"),
    "an id that is no text": ({**tensor(), "id": 7}, 400, "'id'"),
    "a path": (tensor(name="image_bytes", datatype="BYTES", shape=[1], data=["/etc/passwd"]), 400, "opens no files"),
    "a wrong count": (tensor(name="image_bytes", datatype="BYTES", shape=[2], data=["AAAA"]), 400, "1 entries"),
    "no text": (tensor(name="image_bytes", datatype="BYTES", shape=[1], data=[[1]]), 400, "is a list"),
    "400 megapixels": (
        tensor(name="image_bytes", datatype="BYTES", shape=[1], data=[b64(png_header(20_000, 20_000))["b64"]]),
        413,
        "1,000,000",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("body", "status", "words"), INFER.values(), ids=INFER)
def test_infer(client, body, status, words):
    refused(client.infer(body), status, words)


BODIES = {
    "nothing": (b"", "no body"),
    "no json": (b"{'instances': 1}", "no JSON"),
    "half": (b'{"instances": [', "no JSON"),
    "no text": (b"\xff\xfe{}", "not UTF-8"),
    "a list": (b"[1, 2]", "is a JSON list"),
    "no number": (b'{"instances": [NaN]}', "NaN is no number"),
    "endless digits": (b'{"instances": [' + b"9" * 10_000 + b"]}", "no JSON that this server reads"),
    "deep lists": (b'{"instances": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested 100,001 deep"),
    "deep objects": (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "nested 50,000 deep"),
    "quotes before depth": (b'{"a": "\\"[[[[", "b": ' + b"[" * 30 + b"]" * 30 + b"}", "nested 31 deep"),
    "open quotes": (b'{"a": "' + b'\\"' * 500_000, "no JSON"),
}


@pytest.mark.parametrize(("body", "words"), BODIES.values(), ids=BODIES)
def test_bodies_that_are_no_request(client, body, words):
    refused(client.predict(None, data=body), 400, words)
    refused(client.infer(None, data=body), 400, words)


@pytest.mark.parametrize("module", [bodies, limits])
def test_examples_in_docstrings_are_true(module):
    outcome = doctest.testmod(module)
    assert outcome.attempted
    assert not outcome.failed


def test_brackets_in_text_do_not_count(client):
    refused(client.predict({"instances": ["[" * 1000]}), 400, "is a string")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "v1/models/fake-net:predict", 404),
        ("POST", "v1/models/fake-net", 405),
        ("POST", "v1/models/fake-net:classify", 405),
        ("POST", "v1/models/other:predict", 404),
        ("POST", "v1/models/fake-net/versions/2:predict", 404),
        ("GET", "v2/models/other/ready", 404),
        ("GET", "v2/models/fake-net/versions/9", 404),
        ("GET", "../../etc/passwd", 404),
        ("GET", "page.html", 404),
        ("GET", "%2e%2e/%2e%2e/etc/passwd", 404),
    ],
)
def test_addresses_that_are_none(client, method, path, status):
    answer = client.get(path) if method == "GET" else client.post(path, {"instances": [b64(encoded(GOOD))]})
    refused(answer, status, "")


def test_a_model_that_fails_tells_nothing_of_itself(client):
    """And does not spoil others; a picture of sixes makes the fake fail."""
    answer = client.predict({"instances": [np.full((4, 4, 3), 6).tolist()]})
    assert refused(answer, 500, "the server's log says why").count("secret") == 0
    assert client.metric("zoo_batch_failures_total") == 1
    assert client.predict({"instances": [GOOD.tolist()]}).status_code == 200


def test_a_mistake_of_the_server_tells_nothing_of_itself(monkeypatch):
    artifact = FakeArtifact()
    monkeypatch.setattr("zoo.export.serving.tf_serving._picture", lambda *_: 1 / 0)
    with served(artifact) as client:
        refused(client.predict({"instances": [1]}), 500, "the server made a mistake")
        assert client.metric('zoo_requests_total{api="tensorflow_serving",status="500"}') == 1
        assert client.infer(tensor()).status_code == 200


def test_no_file_is_opened_for_a_request(client, monkeypatch):
    """Python's audit sees every file that is opened, by whatever library."""
    opened, watching = [], [True]

    def audit(event, arguments):
        if watching and event == "open" and "passwd" in str(arguments[0]):
            opened.append(arguments[0])

    sys.addaudithook(audit)
    open("/etc/passwd").close()
    assert opened == ["/etc/passwd"]
    opened.clear()
    for body, *_ in PREDICT.values():
        client.predict(json.loads(json.dumps(body)))
    for body, *_ in INFER.values():
        client.infer(body)
    watching.clear()
    assert opened == []
