"""Eight bits a weight: what is rounded, what is not, and that it detects nearly the same."""

import json
import shutil

import numpy as np
import onnx
import pytest
from ai_edge_litert.interpreter import Interpreter
from export_helpers import decided_detector, picture, run_alone, tiny_classifier
from onnx import TensorProto, helper, numpy_helper

import zoo
from zoo.export import ExportError, ParityError
from zoo.export.onnx_int8 import quantise
from zoo.export.onnx_weights import sort_nodes

SIZES = ((90, 120), (120, 90), (70, 70))
SHOWN = [picture(*SIZES[seed % 3], seed=seed) for seed in range(9)]
ALONE = """
import onnxruntime
session = onnxruntime.InferenceSession({path!r}, providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]
results = dict(zip(names, session.run(names, given)))
"""


@pytest.fixture(scope="module")
def detector():
    return decided_detector()


def integers(path):
    """Names of the weights that have 8 bits, without what the quantiser appends."""
    tensors = onnx.load(path).graph.initializer
    kinds = (TensorProto.INT8, TensorProto.UINT8)
    return {tensor.name.removesuffix("_quantized") for tensor in tensors if tensor.data_type in kinds and tensor.dims}


@pytest.fixture(scope="module")
def exported(detector, tmp_path_factory):
    path = tmp_path_factory.mktemp("int8") / "tiny.onnx"
    images = [picture(*size, seed=20) for size in SIZES]
    return zoo.export.onnx(detector, path, precision="int8", representative=SHOWN, images=images, most_lost=0.5)


def test_convolutions_and_dense_layers_lose_bits_but_not_the_last(exported):
    report = exported.report
    assert (report["precision"], report["ok"]) == ("int8", True)
    assert 0 <= report["map_lost"] <= 0.5
    rounded = integers(exported.path)
    for name in ("conv1", "conv2", "conv3", "conv4", "fc"):
        assert any(name in each for each in rounded), name
    assert not [name for name in rounded if "rpn" in name or "head/score" in name or "head/loc" in name]
    # Standard operators, which any runtime knows.
    assert [entry.domain for entry in onnx.load(exported.path).opset_import] == [""]


def test_any_size_with_onnx_runtime_alone(exported, tmp_path):
    code = ALONE.format(path=str(exported.path))
    images = np.stack([picture(77, 101, seed=seed) for seed in (5, 6)])
    found = run_alone(code, tmp_path, only="onnxruntime", images=images)
    assert found["boxes"].shape == (2, 20, 4)
    here = zoo.export.open_artifact(exported.path).predict_on_batch(images)
    np.testing.assert_allclose(found["scores"], here["scores"], atol=1e-5)


@pytest.fixture(scope="module")
def litert(detector, tmp_path_factory):
    path = tmp_path_factory.mktemp("int8") / "tiny.tflite"
    images = [picture(*size, seed=20) for size in SIZES]
    return zoo.export.tflite(detector, path, precision="int8", representative=SHOWN, images=images, most_lost=0.5)


def test_tflite_computes_its_layers_in_integers_but_not_the_last(litert):
    assert (litert.report["precision"], litert.report["ok"]) == ("int8", True)
    interpreter = Interpreter(str(litert.path))
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    found = {}
    for operator in interpreter._get_ops_details():
        if operator["op_name"] in ("CONV_2D", "FULLY_CONNECTED"):
            data, weights = (tensors[index]["dtype"] for index in operator["inputs"][:2])
            found[tensors[operator["outputs"][0]]["name"]] = (data, weights)
        else:
            # Nothing between boxes and scores is rounded.
            kinds = {tensors[index]["dtype"] for index in operator["inputs"] if index >= 0}
            assert np.int8 not in kinds or operator["op_name"] in ("QUANTIZE", "DEQUANTIZE"), operator["op_name"]
    assert len(found) == 10
    for name, kinds in found.items():
        network = "/extractor" in name or "/body" in name
        assert kinds == ((np.int8, np.int8) if network else (np.float32, np.float32)), name


def test_any_size_with_litert_alone(detector, litert, tmp_path):
    code = f"""
from ai_edge_litert.interpreter import Interpreter
serve = Interpreter({str(litert.path)!r}).get_signature_runner("serving_default")
results = {{name: value.copy() for name, value in serve(**given).items()}}
"""
    images = np.stack([picture(77, 101, seed=seed) for seed in (5, 6)])
    found = run_alone(code, tmp_path, only="ai-edge-litert", images=images)
    expected = detector(images)
    # The best few: further down detections of nearly equal scores change places.
    np.testing.assert_allclose(found["scores"][:, :3], expected["scores"][:, :3], atol=0.02)
    np.testing.assert_allclose(found["boxes"][:, 0], expected["boxes"][:, 0], atol=2.0)


def test_verification_allows_what_the_export_allowed(detector, litert, tmp_path):
    report = json.loads(litert.report_path.read_text())
    images = [picture(*size, seed=20) for size in SIZES]
    assert zoo.export.verify(litert.path, images=images)["tolerance"] == report["tolerance"] == {"map_lost": 0.5}
    copy = shutil.copy(litert.path, tmp_path / "copy.tflite")
    path = tmp_path / "copy.tflite.parity.json"
    path.write_text(json.dumps({**report, "tolerance": {"map_lost": -0.01}}))
    for model in (None, detector):
        with pytest.raises(ParityError, match="of the mean average precision is lost"):
            zoo.export.verify(copy, model, images)


