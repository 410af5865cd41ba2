"""A Keras model and its loss as a function of one long vector, computed unit by unit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.distribute.sandblaster_pool import UnitSums, Worker


class Objective:
    """The loss of a compiled model, of whatever kind, whose parameters are given from outside.

    What is random stays as it is: the same unit gives the same result at every evaluation. A detector samples by the
    picture and by its count of steps, which stands still; dropout draws by the unit; data are taken as they come.
    The model itself is not changed, so that many threads may use one.

    Args:
        model: compiled, built.
        training: whether it runs as in training: with dropout, and batch normalisation by the unit's own statistics,
            whose averages are then kept up with. Detectors have to.

    Attributes:
        trainable: the variables that the vector consists of, in order.
        state: other variables that training may move.
    """

    def __init__(self, model: keras.Model, training: bool = True) -> None:
        """Refuses a model that has no loss yet."""
        if not model.built or (getattr(model, "_compile_loss", None) is None and not _own_loss(model)):
            raise ValueError(f"{model.name} has no loss or no weights; build it, and compile it with a loss")
        self.model, self.training = model, training
        self.trainable = list(model.trainable_variables)
        if not self.trainable:
            raise ValueError(f"{model.name} has nothing to train; all its layers are frozen")
        taken = {id(each) for each in self.trainable}
        rest = [each for each in (*model.variables, *model.metrics_variables) if id(each) not in taken]
        self.state = [each for each in rest if keras.backend.is_float_dtype(each.dtype)]
        weights = {id(each) for each in model.weights}
        others = [each for each in rest if not keras.backend.is_float_dtype(each.dtype)]
        self._seeds = [(each, np.asarray(each)) for each in others if id(each) not in weights]
        self._fixed = [(each, np.asarray(each)) for each in others if id(each) in weights]
        self.sums = tf.function(self._sums, reduce_retracing=True, autograph=False)

    @property
    def sizes(self) -> list[int]:
        """Numbers in each trainable variable."""
        return [int(np.prod(each.shape)) for each in self.trainable]

    def vector(self) -> np.ndarray:
        """The model's parameters, ``(n,)`` float64."""
        return np.concatenate([np.ravel(each).astype(np.float64) for each in map(np.asarray, self.trainable)])

    def split(self, x: np.ndarray) -> list[np.ndarray]:
        """``x (n,)`` as arrays of the variables' shapes and types."""
        parts = np.split(x, np.cumsum(self.sizes)[:-1])
        return [
            part.reshape(each.shape).astype(_numpy_type(each)) for part, each in zip(parts, self.trainable, strict=True)
        ]

    def assign(self, x: np.ndarray, state: Sequence[np.ndarray] = ()) -> None:
        """Set the model's parameters and, if given, its state."""
        for variable, value in zip(self.trainable, self.split(x), strict=True):
            variable.assign(value)
        self.assign_state(state)

    def assign_state(self, state: Sequence[np.ndarray]) -> None:
        """Set the state; where an array is empty, nothing had changed."""
        for variable, value in zip(self.state, state, strict=False):
            if value.size or not all(variable.shape):
                variable.assign(value.astype(_numpy_type(variable)))

    def _sums(
        self, values: list[Any], state: list[Any], x: Any, y: Any, unit: Any, steps: Any = 0
    ) -> tuple[Any, list[Any], list[Any]]:
        """Loss, gradients and state (empty where it stays), summed over the examples of ``(x, y)``.

        ``unit`` decides what dropout draws, ``steps`` is added to a detector's count of steps, which decides samples.
        """
        values = [tf.convert_to_tensor(each) for each in values]
        mapping = list(zip(self.trainable, values, strict=True))
        mapping += [(each, tf.convert_to_tensor(value)) for each, value in zip(self.state, state, strict=True)]
        mapping += [(each, value + tf.cast(steps, each.dtype)) for each, value in self._fixed]
        mapping += [(each, value + tf.cast(tf.stack([0, unit * 1000]), each.dtype)) for each, value in self._seeds]
        with tf.GradientTape() as tape:
            tape.watch(values)
            with keras.StatelessScope(mapping, collect_losses=True) as scope:
                before = [scope.get_current_value(each) for each in self.state]
                predicted = self.model(x, training=self.training)
                loss = self.model.compute_loss(x, y, predicted, None, training=self.training)
                after = [scope.get_current_value(each) for each in self.state]
        count = tf.shape(tf.nest.flatten(x)[0])[0]
        weight = tf.cast(count, loss.dtype)
        gradients = tape.gradient(loss, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        gradients = [tf.convert_to_tensor(each) * tf.cast(weight, each.dtype) for each in gradients]
        moved = [
            tf.zeros([0]) if new is old or not _is_weight(variable, self.model) else new * tf.cast(weight, new.dtype)
            for variable, new, old in zip(self.state, after, before, strict=True)
        ]
        return loss * weight, gradients, moved


def to_sums(found: tuple[Any, Sequence[Any], Sequence[Any]], examples: int) -> UnitSums:
    """What ``Objective.sums`` gave, on this machine."""
    loss, gradient, state = found
    return UnitSums(
        float(loss), [np.asarray(each) for each in gradient], [np.asarray(each) for each in state], examples
    )


def examples_of(x: Any) -> int:
    """How many examples a batch has."""
    return len(tf.nest.flatten(x)[0])


def local_workers(
    objective: Objective, data: Sequence[tuple[Any, Any]], count: int
) -> tuple[dict[str, Worker], Callable[[np.ndarray], Any]]:
    """``count`` workers of this process by name, and what prepares a point for them.

    Args:
        objective: they share its model.
        data: one ``(x, y)`` for each unit, read by threads.
        count: how many.
    """
    if count < 1:
        raise ValueError(f"workers={count}; give at least 1")

    def prepare(x: np.ndarray) -> tuple[list[Any], list[Any]]:
        values = [tf.constant(each) for each in objective.split(x)]
        return values, [tf.constant(np.asarray(each)) for each in objective.state]

    def work(point: tuple[list[Any], list[Any]], unit: int) -> UnitSums:
        x, y = data[unit]
        found = objective.sums(*point, *tf.nest.map_structure(tf.convert_to_tensor, (x, y)), tf.constant(unit))
        return to_sums(found, examples_of(x))

    return {f"thread {number}": work for number in range(count)}, prepare


def _is_weight(variable: keras.Variable, model: keras.Model) -> bool:
    """Not one of a metric, which nobody asks for here."""
    return any(each is variable for each in model.non_trainable_weights)


def _own_loss(model: keras.Model) -> bool:
    return type(model).compute_loss is not keras.Model.compute_loss


def _numpy_type(variable: keras.Variable) -> np.dtype:
    return np.dtype("float32") if variable.dtype == "bfloat16" else np.dtype(variable.dtype)
