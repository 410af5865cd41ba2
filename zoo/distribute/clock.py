"""The time at which something is there, told from within a TensorFlow function, on whatever machine it runs."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow.python.framework.config import is_op_determinism_enabled


def has_clock() -> bool:
    """Whether functions of TensorFlow may ask for the time: not after ``enable_op_determinism``.

    >>> has_clock()
    True
    """
    return not is_op_determinism_enabled()


def when(things: Any) -> tf.Tensor:
    """Seconds since 1970, float64, at which all tensors and operations of a structure are there.

    For tensors of a GPU TensorFlow goes on as soon as their kernels are queued: a number taken off the last of them,
    and brought to the processor, has waited for all. Fails where there is no clock (`has_clock`).

    >>> bool(when(tf.zeros([2])) > 1.6e9)
    True
    """
    things = tf.nest.flatten(things, expand_composites=True)
    tensors = [each for each in things if tf.is_tensor(each)]
    with tf.control_dependencies(things):
        if not tensors:
            return tf.timestamp()
        number = tf.reshape(tensors[-1], [-1])[:1]
        with tf.device("CPU:0"):
            number = tf.identity(number)
    with tf.control_dependencies([number]):
        return tf.timestamp()
