"""What a training on parameter servers leaves in its folder: the same files as `zoo.train`, and its own checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import keras

from zoo.datasets.pipeline import Batches
from zoo.datasets.proposals_choice import check_proposals
from zoo.training.box_statistics import measure_boxes
from zoo.training.checkpoint import all_options
from zoo.training.fit import BEST, save_result
from zoo.training.freeze import freeze_before
from zoo.training.history import HistoryLog, read_csv
from zoo.training.kinds import check_folder
from zoo.training.same_data import data_digest
from zoo.training.tasks import TrainData, ValData, as_batches, judging_metric, make_task
from zoo.weights_io import WeightsMeta, read_meta

if TYPE_CHECKING:
    from zoo.datasets.class_batches import ClassBatches

Rate = float | Callable[[Any], Any]


class RunFolder:
    """The folder of one training: weights, their best, the log and its curves; validation, which decides what is best.

    Args:
        model: built outside the scope of a strategy.
        train_data: see `zoo.train`.
        val_data: see there.
        out: the folder; it is made.
        checkpoint: the name of the file in it that the training goes on from.
        batch_size: see `zoo.train`.
        seed: of the data's order and augmentation.
        train_from: see `zoo.training.freeze.freeze_before`.
        val_every: rows of the log between two validations.
        metric: see `zoo.train`.
        keep: see there.
        resume: see there.
        tensorboard: see there.
        command: see there.

    Attributes:
        batches: the training data.
        checkpoint: the path.
        settings: what has to be the same when the training goes on.

    Raises:
        ValueError: for data that do not fit the model, and for a folder that holds a training that is not resumed.
    """

    def __init__(
        self,
        model: keras.Model,
        train_data: TrainData,
        val_data: ValData | None,
        out: str | Path,
        checkpoint: str,
        *,
        batch_size: int = 2,
        seed: int = 0,
        train_from: str | None = None,
        val_every: int = 1,
        metric: Literal["voc", "coco"] | None = None,
        keep: Literal["best", "last"] = "best",
        resume: bool = False,
        tensorboard: bool = True,
        command: str = "",
    ) -> None:
        """Writes nothing yet, and compiles nothing; freezes layers."""
        if keep not in ("best", "last"):
            raise ValueError(f"keep={keep!r}; choose 'best' or 'last'")
        self.model, self.val_data, self.out, self.keep = model, val_data, Path(out), keep
        self.checkpoint, self.tensorboard, self.val_every = self.out / checkpoint, tensorboard, val_every
        self.batches: Batches | ClassBatches = as_batches(model, train_data, batch_size, seed)
        check_folder(self.out, checkpoint, resume)
        self.resumes = resume and self.checkpoint.is_file()
        proposals = getattr(self.batches, "proposals", None)
        for part in (self.batches.source, val_data) if proposals is not None else ():
            if part is not None:
                check_proposals(proposals, part)
        self.metric = judging_metric(metric, val_data)
        classes = tuple(self.batches.source.classes)
        self.meta = replace(getattr(model, "zoo_meta", WeightsMeta()), classes=classes, command=command)
        own = {"batch_size": self.batches.batch_size, "images": len(self.batches.source), "train_from": train_from}
        own |= {"data": data_digest(self.batches.source), "metric": self.metric, "stage": getattr(model, "stage", None)}
        own["val_data"] = None if val_data is None else data_digest(val_data)
        if self.meta.model:
            own |= {"model": self.meta.model, "options": all_options(self.meta)}  # many of which change no shape
        self.settings: dict[str, Any] = {**own, "seed": seed, **self.batches.settings}
        if proposals is not None:
            measure_boxes(model, self.batches)  # when it goes on, too: a checkpoint holds what training changes
        if train_from is not None:
            freeze_before(model, train_from)
        self._callbacks: keras.callbacks.CallbackList | None = None
        self._rows = 0

    def open(self, done: int, rows: int, rate: Rate = 0.0) -> None:
        """Compile the model, and go on with the log behind its first ``done`` rows.

        Args:
            done: rows of the log that belong to the checkpoint; what came after it is done anew.
            rows: that there will be, for the last of which validation is due in any case.
            rate: learning rate, for the log; a schedule of steps.
        """
        history = self.out / "history.csv"
        kept = read_csv(history)[:done] if done and history.is_file() else []
        kept = [{**row, "epoch": int(row["epoch"])} for row in kept]
        best = self._best_so_far() if done else -1.0
        task = make_task(self.batches, self.val_data, self.val_every, self.out / BEST, self.meta, best, self.metric)
        optimizer = keras.optimizers.SGD(rate)
        self.model.compile(optimizer=optimizer, jit_compile=False, **task.compile)
        self.model.stop_training = False
        callbacks = [task.judge, HistoryLog(self.out, kept)]
        if self.tensorboard:
            callbacks.append(keras.callbacks.TensorBoard(str(self.out / "tensorboard"), write_graph=False))
        callbacks = [each for each in callbacks if each is not None]
        self._log = next(each for each in callbacks if isinstance(each, HistoryLog))
        self._judge = task.judge
        self._callbacks = keras.callbacks.CallbackList(callbacks, model=self.model, epochs=rows, verbose=0, steps=1)
        self._callbacks.on_train_begin()
        self._rows = done
        self._callbacks.on_epoch_begin(done)

    def add(self, logs: Mapping[str, float], steps: int = 0) -> dict[str, float]:
        """Validate, if that is due, and add a row; the model has its weights. ``steps`` is what the rate is of.

        Returns the row.
        """
        self.model.optimizer.iterations.assign(steps)
        self._callbacks.on_epoch_end(self._rows, dict(logs))
        self._rows += 1
        self._callbacks.on_epoch_begin(self._rows)
        return self._log.rows[-1]

    def close(self) -> None:
        """Leave the model with the weights to keep, and write them."""
        rows, judge = self._log.rows, self._judge
        if judge is not None and rows and not any(name.startswith("val_") for name in rows[-1]):
            # Nobody had known that this row would be the last, whose validation is due in any case.
            self.model.stop_training, figures = True, {}
            judge.on_epoch_end(self._rows - 1, figures)
            self._log.amend(figures)
        self._callbacks.on_train_end()
        # Without validation a file of best weights is not of this training.
        save_result(self.model, self.out, self.keep if judge is not None else "last", self.meta, rows)

    def _best_so_far(self) -> float:
        """What the judge calls the best, from the weights that it has kept."""
        meta = read_meta(self.out / BEST) if (self.out / BEST).is_file() else None
        scores = {} if meta is None else dict(meta.scores)
        if "val_top1_error" in scores:
            return 1.0 - scores["val_top1_error"]
        return next((value for name, value in scores.items() if name != "epoch"), -1.0)
