"""Artifacts of Fast R-CNN: a second input, proposals of others, in all three formats."""

import base64
import io
import json
from itertools import combinations_with_replacement
from math import ceil

import keras
import numpy as np
import pytest
import tensorflow as tf
from export_helpers import picture, run_alone
from PIL import Image
from serve_fakes import served
from tiny import STRIDE, tiny_fast

import zoo
from zoo.cli.main import main
from zoo.datasets.proposals_cache import ProposalFolder, picture_key
from zoo.datasets.proposals_dense import DenseBoxes
from zoo.datasets.proposals_files import save_npz
from zoo.export import ExportError, ParityError
from zoo.export.checks import operators
from zoo.export.proposals import shown, with_proposals
from zoo.export.samples import SamplePicture, sample_pictures

SIZES = ((90, 120), (120, 90), (70, 70))
MOST = 60
FORMATS = {"saved_model": "versions", "onnx": "fast.onnx", "tflite": "fast.tflite"}
ALONE = {
    "onnx": """
import onnxruntime
session = onnxruntime.InferenceSession({path!r}, providers=["CPUExecutionProvider"])
results = dict(zip([output.name for output in session.get_outputs()], session.run(None, given)))
""",
    "tflite": """
from ai_edge_litert.interpreter import Interpreter
results = Interpreter({path!r}).get_signature_runner("serving_default")(**given)
""",
}


def decided(**options):
    """A Fast R-CNN with random weights whose scores differ."""
    model = tiny_fast(proposals=MOST, max_detections=12, **options)
    rng = np.random.default_rng(2)
    for layer in (model.head.score, model.head.loc):
        layer.kernel.assign(rng.normal(0, 0.7, layer.kernel.shape))
    return model


