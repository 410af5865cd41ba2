"""Fits Keras's ``fit`` to ``tf.distribute``: what is otherwise with a model while it trains on several replicas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

Step = Callable[[Any], dict[str, Any]]


@contextmanager
def distributed_steps(model: keras.Model, strategy: tf.distribute.Strategy, element_spec: Any) -> Iterator[None]:
    """While the block runs, ``model.fit`` on ``strategy`` gives what it gives on one device.

    Everything is built before the first step (Keras builds on the first batch, which it cannot take apart); batch
    normalisation looks at all replicas' pictures, and each replica draws its own dropout masks; a replica to which
    nothing is left of a short validation batch measures nothing; and on several workers the logs have the axis along
    which Keras averages them.

    Args:
        model: built under the strategy's scope, and compiled.
        strategy: the model's.
        element_spec: shapes and types of a batch.
    """
    # Keras asks the same: one worker of this strategy is to it as no strategy.
    several_workers = (
        isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) and strategy.extended._in_multi_worker_mode()
    )
    with strategy.scope():
        model._symbolic_build(data_batch=element_spec)
    changes: dict[str, Any] = {"_maybe_symbolic_build": lambda iterator=None, data_batch=None: None}
    test_step = _unless_empty(model, model.test_step)
    changes["test_step"] = _with_axis(test_step) if several_workers else test_step
    if several_workers:
        changes["train_step"] = _with_axis(model.train_step)
    own = {name: vars(model)[name] for name in changes if name in vars(model)}
    _forget_functions(model)
    # Not by setattr, which Keras watches.
    vars(model).update(changes)
    try:
        if strategy.num_replicas_in_sync > 1:
            with _synchronised(model), own_draws(model):
                yield
        else:
            yield
    finally:
        for name in changes:
            del vars(model)[name]
        vars(model).update(own)
        _forget_functions(model)


def _with_axis(step: Step) -> Step:
    def with_axis(data: Any) -> dict[str, Any]:
        return {name: tf.reshape(value, [1]) for name, value in step(data).items()}

    return with_axis


def _unless_empty(model: keras.Model, step: Step) -> Step:
    def unless_empty(data: Any) -> dict[str, Any]:
        rows = tf.shape(tf.nest.flatten(data)[0])[0]

        def measure() -> dict[str, tf.Tensor]:
            return {name: tf.convert_to_tensor(value) for name, value in step(data).items()}

        def skip() -> dict[str, tf.Tensor]:
            return {name: tf.convert_to_tensor(value) for name, value in model.get_metrics_result().items()}

        return tf.cond(rows > 0, measure, skip)

    return unless_empty


@contextmanager
def _synchronised(model: keras.Model) -> Iterator[None]:
    """Batch normalisation by the statistics of the global batch (frozen layers use none)."""
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    before = [layer.synchronized for layer in layers]
    for layer in layers:
        layer.synchronized = True
    try:
        yield
    finally:
        for layer, value in zip(layers, before, strict=True):
            layer.synchronized = value


@contextmanager
def own_draws(model: keras.Model) -> Iterator[None]:
    """While the block runs, every replica's dropout draws its own numbers; Keras's seeds are alike on all of them."""
    generators = {id(each): each for layer in model._flatten_layers() for each in vars(layer).values() if _draws(each)}
    for generator in generators.values():
        vars(generator)["next"] = _replicas_own(generator.next)
    try:
        yield
    finally:
        for generator in generators.values():
            del vars(generator)["next"]


def _draws(value: object) -> bool:
    return isinstance(value, keras.random.SeedGenerator)


def _replicas_own(following: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    def replicas_own(ordered: bool = True) -> tf.Tensor:
        seed, context = following(ordered), tf.distribute.get_replica_context()
        if context is None:
            return seed
        # The second number counts the draws; the first is the layer's.
        return seed + tf.cast(tf.stack([context.replica_id_in_sync_group, 0]), seed.dtype)

    return replicas_own


def _forget_functions(model: keras.Model) -> None:
    """Let Keras trace the steps anew."""
    model.train_function = model.test_function = model.predict_function = None
