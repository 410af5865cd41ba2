"""Each worker's throughput, and where its time goes, in TensorBoard."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras

from zoo.distribute.timing import StepTimer
from zoo.distribute.timing_scalars import Scalars


class EpochTimes(keras.callbacks.Callback):
    """Starts a timer's clock at each epoch, and writes the epoch's means for TensorBoard.

    Args:
        timer: of the training.
        folder: of this worker; None for no TensorBoard.
    """

    def __init__(self, timer: StepTimer, folder: str | Path | None = None) -> None:
        """Nothing is written yet."""
        super().__init__()
        self.timer, self.scalars = timer, Scalars(folder)
        self._before = replace(timer.total)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Start the clock."""
        self._before = replace(self.timer.total)
        self.timer.begin()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Write what the epoch's steps took."""
        times = self.timer.total - self._before
        parts = {f"step/{name}_ms": value for name, value in times.milliseconds.items()}
        self.scalars.write({"examples_per_second": times.examples_per_second, **parts}, epoch + 1)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Close the file."""
        self.scalars.close()
