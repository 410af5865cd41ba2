"""Numbers of a training for TensorBoard, a folder for each of those that tell them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Scalars:
    """Numbers in a folder of their own, which TensorBoard shows as one curve each.

    Args:
        folder: made with the first number; None writes nothing.

    Example:
        >>> Scalars("runs/two/tensorboard/worker1").write({"examples_per_second": 31.7}, step=100)    # doctest: +SKIP
    """

    def __init__(self, folder: str | Path | None) -> None:
        """Nothing is written yet."""
        self.folder = folder
        self._writer: Any = None

    def write(self, numbers: Mapping[str, float | None], step: int) -> None:
        """Write the numbers that are known."""
        known = {name: value for name, value in numbers.items() if value is not None}
        if self.folder is None or not known:
            return
        import tensorflow as tf

        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self.folder))
        with self._writer.as_default():
            for name, value in known.items():
                tf.summary.scalar(name, value, step=step)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
