"""`zoo export` and `zoo verify`, and what verification notices."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from export_helpers import decided_detector, picture, tiny_classifier
from PIL import Image

import zoo
from zoo.cli.main import main
from zoo.export import ExportError, ParityError
from zoo.export.finishing import move_folder, work_folder


def command(capsys, *arguments):
    """Exit status, standard output and standard error."""
    status = main([str(argument) for argument in arguments])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


@pytest.fixture
def model():
    return tiny_classifier()


@pytest.fixture
def artifact(model, tmp_path):
    return zoo.export.tflite(model, tmp_path / "small.tflite").path


@pytest.fixture
def saved(monkeypatch, model):
    """What the command loads."""
    monkeypatch.setattr("zoo.cli.models.trained_model", lambda args: model)


@pytest.mark.parametrize(("name", "kind"), [("c.tflite", "tflite"), ("c", "saved_model")])
def test_export_and_verify(saved, capsys, tmp_path, name, kind):
    Image.fromarray(picture(50, 60)).save(tmp_path / "a.png")
    Image.fromarray(picture(32, 32)).save(tmp_path / "b.png")
    path = tmp_path / "out" / name
    images = ("--images", tmp_path / "a.png", tmp_path / "b.png")
    status, shown, _ = command(capsys, "export", "any", path, *images)
    assert status == 0
    assert "a.png" in shown
    assert "b.png" in shown
    status, shown, _ = command(capsys, "verify", path, *images, "--json", tmp_path / "report.json")
    assert status == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["ok"]
    assert report["format"] == kind
    assert report["compared"] == 14
    # Pictures that the report does not know can be compared with the model alone.
    Image.fromarray(picture(33, 33)).save(tmp_path / "c.png")
    status, _, said = command(capsys, "verify", path, "--images", tmp_path / "c.png")
    assert status == 2
    assert "a.png, b.png" in said
    assert command(capsys, "verify", path, "--images", tmp_path / "c.png", "--model", "any")[0] == 0


def test_a_saved_model_of_floats_that_decodes_small_pictures_alone(saved, capsys, tmp_path):
    """Both stand in the metadata; what the signatures make of them is tested with the Python function."""
    Image.fromarray(picture(50, 60)).save(tmp_path / "a.png")
    options = ("--dtype", "float32", "--max-pixels", "2999", "--images", tmp_path / "a.png")
    assert command(capsys, "export", "any", tmp_path / "out", *options)[0] == 0
    artifact = zoo.export.open_artifact(tmp_path / "out")
    assert artifact.metadata["input"]["dtype"] == "float32"
    data = [(tmp_path / "a.png").read_bytes()]
    found = artifact.loaded.signatures["serve_encoded"](image_bytes=tf.constant(data))
    assert found["status"].numpy().tolist() == [2]


def test_int8_of_pictures_that_are_given(saved, capsys, tmp_path):
    for seed in range(4):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(picture(40, 50, seed=seed)).save(tmp_path / "photos" / f"{seed}.png")
    options = ("--precision", "int8", "--representative", tmp_path / "photos", "--most-lost", "0.5")
    assert command(capsys, "export", "any", tmp_path / "c.tflite", *options)[0] == 0
    status, shown, _ = command(capsys, "verify", tmp_path / "c.tflite")
    assert status == 0
    assert "c.tflite: tiny_classifier, tflite, int8" in shown
    (tmp_path / "photos" / "0.png").write_bytes(b"no picture")
    status, _, said = command(capsys, "export", "any", tmp_path / "c.tflite", *options)
    assert status == 2
    assert "0.png" in said


def test_another_model_is_noticed(saved, artifact, model, capsys):
    kernel = model.get_layer("fc").kernel
    kernel.assign(kernel * 0.9)
    assert command(capsys, "verify", artifact)[0] == 0
    status, _, said = command(capsys, "verify", artifact, "--model", "any")
    assert status == 1
    assert "does not give what the Keras model gives" in said
    assert "digits:" in said
    assert " has probability " in said


def test_a_changed_file_is_noticed(artifact):
    assert zoo.export.verify(artifact)["ok"]
    data = bytearray(artifact.read_bytes())
    weights = tiny_classifier().get_layer("fc").kernel.numpy().T.tobytes()
    assert data.count(weights) == 1
    data[data.find(weights)] ^= 1  # the last bit of one number: it loads, and gives nearly the same
    artifact.write_bytes(bytes(data))
    with pytest.raises(ExportError, match="changed or damaged"):
        zoo.export.verify(artifact)


def test_other_classes_are_noticed(artifact):
    with pytest.raises(ExportError, match="another model"):
        zoo.export.check_parity(tiny_classifier(classes=5), artifact)


def test_no_report_no_verification(artifact):
    report = artifact.with_name(artifact.name + ".parity.json")
    report.write_text("{}")
    with pytest.raises(ExportError, match="is no parity report"):
        zoo.export.verify(artifact)
    report.unlink()
    with pytest.raises(ExportError, match="has no report"):
        zoo.export.verify(artifact)


@pytest.mark.parametrize("name", ["a.onnx", "a.tflite"])
def test_what_is_no_artifact(name, tmp_path):
    with pytest.raises(ExportError, match="does not exist"):
        zoo.export.verify(tmp_path / name)
    (tmp_path / name).write_bytes(b"nothing of the kind")
    with pytest.raises(ExportError, match=name):
        zoo.export.verify(tmp_path / name)
    with pytest.raises(ExportError, match="no SavedModel"):
        zoo.export.verify(tmp_path)


def test_a_mismatch_is_an_error_that_shows_the_worst_and_writes_nothing(tmp_path, monkeypatch):
    """An artifact that moves all boxes by a pixel gives the same scores and classes."""
    detector = decided_detector()
    monkeypatch.setattr("zoo.export.to_tflite.check_format", lambda artifact: _shift(artifact))
    before = zoo.export.tflite  # resolved now, so that the patch is in place
    with pytest.raises(ParityError) as caught:
        before(detector, tmp_path / "shifted.tflite", images=[picture(90, 120)])
    assert "the artifact lacks" in str(caught.value)
    assert "its nearest is" in str(caught.value)
    assert not caught.value.report["ok"]
    assert caught.value.report["images"][0]["wrong"]
    assert not list(tmp_path.iterdir())


def _shift(artifact):
    run = artifact._run
    artifact._run = lambda images: {k: v + 1.0 if k == "boxes" else v for k, v in run(images).items()}


def test_mistakes_in_the_command(saved, capsys, tmp_path):
    for arguments, said in (
        (("export", "any", "a.onnx", "--precision", "float16"), "onnx has float32, dynamic_int8, int8"),
        (("export", "any", "a", "--precision", "int8"), "saved_model has float32"),
        (("export", "any", "a.onnx", "--precision", "int8"), "--representative"),
        (("export", "any", "a.onnx", "--representative", "photos"), "--precision int8"),
        (("export", "any", "a.onnx", "--version", "2"), "--version is for a SavedModel"),
        (("export", "any", "a.onnx", "--max-pixels", "100"), "--max-pixels is for a SavedModel"),
        (("export", "any", tmp_path / "a", "--max-pixels", "0"), "max_pixels=0"),
        (("export", "any", tmp_path / "a", "--proposals", "dense"), "tiny_classifier does not look at proposals"),
        (("export", "any", tmp_path / "a", "--proposals", "dens"), "methods are selective-fast, selective-quality"),
        (("verify", tmp_path / "a", "--weights", "w"), "give that too"),
    ):
        status, _, shown = command(capsys, *arguments)
        assert status == 2
        assert said in shown
    with pytest.raises(SystemExit):
        main(["export", "any", "a.onnx", "--size", "480"])
    assert "480x640" in capsys.readouterr().err


def test_a_folder_is_replaced_as_a_whole(tmp_path, monkeypatch):
    target = tmp_path / "1"
    target.mkdir()
    (target / "old").touch()
    with work_folder(target) as aside:
        (aside / "1").mkdir()
        (aside / "1" / "new").touch()
        rename = __import__("os").rename

        def fail_once(source, to):
            if str(source).startswith(str(aside)):
                raise OSError("no space left on device")
            rename(source, to)

        with monkeypatch.context() as patched:
            patched.setattr("os.rename", fail_once)
            with pytest.raises(OSError, match="no space"):
                move_folder(aside / "1", target)
        assert [path.name for path in target.iterdir()] == ["old"]
        move_folder(aside / "1", target)
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_the_default_pictures_have_three_sizes(artifact):
    report = zoo.export.verify(artifact)
    assert len({tuple(entry["size"]) for entry in report["images"]}) == 3
    shutil.copy(artifact, artifact.with_name("copy.tflite"))
    assert np.all(np.diff([entry["size"][0] for entry in report["images"]]) > 0)
