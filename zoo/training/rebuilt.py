"""A model with other options, and some arrays in place of its own: what post-hoc training makes of a trained one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import keras
import numpy as np

from zoo.convert.layout import ArrayFile
from zoo.filling import build_filled
from zoo.weights_io import WeightsMeta, weight_names


def rebuilt(model: keras.Model, options: Mapping[str, object], arrays: Mapping[str, np.ndarray]) -> keras.Model:
    """A new model of the same kind; the one given stays as it is.

    Args:
        model: a detector, whose ``get_config`` knows the options.
        options: what is another than in ``model``; they are kept in ``zoo_meta`` too, so that a weights file builds it.
        arrays: weights by their names in a file (``"head/score/kernel"``) that differ from ``model``'s, or are new.
    """
    old = weight_names(model)

    def read(name: str) -> np.ndarray:
        return arrays[name] if name in arrays else keras.ops.convert_to_numpy(old[name])

    def choose(shapes: Mapping[str, tuple[int, ...]]) -> ArrayFile:
        return ArrayFile(model.name, shapes, read)

    config = {**model.get_config(), **options}
    made = build_filled(lambda: type(model).from_config(config), choose, model.name)
    meta = getattr(model, "zoo_meta", None) or WeightsMeta(classes=tuple(model.classes))
    # Scores are left out: they are those of the model that this one was made of.
    made.zoo_meta = replace(meta, options={**meta.options, **options}, scores={}, started_from="", new_layers=())
    return made
