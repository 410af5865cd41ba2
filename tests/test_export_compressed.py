"""A detector whose dense layers were cut by SVD exports like any other, in every format."""

import numpy as np
import pytest
from export_helpers import decided_detector, picture

import zoo
from zoo.compression import compress

PICTURES = [picture(70, 90, seed=1), picture(96, 64, seed=2)]
RANK = 6


@pytest.fixture(scope="module")
def detector():
    return decided_detector()


@pytest.fixture(scope="module")
def compressed(detector):
    found = compress(detector, ranks={"fc": RANK})
    changed = [
        np.abs(np.asarray(a["scores"]) - b["scores"]).max() for a, b in zip(*map(seen, (detector, found)), strict=True)
    ]
    assert max(changed) > 0.01, "with so high a rank nothing would tell the two apart"
    return found


def seen(model):
    return [{name: np.asarray(value) for name, value in model(image[None]).items()} for image in PICTURES]


@pytest.mark.parametrize(
    ("kind", "name", "runtime"),
    [
        ("saved_model", "model", None),
        ("onnx", "model.onnx", "onnxruntime"),
        ("tflite", "model.tflite", "ai_edge_litert"),
    ],
)
def test_a_compressed_detector_exports(kind, name, runtime, compressed, detector, tmp_path):
    if runtime is not None:
        pytest.importorskip(runtime, reason=f"{kind} is run by {runtime}")
    exported = getattr(zoo.export, kind)(compressed, tmp_path / name, images=PICTURES)
    assert exported.report["ok"]
    assert exported.report["compared"] > 3
    assert exported.report["worst_score"] < 1e-3
    # It is the compressed one, not the one that it was made from.
    artifact = zoo.export.open_artifact(exported.path)
    with pytest.raises(zoo.export.ParityError):
        zoo.export.check_parity(detector, artifact, PICTURES[:1])
