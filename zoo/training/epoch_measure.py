"""Measures a detector on validation data during training, and keeps the best weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras

from zoo.datasets.proposals import ProposalSource
from zoo.datasets.records import DetectionDataset
from zoo.training.averaging import averaged_weights
from zoo.training.evaluate import check_classes
from zoo.weights_io import WeightsMeta, save_weights_file


class EpochMeasure(keras.callbacks.Callback):
    """Adds figures to the logs of every n-th epoch and of the last one; `VocMap` and `CocoMap` say which.

    The detector is judged as users run it, through ``model.detect``, with its averaged weights if it has
    them.

    Args:
        dataset: validation images.
        every: measure after this many epochs.
        batch_size: images at once.
        best_path: where the weights with the highest first figure go; ``None`` to keep none.
        meta: metadata to store with them.
        best: the highest first figure of an earlier part of a resumed training.

    Attributes:
        proposals: for a Fast R-CNN, where its proposals come from; by default it finds them itself.
    """

    proposals: ProposalSource | None = None

    def __init__(
        self,
        dataset: DetectionDataset,
        every: int = 1,
        batch_size: int = 4,
        best_path: str | Path | None = None,
        meta: WeightsMeta | None = None,
        best: float = -1.0,
    ) -> None:
        """See the class."""
        super().__init__()
        if every < 1:
            raise ValueError(f"every={every}; give the number of epochs between two measurements, at least 1")
        self.dataset, self.every, self.batch_size = dataset, every, batch_size
        self.best_path, self.meta, self.best = best_path, meta or WeightsMeta(), best

    def measure(self) -> dict[str, float]:
        """The figures by their name in the logs; the first decides which weights are best."""
        raise NotImplementedError

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Classes that do not agree are an error before the first step, not after an hour."""
        check_classes(self.model.classes, self.dataset)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Measure, and keep the weights if they are the best so far."""
        last = self.model.stop_training or epoch + 1 == self.params.get("epochs")
        if (epoch + 1) % self.every and not last:
            return
        with averaged_weights(self.model):
            figures = self.measure()
            value = next(iter(figures.values()))
            if value > self.best and self.best_path is not None:
                scores = {**figures, "epoch": epoch + 1}
                save_weights_file(self.model, self.best_path, meta=replace(self.meta, scores=scores))
        self.best = max(self.best, value)
        if logs is not None:
            logs.update(figures)