def boxes(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Boxes (count, 4) anywhere, different cells of the feature map in each, so that no two have the same scores."""
    rng = np.random.default_rng(seed)
    cell = STRIDE * max(min(height, width) / 64, max(height, width) / 96)  # in pixels of this picture
    columns, rows = (list(combinations_with_replacement(range(ceil(side / cell)), 2)) for side in (width, height))
    spans = [(left, top, right, bottom) for left, right in columns for top, bottom in rows]
    order = np.concatenate([rng.permutation(len(spans)) for _ in range(ceil(count / len(spans)))])[:count]
    # Corners lie far from where they would round to another cell.
    shift = rng.uniform(0.1, 0.3, (count, 4)) * (-1, -1, 1, 1)
    return np.maximum((np.array(spans)[order] + shift) * cell, 0).astype("float32")


def batch(images: int, proposals: int, height: int, width: int) -> dict[str, np.ndarray]:
    return {
        "images": np.stack([picture(height, width, seed) for seed in range(images)]),
        "proposals": np.stack([boxes(proposals, height, width, seed) for seed in range(images)]),
    }


IMAGES = [picture(*size) for size in SIZES]
GIVEN = [boxes(25, *size) for size in SIZES]


@pytest.fixture(scope="module")
def model():
    return decided()


@pytest.fixture(scope="module", params=FORMATS)
def exported(request, model, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param) / FORMATS[request.param]
    return getattr(zoo.export, request.param)(model, path, images=IMAGES, proposals=GIVEN)


@pytest.fixture(scope="module")
def artifact(exported):
    return zoo.export.open_artifact(exported.path)


def test_the_report_tells_that_it_was_compared(exported):
    report = json.loads(exported.report_path.read_text())
    assert report["ok"]
    assert all(entry["expected"] == entry["matched"] > 3 for entry in report["images"])


@pytest.mark.parametrize("shape", [(1, 1, 77, 101), (3, 20, 64, 150), (2, MOST + 15, 200, 60)], ids=str)
def test_any_batch_size_and_number_of_proposals(model, artifact, shape):
    given = batch(*shape)
    given["proposals"][-1, 18:] = 0
    expected, found = model(given), artifact.predict_on_batch(given)
    assert np.asarray(expected["num_detections"]).min() > 0
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=2e-3, err_msg=name)


def test_proposals_behind_their_number_are_not_looked_at(model, artifact):
    given = {**batch(2, 30, 90, 120), "num_proposals": np.array([7, 1], np.int32)}
    expected, found = model(given), artifact.predict_on_batch(given)
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-3)
    assert (found["num_detections"] == np.asarray(expected["num_detections"])).all()


def test_with_its_runtime_alone(model, exported, tmp_path):
    kind = exported.report["format"]
    if kind == "saved_model":
        pytest.skip("its signatures are called below; importing TensorFlow once more takes long")
    given = batch(2, 20, 77, 101)
    only = {"onnx": "onnxruntime", "tflite": "ai-edge-litert"}[kind]
    found = run_alone(ALONE[kind].format(path=str(exported.path)), tmp_path, only=only, **given)
    for name, value in model(given).items():
        np.testing.assert_allclose(found[name], value, atol=2e-3, err_msg=name)


def test_detect_takes_what_the_model_takes(model, artifact):
    for proposals in (GIVEN, lambda image: boxes(25, *image.shape[:2])):
        for one, other in zip(
            artifact.detect(IMAGES, proposals=proposals), model.detect(IMAGES, proposals=proposals), strict=True
        ):
            assert len(one) == len(other) > 3
            np.testing.assert_allclose(one.boxes, other.boxes, atol=0.1)


def test_the_artifact_says_what_is_missing(artifact):
    with pytest.raises(ExportError, match=r"looks at proposals that others make.*'proposals'"):
        artifact.predict_on_batch(IMAGES[0][None])
    for shape in ((1, 0, 4), (2, 5, 4), (1, 5, 3), (5, 4)):
        with pytest.raises(ExportError, match=r"proposals have shape .*give \(1, P, 4\)"):
            artifact.predict_on_batch({"images": IMAGES[0][None], "proposals": np.zeros(shape)})
    told = artifact.metadata["proposals"]
    assert (told["name"], told["shape"], told["most"]) == ("proposals", [None, None, 4], MOST)


def test_verified_with_the_same_proposals_and_no_others(artifact):
    assert zoo.export.verify(artifact.path, images=IMAGES, proposals=GIVEN)["ok"]
    with pytest.raises(ExportError, match="knows no other pictures"):
        zoo.export.verify(artifact.path, images=IMAGES)


def test_the_command_takes_methods_folders_and_files_of_proposals(model, exported, tmp_path, monkeypatch, capsys):
    """What the model is asked for is noted; `zoo export` gives what `zoo verify` does."""
    if exported.report["format"] != "tflite":
        pytest.skip("the command does the same for all formats")
    monkeypatch.setattr("zoo.cli.models.trained_model", lambda args: model)
    monkeypatch.setattr("zoo.export.tflite", _told)
    image = tmp_path / "a.png"
    Image.fromarray(IMAGES[0]).save(image)
    table, folder = tmp_path / "kept.npz", tmp_path / "kept"
    inside = np.minimum(GIVEN[0], (SIZES[0][1], SIZES[0][0]) * 2).astype("float32")
    save_npz(table, {"a": (inside, None), "b": (GIVEN[1], None)})
    kept = ProposalFolder(folder, DenseBoxes(most=7))
    kept.describe(DenseBoxes(most=7))
    kept.write(picture_key(IMAGES[0]), inside[:20])
    for way, count in {"dense": MOST, folder: 20, table: 25}.items():
        given = ("--images", str(image), "--proposals", str(way))
        seen = []
        with monkeypatch.context() as patched:
            patched.setattr(model, "call", _noting(model.call, seen))
            assert main(["verify", str(exported.path), "--model", "any", *given]) == 0
        assert seen == [(1, count, 4)]
        told = _said(capsys, "export", "any", "fast.tflite", *given).partition("told ")[2]
        wanted = DenseBoxes(most=2000)(IMAGES[0])[:MOST] if way == "dense" else inside[:count]
        assert json.loads(told.replace("\n", "")) == wanted.tolist()
    assert "give those pictures with --images" in _said(capsys, "verify", exported.path, "--proposals", table)
    Image.fromarray(IMAGES[0]).save(tmp_path / "c.png")
    said = _said(capsys, "verify", exported.path, "--proposals", table, "--images", tmp_path / "c.png")
    assert "no proposals for image c" in said


def _told(model, path, *, images, proposals, **_):
    """In place of an export: the proposals of the first picture."""
    (picture,) = sample_pictures(images)
    (picture,) = with_proposals([picture], model.proposals, proposals)
    raise ValueError(f"told {picture.proposals.tolist()}")


def _noting(call, seen):
    """``call`` of a model, noting the shapes of proposals."""

    def noted(inputs, **more):
        seen.append(tuple(inputs["proposals"].shape))
        return call(inputs, **more)

    return noted


def _said(capsys, *arguments):
    capsys.readouterr()
    assert main(list(map(str, arguments))) == 2
    return capsys.readouterr().err


def test_another_head_is_noticed(model, artifact):
    kernel = keras.ops.convert_to_numpy(model.head.loc.kernel)
    try:
        model.head.loc.kernel.assign(kernel * 1.2)
        with pytest.raises(ParityError, match=r"does not give what the Keras model gives.* differ"):
            zoo.export.verify(artifact.path, model, IMAGES[:1], proposals=GIVEN[:1])
    finally:
        model.head.loc.kernel.assign(kernel)


def test_the_server_gives_what_the_model_gives(model, artifact):
    """For boxes that a request brings along, and for those that the server proposes."""
    method = DenseBoxes(most=MOST)
    rows = [{"b64": base64.b64encode(png(IMAGES[i])).decode()} for i in (0, 1)]
    rows[1]["proposals"] = GIVEN[1].tolist()
    with served(artifact, propose=method) as client:
        found = client.post("v1/models/tiny_fast:predict", {"instances": rows}).json()["predictions"]
    for row, image, boxes in zip(found, IMAGES, (method(IMAGES[0]), GIVEN[1]), strict=False):
        expected = model({"images": image[None], "proposals": boxes[None]})
        assert int(expected["num_detections"][0]) > 3
        for name, value in expected.items():
            np.testing.assert_allclose(row[name], np.asarray(value)[0], atol=2e-3, err_msg=name)


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def test_encoded_pictures_with_proposals_of_each(model, exported, artifact):
    if exported.report["format"] != "saved_model":
        pytest.skip("of a SavedModel")
    files = np.array([png(IMAGES[0]), b"no picture", png(IMAGES[2])], object)
    serve = artifact.loaded.signatures["serve_encoded"]
    found = serve(image_bytes=tf.constant(files), proposals=tf.constant(np.stack(GIVEN)))
    assert found["status"].numpy().tolist() == [0, 1, 0]
    for i in (0, 2):
        expected = model({"images": IMAGES[i][None], "proposals": GIVEN[i][None]})
        assert int(expected["num_detections"][0]) > 3
        for name, value in expected.items():
            np.testing.assert_allclose(found[name][i], value[0], atol=1e-3, err_msg=name)
    assert int(found["num_detections"][1]) == 0
    assert artifact.loaded.signatures["features"](images=tf.constant(IMAGES[0][None]))["features"].shape[-1] == 32


def test_warm_up_requests_hold_proposals(exported, artifact):
    if exported.report["format"] != "saved_model":
        pytest.skip("of a SavedModel")
    logs = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    records = tf.data.TFRecordDataset(str(exported.path / "assets.extra" / "tf_serving_warmup_requests"))
    seen = {}
    for record in records:
        request = logs.PredictionLog.FromString(record.numpy()).predict_log.request
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        name = request.model_spec.signature_name
        artifact.loaded.signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})
        seen[name] = sorted(inputs)
    images = ["images", "proposals"]
    both = {"serving_default": images, "serving_float": images, "serve_encoded": ["image_bytes", "proposals"]}
    assert seen == {**both, "features": ["images"]}


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_an_image_pyramid(kind, tmp_path):
    pyramid = decided(scales=(48, 64, 80), long=160, convention="caffe")
    exported = getattr(zoo.export, kind)(pyramid, tmp_path / FORMATS[kind], images=IMAGES, proposals=GIVEN)
    assert all(entry["expected"] == entry["matched"] > 3 for entry in exported.report["images"])
    metadata = zoo.export.open_artifact(exported.path).metadata
    assert metadata["preprocessing"]["scales"] == [48, 64, 80]


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_int8(kind, model, tmp_path):
    """Of the tiny model's random weights eight bits lose more than of trained ones, but not what is sure."""
    given = {"precision": "int8", "representative": IMAGES, "images": IMAGES, "proposals": GIVEN, "most_lost": 0.6}
    exported = getattr(zoo.export, kind)(model, tmp_path / FORMATS[kind], **given)
    assert exported.report["map_lost"] <= 0.6
    artifact = zoo.export.open_artifact(exported.path)
    for count in (MOST, 25):
        given = batch(1, count, 90, 120)
        found = artifact.predict_on_batch(given)
        np.testing.assert_allclose(found["scores"][:, :3], model(given)["scores"][:, :3], atol=0.05)
    if kind == "tflite":
        assert operators(exported.path)["QUANTIZE"] > 0


def test_sample_proposals():
    pictures = [SamplePicture("a", IMAGES[0]), SamplePicture("b", IMAGES[1])]
    assert with_proposals(pictures, None) == pictures
    for one, (height, width) in zip(with_proposals(pictures, 40), SIZES, strict=False):
        assert one.proposals.shape == (40, 4)
        assert one.proposals.dtype == np.float32
        assert (one.proposals[:, 2:] > one.proposals[:, :2]).all()
        assert (one.proposals <= [width, height, width, height]).all()
    (a, _), (same, _), (other, _) = (with_proposals(pictures, most) for most in (40, 40, 41))
    assert a.digest == same.digest != other.digest
    assert with_proposals(pictures, 3, GIVEN[:2])[1].proposals.tolist() == GIVEN[1][:3].tolist()


def test_representative_pictures_have_as_many_proposals(monkeypatch):
    """What measures ranges for int8 would lose the pictures otherwise."""
    monkeypatch.setattr("zoo.export.proposals._dense", lambda pixels, most: boxes(pixels.shape[0], 9, 9))
    for height in (20, 90):
        given = shown(picture(height, 50), 90, "float32")
        assert (given["images"].dtype, given["proposals"].shape) == (np.float32, (1, 90, 4))
        assert given["proposals"][0].any(axis=1).sum() == height
    assert list(shown(picture(*SIZES[0]), None, "uint8")) == ["images"]


@pytest.mark.parametrize(
    ("most", "given", "said"),
    [
        (None, GIVEN[:1], "leave them out"),
        (9, GIVEN[:2], "2 entries for 1 pictures"),
        (9, [np.zeros((4, 3))], r"proposals of a have shape \(4, 3\)"),
        (9, [np.zeros((0, 4))], r"give finite boxes"),
        (9, lambda image: np.full((2, 4), np.nan), "give finite boxes"),
    ],
)
def test_proposals_that_are_none(most, given, said):
    with pytest.raises(ExportError, match=said):
        with_proposals([SamplePicture("a", IMAGES[0])], most, given)
