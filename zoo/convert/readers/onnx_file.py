"""The initialisers of an ONNX model: its weights by name."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from zoo.convert.damage import naming
from zoo.convert.layout import ArrayFile
from zoo.weights_error import WeightsError


def read_onnx(path: str | Path) -> ArrayFile:
    """The initialisers of an ``.onnx`` file.

    The graph around them is not looked at: what it computes is what the layout's own model computes, or the layout
    does not know the names.

    >>> read_onnx("bvlcalexnet-12.onnx").shapes["conv2_w_0"]    # doctest: +SKIP
    (256, 48, 5, 5)
    """
    import onnx  # not needed for other formats
    from google.protobuf.message import DecodeError
    from onnx import numpy_helper

    path = Path(path)
    with naming(path):
        try:
            # External data are paths of the file's own choice: not followed.
            graph = onnx.load(path, load_external_data=False).graph
        except DecodeError as error:
            raise WeightsError(f"{path} is no ONNX model, or is cut short ({error}); fetch it again") from error
    tensors = {}
    for tensor in graph.initializer:
        if tensor.name in tensors or not tensor.name:
            raise WeightsError(f"{path} holds the initialiser {tensor.name!r} twice or without a name; it is damaged")
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise WeightsError(
                f"{path} keeps {tensor.name!r} in another file; save the model as one: "
                "onnx.save(onnx.load(PATH), OTHER_PATH)"
            )
        size = math.prod(tensor.dims) * _item_size(path, tensor)
        if tensor.HasField("raw_data") and len(tensor.raw_data) != size:
            raise WeightsError(f"{path}: {tensor.name!r} of shape {tuple(tensor.dims)} has not {size} bytes; damaged")
        tensors[tensor.name] = tensor
    if not tensors:
        raise WeightsError(f"{path} is no ONNX model with weights: it has no initialisers")

    def read(name: str) -> np.ndarray:
        with naming(path):
            return numpy_helper.to_array(tensors[name])

    return ArrayFile(path, {name: tuple(t.dims) for name, t in tensors.items()}, read, "ONNX model (.onnx)")


def _item_size(path: Path, tensor) -> int:
    import onnx

    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except (KeyError, ValueError) as error:
        raise WeightsError(f"{path}: {tensor.name!r} is of the unknown type {tensor.data_type}; damaged") from error
    if dtype.kind not in "fiub":
        raise WeightsError(f"{path}: {tensor.name!r} is of type {dtype}, not plain numbers")
    return dtype.itemsize
