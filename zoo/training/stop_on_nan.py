"""Stops a training whose loss is no longer a number, and says which images did it."""

from __future__ import annotations

import math
from typing import Protocol

import keras


class NamesImages(Protocol):
    """Batches that know what they held, such as ``zoo.datasets.pipeline.Batches``."""

    def image_ids(self, epoch: int, step: int) -> list[str]:
        """Names of the images of one batch."""


class NanLossError(ArithmeticError):
    """The loss became NaN or infinite; the message names the batch's images."""


class StopOnNan(keras.callbacks.Callback):
    """Raise ``NanLossError`` at the first batch whose loss is NaN or infinite.

    Keras's logs hold the running mean of an epoch, which turns NaN with the batch that does. A finite loss
    with NaN gradients shows one batch later, so the batch before is named too. The checkpoint of the last
    whole epoch is left as it is.
    """

    def __init__(self, batches: NamesImages) -> None:
        """See the class."""
        super().__init__()
        self.batches = batches
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Remember the epoch: ``batch`` counts from 0 in each."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Look at every number of the logs."""
        bad = [name for name, value in (logs or {}).items() if not math.isfinite(float(value))]
        # A metric may be NaN for want of objects (a recall of nothing); a loss may not.
        if not any("loss" in name for name in bad):
            return
        before = f" The batch before held {_names(self.batches, self._epoch, batch - 1)}." if batch else ""
        raise NanLossError(
            f"{', '.join(bad)} became NaN or infinite in epoch {self._epoch + 1}, step {batch + 1}, "
            "whose images were "
            f"{_names(self.batches, self._epoch, batch)}.{before} Look at their boxes; if they are "
            "sound, lower the "
            "learning rate, warm up longer or clip the gradients. The checkpoint is that of the last "
            "whole epoch."
        )


def _names(batches: NamesImages, epoch: int, step: int) -> str:
    return ", ".join(batches.image_ids(epoch, step))
