"""What an artifact tells about itself: the model, its classes, how it prepares images, what its outputs mean."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import zoo
from zoo.datasets.class_views import usual_short
from zoo.export.errors import ExportError

if TYPE_CHECKING:
    # With it comes TensorFlow, which those who only read metadata may do without.
    from zoo.export.subject import Subject

# Counts up when the meaning of a field changes.
FORMAT = 1

_OUTPUTS = {
    "detection": {
        "boxes": "(B, D, 4) float32: x1, y1, x2, y2 in continuous pixels of the image given; zeros where nothing is",
        "scores": "(B, D) float32, best first; 0 where nothing is",
        "classes": "(B, D) int32, index into classes; -1 where nothing is",
        "num_detections": "(B,) int32: how many of the D are detections",
    },
    "classification": {
        "probabilities": "(B, K) float32, in the order of classes",
        "scores": "(B, T) float32: the best probabilities, best first",
        "classes": "(B, T) int32: their indices into classes",
    },
}


def describe(
    subject: Subject,
    artifact: str,
    *,
    dtype: str,
    size: tuple[int, int] | None,
    precision: str = "float32",
    details: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The metadata of an artifact, plain values for JSON.

    Args:
        subject: what is exported.
        artifact: ``"saved_model"``, ``"onnx"`` or ``"tflite"``.
        dtype: of the input called ``images``.
        size: (height, width) of images if they are fixed; ``None`` for any.
        precision: of the weights.
        details: what only this kind of artifact has, such as its ``opset``.
    """
    height, width = size or (None, None)
    meta = getattr(subject.model, "zoo_meta", None)
    found = {
        "zoo_export": FORMAT,
        "format": artifact,
        "model": subject.name,
        "task": subject.task,
        "classes": list(subject.classes),
        "input": {
            "name": "images",
            "dtype": dtype,
            "shape": [None, height, width, 3],
            "meaning": "RGB, 0-255, batch x height x width x 3",
        },
        "outputs": _OUTPUTS[subject.task],
        "preprocessing": _preprocessing(subject),
        "precision": precision,
        "options": {} if meta is None else meta.to_dict()["options"],
        "scores": {} if meta is None else meta.to_dict()["scores"],
        "versions": {"zoo": zoo.__version__, **_versions("tensorflow", "keras", "numpy")},
        **(details or {}),
    }
    if subject.proposals is not None:
        found["proposals"] = {
            "name": "proposals",
            "dtype": "float32",
            "shape": [None, None, 4],
            "most": subject.proposals,
            "meaning": "(B, P, 4): for each image boxes made by another program, x1, y1, x2, y2 in its continuous "
            "pixels, best first, P at least 1, of which the first 'most' are looked at; rows that are filled up are "
            "boxes of no area, such as zeros",
        }
    if subject.task == "detection":
        found["postprocessing"] = {
            name: getattr(subject.model, name)
            for name in ("score_threshold", "nms_iou", "max_detections")
            if hasattr(subject.model, name)
        }
    return found


def to_json(metadata: dict[str, Any]) -> str:
    """One line of JSON, as it is put inside artifacts."""
    return json.dumps(metadata, ensure_ascii=False)


def from_json(text: str | bytes, where: str) -> dict[str, Any]:
    """The inverse of :func:`to_json`.

    Raises:
        ExportError: it is no metadata of ours, or of a later version; ``where`` is named.
    """
    try:
        found = json.loads(text)
        version = found["zoo_export"]
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{where} holds no metadata of `zoo export` ({error}); export the model again") from error
    if version != FORMAT:
        raise ExportError(f"{where} has metadata of format {version}, this version reads {FORMAT}; update the package")
    return found


def _versions(*packages: str) -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in packages}


def _preprocessing(subject: Subject) -> dict[str, Any]:
    """Constants of what happens inside the artifact between the image given and the network."""
    if subject.task == "detection":
        layer = subject.model.preprocessing
        config = {key: value for key, value in layer.get_config().items() if key not in _LAYER_FIELDS}
        found, text = _plain(config), layer.describe()
        scales = list(getattr(subject.model, "scales", ()))
        if scales:
            found["scales"] = scales
            text += f"; at the short sides {', '.join(map(str, scales))}, each proposal at that nearest 224 x 224"
        return {**found, "description": text}
    side = subject.side
    found = {"resize_short": usual_short(side), "centre_crop": side}
    for layer in subject.model.layers:
        if all(hasattr(layer, name) for name in ("mean", "std", "order")):
            found |= {"mean": list(layer.mean), "std": list(layer.std), "order": layer.order}
            break
    found["description"] = (
        f"short side {found['resize_short']}, the middle {side} x {side} (pictures of {side} x {side} as they are)"
    )
    return found


_LAYER_FIELDS = ("name", "dtype", "trainable")


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(config))
