"""How Downpour's parameter servers use a gradient that was pushed to them."""

from __future__ import annotations

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
    """

    name: Literal["adagrad", "sgd"] = "adagrad"

    def __post_init__(self) -> None:
        """Refuse other names."""
        if self.name not in RULES:
            raise ValueError(f"rule {self.name!r}; choose one of {', '.join(RULES)}")

    def step(self, gradient: Any, squares: Any, rate: Any) -> Any:
        """What is taken off a parameter, given the sum of squares with this gradient's."""
        if self.name == "sgd":
            return rate * gradient
        return rate * gradient / (tf.sqrt(squares) + _TINY)

    def push(self, variable: tf.Variable, squares: tf.Variable, gradient: tf.Tensor, rate: tf.Tensor) -> None:
        """Update a variable, shard by shard, where it lies."""
        at = 0
        for part, sums in zip(shards(variable), shards(squares), strict=True):
            rows = gradient if part is variable else gradient[at : at + part.shape[0]]
            at += part.shape[0] if part.shape.rank else 0
            total = sums.assign_add(rows * rows) if self.name == "adagrad" else sums
            part.assign_sub(self.step(rows, tf.convert_to_tensor(total), rate))


def shards(variable: Any) -> list[tf.Variable]:
    """The pieces of a variable; itself if it is whole."""
    pieces = getattr(variable, "variables", None)
    return list(pieces) if pieces is not None else [variable]
