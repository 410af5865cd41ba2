"""A Keras model and its loss as a function of one long vector, computed unit by unit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.distribute.sandblaster_pool import UnitSums, Worker

# What a detector makes in training that no gradient flows through, though it depends on the parameters.
_KEPT = ("proposals", "proposal_scores")


@dataclass(frozen=True, eq=False)
class Draw:
    """What is held while the parameters change, so that they alone decide the loss.

    Attributes:
        number: of the draw; added to a detector's count of steps, which decides what it samples.
        kept: by unit, the proposals that were made when it began; None while they are being made.
    """

    number: int = 0
    kept: Mapping[int, Mapping[str, np.ndarray]] | None = None


class Objective:
    """The loss of a compiled model, of whatever kind, whose parameters are given from outside.

    What is random stays as it is: the same unit gives the same result at every evaluation. A detector samples by the
    picture and by its count of steps, which stands still; dropout draws by the unit; data are taken as they come.
    The model itself is not changed, so that many threads may use one.

    A region proposal network's proposals depend on the parameters, and the gradient takes them as fixed (Ren 2015,
    section 3.2). For the gradient to be that of the loss they have to be kept: `sums` gives those that it made, and
    takes them back. From them and from the step, which also stands still, the same RoIs are sampled.

    Args:
        model: compiled, built.
        training: whether it runs as in training: with dropout, and batch normalisation by the unit's own statistics,
            whose averages are then kept up with. Detectors have to.

    Attributes:
        trainable: the variables that the vector consists of, in order.
        state: other variables that training may move.
        draws: whether there is anything that a `Draw` decides: a detector's samples, and its proposals.
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
        self.draws = bool(self._fixed)
        self.sums = tf.function(self._sums, reduce_retracing=True, autograph=False)

    @property
    def sizes(self) -> list[int]:
        """Numbers in each trainable variable."""
        return [int(np.prod(each.shape)) for each in self.trainable]

    def vector(self) -> np.ndarray:
        """The model's parameters, ``(n,)`` float64."""
        return np.concatenate([np.ravel(each).astype(np.float64) for each in map(np.asarray, self.trainable)])

    def kernels(self) -> np.ndarray:
        """Which numbers of the vector weight decay pulls at, ``(n,)`` bool: those of kernels, not of vectors."""
        return np.repeat([len(each.shape) > 1 for each in self.trainable], self.sizes)

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

    def whole(self, state: Sequence[np.ndarray]) -> list[np.ndarray]:
        """``state`` with the model's own where an array is empty: frozen weights may come from another file."""
        state = list(state) or [np.zeros(0)] * len(self.state)
        return [
            np.asarray(variable) if not value.size and _is_weight(variable, self.model) else value
            for variable, value in zip(self.state, state, strict=True)
        ]

    def _sums(
        self,
        values: list[Any],
        state: list[Any],
        x: Any,
        y: Any,
        unit: Any,
        steps: Any = 0,
        kept: Mapping[str, Any] | None = None,
    ) -> tuple[Any, list[Any], list[Any], dict[str, Any]]:
        """Loss, gradients and state (empty where it stays), summed over the examples of ``(x, y)``; and proposals.

        ``unit`` decides what dropout draws, ``steps`` is added to a detector's count of steps, which decides samples,
        ``kept`` are proposals that were given before, in place of those that the parameters would make now.
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
                made = _made(x, predicted) if kept is None else {}
                predicted = {**predicted, **kept} if kept else predicted
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
        return loss * weight, gradients, moved, made


def to_sums(found: Sequence[Any], examples: int, **told: Any) -> UnitSums:
    """What ``Objective.sums`` gave, on this machine; ``told`` are further fields of `UnitSums`."""
    loss, gradient, state, kept = found
    return UnitSums(
        float(loss),
        [np.asarray(each) for each in gradient],
        [np.asarray(each) for each in state],
        examples,
        kept={name: np.asarray(each) for name, each in kept.items()},
        **told,
    )


def examples_of(x: Any) -> int:
    """How many examples a batch has."""
    return len(tf.nest.flatten(x)[0])


Prepare = Callable[[np.ndarray, Draw | None], Any]


def local_workers(
    objective: Objective, data: Sequence[tuple[Any, Any]], count: int
) -> tuple[dict[str, Worker], Prepare]:
    """``count`` workers of this process by name, and what prepares a point for them.

    Args:
        objective: they share its model.
        data: one ``(x, y)`` for each unit, read by threads.
        count: how many.
    """
    if count < 1:
        raise ValueError(f"workers={count}; give at least 1")

    def prepare(x: np.ndarray, draw: Draw | None) -> tuple[list[Any], list[Any], Draw]:
        values = [tf.constant(each) for each in objective.split(x)]
        return values, [tf.constant(np.asarray(each)) for each in objective.state], draw or Draw()

    def work(point: tuple[list[Any], list[Any], Draw], unit: int) -> UnitSums:
        values, state, draw = point
        (x, y), number, kept = given_to(data, unit, draw)
        began = time.monotonic()
        found = objective.sums(values, state, x, y, tf.constant(unit), number, kept)
        # Asked for before the clock is read again: TensorFlow may still be at it.
        float(found[0])
        return to_sums(found, examples_of(x), compute=time.monotonic() - began)

    return {f"thread {number}": work for number in range(count)}, prepare


def given_to(data: Sequence[tuple[Any, Any]], unit: int, draw: Draw) -> tuple[tuple[Any, Any], tf.Tensor, Any]:
    """A unit's ``(x, y)``, number of the draw and proposals (None to have them made), as tensors."""
    kept = None if draw.kept is None else dict(draw.kept.get(unit, {}))
    return tf.nest.map_structure(tf.convert_to_tensor, data[unit]), tf.constant(draw.number), _tensors(kept)


def _tensors(kept: dict[str, np.ndarray] | None) -> dict[str, tf.Tensor] | None:
    return None if kept is None else {name: tf.convert_to_tensor(each) for name, each in kept.items()}


def _made(x: Any, predicted: Any) -> dict[str, tf.Tensor]:
    """The proposals among a detector's outputs in training, unless they were given to it."""
    given = isinstance(x, Mapping) and "proposals" in x
    if given or not isinstance(predicted, Mapping):
        return {}
    return {name: predicted[name] for name in _KEPT if name in predicted}


def _is_weight(variable: keras.Variable, model: keras.Model) -> bool:
    """Not one of a metric, which nobody asks for here."""
    return any(each is variable for each in model.non_trainable_weights)


def _own_loss(model: keras.Model) -> bool:
    return type(model).compute_loss is not keras.Model.compute_loss


def _numpy_type(variable: keras.Variable) -> np.dtype:
    return np.dtype("float32") if variable.dtype == "bfloat16" else np.dtype(variable.dtype)
