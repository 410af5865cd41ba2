"""Models as files for other programs: SavedModel, ONNX and TFLite, each compared with its Keras model.

Every artifact takes RGB images of 0-255 of any size, prepares them itself and gives final detections, or class
probabilities. It needs nothing of this package, only TensorFlow, ONNX Runtime or LiteRT. What the model is, its classes
and its preprocessing stand inside (:func:`zoo.export.metadata.describe`).

>>> import zoo                                                               # doctest: +SKIP
>>> model = zoo.get("faster_rcnn_resnet18", weights="digits")                # doctest: +SKIP
>>> zoo.export.saved_model(model, "serving/digits").report["ok"]             # doctest: +SKIP
True
>>> zoo.export.onnx(model, "digits.onnx")                                    # doctest: +SKIP
>>> zoo.export.tflite(model, "digits.tflite", precision="float16")           # doctest: +SKIP

Importing this package is quick: the writers are imported when they are first used.
"""

from __future__ import annotations

import importlib

# Public name -> the module that defines it.
_PUBLIC = {
    "saved_model": "zoo.export.to_saved_model",
    "onnx": "zoo.export.to_onnx",
    "tflite": "zoo.export.to_tflite",
    "check_parity": "zoo.export.parity",
    "verify": "zoo.export.verification",
    "open_artifact": "zoo.export.runners",
    "Artifact": "zoo.export.runners",
    "Exported": "zoo.export.finishing",
    "ExportError": "zoo.export.errors",
    "ParityError": "zoo.export.errors",
}

__all__ = [*_PUBLIC]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'zoo.export' has no attribute {name!r}; it offers {', '.join(sorted(_PUBLIC))}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, imported or not, and what the module already holds."""
    return sorted({*globals(), *_PUBLIC})
