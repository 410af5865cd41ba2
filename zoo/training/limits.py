"""Callbacks that end a training: after so many steps, or after so many minutes."""

from __future__ import annotations

import time

import keras

from zoo.training.schedule import WarmupDecay


class StopAtStep(keras.callbacks.Callback):
    """End after ``total_steps`` steps in all, in the middle of an epoch if need be; ``steps`` are done by now."""

    def __init__(self, total_steps: int, done: int = 0) -> None:
        """Counting starts with `fit`, at what an earlier part of a resumed training has ``done``."""
        super().__init__()
        self.total_steps, self.steps = total_steps, done
        self._before = done

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Remember where the epoch began: ``batch`` counts from 0 in each."""
        self._before = self.steps

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Stop when the count is full."""
        self.steps = self._before + batch + 1
        if self.steps >= self.total_steps:
            self.model.stop_training = True


class TimeBudget(keras.callbacks.Callback):
    """End after ``minutes``; the learning rate follows the clock, so that the whole schedule fits in.

    The first trace, validation and checkpoints count; the optimizer's learning rate must be a plain number,
    which is set before every batch. On JAX a new rate is seen from the next epoch on, because `fit` keeps
    its own copy. ``elapsed`` (seconds) is what a resumed training has used before.
    """

    def __init__(self, minutes: float, schedule: WarmupDecay, steps_per_epoch: int, elapsed: float = 0.0) -> None:
        """The clock starts with `fit`."""
        super().__init__()
        if minutes <= 0:
            raise ValueError(f"minutes={minutes}; give a positive number")
        self.minutes, self.schedule, self.steps_per_epoch = minutes, schedule, steps_per_epoch
        self._before, self._started, self._epoch = elapsed, time.monotonic(), 0

    @property
    def elapsed(self) -> float:
        """Seconds used so far, earlier runs included."""
        return self._before + time.monotonic() - self._started

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Remember the epoch: ``batch`` counts from 0 in each."""
        self._epoch = epoch
        self._set_rate(0)

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Set the learning rate by the clock."""
        self._set_rate(batch)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Stop when the time is up."""
        if self.elapsed >= self.minutes * 60:
            self.model.stop_training = True

    def _set_rate(self, batch: int) -> None:
        step = self._epoch * self.steps_per_epoch + batch
        self.model.optimizer.learning_rate = float(self.schedule.at(step, self.elapsed / (self.minutes * 60)))
