"""A model as its artifacts see it: plain functions from RGB images to named results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import keras
import numpy as np
from keras import ops

from zoo.backbones.cifar_resnet import recursion
from zoo.datasets.class_views import CentreCrop
from zoo.export.centre_view import centre_view
from zoo.export.errors import ExportError

if TYPE_CHECKING:
    import tensorflow as tf

_TOP = 5  # classes that a classifier names


@dataclass(frozen=True, eq=False)
class Subject:
    """What is exported.

    Attributes:
        model: the Keras model.
        task: ``"detection"`` or ``"classification"``.
        name: of the model.
        classes: names in index order.
        predict: as a graph, from images ``(B, H, W, 3)`` float32 to the results that an artifact gives; for a model
            that looks at proposals of others from images and ``(B, P, 4)`` float32.
        features: as a graph, from the same images to a dict of what the network computes before it decides; of an
            R-CNN, which computes it of crops, from the proposals too.
        reference: what the Keras model says of one uint8 image ``(H, W, 3)``, and its proposals ``(P, 4)`` where it
            looks at such; arrays without the batch axis.
        sensitive: variables of the layers that give scores and boxes, which keep their bits where others lose some.
        side: of the square that a classifier looks at; ``None`` for a detector.
        proposals: how many proposals of an image it looks at; ``None`` for a model that needs none.
        crops: whether ``features`` takes the proposals.
    """

    model: keras.Model
    task: Literal["detection", "classification"]
    name: str
    classes: tuple[str, ...]
    predict: Callable[..., dict[str, Any]]
    features: Callable[..., dict[str, Any]]
    reference: Callable[..., dict[str, np.ndarray]]
    sensitive: tuple[keras.Variable, ...]
    side: int | None = None
    proposals: int | None = None
    crops: bool = False

    def inputs(self, size: tuple[int, int] | None, dtype: tf.DType | str) -> list[tf.TensorSpec]:
        """What ``predict`` takes, named: images of ``size`` (any by default) and ``dtype``, and proposals."""
        import tensorflow as tf

        height, width = size or (None, None)
        images = tf.TensorSpec((None, height, width, 3), dtype, "images")
        boxes = tf.TensorSpec((None, None, 4), tf.float32, "proposals")
        return [images] if self.proposals is None else [images, boxes]


def subject(model: keras.Model) -> Subject:
    """Look at ``model``, a detector or a classifier.

    A detector has ``classes``, ``preprocessing``, ``extractor``, and a call from images, or from a dict of images and
    proposals, to ``boxes``, ``scores``, ``classes`` and ``num_detections``. A classifier goes from images to
    probabilities ``(B, K)``; its artifact gives ``probabilities``, and the best five as ``classes`` and ``scores``, of
    what ``zoo eval`` shows it too: the middle of the picture (:class:`zoo.datasets.class_views.CentreCrop`).

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
    # A Fast R-CNN says how many proposals of others it looks at, and may look at several scales.
    proposals = getattr(model, "proposals", None)
    pyramid = getattr(model, "pyramid", None) or ()
    crops = hasattr(model.preprocessing, "crops")

    def at(scale, images, ending=""):
        prepared, sizes, _ = scale(images)
        found = model.extractor(prepared, training=False)
        return {f"features{ending}": found, f"prepared_sizes{ending}": sizes}

    def features(images, *boxes):
        if crops:
            raw = model._look({"images": images, "proposals": boxes[0]}, training=False)
            return {"features": model._pool(raw, raw["proposals"])}
        found = {} if pyramid else at(model.preprocessing, images)
        for scale in pyramid:
            found |= at(scale, images, f"_{scale.short}")
        return found

    def call(images, *boxes):
        given = {"images": images, "proposals": boxes[0]} if boxes else images
        return dict(model(given, training=False))

    return Subject(
        model,
        "detection",
        _name(model),
        tuple(model.classes),
        call,
        features,
        lambda *inputs: first(call(*(each[None] for each in inputs))),
        _outside(model.variables, model.extractor, getattr(getattr(model, "head", None), "body", None)),
        proposals=proposals,
        crops=crops,
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
    with recursion(20 * len(model.layers)):
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
