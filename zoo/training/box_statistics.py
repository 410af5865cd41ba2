"""What a Fast R-CNN is told of the data before its first step: the statistics of its box deltas."""

from __future__ import annotations

import keras
import numpy as np

from zoo.datasets.pipeline import Batches
from zoo.detectors.normalised_targets import NormalisedTargets


def measures_boxes(model: keras.Model) -> bool:
    """Whether a model divides its box deltas by statistics of its own."""
    return isinstance(model, NormalisedTargets) and model.head.loc is not None


def measure_boxes(model: keras.Model, batches: Batches) -> None:
    """Take the statistics of each class's deltas from all training pictures (Girshick 2015, section 2.3).

    A regression that has been trained has its layer rescaled, so that it goes on meaning what it meant. It is told by
    its biases, which begin at zero. Models without such statistics are left alone.
    """
    if measures_boxes(model):
        trained = bool(np.any(keras.ops.convert_to_numpy(model.head.loc.bias)))
        model.measure_targets(batches.numpy_batches(), new=not trained)
