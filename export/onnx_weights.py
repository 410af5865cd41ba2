"""From an ONNX graph that takes its weights as inputs to one that holds them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper


def add_weights(model: onnx.ModelProto, weights: Mapping[str, Any]) -> None:
    """Replace each input of ``model`` that is called as one of ``weights`` by an initialiser of that name.

    A weight that the graph only uses transposed (ONNX and Keras order a convolution's kernel differently) is stored
    so: otherwise every start of a runtime would transpose it again. Weights that nothing uses are left out.

    Args:
        model: changed in place.
        weights: arrays, or what ``numpy.asarray`` makes one of, by the name of the input.
    """
    graph = model.graph
    uses = Counter(name for node in _nodes(graph) for name in node.input)
    uses.update(output.name for output in graph.output)
    turned = {
        node.input[0]: node
        for node in graph.node
        if node.op_type == "Transpose" and node.input[0] in weights and uses[node.input[0]] == 1
    }
    inputs = [each for each in graph.input if each.name not in weights]
    for each in graph.input:
        name = each.name
        if name not in weights or not uses[name]:
            continue
        value = np.asarray(weights[name])
        node = turned.get(name)
        if node is not None:
            (order,) = (attribute.ints for attribute in node.attribute if attribute.name == "perm")
            value = np.transpose(value, order)
            _rename(graph, node.output[0], name)
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
    # Protobuf's lists have no way to keep some: all go, and those that stay come back.
    gone = {node.output[0] for node in turned.values()}
    nodes = [node for node in graph.node if node.output[0] not in gone]
    for field, kept in (("input", inputs), ("node", nodes)):
        copies = [type(each).FromString(each.SerializeToString()) for each in kept]
        graph.ClearField(field)
        getattr(graph, field).extend(copies)


def name_sizes(model: onnx.ModelProto) -> None:
    """Call the dimensions of the input ``batch``, ``height`` and ``width`` where they are free.

    Those of an input ``proposals`` are ``batch`` and ``proposals``.
    """
    named = {}
    for value in model.graph.input:
        names = ("batch", "proposals") if value.name == "proposals" else ("batch", "height", "width")
        for dimension, name in zip(value.type.tensor_type.shape.dim, names, strict=False):
            if not dimension.HasField("dim_value"):
                named[dimension.dim_param] = name
                dimension.dim_param = name
    # The converter gives every output a batch of its own.
    for value in model.graph.output:
        for dimension in value.type.tensor_type.shape.dim[:1]:
            if not dimension.HasField("dim_value"):
                named[dimension.dim_param] = "batch"
                dimension.dim_param = "batch"
    for value in model.graph.value_info:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = named.get(dimension.dim_param, dimension.dim_param)


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put every node behind those whose outputs it, or a loop's or branch's body in it, uses."""
    makers = {name: number for number, node in enumerate(graph.node) for name in node.output}
    used = [{makers[name] for name in _used(node) if name in makers} for node in graph.node]
    copies = [type(node).FromString(node.SerializeToString()) for node in graph.node]
    del graph.node[:]
    graph.node.extend(copies[number] for number in TopologicalSorter(dict(enumerate(used))).static_order())


def drop_unused_domains(model: onnx.ModelProto) -> None:
    """Leave out operator sets of which there is no operator: a runtime need not know them."""
    used = {node.domain for node in _nodes(model.graph)} | {""}
    kept = [(entry.domain, entry.version) for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(*entry) for entry in kept)


def _used(node: onnx.NodeProto) -> Iterator[str]:
    yield from node.input
    for inner in _bodies(node):
        yield from (output.name for output in inner.output)
        for each in inner.node:
            yield from _used(each)


def _bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        yield from (attribute.g, *attribute.graphs)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of loops' and branches' bodies too."""
    for node in graph.node:
        yield node
        for inner in _bodies(node):
            yield from _nodes(inner)


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in _nodes(graph):
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new
