"""A model as its artifacts see it: plain functions from RGB images to named results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from zoo.datasets.class_views import CentreCrop
from zoo.export.centre_view import centre_view
from zoo.export.errors import ExportError

_TOP = 5  # classes that a classifier names


@dataclass(frozen=True, eq=False)
class Subject:
    """What is exported.

    Attributes:
        model: the Keras model.
        task: ``"detection"`` or ``"classification"``.
        name: of the model.
        classes: names in index order.
        predict: as a graph, from images ``(B, H, W, 3)`` float32 to the results that an artifact gives.
        features: as a graph, from the same images to a dict of what the network computes before it decides.
        reference: what the Keras model says of one uint8 image ``(H, W, 3)``; arrays without the batch axis.
        sensitive: variables of the layers that give scores and boxes, which keep their bits where others lose some.
        side: of the square that a classifier looks at; ``None`` for a detector.
    """

    model: keras.Model
    task: Literal["detection", "classification"]
    name: str
    classes: tuple[str, ...]
    predict: Callable[[Any], dict[str, Any]]
    features: Callable[[Any], dict[str, Any]]
    reference: Callable[[np.ndarray], dict[str, np.ndarray]]
    sensitive: tuple[keras.Variable, ...]
    side: int | None = None


def subject(model: keras.Model) -> Subject:
    """Look at ``model``, a detector or a classifier.

    A detector has ``classes``, ``preprocessing``, ``extractor``, and a call from images to ``boxes``, ``scores``,
    ``classes`` and ``num_detections``. A classifier goes from images to probabilities ``(B, K)``; its artifact gives
    ``probabilities``, and the best five as ``classes`` and ``scores``, of what ``zoo eval`` shows it too: the middle
    of the picture (:class:`zoo.datasets.class_views.CentreCrop`).

    Raises:
        ExportError: it is neither, or Keras runs on another backend than TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            f"exports are made by TensorFlow, and Keras runs on {keras.backend.backend()} here; start Python with "
            "KERAS_BACKEND=tensorflow (weights files are the same for all backends)"
        )
    if all(hasattr(model, name) for name in ("classes", "preprocessing", "extractor")):
        return _detector(model)
    shape = getattr(model, "output_shape", None)
    if isinstance(shape, tuple) and len(shape) == 2 and len(model.inputs) == 1 and model.input_shape[-1] == 3:
        return _classifier(model)
    raise ExportError(
        f"{model.name} is neither a detector (with classes, preprocessing and extractor) nor a classifier (from images "
        f"to probabilities), its output is {shape}; build it with zoo.get, a classifier with include_top=True"
    )


def _detector(model: keras.Model) -> Subject:
    def features(images):
        prepared, sizes, _ = model.preprocessing(images)
        return {"features": model.extractor(prepared, training=False), "prepared_sizes": sizes}

    return Subject(
        model,
        "detection",
        _name(model),
        tuple(model.classes),
        lambda images: dict(model(images, training=False)),
        features,
        lambda image: first(model(image[None], training=False)),
        _outside(model.variables, model.extractor, getattr(getattr(model, "head", None), "body", None)),
    )


def _outside(variables: Sequence[keras.Variable], *parts: keras.layers.Layer | None) -> tuple[keras.Variable, ...]:
    """Those of ``variables`` that no part has."""
    inside = {id(variable) for part in parts if part is not None for variable in part.variables}
    return tuple(variable for variable in variables if id(variable) not in inside)


def _classifier(model: keras.Model) -> Subject:
    height, width = model.input_shape[1:3]
    if height != width:
        raise ExportError(f"{model.name} looks at {height} x {width} pixels; only square inputs can be exported")
    side = height or 224
    view = CentreCrop(side)
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    body = keras.Model(model.inputs[0], dense[-1].input) if dense else model
    weighted = [layer for layer in model.layers if layer.weights]

    def best(probabilities):
        scores, classes = ops.top_k(probabilities, min(_TOP, probabilities.shape[-1]))
        return {"probabilities": probabilities, "scores": scores, "classes": ops.cast(classes, "int32")}

    return Subject(
        model,
        "classification",
        _name(model),
        _class_names(model),
        lambda images: best(model(centre_view(images, side), training=False)),
        lambda images: {"features": body(centre_view(images, side), training=False)},
        lambda image: first(best(model(view(image).astype("float32"), training=False))),
        tuple(weighted[-1].variables) if weighted else (),
        side,
    )


def first(results: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The first image's part of a batch of results, as arrays."""
    return {name: np.asarray(value)[0] for name, value in results.items()}


def _name(model: keras.Model) -> str:
    meta = getattr(model, "zoo_meta", None)
    return (meta and meta.model) or model.name


def _class_names(model: keras.Model) -> tuple[str, ...]:
    """What the weights say, or the numbers."""
    count = model.output_shape[-1]
    meta = getattr(model, "zoo_meta", None)
    names = tuple(meta.classes) if meta is not None else ()
    return names if len(names) == count else tuple(map(str, range(count)))
