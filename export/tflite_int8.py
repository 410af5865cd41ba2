"""TFLite with eight bits: network layers in integers, all that makes boxes and scores in float32.

Rounded as a whole the graph fails when it runs: what its non-maximum suppression counts with is rounded too. The
converter has lists of what to leave alone, but follows them only in part (slices and softmax are rounded regardless).
So the ranges are measured for all of it, those that are not to be used are taken out, and then it is rounded.

What measures them sets one input after the other, and each that has another shape than before moves all of them in
memory: those set before are lost. So of several inputs only the first may change its shape from picture to picture.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import flatbuffers
import numpy as np
import tensorflow as tf

# What the public `QuantizationDebugger` calls: that would round everything first, and load it.
from tensorflow.lite.python.convert import mlir_quantize

from zoo.export.errors import ExportError, need

_WEIGHTED = ("CONV_2D", "FULLY_CONNECTED")
# What may stand between two of those without leaving eight bits.
_BETWEEN = ("MAX_POOL_2D", "PAD", "PADV2", "ADD", "RELU")


def quantise(
    converter: tf.lite.TFLiteConverter, kept: Sequence[np.ndarray], pictures: Iterable[dict[str, np.ndarray]]
) -> bytes:
    """Convert with convolutions and dense layers in eight bits.

    Args:
        converter: of a SavedModel with the signature ``serving_default``.
        kept: kernels, as Keras has them, of the layers that stay in float32.
        pictures: inputs by name, each with a batch axis, that show the ranges of what flows through the network.

    Raises:
        ExportError: no layer has weights but those that stay.
    """
    model = _read(_measured(converter, pictures))
    kinds = _kinds(model)
    chosen: set[str] = set()
    left: list[str] = []
    for graph in model.subgraphs:
        used: set[int] = set()
        rounded: set[int] = set()
        for kind, inputs, outputs in _operators(graph, kinds):
            if _fits(kind, inputs, model, graph, kept, rounded):
                chosen.add(kind)
                rounded.update(outputs)
                used.update(inputs + outputs)
            else:
                left += [graph.tensors[each].name.decode() for each in outputs]
        for index, tensor in enumerate(graph.tensors):
            if index not in used:
                tensor.quantization = None
    if not chosen:
        raise ExportError("there is no layer with weights besides the last, so that no bits can be saved")
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return mlir_quantize(bytes(builder.Output()), denylisted_ops=sorted(set(kinds) - chosen), denylisted_nodes=left)


def _measured(converter: tf.lite.TFLiteConverter, pictures: Iterable[dict[str, np.ndarray]]) -> bytes:
    """The model in float32, with the range of every tensor on the pictures."""

    def inputs() -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        others = None
        for each in pictures:
            shapes = [value.shape for value in each.values()][1:]
            if others not in (None, shapes):
                raise ExportError(f"inputs behind the first have the shapes {others}, then {shapes}; keep to one")
            others = shapes
            yield "serving_default", each

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = inputs
    converter._experimental_calibrate_only = True
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*tf.lite.Interpreter is deprecated", UserWarning)
        return converter.convert()


def _fits(kind: str, inputs: list[int], model: Any, graph: Any, kept: Sequence[np.ndarray], rounded: set[int]) -> bool:
    """Whether an operator is to be rounded."""
    constants = {each: model.buffers[graph.tensors[each].buffer].data for each in inputs}
    if kind in _WEIGHTED:
        weights = constants[inputs[1]]
        return weights is not None and not any(_same(weights, kernel) for kernel in kept)
    flowing = [each for each in inputs if constants[each] is None]
    return kind in _BETWEEN and bool(flowing) and rounded.issuperset(flowing)


def _same(data: np.ndarray, kernel: np.ndarray) -> bool:
    """Whether a TFLite kernel, whose first axis is the output's, is this one, whose last axis is."""
    return data.size == kernel.nbytes and data.tobytes() == np.moveaxis(kernel, -1, 0).tobytes()


def _read(data: bytes) -> Any:
    schema = need("ai_edge_litert.schema_py_generated", "ai-edge-litert", "a TFLite file with eight bits a weight")
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(data), 0))


def _kinds(model: Any) -> list[str]:
    """Name of each of the model's kinds of operators."""
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    names = {number: name for name, number in vars(BuiltinOperator).items() if isinstance(number, int)}
    return [names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in model.operatorCodes]


def _operators(graph: Any, kinds: list[str]) -> Iterator[tuple[str, list[int], list[int]]]:
    """Kind, inputs that are given, and outputs of each operator; bodies of branches may have none."""
    for operator in graph.operators or ():
        inputs, outputs = (
            [int(each) for each in (found if found is not None else ()) if each >= 0]
            for found in (operator.inputs, operator.outputs)
        )
        yield kinds[operator.opcodeIndex], inputs, outputs
