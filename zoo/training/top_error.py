"""Validation error of a classifier during training, and the best weights kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras

from zoo.datasets.class_records import ClassificationDataset
from zoo.training.averaging import averaged_weights
from zoo.training.classify import check_class_count, evaluate_classifier
from zoo.weights_io import WeightsMeta, save_weights_file


class TopError(keras.callbacks.Callback):
    """Adds ``val_loss``, ``val_top1_error`` and ``val_top5_error`` to the logs of every n-th epoch and the last one.

    Args:
        dataset: validation pictures.
        every: measure after this many epochs.
        batch_size: pictures at once.
        best_path: where the weights with the lowest top-1 error go; ``None`` to keep none.
        meta: metadata to store with them.
        best: highest accuracy (1 - top-1 error) of an earlier part of a resumed training.
    """

    def __init__(
        self,
        dataset: ClassificationDataset,
        every: int = 1,
        batch_size: int = 250,
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

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Classes that do not agree are an error before the first step, not after an hour."""
        check_class_count(self.model, self.dataset)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Measure, and keep the weights if they are the best so far."""
        last = self.model.stop_training or epoch + 1 == self.params.get("epochs")
        if (epoch + 1) % self.every and not last:
            return
        with averaged_weights(self.model):
            scores = evaluate_classifier(self.model, self.dataset, batch_size=self.batch_size)
            found = {"val_top1_error": scores.top1_error, "val_top5_error": scores.top5_error}
            if 1 - scores.top1_error > self.best and self.best_path is not None:
                meta = replace(self.meta, scores={**found, "epoch": epoch + 1})
                save_weights_file(self.model, self.best_path, meta=meta)
        self.best = max(self.best, 1 - scores.top1_error)
        if logs is not None:
            logs.update({"val_loss": scores.loss, **found})
