"""Using the moving average of the weights for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np


@contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Inside the block the model has its averaged weights, if its optimizer keeps them (``use_ema=True``)."""
    optimizer = getattr(model, "optimizer", None)
    # With float16 Keras wraps the optimizer in one that scales the loss and knows nothing of an average.
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if optimizer is None or not getattr(optimizer, "use_ema", False) or not optimizer.built:
        yield
        return
    trained = [np.asarray(variable).copy() for variable in model.trainable_weights]
    optimizer.finalize_variable_values(model.trainable_weights)
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_weights, trained, strict=True):
            variable.assign(value)
