"""Long vectors that stay on parameter servers: each server computes its own part, the coordinator gets scalars only.

What Dean 2012 (section 4.2, Algorithm 2) has the coordinator ask of its parameter servers: sums, scaled copies, dot
products. `zoo.distribute.lbfgs` uses the same operators on them as on NumPy's arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.distribute.downpour_rules import shards
from zoo.distribute.parameter_servers import naming_lost_servers


class ServerVectors:
    """Which numbers of a long vector lie on which server: those of the parameters that lie there.

    Args:
        values: variables on the servers, whole or in shards along the first axis; the vector has them in this order.
        coordinator: of the cluster.

    Attributes:
        devices: of the servers that have anything.
        parts: for each of them its variables, or pieces of variables, in order.
        ranges: for each of them where these are in the vector, (first, one after the last).

    Example:
        >>> space = ServerVectors(ServerValues(objective, strategy).values, coordinator)    # doctest: +SKIP
        >>> x = space.put(objective.vector())                                              # doctest: +SKIP
        >>> (x - 0.5 * x) @ x                                                              # doctest: +SKIP
        1.25
    """

    def __init__(self, values: Sequence[Any], coordinator: tf.distribute.coordinator.ClusterCoordinator) -> None:
        """Moves nothing yet."""
        self._coordinator = coordinator
        found: dict[str, list[tuple[Any, tuple[int, int]]]] = {}
        at = 0
        for part in (part for variable in values for part in shards(variable)):
            size = int(part.shape.num_elements())
            found.setdefault(part.device, []).append((part, (at, at + size)))
            at += size
        self.size = at
        self.devices = list(found)
        self.parts = [[part for part, _ in each] for each in found.values()]
        self.ranges = [[where for _, where in each] for each in found.values()]
        self._threads = ThreadPoolExecutor(len(self.devices), "server vectors")
        self._assign = [tf.function(self._assigner(number), autograph=False) for number in range(len(self.devices))]

    def each(self, work: Callable[..., Any], *pieces: Sequence[Any]) -> list[Any]:
        """``work`` of every server's pieces, there, on all servers at the same time.

        Raises:
            WorkerLostError: when a server is gone.
        """

        def there(device: str, *own: Any) -> Any:
            with tf.device(device):
                return work(*own)

        with naming_lost_servers(self._coordinator):
            if len(self.devices) == 1:
                return [there(self.devices[0], *(each[0] for each in pieces))]
            return list(self._threads.map(there, self.devices, *pieces))

    def put(self, x: np.ndarray) -> ServerVector:
        """Bring ``x (n,)`` there, as float64."""
        x = np.asarray(x, np.float64)
        own = [np.concatenate([x[first:end] for first, end in ranges]) for ranges in self.ranges]
        return ServerVector(self, self.each(lambda piece: tf.identity(tf.constant(piece)), own))

    def get(self, vector: ServerVector) -> np.ndarray:
        """Bring a vector here, ``(n,)`` float64."""
        x = np.empty(self.size)
        for piece, ranges in zip(self.each(lambda piece: piece.numpy(), vector.pieces), self.ranges, strict=True):
            at = 0
            for first, end in ranges:
                x[first:end] = piece[at : at + end - first]
                at += end - first
        return x

    def assign(self, vector: ServerVector) -> None:
        """Set the servers' variables to a vector; nothing leaves its server."""
        self.each(lambda assign, piece: assign(piece), self._assign, vector.pieces)

    def cut(self, tensors: Sequence[tf.Tensor], dtype: tf.DType) -> list[tf.Tensor]:
        """Whole tensors, one for each variable, as the pieces of a vector; in a function of TensorFlow."""
        flat = [tf.reshape(tf.cast(each, dtype), [-1]) for each in tensors]
        ends = np.cumsum([int(each.shape[0]) for each in flat])
        pieces = []
        for ranges in self.ranges:
            own = []
            for first, end in ranges:
                number = int(np.searchsorted(ends, first, side="right"))
                start = int(ends[number]) - int(flat[number].shape[0])
                own.append(flat[number][first - start : end - start])
            pieces.append(tf.concat(own, 0))
        return pieces

    def _assigner(self, number: int) -> Callable[[tf.Tensor], None]:
        def assign(flat: tf.Tensor) -> None:
            sizes = [end - first for first, end in self.ranges[number]]
            for part, own in zip(self.parts[number], tf.split(flat, sizes), strict=True):
                part.assign(tf.cast(tf.reshape(own, part.shape), part.dtype), read_value=False)

        return assign


class ServerVector:
    """A vector of float64 on the servers, which never changes; with the operators of NumPy that L-BFGS needs.

    ``np.asarray`` brings it here, nothing else does.

    Args:
        space: where it lies.
        pieces: one tensor for each server.
    """

    __array_ufunc__ = None  # NumPy's numbers leave the work to this class
    __slots__ = ("pieces", "space")

    def __init__(self, space: ServerVectors, pieces: Sequence[tf.Tensor]) -> None:
        """Takes the tensors as they are."""
        self.space, self.pieces = space, list(pieces)

    def __add__(self, other: ServerVector) -> ServerVector:
        """The sum."""
        return self._with(tf.add, other)

    def __sub__(self, other: ServerVector) -> ServerVector:
        """The difference."""
        return self._with(tf.subtract, other)

    def __mul__(self, other: ServerVector | float) -> ServerVector:
        """Times a number, or element by element."""
        if isinstance(other, ServerVector):
            return self._with(tf.multiply, other)
        number = tf.constant(float(other), tf.float64)
        return ServerVector(self.space, self.space.each(lambda piece: tf.multiply(piece, number), self.pieces))

    __rmul__ = __mul__

    def __truediv__(self, number: float) -> ServerVector:
        """Divided by a number."""
        number = tf.constant(float(number), tf.float64)
        return ServerVector(self.space, self.space.each(lambda piece: tf.divide(piece, number), self.pieces))

    def __neg__(self) -> ServerVector:
        """The other way."""
        return ServerVector(self.space, self.space.each(tf.negative, self.pieces))

    def __abs__(self) -> ServerVector:
        """Absolute values."""
        return ServerVector(self.space, self.space.each(tf.abs, self.pieces))

    def __matmul__(self, other: ServerVector) -> float:
        """The dot product: a number from each server."""
        return sum(self.space.each(lambda one, two: float(tf.reduce_sum(one * two)), self.pieces, other.pieces))

    def max(self) -> float:
        """The largest element."""
        return max(self.space.each(lambda piece: float(tf.reduce_max(piece)), self.pieces))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All of it, here."""
        return self.space.get(self).astype(dtype or np.float64, copy=False)

    def _with(self, operation: Callable[..., tf.Tensor], other: ServerVector) -> ServerVector:
        return ServerVector(self.space, self.space.each(operation, self.pieces, other.pieces))
