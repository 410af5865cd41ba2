"""Caffe's ``.caffemodel``: the few protobuf fields that hold weights, by a schema of our own; no Caffe is needed.

Field numbers are those of Caffe's ``caffe.proto``. ``data`` is declared as bytes, which is how packed floats lie in the
file: a hundred million numbers become an array at once instead of one by one.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from zoo.convert.damage import naming
from zoo.convert.layout import ArrayFile, Shape
from zoo.weights_error import WeightsError

_FIELD = descriptor_pb2.FieldDescriptorProto
_ONE, _MANY = _FIELD.LABEL_OPTIONAL, _FIELD.LABEL_REPEATED
# Message: its fields as (name, number, label, type or message).
_SCHEMA = {
    "BlobShape": [("dim", 1, _MANY, _FIELD.TYPE_INT64)],
    "BlobProto": [
        ("num", 1, _ONE, _FIELD.TYPE_INT32),
        ("channels", 2, _ONE, _FIELD.TYPE_INT32),
        ("height", 3, _ONE, _FIELD.TYPE_INT32),
        ("width", 4, _ONE, _FIELD.TYPE_INT32),
        ("data", 5, _MANY, _FIELD.TYPE_BYTES),
        ("shape", 7, _ONE, "BlobShape"),
        ("double_data", 8, _MANY, _FIELD.TYPE_BYTES),
    ],
    "V0LayerParameter": [("name", 1, _ONE, _FIELD.TYPE_STRING), ("blobs", 50, _MANY, "BlobProto")],
    "V1LayerParameter": [
        ("layer", 1, _ONE, "V0LayerParameter"),
        ("name", 4, _ONE, _FIELD.TYPE_STRING),
        ("type", 5, _ONE, _FIELD.TYPE_INT32),
        ("blobs", 6, _MANY, "BlobProto"),
    ],
    "LayerParameter": [
        ("name", 1, _ONE, _FIELD.TYPE_STRING),
        ("type", 2, _ONE, _FIELD.TYPE_STRING),
        ("blobs", 7, _MANY, "BlobProto"),
    ],
    "NetParameter": [
        ("name", 1, _ONE, _FIELD.TYPE_STRING),
        ("layers", 2, _MANY, "V1LayerParameter"),
        ("layer", 100, _MANY, "LayerParameter"),
    ],
}


@cache
def messages() -> dict[str, type[Message]]:
    """The message classes of the schema by name: ``NetParameter`` is a whole file."""
    file = descriptor_pb2.FileDescriptorProto(name="zoo_caffe.proto", package="zoo_caffe", syntax="proto2")
    for message, fields in _SCHEMA.items():
        made = file.message_type.add(name=message)
        for name, number, label, kind in fields:
            field = made.field.add(name=name, number=number, label=label)
            if isinstance(kind, str):
                field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".zoo_caffe.{kind}"
            else:
                field.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = {name: pool.FindMessageTypeByName(f"zoo_caffe.{name}") for name in _SCHEMA}
    return {name: message_factory.GetMessageClass(descriptor) for name, descriptor in found.items()}


def read_caffemodel(path: str | Path) -> ArrayFile:
    """The blobs of a ``.caffemodel`` as ``layer/0`` (kernel), ``layer/1`` (bias) and so on, in either layer format.

    Shapes of the old kind (num, channels, height, width) lose their leading ones: a bias is ``(O,)``, a dense kernel
    ``(O, I)``.

    >>> read_caffemodel("VGG16_faster_rcnn_final.caffemodel").shapes["fc6/0"]    # doctest: +SKIP
    (4096, 25088)
    """
    path = Path(path)
    with naming(path):
        try:
            net = messages()["NetParameter"].FromString(path.read_bytes())
        except DecodeError as error:
            raise WeightsError(f"{path} is no .caffemodel, or is cut short ({error}); fetch it again") from error
    blobs: dict[str, Message] = {}
    for layer in [*net.layer, *net.layers]:
        if layer.DESCRIPTOR.name == "V1LayerParameter" and layer.HasField("layer"):
            raise WeightsError(
                f"{path} is of Caffe's first layer format of 2013; write it anew with Caffe's upgrade_net_proto_binary"
            )
        for index, blob in enumerate(layer.blobs):
            name = f"{layer.name}/{index}"
            if name in blobs:
                raise WeightsError(f"{path} has two layers called {layer.name!r}; it is damaged")
            blobs[name] = blob
    if not blobs:
        raise WeightsError(f"{path} is no .caffemodel with weights: no layer has any")
    shapes = {name: _shape(blob) for name, blob in blobs.items()}
    for name, blob in blobs.items():
        size = sum(map(len, blob.data)) / 4 + sum(map(len, blob.double_data)) / 8
        if size != math.prod(shapes[name]) or (blob.data and blob.double_data):
            raise WeightsError(f"{path}: {name!r} of shape {shapes[name]} holds {size:g} numbers; it is damaged")

    def read(name: str) -> np.ndarray:
        blob = blobs[name]
        pieces, kind = (blob.data, "<f4") if blob.data else (blob.double_data, "<f8")
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return np.frombuffer(data, kind).reshape(shapes[name])

    return ArrayFile(path, shapes, read, "Caffe model (.caffemodel)")


def _shape(blob: Message) -> Shape:
    if blob.HasField("shape"):
        return tuple(blob.shape.dim)
    shape = (blob.num, blob.channels, blob.height, blob.width)
    # All four are always written; a bias is (1, 1, 1, O), a dense kernel (1, 1, O, I).
    if shape[:3] == (1, 1, 1):
        return shape[3:]
    return shape[2:] if shape[:2] == (1, 1) else shape
