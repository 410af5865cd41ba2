"""Requests that TensorFlow Serving runs through a model before it says that it is ready.

The file ``assets.extra/tf_serving_warmup_requests`` is a TFRecord of ``tensorflow.serving.PredictionLog`` messages.
Their wire format is written here, so that an export needs TensorFlow alone: five nested fields, numbered as in
``prediction_log.proto``, ``predict.proto`` and ``model.proto`` of ``tensorflow-serving-api``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

FILE = "tf_serving_warmup_requests"


def warmup_requests(
    name: str, pixels: np.ndarray, dtype: str = "uint8", proposals: np.ndarray | None = None, crops: bool = False
) -> list[bytes]:
    """One request for each signature that takes images.

    Args:
        name: of the model.
        pixels: any picture ``(H, W, 3)`` uint8, of the size that requests will mostly have.
        dtype: of the images that ``serving_default`` and ``features`` take.
        proposals: ``(P, 4)`` float32, where the first three signatures take such.
        crops: whether ``features`` takes them too.
    """
    encoded = tf.io.encode_jpeg(pixels).numpy()
    boxes = {} if proposals is None else {"proposals": proposals[None]}
    inputs: dict[str, Mapping[str, np.ndarray]] = {
        "serving_default": {"images": pixels[None].astype(dtype), **boxes},
        "serving_float": {"images": pixels[None].astype(np.float32), **boxes},
        "serve_encoded": {"image_bytes": np.array([encoded], object), **boxes},
        "features": {"images": pixels[None].astype(dtype), **(boxes if crops else {})},
    }
    return [prediction_log(name, signature, tensors) for signature, tensors in inputs.items()]


def prediction_log(model: str, signature: str, inputs: Mapping[str, np.ndarray]) -> bytes:
    """A ``PredictionLog`` with a ``PredictRequest`` for ``signature`` of ``model``, as bytes."""
    # ModelSpec: name 1, signature_name 3. A map's entries are messages of key 1 and value 2.
    request = _field(1, _field(1, model.encode()) + _field(3, signature.encode()))
    for name, value in inputs.items():
        tensor = tf.make_tensor_proto(value).SerializeToString()
        request += _field(2, _field(1, name.encode()) + _field(2, tensor))
    # PredictionLog.predict_log 6 of PredictLog.request 1.
    return _field(6, _field(1, request))


def write_warmup(requests: list[bytes], folder: Path) -> Path:
    """Write the requests into ``folder``, a SavedModel's ``assets.extra``."""
    folder.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / FILE)) as writer:
        for request in requests:
            writer.write(request)
    return folder / FILE


def _field(number: int, data: bytes) -> bytes:
    """A length-delimited field (wire type 2)."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the top bit says that more follow."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
