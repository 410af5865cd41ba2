"""A TFLite file gives what the Keras model gives, in a process that has LiteRT and nothing else."""

import json
import zipfile

import keras
import numpy as np
import pytest
from export_helpers import decided_detector, picture, run_alone, tiny_classifier

import zoo
from zoo.export import ExportError, ParityError
from zoo.export.checks import operators

SIZES = ((90, 120), (120, 90), (70, 70))
ALONE = """
from ai_edge_litert.interpreter import Interpreter
serve = Interpreter({path!r}).get_signature_runner("serving_default")
results = {{}}
for key, images in given.items():
    results |= {{f"{{key}}.{{name}}": value.copy() for name, value in serve(images=images).items()}}
"""


@pytest.fixture(scope="module")
def detector():
    return decided_detector()


@pytest.fixture(scope="module")
def exported(detector, tmp_path_factory):
    path = tmp_path_factory.mktemp("tflite") / "tiny.tflite"
    return zoo.export.tflite(detector, path, images=[picture(*size) for size in SIZES])


def test_the_report_tells_that_it_was_compared(exported):
    report = json.loads(exported.report_path.read_text())
    assert report["ok"]
    assert report["runtime"].startswith("ai-edge-litert ")
    assert all(entry["expected"] == entry["matched"] > 3 for entry in report["images"])


def test_any_size_and_batch_with_litert_alone(detector, exported, tmp_path):
    batches = {
        "one": picture(77, 101, seed=5)[None],
        "three": np.stack([picture(64, 150, seed=seed) for seed in range(3)]),
        "tall": picture(200, 60, seed=9)[None],
        "again": picture(77, 101, seed=5)[None],
    }
    found = run_alone(ALONE.format(path=str(exported.path)), tmp_path, only="ai-edge-litert", **batches)
    for key, images in batches.items():
        expected = detector(images)
        assert np.asarray(expected["num_detections"]).min() > 3
        for name, value in expected.items():
            np.testing.assert_allclose(found[f"{key}.{name}"], value, atol=2e-3, err_msg=f"{key} {name}")


def test_one_size_only(detector, tmp_path):
    images = [picture(90, 120, seed=seed) for seed in range(2)]
    path = tmp_path / "fixed.tflite"
    exported = zoo.export.tflite(detector, path, size=(90, 120), dtype="float32", images=images)
    assert all(entry["expected"] == entry["matched"] > 3 for entry in exported.report["images"])
    artifact = zoo.export.open_artifact(path)
    assert artifact.size == (90, 120)
    found, expected = artifact.predict_on_batch(np.stack(images)), detector(np.stack(images))
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=2e-3, err_msg=name)


def test_builtin_operators_only(exported):
    names = operators(exported.path)
    assert names["CONV_2D"] == 7
    assert not [name for name in names if name.startswith(("Flex", "CUSTOM"))]


def test_labels_and_metadata_are_packed_in(exported):
    with zipfile.ZipFile(exported.path) as packed:
        assert packed.testzip() is None
        assert packed.read("labels.txt") == b"a\nb\n"
        metadata = json.loads(packed.read("zoo.json"))
    assert metadata["model"] == "tiny"
    assert metadata["input"]["shape"] == [None, None, None, 3]


@pytest.mark.parametrize(("precision", "share"), [("float16", 0.5), ("dynamic_int8", 0.25)])
def test_fewer_bits(precision, share, tmp_path):
    """The weights shrink as they should, and the loss is measured."""
    images = keras.Input((16, 16, 3))
    x = keras.layers.Dense(512, "relu")(keras.layers.Flatten()(keras.layers.Rescaling(1 / 60)(images)))
    x = keras.layers.Dense(5, kernel_initializer=keras.initializers.RandomNormal(stddev=0.5, seed=0))(x)
    model = keras.Model(images, keras.layers.Softmax()(x))
    plain = zoo.export.tflite(model, tmp_path / "plain.tflite", size=(16, 16))
    small = zoo.export.tflite(model, tmp_path / "small.tflite", precision=precision, size=(16, 16))
    weights = 4 * model.count_params()
    saved = plain.path.stat().st_size - small.path.stat().st_size
    assert saved == pytest.approx(weights * (1 - share), rel=0.05)
    assert small.report["ok"]
    assert small.report["precision"] == precision
    assert small.report["worst_score"] > plain.report["worst_score"]


def test_a_detector_with_fewer_bits_is_measured_by_what_it_loses(detector, tmp_path):
    images = [picture(*size, seed=1) for size in SIZES]
    exported = zoo.export.tflite(detector, tmp_path / "half.tflite", precision="float16", images=images, most_lost=1.0)
    assert exported.report["map_lost"] is not None
    assert 0 <= exported.report["map_lost"] <= 1.0
    with pytest.raises(ParityError, match=r"of the mean average precision is lost.* The worst: "):
        zoo.export.check_parity(detector, exported.path, images, most_lost=-0.01)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"path": "model.onnx"}, "ends in .tflite"),
        ({"precision": "int4"}, "'dynamic_int8'"),
        ({"dtype": "int8"}, "'uint8' or 'float32'"),
    ],
)
def test_mistakes(options, said, tmp_path):
    path = tmp_path / options.pop("path", "model.tflite")
    with pytest.raises(ExportError, match=said):
        zoo.export.tflite(tiny_classifier(), path, **options)
    assert not list(tmp_path.iterdir())
