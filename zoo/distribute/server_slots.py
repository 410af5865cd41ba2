"""Where workers leave the gradients of their units on the servers, until the coordinator has them counted."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.distribute.server_vectors import ServerVector, ServerVectors


class Slots:
    """A place on every server for the gradient of each unit that is being computed; a unit counts once.

    What is sent: a worker writes its unit's gradient to the servers, each part in one assignment together with a
    ticket, the number of the call. The coordinator gets the ticket of each server. Only then, and if it is the first
    result of the unit, it tells the servers to add what they have, each by itself.

    Why that is exact: `take` reads a part and its ticket at once, into a tensor that nothing changes any more. A
    ticket belongs to one unit of one pass, and what is taken when that is over does not count. TensorFlow may give a
    dead worker's unit to another, under the same ticket: what it writes replaces the first, and is the same. A worker
    that was taken for dead and comes late writes an older ticket, and `take` gives None. So the parts that are added
    are those of one unit, whole; and added is what `zoo.distribute.sandblaster_units.Units.finish` lets pass, once for
    each unit.

    Args:
        space: whose vectors the gradients are.
        count: slots: units that are computed at the same time.
        dtype: of the gradients.
    """

    def __init__(self, space: ServerVectors, count: int, dtype: tf.DType) -> None:
        """Makes them, empty."""
        self.space, self.dtype = space, tf.as_dtype(dtype)
        self._ticket_dtype = tf.int64 if self.dtype == tf.float64 else tf.int32
        self._tickets = itertools.count(1)
        self._splits = [tf.function(self._split, autograph=False) for _ in space.devices]
        sizes = [sum(end - first for first, end in ranges) for ranges in space.ranges]
        # Outside the strategy's scope, which would choose a server itself, and cut the slot.
        self._slots = [[] for _ in range(count)]
        for slot in self._slots:
            slot += space.each(lambda size: tf.Variable(tf.zeros([size + 1], self.dtype), trainable=False), sizes)

    def ticket(self) -> tf.Tensor:
        """A new one, for one call."""
        return tf.constant(next(self._tickets), self._ticket_dtype)

    def handles(self, slot: int) -> list[tf.Tensor]:
        """What `write` needs of a slot, one for each server."""
        return [each.handle for each in self._slots[slot]]

    def write(self, handles: Sequence[tf.Tensor], gradients: Sequence[tf.Tensor], ticket: tf.Tensor) -> list[Any]:
        """Leave gradients in a slot; in a function that a worker runs. The operations that do so."""
        mark = tf.reshape(tf.bitcast(ticket, self.dtype), [1])
        done = []
        pieces = self.space.cut(gradients, self.dtype)
        for device, handle, piece in zip(self.space.devices, handles, pieces, strict=True):
            value = tf.concat([piece, mark], 0)
            with tf.device(device):
                done.append(tf.raw_ops.AssignVariableOp(resource=handle, value=value))
        return done

    def take(self, slot: int, ticket: tf.Tensor) -> ServerVector | None:
        """What was left in a slot under this ticket, on the servers; None if any part has another ticket."""

        def read(split: Any, variable: tf.Variable) -> tuple[tf.Tensor, int]:
            piece, found = split(variable.handle)
            return piece, int(found)

        pieces, found = zip(*self.space.each(read, self._splits, self._slots[slot]), strict=True)
        return ServerVector(self.space, pieces) if set(found) == {int(ticket)} else None

    def _split(self, handle: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        value = tf.raw_ops.ReadVariableOp(resource=handle, dtype=self.dtype)
        return tf.cast(value[:-1], tf.float64), tf.bitcast(value[-1], self._ticket_dtype)


def slot_type(dtypes: Sequence[Any]) -> tf.DType:
    """The type that holds gradients of all these types.

    >>> slot_type(["float32", "bfloat16"])
    tf.float32
    """
    return tf.float64 if any(np.dtype("float64") == tf.as_dtype(each).as_numpy_dtype for each in dtypes) else tf.float32
