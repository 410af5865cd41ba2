"""The Open Inference Protocol (version 2) of KServe, Triton and others, over HTTP with JSON tensors."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

import zoo
from zoo.export.serving.asked import ENCODED, Asked, limit_count
from zoo.export.serving.batching import Results
from zoo.export.serving.bodies import kind
from zoo.export.serving.pictures import Picture, Wanted, encoded_picture, numbers, pixel_picture
from zoo.export.serving.proposals import PROPOSALS, boxes_of, finite_numbers, limit_boxes
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
    inputs = {"images": served.images, ENCODED: Tensor("str", (-1,)), **served.proposals}
    proposes = {"proposals": served.method} if served.proposals else {}
    return {
        "name": served.name,
        "versions": [served.version],
        "platform": _PLATFORMS[artifact.format],
        "inputs": [_described(name, tensor) for name, tensor in inputs.items()],
        "outputs": [_described(name, tensor) for name, tensor in served.outputs.items()],
        "parameters": {
            "model": artifact.metadata["model"],
            "task": served.task,
            "classes": list(served.classes),
            **proposes,
        },
    }


def parse(body: dict[str, Any], served: Served, wanted: Wanted, max_images: int) -> Asked:
    """What ``POST /v2/models/NAME/infer`` asks for.

    One input: ``images``, numbers of the artifact's type and shape, or ``image_bytes``, BYTES ``[B]``, each the base64
    of a picture's file. For a Fast R-CNN ``proposals``, FP32 ``[B, P, 4]``, may stand beside it; where a picture has
    fewer than P, rows of zeros fill up.

    Raises:
        Refused: it is no such request.
    """
    inputs = body.get("inputs")
    beside = f", and {PROPOSALS!r} beside it" if wanted.proposals is not None else ""
    if not isinstance(inputs, list) or not all(isinstance(each, dict) for each in inputs):
        raise Refused(400, f"'inputs' has to be a list of one object, 'images' or {ENCODED!r}{beside}")
    boxes = [each for each in inputs if each.get("name") == PROPOSALS]
    inputs = [each for each in inputs if each.get("name") != PROPOSALS]
    if len(inputs) != 1 or len(boxes) > 1:
        raise Refused(400, f"'inputs' has to be a list of one object, 'images' or {ENCODED!r}{beside}")
    name, shape, data = _tensor(inputs[0], {"images": _TYPES[wanted.dtype], ENCODED: _TYPES["str"]})
    pictures = (_encoded if name == ENCODED else _pixels)(data, shape, wanted, max_images)
    rows = _boxes(boxes[0], len(pictures), wanted) if boxes else [None] * len(pictures)
    pictures = [
        replace(picture, proposals=boxes_of(row, picture.where, wanted))
        for picture, row in zip(pictures, rows, strict=True)
    ]
    return Asked([*pictures], _Answer(served, _requested(body.get("outputs"), served), body.get("id")))


def _tensor(entry: dict[str, Any], types: dict[str, str]) -> tuple[str, list[int], list[Any]]:
    """Name, shape and data of an input, each of which has its type."""
    name, shape, datatype, data = (_part(entry, key) for key in ("name", "shape", "datatype", "data"))
    if not isinstance(name, str) or name not in types:
        raise Refused(400, f"no input {name!r}; this model has {' and '.join(map(repr, types))}")
    if datatype != types[name]:
        raise Refused(400, f"{name} has datatype {datatype!r}; it takes {types[name]}")
    if not isinstance(shape, list) or not all(type(side) is int and side >= 0 for side in shape):
        raise Refused(400, f"the shape of {name} is {str(shape)[:80]}; give a list of whole numbers")
    if not isinstance(data, list):
        raise Refused(400, f"the data of {name} is a {kind(data)}; give a list")
    return name, shape, data


def _boxes(entry: dict[str, Any], images: int, wanted: Wanted) -> np.ndarray:
    """Proposals ``(B, P, 4)`` of as many images."""
    name, shape, data = _tensor(entry, {PROPOSALS: _TYPES["float32"]})
    if len(shape) != 3 or shape[0] != images or shape[2] != 4:
        raise Refused(400, f"{name} has shape {shape}; for {images} images it is [{images}, P, 4]")
    limit_boxes(shape[1], "a picture", wanted)
    array = finite_numbers(data, name)
    if array.shape != tuple(shape):
        if array.ndim != 1 or array.size != math.prod(shape):
            raise Refused(400, f"{name} has shape {shape}, but its data has shape {list(array.shape)}")
        array = array.reshape(shape)
    return array


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
