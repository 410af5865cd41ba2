"""The operators written for TFLite's sake compute what those did that they stand for."""

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from zoo.export.checks import operators
from zoo.export.tflite_graph import rewrite

SLICES = {
    "middle": lambda x: x[:, None, :],
    "end": lambda x: x[..., None],
    "two at the end": lambda x: x[..., None, None],
    "first": lambda x: x[None],
    "around": lambda x: x[None, ..., None],
    "between": lambda x: x[:, None, ..., None, :],
    "cut": lambda x: x[:, None, 1:2],
    "one taken": lambda x: x[:, None, 0],
    "backwards": lambda x: x[None, ::-1],
}
KEPT = ("cut", "one taken", "backwards")


def functions(x, bits):
    found = {name.replace(" ", "_"): cut(x) * 2.0 for name, cut in SLICES.items() if name not in KEPT}
    rows = tf.shape(x)[0]
    for missing in (3, 4):
        # Of a number, as Keras fills; with three columns given nothing is missing, and then one.
        given, more = tf.shape(x)[1], missing - tf.shape(x)[1]
        parts = [tf.zeros(tf.stack([rows, given, 3, 4])), tf.broadcast_to(7.0, tf.stack([rows, more, 3, 4]))]
        found[f"filled{missing - 3}"] = tf.concat(parts, axis=1)
    found["copied"] = tf.broadcast_to(x[:, None], tf.stack([rows, 2, tf.shape(x)[1]]))
    return {**found, "shifted": tf.bitwise.left_shift(3 * tf.ones_like(bits), bits)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    spec = [tf.TensorSpec((None, None), tf.float32, "x"), tf.TensorSpec((None, 5), tf.int32, "bits")]
    tf.saved_model.save(tf.Module(), str(folder), signatures=tf.function(functions, input_signature=spec))
    # And the slice of "copied".
    assert rewrite(folder) == len(SLICES) - len(KEPT) + 4
    return folder


X = np.arange(6, dtype=np.float32).reshape(2, 3)
BITS = np.array([[0, 1, 4, 20, 29]], np.int32)


def check(found):
    for name, cut in SLICES.items():
        if name not in KEPT:
            np.testing.assert_array_equal(found[name.replace(" ", "_")], 2 * cut(X))
    np.testing.assert_array_equal(found["shifted"], 3 << BITS)
    filled = np.zeros((2, 4, 3, 4), np.float32)
    filled[:, 3:] = 7
    np.testing.assert_array_equal(found["filled0"], filled[:, :3])
    np.testing.assert_array_equal(found["filled1"], filled)
    np.testing.assert_array_equal(found["copied"], np.stack([X, X], axis=1))


def test_in_tensorflow(folder):
    serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
    check(serve(x=tf.constant(X), bits=tf.constant(BITS)))


def test_in_litert(folder, tmp_path):
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=["serving_default"])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    content = converter.convert()
    check(Interpreter(model_content=content).get_signature_runner("serving_default")(x=X, bits=BITS))
    (tmp_path / "a.tflite").write_bytes(content)
    # Both sevens, and the zeros, which are the same for both.
    assert operators(tmp_path / "a.tflite")["FILL"] == 3


@pytest.mark.parametrize("name", KEPT)
def test_slices_that_cut_stay(name, tmp_path):
    spec = [tf.TensorSpec((None, None), tf.float32, "x")]
    function = tf.function(lambda x: {"y": SLICES[name](x) * 2.0}, input_signature=spec)
    tf.saved_model.save(tf.Module(), str(tmp_path), signatures=function)
    assert rewrite(tmp_path) == 0
    loaded = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    np.testing.assert_array_equal(loaded(x=tf.constant(X))["y"], 2 * SLICES[name](X))


def test_means_of_large_maps_keep_their_digits(tmp_path):
    """TFLite's own mean over rows and columns adds all to one sum."""
    spec = [tf.TensorSpec((None, None, None, 3), tf.float32, "x")]

    def means(x):
        return {"flat": tf.reduce_mean(x, (1, 2)), "kept": tf.reduce_mean(x, (1, 2), True), "one": tf.reduce_mean(x, 1)}

    saved = tf.function(means, input_signature=spec)
    tf.saved_model.save(tf.Module(), str(tmp_path), signatures=saved)
    assert rewrite(tmp_path) == 2
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path), signature_keys=["serving_default"])
    serve = Interpreter(model_content=converter.convert()).get_signature_runner("serving_default")
    x = np.random.default_rng(0).uniform(0, 100, (2, 400, 300, 3)).astype(np.float32)
    found, expected = serve(x=x), x.astype(np.float64).mean((1, 2))
    np.testing.assert_allclose(found["flat"], expected, rtol=2e-6)
    np.testing.assert_allclose(found["kept"], expected[:, None, None], rtol=2e-6)
    np.testing.assert_allclose(found["one"], x.mean(1), rtol=2e-6)
