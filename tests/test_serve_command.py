"""``zoo serve``, and real artifacts behind the server."""

import base64
import functools
import io
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from export_helpers import decided_detector, picture
from PIL import Image
from serve_fakes import Client, served

import zoo
from zoo.cli.main import main

SIZES = ((90, 120), (120, 90), (70, 70))
PICTURES = [picture(*SIZES[i % 3], seed=i) for i in range(9)]


@pytest.fixture(scope="module")
def detector():
    return decided_detector()


@pytest.fixture(scope="module")
def make(detector, tmp_path_factory):
    """The artifact of a kind, exported once."""
    folder, images = tmp_path_factory.mktemp("artifacts"), [picture(*SIZES[0])]

    @functools.cache
    def made(kind):
        if kind == "saved_model":
            return zoo.export.saved_model(detector, folder / "tiny", version=3, images=images).path
        if kind == "onnx":
            return zoo.export.onnx(detector, folder / "tiny.onnx", images=images).path
        # Activations are quantised by what there is of them: a company might change them.
        path = folder / "tiny.tflite"
        return zoo.export.tflite(detector, path, precision="dynamic_int8", images=images, most_lost=1.0).path

    return made


def body(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return {"instances": [{"b64": base64.b64encode(file.getvalue()).decode()}]}


@pytest.mark.parametrize("kind", ["saved_model", "onnx", "tflite"])
def test_an_answer_does_not_depend_on_its_company(kind, make, detector):
    """Nine pictures of three sizes, asked for at once and together, give what each gives alone."""
    opened = zoo.export.open_artifact(make(kind))
    shapes, run = [], opened.predict_on_batch

    def noted(images):
        shapes.append(images.shape)
        return run(images)

    opened.predict_on_batch = noted
    with served(opened, max_delay=0.2) as client, ThreadPoolExecutor(9) as pool:
        path = "v1/models/tiny:predict"
        found = [each.json()["predictions"][0] for each in pool.map(lambda x: client.post(path, body(x)), PICTURES)]
        info = client.get("v2/models/tiny").json()
    assert max(shape[0] for shape in shapes) > 1
    for row, image in zip(found, PICTURES, strict=True):
        alone = run(image[None])
        assert alone["num_detections"][0] > 3
        for name, value in alone.items():
            np.testing.assert_allclose(row[name], value[0], atol=1e-3, err_msg=name)
    assert info["versions"] == (["3"] if kind == "saved_model" else ["1"])
    assert {each["name"]: tuple(each["shape"][1:]) for each in info["outputs"]} == {
        name: value.shape[1:] for name, value in alone.items()
    }
    if kind != "tflite":
        for name, value in detector(PICTURES[0][None]).items():
            np.testing.assert_allclose(found[0][name], np.asarray(value)[0], atol=2e-3, err_msg=name)


def test_the_command_serves_an_artifact_without_tensorflow(make):
    code = "import sys; sys.modules['tensorflow'] = None; from zoo.cli.main import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "serve", str(make("onnx")), "--port", "0", "--name", "squares"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        line = process.stdout.readline()
        assert line.startswith("serving tiny (onnx, onnxruntime ")
        client = Client(line.split(" on ")[1].strip())
        assert client.address.startswith("http://127.0.0.1:")
        found = client.post("v1/models/squares:predict", body(PICTURES[0])).json()["predictions"][0]
        assert found["num_detections"] > 3
        process.send_signal(signal.SIGTERM)
        assert process.wait(90) == 0
        assert process.stdout.read() == "stopped\n"
    finally:
        process.kill()
        process.stdout.close()


@pytest.fixture
def started(monkeypatch):
    """What the command would serve, and how."""
    found = []
    monkeypatch.setattr("zoo.export.serving.server.serve", lambda artifact, **how: found.append((artifact, how)))
    return found


def test_a_model_is_exported_first_and_leaves_no_file(started, detector, make, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    asked = []

    def trained(args):
        asked.append((args.model, args.weights))
        return detector

    def export(kind, copy):
        source = make(kind)

        def exported(model, path, **_):
            assert model is detector
            assert tmp_path in path.parents
            path.parent.mkdir(exist_ok=True)
            return type("Exported", (), {"path": copy(source, path)})

        return exported

    monkeypatch.setattr("zoo.cli.models.trained_model", trained)
    # Exported already, to save time.
    monkeypatch.setattr("zoo.export.saved_model", export("saved_model", shutil.copytree))
    monkeypatch.setattr("zoo.export.tflite", export("tflite", shutil.copyfile))
    assert main(["serve", "digits", "--max-batch", "3", "--timeout", "9"]) == 0
    assert main(["serve", "faster_rcnn_resnet18", "--weights", "digits", "--format", "tflite"]) == 0
    assert asked == [(None, "digits"), ("faster_rcnn_resnet18", "digits")]
    assert "exporting to saved_model first" in capsys.readouterr().err
    assert [artifact.format for artifact, _ in started] == ["saved_model", "tflite"]
    assert not list(tmp_path.iterdir())
    for artifact, how in started:
        assert artifact.predict_on_batch(PICTURES[0][None])["num_detections"][0] > 3
        assert how["host"] == "127.0.0.1"
    assert (started[0][1]["limits"].max_batch, started[0][1]["limits"].timeout) == (3, 9.0)


def test_a_saved_model_is_served_from_its_folder_of_versions(started, make):
    version = make("saved_model")
    assert main(["serve", str(version.parent), "--host", "::1", "--port", "0", "--name", "squares"]) == 0
    ((artifact, how),) = started
    assert artifact.path == version
    assert (how["host"], how["port"], how["name"]) == ("::1", 0, "squares")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.onnx"], "nothing.onnx does not exist"),
        (["nothing"], "--weights nothing: there is no such file"),
        (["nothing.onnx", "--weights", "digits"], "an artifact has them inside"),
        (["--max-batch", "0"], "max_batch=0"),
    ],
)
def test_mistakes(arguments, words, started, capsys):
    assert main(["serve", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not started


def test_packages_that_are_missing_are_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert main(["serve", "nothing.onnx"]) == 2
    message = capsys.readouterr().err
    assert "prometheus-client" in message
    assert 'pip install "zoo-detection[serve]"' in message


@pytest.mark.parametrize(("host", "local"), [("127.0.0.1", 1), ("::1", 1), ("localhost", 1), ("0.0.0.0", 0)])
def test_who_opens_it_to_others_is_told(host, local, detector, monkeypatch, capsys):
    artifact = type(
        "Artifact", (), {"metadata": {"model": "tiny"}, "format": "onnx", "runtime": "none", "proposals": None}
    )()
    monkeypatch.setattr("zoo.cli.serve._artifact", lambda args: artifact)
    monkeypatch.setattr("zoo.export.serving.server.serve", lambda *_, ready, **how: ready("http://here/"))
    assert main(["serve", "--host", host]) == 0
    assert ("without password" in capsys.readouterr().err) is not bool(local)