@pytest.mark.parametrize("export", [zoo.export.onnx, zoo.export.tflite], ids=["onnx", "tflite"])
def test_a_classifier_gives_nearly_the_same(export, tmp_path):
    images = [picture(32, 32, seed=seed) for seed in range(30, 36)]
    path = tmp_path / f"c.{export.__name__}"
    exported = export(tiny_classifier(), path, precision="int8", images=images, representative=SHOWN)
    assert 1e-5 < exported.report["worst_score"] < 0.1


def test_nothing_to_round(tmp_path):
    """The only dense layer is the last."""
    with pytest.raises(ExportError, match="no fully connected layer besides its last"):
        zoo.export.onnx(tiny_classifier(), tmp_path / "c.onnx", precision="dynamic_int8")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("export", [zoo.export.onnx, zoo.export.tflite], ids=["onnx", "tflite"])
def test_int8_asks_for_representative_pictures(export, tmp_path):
    path = tmp_path / f"c.{export.__name__}"
    with pytest.raises(ExportError, match="needs representative pictures"):
        export(tiny_classifier(), path, precision="int8")
    with pytest.raises(ValueError, match="50 x 60, the artifact takes 32 x 32 only"):
        export(tiny_classifier(), path, precision="int8", size=(32, 32), representative=[picture(50, 60)])
    assert not list(tmp_path.iterdir())


def two_dense_layers(rng):
    """y = relu(x @ a) @ b."""
    nodes = [
        helper.make_node("MatMul", ["images", "a"], ["first"], "one"),
        helper.make_node("Relu", ["first"], ["positive"], "relu"),
        helper.make_node("MatMul", ["positive", "b"], ["y"], "two"),
    ]
    weights = [rng.normal(size=shape).astype("float32") for shape in ((8, 16), (16, 4))]
    tensors = [numpy_helper.from_array(value, name) for value, name in zip(weights, "ab", strict=True)]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ("n", 8))
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ("n", 4))
    graph = helper.make_graph(nodes, "small", [images], [result], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), weights


@pytest.mark.parametrize("precision", ["dynamic_int8", "int8"])
def test_rounding_errs_by_no_more_than_half_a_step(precision, tmp_path):
    """Steps of a weight: its column's largest over 63; of an input: its range over 255."""
    import onnxruntime

    rng = np.random.default_rng(0)
    model, (a, b) = two_dense_layers(rng)
    x = rng.normal(size=(50, 8)).astype("float32")
    rounded = quantise(model, tmp_path, precision, {"b"}, [{"images": x}])
    onnx.checker.check_model(rounded, full_check=True)
    stored = {tensor.name for tensor in rounded.graph.initializer}
    assert "b" in stored
    assert "a" not in stored
    # Sums of two products, 2 * 255 * 64, fit into sixteen bits: processors without VNNI do not overflow.
    bytes_ = [
        numpy_helper.to_array(tensor) for tensor in rounded.graph.initializer if tensor.data_type == TensorProto.INT8
    ]
    assert max(np.abs(values.astype(int)).max() for values in bytes_) in (63, 64)
    session = onnxruntime.InferenceSession(rounded.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(["y"], {"images": x})
    expected = np.maximum(x @ a, 0) @ b
    step_a = np.abs(a).max(axis=0) / 63
    step_x = (x.max() - x.min()) / 255
    first = (np.abs(x).sum(1, keepdims=True) + 8 * step_x / 2) * step_a / 2 + step_x / 2 * np.abs(a).sum(0)
    # The product is rounded too, if ranges are known.
    if precision == "int8":
        first = first + (x @ a).max() / 255
    error = np.abs(found - expected)
    assert (error <= first @ np.abs(b) + 1e-4).all()
    assert error.max() > 1e-3


@pytest.mark.parametrize("precision", ["dynamic_int8", "int8"])
def test_nothing_that_the_quantiser_needed_is_left(precision, tmp_path, monkeypatch):
    """Weights too large for one file, limits brought down, lie beside the quantiser's models as well."""
    monkeypatch.setattr("zoo.export.onnx_files._LIMIT", 0)
    monkeypatch.setattr("zoo.export.onnx_files._SMALL", 0)
    rng = np.random.default_rng(0)
    model, _ = two_dense_layers(rng)
    x = rng.normal(size=(3, 8)).astype("float32")
    rounded = quantise(model, tmp_path, precision, {"b"}, [{"images": x}])
    assert not list(tmp_path.iterdir())
    assert "b" in {tensor.name for tensor in rounded.graph.initializer if tensor.raw_data}
    onnx.checker.check_model(rounded, full_check=True)


def test_nodes_come_behind_what_their_branches_use():
    branch = helper.make_graph(
        [helper.make_node("Add", ["late", "late"], ["inner"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, (1,))],
    )
    other = helper.make_graph([], "other", [], [helper.make_tensor_value_info("late", TensorProto.FLOAT, (1,))])
    other.node.append(helper.make_node("Identity", ["late"], ["same"]))
    other.output[0].name = "same"
    nodes = [
        helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=other),
        helper.make_node("Neg", ["early"], ["late"]),
        helper.make_node("Neg", ["x"], ["early"]),
    ]
    inputs = [("x", TensorProto.FLOAT, (1,)), ("yes", TensorProto.BOOL, ())]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1,))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(model)
    sort_nodes(model.graph)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Neg", "Neg", "If"]
