"""Loss scaling whose steps all replicas take, or none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras


def agree_on_overflow(optimizer: keras.optimizers.Optimizer) -> None:
    """Make all replicas leave out a step if the gradient of any of them has overflowed.

    With float16 Keras scales the loss, and leaves out a step whose gradient is not finite. It looks at one replica's
    share of the gradient, which is added to the others' only later: an overflow on another one would reach all weights,
    and several workers, each looking at its own, would wait for each other in vain.
    """
    if not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return
    import tensorflow as tf

    finite_here = optimizer.check_finite

    def finite_everywhere(gradients: Sequence[Any]) -> Any:
        overflows = tf.cast(tf.logical_not(finite_here(gradients)), tf.float32)
        replicas = tf.distribute.get_replica_context()
        return replicas.all_reduce(tf.distribute.ReduceOp.SUM, overflows) == 0

    # Not by setattr, which Keras watches.
    vars(optimizer)["check_finite"] = finite_everywhere
