"""A Fast R-CNN behind the server: proposals that requests bring along, and those that the server makes."""

import base64
import doctest
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from serve_fakes import FakeArtifact, expected, served, until

from zoo.cli.main import main
from zoo.datasets.proposals_dense import DenseBoxes
from zoo.export.serving import proposals
from zoo.export.serving.served import Served

LOOKED_AT = 250
NOTHING = [[[0, 0, 0]]]


class FastFake(FakeArtifact):
    """Gives the first proposal back for a box, and as score how many there are of some area, in thousands."""

    def _read_metadata(self):
        told = {"name": "proposals", "dtype": "float32", "shape": [None, None, 4], "most": LOOKED_AT}
        return json.dumps({**json.loads(super()._read_metadata()), "proposals": told})

    def _run(self, inputs):
        found = super()._run({"images": inputs["images"]})
        boxes = inputs["proposals"]
        self.batches[-1] = boxes.shape[:2]
        found["boxes"][:, 0] = boxes[:, 0]
        found["scores"][:, 0] = (boxes[..., 2:] > boxes[..., :2]).all(axis=-1).sum(axis=1) / 1000
        return found


class Method:
    """Proposes as many boxes as a picture has columns, and notes the pictures."""

    name = "columns"

    def __init__(self):
        self.seen = []

    def __call__(self, image):
        self.seen.append(image)
        if (image[0, 0] == 6).all():
            raise RuntimeError("Traceback: a secret of the method")
        return boxes(image.shape[1], left=image.shape[0])


def boxes(count, left=1.0):
    found = np.zeros((count, 4), np.float32)
    found[:] = (left, 2, left + 3, 7)
    return found


def pixels(height, width, seed=0):
    return np.random.default_rng(seed).integers(10, 256, (height, width, 3), dtype=np.uint8)


