"""Predictions for pictures of all sizes by one graph."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np


def predict_any_size(model: keras.Model, inputs: Any) -> Any:
    """What ``model.predict_on_batch(inputs)`` gives; the first call traces for all sizes and numbers of pictures.

    TensorFlow traces a function for the size of the first picture, for that of the next, and then for one that it
    leaves open: seconds of a deep network each time. That it knows the size makes the network no faster.

    Args:
        model: a detector, or another one that takes pictures of any size.
        inputs: images (B, H, W, 3), or a dictionary of arrays with B rows each, as proposals (B, P, 4).

    >>> predict_any_size(model, images)["boxes"].shape    # doctest: +SKIP
    (2, 100, 4)
    """
    if _is_untraced(model):
        import tensorflow as tf

        def spec(array: Any) -> tf.TensorSpec:
            array = np.asarray(array)
            shape: list[int | None] = [None] * array.ndim
            if array.ndim > 1:
                shape[-1] = array.shape[-1]  # colours and coordinates are as many in all
            return tf.TensorSpec(shape, array.dtype)

        model.make_predict_function()
        model.predict_function.get_concrete_function([(tf.nest.map_structure(spec, inputs),)])
    return model.predict_on_batch(inputs)


def _is_untraced(model: keras.Model) -> bool:
    """Whether it will be traced by TensorFlow; XLA compiles for each size in any case."""
    if keras.backend.backend() != "tensorflow" or not isinstance(model, keras.Model):
        return False
    import tensorflow as tf

    eagerly = model.run_eagerly or tf.config.functions_run_eagerly()
    return model.predict_function is None and not model.jit_compile and not eagerly
