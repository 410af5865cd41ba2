"""Predictions of a model that may have been built under a strategy: every picture once."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from zoo.any_size import predict_any_size
from zoo.distribute.replicas import strategy_of


def predict_batch(model: keras.Model, inputs: Any, any_size: bool = False) -> Any:
    """What ``model.predict_on_batch(inputs)`` gives, its replicas in this process sharing the work.

    Keras's own gives every replica the whole batch, and back as many copies as there are replicas; on several workers
    it waits for all of them.

    Args:
        model: a classifier or a detector.
        inputs: images (B, H, W, 3), or a dictionary of arrays with B rows each.
        any_size: those of later calls may be of other sizes.
    """
    strategy = strategy_of(model)
    if strategy is None:
        return predict_any_size(model, inputs) if any_size else model.predict_on_batch(inputs)
    import tensorflow as tf

    function = vars(model).get("_zoo_predict")
    if function is None:

        @tf.function(reduce_retracing=True)
        def function(values: Any) -> Any:
            return strategy.run(lambda part: model(part, training=False), args=(values,))

        vars(model)["_zoo_predict"] = function
    count = len(tf.nest.flatten(inputs)[0])
    replicas = len(strategy.extended.worker_devices)
    rows = -(-count // replicas)

    def part(context: tf.distribute.ValueContext) -> Any:
        first = context.replica_id_in_sync_group % replicas * rows
        # All replicas get equally many; what is taken twice is cut off again.
        places = np.minimum(np.arange(first, first + rows), count - 1)
        return tf.nest.map_structure(lambda array: tf.convert_to_tensor(np.asarray(array)[places]), inputs)

    with strategy.scope():
        found = function(strategy.experimental_distribute_values_from_function(part))

    def joined(value: Any) -> np.ndarray:
        return np.concatenate([each.numpy() for each in strategy.experimental_local_results(value)])[:count]

    return tf.nest.map_structure(joined, found)
