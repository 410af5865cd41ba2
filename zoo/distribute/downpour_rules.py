"""How Downpour's parameter servers use a gradient that was pushed to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import tensorflow as tf

RULES = ("adagrad", "sgd")
# Keeps the first step of a parameter without gradient finite.
_TINY = 1e-10


@dataclass(frozen=True)
class Rule:
    """Plain SGD, or Adagrad as Dean 2012 has it (section 4.1): the rate of a parameter is divided by the root of the
    sum of the squares of all its gradients.

    Without momentum: gradients that come late act like momentum already.

    Attributes:
        name: ``"adagrad"`` or ``"sgd"``.
        weight_decay: pull on kernels inside the gradient, as Caffe has it; vectors (biases, scales) are left out.
        clipnorm: limit of the norm of a mini-batch's gradient, before the pull is added; ``None`` for none.
        bias_rate: learning rate of biases, as a multiple.
    """

    name: Literal["adagrad", "sgd"] = "adagrad"
    weight_decay: float = 0.0
    clipnorm: float | None = None
    bias_rate: float = 1.0

    def __post_init__(self) -> None:
        """Refuse other names."""
        if self.name not in RULES:
            raise ValueError(f"rule {self.name!r}; choose one of {', '.join(RULES)}")

    def shaped(self, gradients: Sequence[Any], values: Sequence[Any]) -> list[Any]:
        """The gradients of a mini-batch, clipped together, with the pull of weight decay at these values."""
        if self.clipnorm is not None:
            gradients, _ = tf.clip_by_global_norm(list(gradients), self.clipnorm)
        if not self.weight_decay:
            return list(gradients)
        return [
            each + self.weight_decay * value if value.shape.rank > 1 else each
            for each, value in zip(gradients, values, strict=True)
        ]

    def rates(self, names: Sequence[str]) -> list[float]:
        """What the learning rate of each variable is multiplied by, given their names."""
        return [self.bias_rate if name == "bias" else 1.0 for name in names]

    def step(self, gradient: Any, squares: Any, rate: Any) -> Any:
        """What is taken off a parameter, given the sum of squares with this gradient's."""
        if self.name == "sgd":
            return rate * gradient
        return rate * gradient / (tf.sqrt(squares) + _TINY)

    def push(
        self, variable: tf.Variable, squares: tf.Variable | None, gradient: tf.Tensor, rate: tf.Tensor
    ) -> list[Any]:
        """Update a variable, shard by shard, where it lies; the operations that do so. SGD needs no squares."""
        at, done, parts = 0, [], shards(variable)
        for part, sums in zip(parts, [None] * len(parts) if squares is None else shards(squares), strict=True):
            rows = gradient if part is variable else gradient[at : at + part.shape[0]]
            at += part.shape[0] if part.shape.rank else 0
            total = None if sums is None else tf.convert_to_tensor(sums.assign_add(rows * rows))
            done.append(part.assign_sub(self.step(rows, total, rate), read_value=False))
        return done


def shards(variable: Any) -> list[tf.Variable]:
    """The pieces of a variable; itself if it is whole."""
    pieces = getattr(variable, "variables", None)
    return list(pieces) if pieces is not None else [variable]


def assign_shards(variable: Any, value: tf.Tensor) -> None:
    """Set a variable, shard by shard."""
    at = 0
    for part in shards(variable):
        part.assign(value if part is variable else value[at : at + part.shape[0]])
        at += part.shape[0] if part.shape.rank else 0
