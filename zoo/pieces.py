"""Large arrays moved a few megabytes at a time, so that nobody holds a second copy of a whole one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from zoo.weights_error import WeightsError

if TYPE_CHECKING:
    import keras

_PIECE = 16 << 20  # bytes; freed blocks of this size are used again, so that pieces cost no new pages


class Rows:
    """A matrix (A * B, O) whose rows are copied out of a view (A, B, O) when they are taken.

    What a dense layer sees behind a flattened feature map lies in another order in most files; bringing it into ours
    has to copy, and with this a slice of rows copies those rows only.

    >>> rows = Rows(np.arange(24).reshape(4, 2, 3).transpose(2, 1, 0))
    >>> rows.shape, rows[2:4].tolist()
    ((6, 4), [[1, 7, 13, 19], [4, 10, 16, 22]])
    """

    def __init__(self, view: np.ndarray):
        self._view = view
        self.dtype = view.dtype
        self.step = int(np.prod(view.shape[1:-1]))
        self.shape = (view.shape[0] * self.step, view.shape[-1])
        self.ndim = 2

    def __getitem__(self, rows: slice) -> np.ndarray:
        """The rows ``a:b`` as an array."""
        start, stop, _ = rows.indices(self.shape[0])
        first = start // self.step
        block = self._view[first : -(-stop // self.step)].reshape(-1, self.shape[1])
        return block[start - first * self.step : stop - first * self.step]

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        """All rows."""
        return np.asarray(self[:], dtype)


def pieces(array: np.ndarray | Rows) -> Iterator[tuple[slice | tuple[()], np.ndarray]]:
    """Rows of an array, and where they belong; ``array`` may be anything with a shape that slices rows.

    >>> [(rows.start, rows.stop) for rows, _ in pieces(np.zeros((3, 2)))]
    [(0, 3)]
    """
    if not array.shape:
        yield (), np.asarray(array)
        return
    count = array.shape[0]
    bytes_a_row = int(np.prod(array.shape[1:])) * array.dtype.itemsize
    step = max(1, getattr(array, "step", _PIECE // max(bytes_a_row, 1)))
    for start in range(0, count, step):
        rows = slice(start, min(start + step, count))
        yield rows, np.asarray(array[rows])


def check_finite(name: str, array: np.ndarray, source: str) -> None:
    """``WeightsError`` if some of the values are no finite numbers."""
    if array.dtype.kind != "f":
        return
    # A sum is as quick as reading, and not finite if a number is not; it may also overflow, and then it is looked at
    # number by number.
    with np.errstate(over="ignore", invalid="ignore"):
        total = array.sum()
    if not np.isfinite(total) and not np.isfinite(array).all():
        raise WeightsError(f"{source} holds NaN or infinite values in {name}; fetch or train it again")


def assign(variable: keras.Variable, array: np.ndarray | Rows) -> None:
    """Set a Keras variable from an array of its shape and any number type."""
    dtype = np.dtype(variable.dtype) if variable.dtype != "bfloat16" else np.dtype("float32")
    if not array.shape or not _takes_rows(variable) or np.prod(array.shape) * dtype.itemsize <= _PIECE:
        variable.assign(np.asarray(array[()] if not array.shape else array[:]).astype(dtype, copy=False))
        return
    import tensorflow as tf

    for rows, part in pieces(array):
        # In place: assigning the whole holds three copies of it for a moment. `value[rows].assign` would do the same,
        # but reads the rows first and leaves them to the garbage collector.
        tf.raw_ops.ResourceStridedSliceAssign(
            ref=variable.value.handle,
            begin=[rows.start],
            end=[rows.stop],
            strides=[1],
            value=tf.constant(part, variable.dtype),
        )


def _takes_rows(variable: keras.Variable) -> bool:
    """Whether a part of a variable can be set in place: plain TensorFlow variables only."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return isinstance(variable.value, tf.Variable) and not isinstance(variable.value, tf.distribute.DistributedValues)
