"""An ONNX file gives what the Keras model gives, in a process that has ONNX Runtime and nothing else."""

import json

import numpy as np
import onnx
import pytest
import tensorflow as tf
from export_helpers import decided_detector, picture, run_alone, tiny_classifier
from onnx import TensorProto, helper, numpy_helper

import zoo
from zoo.export import ExportError
from zoo.export.onnx_files import move_model, outside, save_model
from zoo.export.onnx_weights import add_weights, name_sizes
from zoo.heads.nms import nms

SIZES = ((90, 120), (120, 90), (70, 70))
ALONE = """
import onnxruntime
session = onnxruntime.InferenceSession({path!r}, providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]
results = {{}}
for key, images in given.items():
    results |= {{f"{{key}}.{{name}}": value for name, value in zip(names, session.run(names, {{"images": images}}))}}
results["shape"] = np.array([str(side) for side in session.get_inputs()[0].shape])
results |= {{"meta." + key: value for key, value in session.get_modelmeta().custom_metadata_map.items()}}
"""


@pytest.fixture(scope="module")
def detector():
    return decided_detector()


@pytest.fixture(scope="module")
def exported(detector, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    return zoo.export.onnx(detector, path, images=[picture(*size) for size in SIZES])


def test_the_report_tells_that_it_was_compared(exported):
    report = json.loads(exported.report_path.read_text())
    assert report["ok"]
    assert report["runtime"].startswith("onnxruntime ")
    assert all(entry["expected"] == entry["matched"] > 3 for entry in report["images"])


def test_any_size_and_batch_with_onnx_runtime_alone(detector, exported, tmp_path):
    batches = {
        "one": picture(77, 101, seed=5)[None],
        "three": np.stack([picture(64, 150, seed=seed) for seed in range(3)]),
        "tall": picture(200, 60, seed=9)[None],
    }
    code = ALONE.format(path=str(exported.path))
    found = run_alone(code, tmp_path, only="onnxruntime", **batches)
    for key, images in batches.items():
        expected = detector(images)
        assert np.asarray(expected["num_detections"]).min() > 3
        for name, value in expected.items():
            np.testing.assert_allclose(found[f"{key}.{name}"], value, atol=2e-3, err_msg=f"{key} {name}")
    assert found["shape"].tolist() == ["batch", "height", "width", "3"]
    assert json.loads(str(found["meta.classes"])) == ["a", "b"]
    metadata = json.loads(str(found["meta.zoo"]))
    assert metadata["preprocessing"]["long"] == 240
    assert metadata["task"] == str(found["meta.task"]) == "detection"


def test_the_file_is_valid_with_full_shape_inference(exported):
    model = onnx.load(exported.path)
    assert {entry.version for entry in model.opset_import if entry.domain == ""} == {18}
    onnx.checker.check_model(model, full_check=True)
    assert [each.name for each in model.graph.input] == ["images"]
    names = {tensor.name for tensor in model.graph.initializer}
    assert "extractor/conv1/kernel" in names or any(name.endswith("conv1/kernel") for name in names)
    assert not [node for node in model.graph.node if node.op_type == "Transpose" and node.input[0] in names]


def test_weights_beside_the_file(tmp_path):
    """As they are for more than 2 GB; and a new export takes the old one's weights away, last."""
    model = tiny_classifier()
    exported = zoo.export.onnx(model, tmp_path / "model.onnx", external_data=True, opset=17)
    (first,) = tmp_path.glob("*.weights")
    assert first.name.startswith("model.onnx.")
    weight = model.get_layer("conv2").kernel  # small ones stay in the model itself
    stored = np.asarray(weight).transpose(3, 2, 0, 1).tobytes()
    assert stored in first.read_bytes()
    assert stored not in exported.path.read_bytes()
    weight.assign(weight * 0.5)
    zoo.export.onnx(model, tmp_path / "model.onnx", external_data=True, opset=17)
    (second,) = tmp_path.glob("*.weights")
    assert second.name != first.name
    assert zoo.export.verify(tmp_path / "model.onnx")["ok"]
    image = picture(32, 32)[None]
    found = zoo.export.open_artifact(tmp_path / "model.onnx").predict_on_batch(image)
    np.testing.assert_allclose(found["probabilities"], model(image.astype("float32")), atol=1e-5)
    second.write_bytes(b"")
    with pytest.raises(ExportError):
        zoo.export.verify(tmp_path / "model.onnx")


def test_a_classifier_takes_any_size_as_floats_too(tmp_path):
    from zoo.datasets.class_views import CentreCrop

    model = tiny_classifier(classes=3)
    exported = zoo.export.onnx(model, tmp_path / "c.onnx", dtype="float32")
    artifact = zoo.export.open_artifact(exported.path)
    image = picture(75, 111)
    found = artifact.predict_on_batch(image[None])
    expected = np.asarray(model(CentreCrop(32)(image).astype("float32")))
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-3)
    assert found["scores"].shape == (1, 3)  # of fewer than five
    assert artifact.metadata["input"]["dtype"] == "float32"