def b64(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return {"b64": base64.b64encode(file.getvalue()).decode()}


def tensor(name, shape, data, datatype="FP32"):
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def looked_at(row):
    """The first proposal, and how many there were."""
    return row["boxes"][0], round(row["scores"][0] * 1000)


@pytest.fixture(scope="module")
def client():
    """Of a server that proposes nothing."""
    with served(FastFake(), max_proposals=400) as found:
        yield found


def test_rows_bring_their_own(client):
    rows = [
        {"images": pixels(8, 9).tolist(), "proposals": boxes(3, left=10).tolist()},
        {"image_bytes": b64(pixels(8, 9, 1)), "proposals": boxes(101, left=20).tolist()},
        {**b64(pixels(5, 6)), "proposals": [[1, 2, 3, 4]]},
        {**b64(pixels(5, 7)), "proposals": []},
        # More than the model looks at.
        {**b64(pixels(5, 8)), "proposals": boxes(400, left=30).tolist()},
    ]
    answer = client.predict({"instances": rows})
    assert answer.status_code == 200, answer.text
    found = answer.json()["predictions"]
    assert [looked_at(row) for row in found] == [
        ([10, 2, 13, 7], 3),
        ([20, 2, 23, 7], 101),
        ([1, 2, 3, 4], 1),
        ([0, 0, 0, 0], 0),
        ([30, 2, 33, 7], LOOKED_AT),
    ]
    assert found[0]["classes"] == expected(pixels(8, 9))["classes"].tolist()


@pytest.mark.parametrize("signature", ["serving_default", "serve_encoded"])
def test_columns_bring_their_own(client, signature):
    body = {"image_bytes": [b64(pixels(5, 6)), b64(pixels(9, 6))], "proposals": [[[1, 2, 3, 4]], boxes(7).tolist()]}
    found = client.predict({"signature_name": signature, "inputs": body}).json()["outputs"]
    assert [round(scores[0] * 1000) for scores in found["scores"]] == [1, 7]


def test_serve_encoded_tells_of_a_bad_picture_among_good_ones(client):
    rows = [{"b64": "bm8gcGljdHVyZQ=="}, b64(pixels(5, 6))]
    rows = [{**row, "proposals": boxes(4).tolist()} for row in rows]
    found = client.predict({"signature_name": "serve_encoded", "instances": rows}).json()["predictions"]
    assert [row["status"] for row in found] == [1, 0]
    assert looked_at(found[1])[1] == 4


@pytest.mark.parametrize("flat", [True, False])
def test_tensors_beside_pictures(client, flat):
    given = np.stack([boxes(5, left=10), boxes(5, left=20)])
    given[1, 3:] = 0
    inputs = [
        tensor("proposals", [2, 5, 4], given.ravel().tolist() if flat else given.tolist()),
        tensor("image_bytes", [2], [b64(pixels(5, 6))["b64"], b64(pixels(9, 6))["b64"]], "BYTES"),
    ]
    for order in (1, -1):
        answer = client.infer({"inputs": inputs[::order]})
        assert answer.status_code == 200, answer.text
        found = {each["name"]: np.reshape(each["data"], each["shape"]) for each in answer.json()["outputs"]}
        np.testing.assert_array_equal(found["boxes"][:, 0, 0], [10, 20])
        np.testing.assert_allclose(found["scores"][:, 0] * 1000, [5, 3])


def test_metadata_tell_of_the_input(client):
    told = client.get("v2/models/fake-net").json()
    assert told["inputs"][2] == {"name": "proposals", "datatype": "FP32", "shape": [-1, -1, 4]}
    assert told["parameters"]["proposals"] is None
    signatures = client.get("v1/models/fake-net/metadata").json()["metadata"]["signature_def"]["signature_def"]
    for name in ("serving_default", "serve_encoded"):
        sides = signatures[name]["inputs"]["proposals"]["tensor_shape"]["dim"]
        assert [side["size"] for side in sides] == ["-1", "-1", "4"]
    assert "--proposals METHOD" in client.get("").text


def row(given):
    return {"instances": [{**b64(pixels(4, 4)), "proposals": given}]}


def infer(**changed):
    image = tensor("images", [1, 2, 2, 3], [9] * 12, "UINT8")
    return {"inputs": [image, {**tensor("proposals", [1, 2, 4], [1, 2, 3, 4] * 2), **changed}]}


BAD = {
    "none": ("predict", {"instances": [b64(pixels(4, 4))]}, 400, "`zoo serve --proposals METHOD`"),
    "none beside numbers": ("predict", {"instances": [pixels(2, 2).tolist()]}, 400, "has no 'proposals'"),
    "none in columns": ("predict", {"inputs": [b64(pixels(4, 4))]}, 400, "has no 'proposals'"),
    "none for one": ("predict", {"instances": [*row([])["instances"], b64(pixels(4, 4))]}, 400, "instances[1] has no"),
    "none in serve_encoded": (
        "predict",
        {"signature_name": "serve_encoded", "instances": [*row([])["instances"], b64(pixels(4, 4))]},
        400,
        "instances[1] has no",
    ),
    "text": ("predict", row("/etc/passwd"), 400, "are a string"),
    "words": ("predict", row([["a", "b", "c", "d"]]), 400, "something else than numbers"),
    "truth values": ("predict", row([[True, False, True, True]]), 400, "something else than numbers"),
    "nulls": ("predict", row([[None, 1, 2, 3]]), 400, "something else than numbers"),
    "three numbers": ("predict", row([[1, 2, 3]]), 400, "shape [1, 3]"),
    "one box alone": ("predict", row([1, 2, 3, 4]), 400, "shape [4]"),
    "too deep": ("predict", row([[[1, 2, 3, 4]]]), 400, "shape [1, 1, 4]"),
    "ragged": ("predict", row([[1, 2, 3, 4], [1, 2, 3]]), 400, "not all of one length"),
    "endless": ("predict", row([[0, 0, 1, 1e300]]), 400, "not finite"),
    "too many": ("predict", row(boxes(401).tolist()), 413, "401 proposals"),
    "only proposals": ("predict", {"instances": [{"proposals": [[1, 2, 3, 4]]}]}, 400, "an object with []"),
    "another count": ("predict", {"inputs": {"images": [NOTHING], "proposals": []}}, 400, "0 entries for 1"),
    "no list": ("predict", {"inputs": {"images": [NOTHING], "proposals": 3}}, 400, "is a number for 1"),
    "no tensor": ("infer", {"inputs": infer()["inputs"][:1]}, 400, "images[0] has no 'proposals'"),
    "two tensors": ("infer", {"inputs": infer()["inputs"] + infer()["inputs"][1:]}, 400, "'proposals' beside it"),
    "another type": ("infer", infer(datatype="FP64"), 400, "takes FP32"),
    "another batch": ("infer", infer(shape=[2, 1, 4]), 400, "for 1 images it is [1, P, 4]"),
    "other sides": ("infer", infer(shape=[1, 4, 2]), 400, "[1, P, 4]"),
    "another shape": ("infer", infer(shape=[1, 3, 4]), 400, "its data has shape [8]"),
    "nested otherwise": ("infer", infer(data=[[[1, 2, 3, 4, 1, 2, 3, 4]]]), 400, "its data has shape [1, 1, 8]"),
    "other data": ("infer", infer(data="/etc/passwd"), 400, "give a list"),
    "too many rows": ("infer", infer(shape=[1, 401, 4], data=[0] * 1604), 413, "401 proposals"),
}  # fmt: skip


@pytest.mark.parametrize(("ask", "body", "status", "words"), BAD.values(), ids=BAD)
def test_bad_ones_are_refused_in_a_sentence(client, ask, body, status, words):
    answer = getattr(client, ask)(body)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    assert words in answer.json()["error"]
    assert len(answer.json()["error"]) < 400


def test_a_model_that_finds_its_own_takes_none():
    with served(FakeArtifact()) as client:
        for answer in (client.predict(row([[1, 2, 3, 4]])), client.infer(infer())):
            assert answer.status_code == 400
            assert "finds its own" in answer.json()["error"]
    with pytest.raises(ValueError, match="finds its own proposals"):
        Served.prepare(FakeArtifact(), propose=Method())


def test_the_server_proposes_for_pictures_that_bring_none():
    method = Method()
    with served(FastFake(), propose=method) as client:
        assert len(method.seen) == 1  # once before it says that it is ready
        method.seen.clear()
        image, other = pixels(5, 120), pixels(9, 6)
        rows = [b64(image), {**b64(pixels(5, 6)), "proposals": [[1, 2, 3, 4]]}, other.tolist()]
        found = client.predict({"instances": rows}).json()["predictions"]
        assert [looked_at(each) for each in found] == [([5, 2, 8, 7], 120), ([1, 2, 3, 4], 1), ([9, 2, 12, 7], 6)]
        assert sorted(each.shape for each in method.seen) == [(5, 120, 3), (9, 6, 3)]
        assert (max(method.seen, key=np.size) == image).all()
        answer = client.infer({"inputs": [tensor("images", [1, 9, 6, 3], other.ravel().tolist(), "UINT8")]}).json()
        assert round(answer["outputs"][1]["data"][0] * 1000) == 6
        assert client.metric("zoo_proposal_seconds_count") == 3
        assert client.get("v2/models/fake-net").json()["parameters"]["proposals"] == "columns"
        assert '"method": "columns"' in client.get("").text
        # What the method cannot do is no secret's way out.
        answer = client.predict({"instances": [np.full((4, 4, 3), 6).tolist()]})
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert client.metric("zoo_proposal_failures_total") == 1
        assert client.predict({"instances": rows}).status_code == 200


def test_an_artifact_of_floats_is_proposed_for_in_whole_numbers():
    method = Method()
    with served(FastFake(dtype="float32"), propose=method) as client:
        found = client.predict({"instances": [np.full((3, 4, 3), 99.7).tolist()]})
    assert found.status_code == 200, found.text
    assert method.seen[-1].dtype == np.uint8
    assert (method.seen[-1] == 100).all()


def test_a_method_that_takes_too_long_is_a_timeout_and_holds_nobody_else_up():
    gate = threading.Event()

    def slow(image):
        if image.shape[0] == 4:
            gate.wait(90)
        return boxes(3)

    with served(FastFake(), propose=slow, timeout=0.8) as client, ThreadPoolExecutor(1) as pool:
        late = pool.submit(client.predict, {"instances": [pixels(4, 4).tolist()]})
        # Where the machine is busy, these may come too late as well.
        until(lambda: client.predict(row([[1, 2, 3, 4]])).status_code == 200)
        until(lambda: client.predict({"instances": [pixels(5, 5).tolist()]}).status_code == 200)
        assert late.result().status_code == 504
        gate.set()


def test_a_batch_holds_so_many_proposals_at_the_most():
    """And pictures of one size with another number of proposals are of another batch."""
    artifact = FastFake()
    with served(artifact, batch_proposals=250, max_delay=0.3) as client:
        image = pixels(5, 6).tolist()
        rows = [{"images": image, "proposals": boxes(count).tolist()} for count in (1, 2, 100, 3, 101, 200, 250, 7)]
        found = client.predict({"instances": rows}).json()["predictions"]
    assert [looked_at(each)[1] for each in found] == [1, 2, 100, 3, 101, 200, 250, 7]
    assert sorted(artifact.batches) == [(1, 100), (1, 200), (1, 200), (1, 250), (2, 100), (2, 100)]


@pytest.fixture
def started(monkeypatch):
    """What the command would serve, and how."""
    found = []
    monkeypatch.setattr("zoo.export.serving.server.serve", lambda artifact, **how: found.append((artifact, how)))
    return found


def test_the_command_chooses_a_method(started, monkeypatch, capsys):
    monkeypatch.setattr("zoo.cli.serve._artifact", lambda args: FastFake())
    assert main(["serve", "fast.onnx", "--proposals", "dense", "--max-proposals", "77", "--batch-proposals", "88"]) == 0
    assert main(["serve", "fast.onnx"]) == 0
    (_, how), (_, without) = started
    assert how["propose"] == DenseBoxes(most=LOOKED_AT)
    assert (how["limits"].max_proposals, how["limits"].batch_proposals) == (77, 88)
    assert without["propose"] is None
    capsys.readouterr()
    without["ready"]("http://here/")
    assert "requests have to bring proposals along" in capsys.readouterr().out
    monkeypatch.setattr("zoo.cli.serve._artifact", lambda args: FakeArtifact())
    assert main(["serve", "other.onnx", "--proposals", "dense"]) == 2
    assert "fake net finds its own" in capsys.readouterr().err


def test_examples_in_docstrings_are_true():
    outcome = doctest.testmod(proposals)
    assert outcome.attempted
    assert not outcome.failed
