"""The Open Inference Protocol (version 2) of KServe, Triton and others, over HTTP with JSON tensors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import zoo
from zoo.export.serving.asked import ENCODED, Asked, limit_count
from zoo.export.serving.batching import Results
from zoo.export.serving.bodies import kind
from zoo.export.serving.pictures import Picture, Wanted, encoded_picture, numbers, pixel_picture
from zoo.export.serving.refused import Refused
from zoo.export.serving.served import Served, Tensor

_TYPES = {"uint8": "UINT8", "float32": "FP32", "int32": "INT32", "int64": "INT64", "str": "BYTES"}
_PLATFORMS = {"saved_model": "tensorflow_savedmodel", "onnx": "onnx_onnxv1", "tflite": "tflite"}


def server_metadata() -> dict[str, Any]:
    """The answer to ``GET /v2``."""
    return {"name": "zoo", "version": zoo.__version__, "extensions": []}


def model_metadata(served: Served) -> dict[str, Any]:
    """The answer to ``GET /v2/models/NAME``; ``parameters`` tell the class names."""
    artifact = served.artifact
    return {
        "name": served.name,
        "versions": [served.version],
        "platform": _PLATFORMS[artifact.format],
        "inputs": [_described("images", served.images), _described(ENCODED, Tensor("str", (-1,)))],
        "outputs": [_described(name, tensor) for name, tensor in served.outputs.items()],
        "parameters": {"model": artifact.metadata["model"], "task": served.task, "classes": list(served.classes)},
    }


def parse(body: dict[str, Any], served: Served, wanted: Wanted, max_images: int) -> Asked:
    """What ``POST /v2/models/NAME/infer`` asks for.

    One input: ``images``, numbers of the artifact's type and shape, or ``image_bytes``, BYTES ``[B]``, each the base64
    of a picture's file.

    Raises:
        Refused: it is no such request.
    """
    inputs = body.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise Refused(400, f"'inputs' has to be a list of one object, 'images' or {ENCODED!r}")
    name, shape, datatype, data = (_part(inputs[0], key) for key in ("name", "shape", "datatype", "data"))
    if name not in ("images", ENCODED):
        raise Refused(400, f"no input {name!r}; this model has 'images' and {ENCODED!r}")
    expected = _TYPES["str"] if name == ENCODED else _TYPES[wanted.dtype]
    if datatype != expected:
        raise Refused(400, f"{name} has datatype {datatype!r}; it takes {expected}")
    if not isinstance(shape, list) or not all(type(side) is int and side >= 0 for side in shape):
        raise Refused(400, f"the shape of {name} is {str(shape)[:80]}; give a list of whole numbers")
    if not isinstance(data, list):
        raise Refused(400, f"the data of {name} is a {kind(data)}; give a list")
    pictures = (_encoded if name == ENCODED else _pixels)(data, shape, wanted, max_images)
    return Asked([*pictures], _Answer(served, _requested(body.get("outputs"), served), body.get("id")))


def _pixels(data: list[Any], shape: list[int], wanted: Wanted, max_images: int) -> list[Picture]:
    if len(shape) != 4 or shape[3] != 3:
        raise Refused(400, f"images has shape {shape}; it is [batch, height, width, 3]")
    limit_count(shape[0], max_images)
    array = numbers(data, "images", wanted)
    if array.shape != tuple(shape):
        if array.ndim != 1 or array.size != math.prod(shape):
            raise Refused(400, f"images has shape {shape}, but its data has shape {list(array.shape)}")
        array = array.reshape(shape)
    return [pixel_picture(image, f"images[{i}]", wanted) for i, image in enumerate(array)]


def _encoded(data: list[Any], shape: list[int], wanted: Wanted, max_images: int) -> list[Picture]:
    if shape != [len(data)]:
        raise Refused(400, f"{ENCODED} has shape {shape}, but its data are {len(data)} entries; it is [batch]")
    limit_count(len(data), max_images)
    return [encoded_picture(text, f"{ENCODED}[{i}]", wanted) for i, text in enumerate(data)]


class _Answer:
    """From results to the JSON object."""

    def __init__(self, served: Served, names: list[str], given_id: Any) -> None:
        if given_id is not None and not isinstance(given_id, str):
            raise Refused(400, f"'id' is a {kind(given_id)}; give text")
        self.served, self.names, self.id = served, names, given_id

    def __call__(self, results: list[Results]) -> dict[str, Any]:
        outputs = []
        for name in self.names:
            value = np.stack([found[name] for found in results])
            outputs.append({**_described(name, Tensor(str(value.dtype), value.shape)), "data": value.ravel().tolist()})
        found = {"model_name": self.served.name, "model_version": self.served.version, "outputs": outputs}
        return found if self.id is None else {**found, "id": self.id}


def _requested(outputs: Any, served: Served) -> list[str]:
    """Names of the outputs to give."""
    if outputs is None:
        return list(served.outputs)
    if not isinstance(outputs, list) or not all(isinstance(each, dict) for each in outputs):
        raise Refused(400, "'outputs' has to be a list of objects with a 'name'")
    names = [_part(each, "name") for each in outputs]
    for name in names:
        if not isinstance(name, str) or name not in served.outputs:
            raise Refused(400, f"no output {name!r}; this model has {', '.join(served.outputs)}")
    return list(dict.fromkeys(names)) or list(served.outputs)


def _part(entry: dict[str, Any], key: str) -> Any:
    if key not in entry:
        raise Refused(400, f"an entry without {key!r}")
    return entry[key]


def _described(name: str, tensor: Tensor) -> dict[str, Any]:
    return {"name": name, "datatype": _TYPES[tensor.dtype], "shape": list(tensor.shape)}