def graph_with_inputs():
    """y = x @ transpose(w), and a branch that uses w2; w3 is used by nothing."""
    nodes = [
        helper.make_node("Transpose", ["w"], ["w_turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "w_turned"], ["product"]),
        helper.make_node("Transpose", ["w2"], ["w2_turned"], perm=[1, 0]),
        helper.make_node("Add", ["product", "w2"], ["sum"]),
        helper.make_node("MatMul", ["sum", "w2_turned"], ["y"]),
    ]
    shapes = {"x": ("n", 3), "w": (2, 3), "w2": (1, 2), "w3": (7,)}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("m", 1))]
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_weights_become_initialisers():
    import onnxruntime

    model = graph_with_inputs()
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=shape).astype("float32") for name, shape in (("w", (2, 3)), ("w2", (1, 2)))}
    x = rng.normal(size=(4, 3)).astype("float32")
    add_weights(model, {**weights, "w3": np.zeros(7, "float32")})
    name_sizes(model)
    onnx.checker.check_model(model, full_check=True)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    np.testing.assert_array_equal(stored["w"], weights["w"].T)  # used turned only, so stored turned
    np.testing.assert_array_equal(stored["w2"], weights["w2"])  # used both ways
    assert set(stored) == {"w", "w2"}
    assert [each.name for each in model.graph.input] == ["x"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = (x @ weights["w"].T + weights["w2"]) @ weights["w2"].T
    np.testing.assert_allclose(session.run(["y"], {"x": x})[0], expected, rtol=1e-5)


def test_weights_that_only_a_loop_uses_are_stored_in_it(tmp_path, monkeypatch):
    """Where ONNX Runtime can lay them out before it starts; turned, if the loop only uses them so."""
    import onnxruntime

    number = TensorProto.FLOAT
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["goes"]),
            helper.make_node("Transpose", ["w"], ["w_turned"], perm=[1, 0]),
            helper.make_node("MatMul", ["before", "w_turned"], ["product"]),
            helper.make_node("Add", ["product", "both"], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, ()),
            helper.make_tensor_value_info("go", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("before", number, (1, 2)),
        ],
        [
            helper.make_tensor_value_info("goes", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("after", number, (1, 2)),
        ],
    )
    nodes = [
        helper.make_node("Loop", ["steps", "", "x"], ["looped"], body=body),
        helper.make_node("Add", ["looped", "both"], ["y"]),
    ]
    shapes = {"x": (1, 2), "w": (2, 2), "both": (1, 2)}
    inputs = [helper.make_tensor_value_info(name, number, shape) for name, shape in shapes.items()]
    steps = numpy_helper.from_array(np.array(2, "int64"), "steps")
    outputs = [helper.make_tensor_value_info("y", number, (1, 2))]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [steps])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    w, both = np.array([[1, 2], [3, 4]], "float32"), np.array([[5, 6]], "float32")
    add_weights(model, {"w": w, "both": both})
    onnx.checker.check_model(model, full_check=True)
    assert {tensor.name for tensor in model.graph.initializer} == {"steps", "both"}
    (inside,) = model.graph.node[0].attribute[0].g.initializer
    assert inside.name == "w"
    np.testing.assert_array_equal(numpy_helper.to_array(inside), w.T)
    # In a file of their own, too.
    monkeypatch.setattr("zoo.export.onnx_files._SMALL", 0)
    written = save_model(model, tmp_path / "m.onnx", external_data=True)
    (beside,) = outside(onnx.load(written, load_external_data=False))
    assert (tmp_path / beside).is_file()
    session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
    x = np.array([[1, -1]], "float32")
    np.testing.assert_allclose(session.run(["y"], {"x": x})[0], ((x @ w.T + both) @ w.T + both) + both)


