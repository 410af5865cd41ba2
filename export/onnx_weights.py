"""From an ONNX graph that takes its weights as inputs to one that holds them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper


def add_weights(model: onnx.ModelProto, weights: Mapping[str, Any]) -> None:
    """Replace each input of ``model`` that is called as one of ``weights`` by an initialiser of that name.

    A weight that the graph only uses transposed (ONNX and Keras order a convolution's kernel differently) is stored
    so: otherwise every start of a runtime would transpose it again. One that only a loop's body uses is stored there:
    onnxruntime lays out a convolution's weights for its fast kernels only if they are in the same graph. Weights that
    nothing uses are left out.

    Args:
        model: changed in place.
        weights: arrays, or what ``numpy.asarray`` makes one of, by the name of the input.
    """
    graphs = list(all_graphs(model.graph))
    uses = Counter(name for graph in graphs for node in graph.node for name in node.input)
    uses.update(output.name for graph in graphs for output in graph.output)
    places: dict[str, set[int]] = {}
    turned: dict[str, onnx.NodeProto] = {}
    for number, graph in enumerate(graphs):
        for node in graph.node:
            for name in weights.keys() & set(node.input):
                places.setdefault(name, set()).add(number)
                if node.op_type == "Transpose" and uses[name] == 1:
                    turned[name] = node
    gone = {node.output[0] for node in turned.values()}
    orders = {}
    for name, node in turned.items():
        (orders[name],) = (tuple(attribute.ints) for attribute in node.attribute if attribute.name == "perm")
        for number in places[name]:
            _rename(graphs[number], node.output[0], name)
    # The innermost first: what holds it is copied with it.
    for graph in reversed(graphs):
        if any(node.output[0] in gone for node in graph.node):
            _keep(graph, "node", [node for node in graph.node if node.output[0] not in gone])
    inputs = [each.name for each in model.graph.input if uses[each.name] and each.name in weights]
    _keep(model.graph, "input", [each for each in model.graph.input if each.name not in weights])
    graphs = list(all_graphs(model.graph))
    for name in inputs:
        own = places.get(name, set())
        home = graphs[min(own) if len(own) == 1 else 0]
        value = np.asarray(weights[name])
        if name in orders:
            value = np.transpose(value, orders[name])
        home.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))


def all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph, and those of loops' and branches' bodies."""
    yield graph
    for node in graph.node:
        for inner in _bodies(node):
            yield from all_graphs(inner)


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
    _keep(graph, "node", [graph.node[number] for number in TopologicalSorter(dict(enumerate(used))).static_order()])


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
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _keep(graph: onnx.GraphProto, field: str, kept: Sequence[Any]) -> None:
    """Leave ``kept`` alone in the list ``field``, in that order: protobuf has no other way than all out, those in."""
    copies = [type(each).FromString(each.SerializeToString()) for each in kept]
    graph.ClearField(field)
    getattr(graph, field).extend(copies)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of loops' and branches' bodies too."""
    for each in all_graphs(graph):
        yield from each.node


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in _nodes(graph):
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new
