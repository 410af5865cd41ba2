"""Batches for TensorFlow: as a ``tf.data.Dataset``, and for each worker of a ``tf.distribute`` strategy."""

import atexit
import functools
import threading
import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

_X = ("images", "sizes", "image_id", "prepared_sizes", "proposals", "num_proposals")
_DTYPES = {
    "images": "uint8",
    "sizes": "int32",
    "image_id": "int32",
    "prepared_sizes": "int32",
    "proposals": "float32",
    "num_proposals": "int32",
    "boxes": "float32",
    "classes": "int32",
    "difficult": "bool",
}


class Source(Protocol):
    """What is asked of `zoo.datasets.pipeline.Batches`."""

    batch_size: int
    steps_per_epoch: int
    workers: int
    error: Exception | None

    def batch(self, epoch: int, step: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """One batch."""

    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Static shapes."""

    def shard(self, index: int, count: int) -> "Source":
        """A part of every batch."""


class _Calls(AbstractContextManager):
    """Counts the calls from TensorFlow's threads, so that the interpreter does not end while there are any.

    One that comes or goes while Python shuts down aborts the process or hangs it. They end by themselves: an iterator
    that nobody reads prepares a few batches and then waits.
    """

    QUIET = 0.1
    MOST = 10.0

    def __init__(self) -> None:
        self._lock, self._running, self._last = threading.Lock(), 0, 0.0

    def __enter__(self) -> None:
        with self._lock:
            self._running += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._running, self._last = self._running - 1, time.monotonic()

    def wait(self) -> None:
        """Until there was no call for `QUIET` seconds; `MOST` seconds if a picture takes for ever."""
        until = time.monotonic() + self.MOST
        while time.monotonic() < until and (self._running or time.monotonic() - self._last < self.QUIET):
            time.sleep(0.01)


@functools.cache
def calls_from_tensorflow() -> AbstractContextManager:
    """To be entered by every function that TensorFlow's threads call; Python then waits for them before it ends."""
    calls = _Calls()
    atexit.register(calls.wait)
    return calls


def as_dataset(
    batches: Source, start_epoch: int, repeat: bool, start_step: int, whole: Source | None = None
) -> "tf.data.Dataset":
    """See ``dataset`` of `zoo.datasets.pipeline.Batches`; ``whole``: what a shard is a part of, for ``error``."""
    import tensorflow as tf

    shapes, calls = batches.shapes(), calls_from_tensorflow()

    def make(number: np.int64) -> list[np.ndarray]:
        try:
            with calls:
                x, y = batches.batch(*divmod(int(number), batches.steps_per_epoch))
        except Exception as error:
            (whole or batches).error = error
            raise
        return [{**x, **y}[name] for name in shapes]

    def with_shapes(number: "tf.Tensor") -> tuple[dict[str, "tf.Tensor"], dict[str, "tf.Tensor"]]:
        parts = tf.numpy_function(make, [number], [tf.as_dtype(_DTYPES[name]) for name in shapes])
        for part, shape in zip(parts, shapes.values(), strict=True):
            part.set_shape(shape)
        named = dict(zip(shapes, parts, strict=True))
        return {name: named[name] for name in shapes if name in _X}, {
            name: named[name] for name in shapes if name not in _X
        }

    first = start_epoch * batches.steps_per_epoch + start_step
    if repeat:
        numbers = tf.data.Dataset.counter(first)
    else:
        numbers = tf.data.Dataset.range(first, (start_epoch + 1) * batches.steps_per_epoch)
    return numbers.map(with_shapes, num_parallel_calls=batches.workers, deterministic=True).prefetch(2)


def part_of_batch(size: int, rows: slice, index: int, count: int) -> tuple[int, slice]:
    """Size and place of part ``index`` of ``count``, of a batch of ``size`` pictures that is ``rows`` of a whole one.

    >>> part_of_batch(4, slice(None), 1, 2)
    (2, slice(2, 4, None))
    """
    if not 0 <= index < count:
        raise ValueError(f"shard {index} of {count}: give 0 to {count - 1}, and at least one shard")
    if size % count:
        raise ValueError(f"a batch of {size} pictures is no multiple of {count} workers")
    own = size // count
    start = (rows.start or 0) + index * own
    return own, slice(start, start + own)


def per_worker(
    batches: Source, context: "tf.distribute.InputContext", start_epoch: int, start_step: int
) -> "tf.data.Dataset":
    """See ``per_worker`` of `zoo.datasets.pipeline.Batches`."""
    mine = batches.shard(context.input_pipeline_id, context.num_input_pipelines)
    return for_replicas(as_dataset(mine, start_epoch, True, start_step, batches), context, batches.batch_size)


def for_replicas(data: "tf.data.Dataset", context: "tf.distribute.InputContext", size: int) -> "tf.data.Dataset":
    """A worker's endless parts of batches of ``size`` pictures, cut into those of its replicas."""
    import tensorflow as tf

    if context.num_replicas_in_sync > context.num_input_pipelines:
        # Keras runs one step too many where the length is unknown, which it is after rebatch.
        data = data.rebatch(context.get_per_replica_batch_size(size), drop_remainder=True)
        data = data.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    return data