def test_a_model_is_moved_after_its_weights(tmp_path, monkeypatch):
    """So that whoever reads in between finds a model whose weights are there."""
    model = graph_with_inputs()
    add_weights(model, {"w": np.ones((2, 300), "float32"), "w2": np.ones((1, 2), "float32")})
    (tmp_path / "aside").mkdir()
    written = save_model(model, tmp_path / "aside" / "m.onnx", external_data=True)
    moved = []
    replace = __import__("os").replace
    monkeypatch.setattr("os.replace", lambda a, b: (moved.append(b.name), replace(a, b)))
    move_model(written, tmp_path / "m.onnx")
    assert [name.endswith(".weights") for name in moved] == [True, False]


@pytest.mark.parametrize(("columns", "beside"), [(300, True), (200, False)])
def test_weights_that_one_file_cannot_hold_go_beside_it(columns, beside, tmp_path, monkeypatch):
    """A file's limit, 2 GB, brought down to 2000 bytes: 2 x 300 numbers are more, 2 x 200 less."""
    monkeypatch.setattr("zoo.export.onnx_files._LIMIT", 2000)
    model = graph_with_inputs()
    add_weights(model, {"w": np.ones((2, columns), "float32"), "w2": np.ones((1, 2), "float32")})
    written = save_model(model, tmp_path / "m.onnx")
    assert bool(list(tmp_path.glob("m.onnx.*.weights"))) is beside
    (weights,) = [tensor for tensor in onnx.load(written).graph.initializer if tensor.name == "w"]
    np.testing.assert_array_equal(numpy_helper.to_array(weights), np.ones((columns, 2)))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"path": "model.tflite"}, "ends in .onnx"),
        ({"dtype": "int8"}, "'uint8' or 'float32'"),
        ({"opset": 11}, "17, 18"),
    ],
)
def test_mistakes(options, said, tmp_path):
    path = tmp_path / options.pop("path", "model.onnx")
    with pytest.raises(ExportError, match=said):
        zoo.export.onnx(tiny_classifier(), path, **options)
    assert not list(tmp_path.iterdir())


def test_one_size_only(detector, tmp_path):
    # A process in which NMS has been traced for unknown sizes, as the one of a server or a notebook may be.
    unknown = [tf.TensorSpec((None, None, 4)), tf.TensorSpec((None, None))]
    suppress = tf.function(lambda boxes, scores: nms(boxes, scores, 0.5, 12), input_signature=unknown)
    suppress(tf.zeros((3, 30, 4)), tf.zeros((3, 30)))
    suppress(tf.zeros((1, 7, 4)), tf.zeros((1, 7)))
    exported = zoo.export.onnx(detector, tmp_path / "fixed.onnx", size=(90, 120), dtype="float32", opset=17)
    assert exported.report["ok"]
    (images,) = onnx.load(exported.path).graph.input
    sides = images.type.tensor_type.shape.dim
    assert [side.dim_param or side.dim_value for side in sides] == ["batch", 90, 120, 3]
    batch = np.stack([picture(90, 120, seed=seed) for seed in range(2)])
    artifact = zoo.export.open_artifact(exported.path)
    found, expected = artifact.predict_on_batch(batch), detector(batch)
    assert np.asarray(expected["num_detections"]).min() > 3
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=2e-3, err_msg=name)
    with pytest.raises(ValueError, match="90 x 120 only"):
        zoo.export.check_parity(detector, artifact, [picture(120, 90)])
