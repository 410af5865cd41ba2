"""Operators that TFLite's converter does not know, written as others that it does, in a SavedModel's graph."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path

import tensorflow as tf
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

_functions = attrgetter("library.function")  # of a GraphDef


def rewrite(folder: str | Path) -> int:
    """Rewrite the SavedModel in ``folder`` in place; gives the number of operators that were replaced.

    ``x << n`` becomes ``x * 2 ** n``, and slices that only insert axes, such as ``x[:, None]``, become ``expand_dims``:
    where two lengths are unknown the converter finds nothing for them. Both are exact. A mean over several axes becomes
    one after the other: TFLite adds all numbers to one sum, and loses three of seven digits on a large feature map,
    which group normalisation in a deep network turns into other detections. A number that is broadcast becomes one that
    is filled in: asked for no copy of it at all, as when nothing is left to fill up, TFLite writes one all the same,
    beyond its memory.
    """
    path = Path(folder) / "saved_model.pb"
    saved = SavedModel.FromString(path.read_bytes())
    count = 0
    for meta in saved.meta_graphs:
        for function in _functions(meta.graph_def):
            by_name = {node.name: node for node in function.node_def}
            replaced = {name: new for name, node in by_name.items() if (new := _replacement(node, by_name))}
            count += len(replaced)
            kept = [NodeDef.FromString(node.SerializeToString()) for node in function.node_def]
            del function.node_def[:]
            for node in kept:
                function.node_def.extend(replaced.get(node.name, [node]))
    path.write_bytes(saved.SerializeToString())
    return count


def _replacement(node: NodeDef, by_name: dict[str, NodeDef]) -> list[NodeDef]:
    """What stands for ``node``, the last of them under its name; nothing if it may stay."""
    if node.op == "LeftShift" and node.attr["T"].type == tf.int32.as_datatype_enum:
        return _left_shift(node)
    if node.op == "StridedSlice":
        axes = _new_axes(node, by_name)
        return _expand(node, axes) if axes else []
    if node.op == "Mean":
        return _means(node, by_name)
    if node.op == "BroadcastTo":
        return _fill(node, by_name)
    return []


def _left_shift(node: NodeDef) -> list[NodeDef]:
    """Powers of two are exact in float32."""
    name = node.name
    values, bits = node.input[:2]
    return [
        _constant(f"{name}/two", 2.0, tf.float32),
        _node(f"{name}/bits", "Cast", [bits], SrcT=tf.int32, DstT=tf.float32),
        _node(f"{name}/power", "Pow", [f"{name}/two:output:0", f"{name}/bits:y:0"], T=tf.float32),
        _node(f"{name}/factor", "Cast", [f"{name}/power:z:0"], SrcT=tf.float32, DstT=tf.int32),
        _node(name, "Mul", [values, f"{name}/factor:y:0"], T=tf.int32),
    ]


def _expand(node: NodeDef, axes: list[int]) -> list[NodeDef]:
    """Insert ``axes`` one after the other."""
    found, value = [], node.input[0]
    for number, axis in enumerate(axes, 1):
        place = _constant(f"{node.name}/place{number}", axis, tf.int32)
        name = node.name if number == len(axes) else f"{node.name}/axis{number}"
        made = _node(name, "ExpandDims", [value, f"{place.name}:output:0"], Tdim=tf.int32)
        made.attr["T"].CopyFrom(node.attr["T"])
        found += [place, made]
        value = f"{name}:output:0"
    return found


def _means(node: NodeDef, by_name: dict[str, NodeDef]) -> list[NodeDef]:
    """Means over one axis each, the last axis first; nothing if there is but one, or they are not known."""
    constant = by_name.get(node.input[1].partition(":")[0])
    if constant is None or constant.op != "Const":
        return []
    axes = sorted(tf.make_ndarray(constant.attr["value"].tensor).ravel().tolist(), reverse=True)
    if len(axes) < 2 or axes[-1] < 0:
        return []
    found, value = [], node.input[0]
    for number, axis in enumerate(axes, 1):
        place = _constant(f"{node.name}/over{number}", [axis], tf.int32)
        name = node.name if number == len(axes) else f"{node.name}/mean{number}"
        made = _node(name, "Mean", [value, f"{place.name}:output:0"], Tidx=tf.int32)
        for kind in ("T", "keep_dims"):
            if kind in node.attr:
                made.attr[kind].CopyFrom(node.attr[kind])
        found += [place, made]
        value = f"{name}:output:0"
    return found


def _fill(node: NodeDef, by_name: dict[str, NodeDef]) -> list[NodeDef]:
    """The same number everywhere; nothing if it is an array that is broadcast."""
    number = by_name.get(node.input[0].partition(":")[0])
    if number is None or number.op != "Const" or number.attr["value"].tensor.tensor_shape.dim:
        return []
    made = _node(node.name, "Fill", [node.input[1], node.input[0]])
    # Asking for an attribute that is not there would put an empty one there.
    for name, kind in (("T", "T"), ("Tidx", "index_type")):
        if name in node.attr:
            made.attr[kind].CopyFrom(node.attr[name])
    return [made]


def _new_axes(node: NodeDef, by_name: dict[str, NodeDef]) -> list[int]:
    """Which axes a slice inserts, if that is all that it does, as ``x[:, None]`` and ``x[..., None, None]`` do.

    In the order in which they are to be inserted; nothing if it cuts as well.
    """
    # Asking for an attribute that is not there would put an empty one there.
    kinds = ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    masks = {kind: node.attr[f"{kind}_mask"].i if f"{kind}_mask" in node.attr else 0 for kind in kinds}
    strides = by_name.get(node.input[3].partition(":")[0])
    if not masks["new_axis"] or masks["shrink_axis"] or strides is None or strides.op != "Const":
        return []
    steps = tf.make_ndarray(strides.attr["value"].tensor).tolist()
    new = [bool(masks["new_axis"] >> i & 1) for i in range(len(steps))]
    ellipsis = masks["ellipsis"].bit_length() - 1 if masks["ellipsis"] else len(steps)
    whole = masks["begin"] & masks["end"]
    if any(not new[i] and i != ellipsis and (step != 1 or not whole >> i & 1) for i, step in enumerate(steps)):
        return []
    first = [i for i in range(ellipsis) if new[i]]
    # Behind the ellipsis places count from the end, and the last comes first: what stands behind it is then complete.
    return first + [i - len(steps) for i in reversed(range(ellipsis + 1, len(steps))) if new[i]]


def _node(name: str, kind: str, inputs: list[str], **types: tf.DType) -> NodeDef:
    made = NodeDef(name=name, op=kind, input=inputs)
    for key, dtype in types.items():
        made.attr[key].type = dtype.as_datatype_enum
    return made


def _constant(name: str, value: float | list[int], dtype: tf.DType) -> NodeDef:
    made = _node(name, "Const", [], dtype=dtype)
    made.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, dtype))
    return made
