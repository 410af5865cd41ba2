"""Trains a detector or a classifier: plain ``compile`` and ``fit`` with the callbacks of this package."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import keras

from zoo.datasets.pipeline import Batches
from zoo.datasets.proposals_choice import check_proposals
from zoo.distribute.replicas import Replicas
from zoo.distribute.summary import fit_summary
from zoo.distribute.timing import StepTimer
from zoo.distribute.timing_log import EpochTimes
from zoo.training.box_statistics import measure_boxes
from zoo.training.checkpoint import Checkpoint, Progress, load_checkpoint, read_progress
from zoo.training.freeze import freeze_before
from zoo.training.history import HistoryLog
from zoo.training.kinds import FIT, check_folder
from zoo.training.limits import StopAtStep, TimeBudget
from zoo.training.optimizer import make_optimizer
from zoo.training.recipe import Recipe
from zoo.training.same_data import data_digest
from zoo.training.schedule import WarmupDecay
from zoo.training.stop_on_nan import StopOnNan
from zoo.training.tasks import TrainData, ValData, as_batches, judging_metric, make_task
from zoo.weights_io import WeightsMeta, load_weights_file, read_meta, save_meta, save_weights_file

CHECKPOINT, BEST, FINAL = FIT, "best.weights.h5", "model.weights.h5"
_WITHOUT_END = 10_000  # epochs, of a training that the clock ends


def train(
    model: keras.Model,
    train_data: TrainData,
    val_data: ValData | None = None,
    *,
    out: str | Path,
    epochs: int | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    batch_size: int = 2,
    recipe: Recipe | None = None,
    val_every: int = 1,
    metric: Literal["voc", "coco"] | None = None,
    keep: Literal["best", "last"] = "best",
    resume: bool = False,
    targets: Literal["measure", "keep"] = "measure",
    tensorboard: bool = True,
    jit_compile: bool | Literal["auto"] = "auto",
    verbose: int | Literal["auto"] = "auto",
    command: str = "",
) -> keras.callbacks.History:
    """Train ``model`` and leave everything about it in the folder ``out``.

    The folder then holds ``model.weights.h5`` and ``model.json`` (``zoo.load(out)`` reads both),
    ``best.weights.h5``, ``checkpoint.weights.h5``, ``history.csv``, ``curves.png``, ``tensorboard/`` and
    ``summary.json`` (where the time went).

    Args:
        model: a detector whose ``classes`` are those of the data, or a classifier of as many classes. One built under
            a strategy's scope (`zoo.distribute.strategies.make_strategy`) trains on all its devices.
        train_data: a data set, mirrored at random (and for a classifier cropped); or ``Batches`` or
            ``ClassBatches`` with an augmentation of your own. A Fast R-CNN takes ``Batches(..., proposals=)``, whose
            source has those of ``val_data`` too.
        val_data: measured by loss and mAP (or COCO's AP), or by loss, top-1 and top-5 error; ``None`` for no
            validation.
        out: folder for all files; it is made.
        epochs: length in epochs. Give one of ``epochs``, ``steps``, ``minutes``.
        steps: length in steps (batches).
        minutes: length in minutes; the schedule follows the clock, validation included.
        batch_size: images a step, of all devices together; ignored for ``Batches`` and ``ClassBatches``.
        recipe: learning rate and the like; its ``train_from`` leaves the model with earlier layers frozen.
        val_every: epochs between two measurements of mAP or errors.
        metric: what a detector is judged by, ``"voc"`` (mAP, in the logs ``val_map``) or ``"coco"`` (AP,
            ``val_coco_map``); ``None`` for coco if ``val_data`` come from a COCO file, else voc.
        keep: which weights end up in ``model.weights.h5`` and in ``model``: those of the best validation
            mAP, AP or top-1 error (of the last step without ``val_data``), or of the last step.
        resume: go on from the checkpoint in ``out``, if there is one, with the settings it was started
            with; the weights come out as if the training had never stopped. ``epochs`` or ``steps`` may be
            raised; an epoch that a length in steps had cut off is then followed by a new one.
        targets: a Fast R-CNN's box deltas are normalised by statistics of each class, which are measured on
            ``train_data`` before the first step; ``"keep"`` leaves those that the model has.
        tensorboard: write TensorBoard logs.
        jit_compile: as in ``compile``. XLA compiles anew for each new image size.
        verbose: as in ``fit``.
        command: the command line, kept in ``model.json``.

    Example:
        >>> data = zoo.datasets.load("digits", "train")                                       # doctest: +SKIP
        >>> model = zoo.get("faster_rcnn_alexnet", classes=data.classes)                      # doctest: +SKIP
        >>> history = zoo.train(model, data, epochs=10, out="runs/digits")                    # doctest: +SKIP
    """
    recipe, out = recipe or Recipe(), Path(out)
    batches = as_batches(model, train_data, batch_size, recipe.seed)
    if keep not in ("best", "last"):
        raise ValueError(f"keep={keep!r}; choose 'best' or 'last'")
    if targets not in ("measure", "keep"):
        raise ValueError(f"targets={targets!r}; choose 'measure' or 'keep'")
    replicas = Replicas(model)
    replicas.check(batches, recipe.accumulate, minutes is not None)
    total = _total_steps(epochs, steps, minutes, batches.steps_per_epoch)
    own = {"batch_size": batches.batch_size, "images": len(batches.source), **batches.settings}
    settings = {**vars(recipe), **own, "data": data_digest(batches.source)}
    if hasattr(model, "stage"):
        settings["stage"] = model.stage
    if val_data is not None:
        settings["val_data"] = data_digest(val_data)  # nor is the best of one that of another
    metric = judging_metric(metric, val_data)
    if metric is not None:
        settings["metric"] = metric  # the best of one is not the best of the other
    meta = replace(getattr(model, "zoo_meta", WeightsMeta()), classes=tuple(batches.source.classes), command=command)
    check_folder(out, FIT, resume)
    checkpoint = out / CHECKPOINT
    done = read_progress(checkpoint) if resume and checkpoint.is_file() else Progress(0, settings, [])
    _check_settings(done.settings, settings, checkpoint)

    if isinstance(batches, Batches) and batches.proposals is not None:
        for part in (batches.source, val_data):
            if part is not None:
                check_proposals(batches.proposals, part)
        if targets == "measure" and not done.epoch:
            measure_boxes(model, batches)
    warmup = min(500, total // 20) if recipe.warmup_steps is None else recipe.warmup_steps
    schedule = WarmupDecay(recipe.learning_rate, total, warmup, recipe.schedule, recipe.drops)
    with replicas.scope():
        task = make_task(batches, val_data, val_every, out / BEST, meta, done.best, metric)
        if recipe.train_from is not None:
            freeze_before(model, recipe.train_from)
        optimizer = make_optimizer(model, recipe, schedule if minutes is None else recipe.learning_rate)
        model.compile(optimizer=optimizer, jit_compile=_jit(jit_compile), **task.compile)
        # A step that creates variables is traced twice.
        model.optimizer.build(model.trainable_variables)
        if done.epoch:
            load_checkpoint(model, checkpoint)
    replicas.check_same_epoch(done.epoch, out)

    log = HistoryLog(out, done.history)
    # An epoch that a length in steps has cut off is not taken up again: what comes next is a new one.
    limit = StopAtStep(total, done.epoch * batches.steps_per_epoch if done.steps is None else done.steps)
    epochs_left = math.ceil(max(0, total - limit.steps) / batches.steps_per_epoch)
    budget = None
    if minutes is not None:
        budget = TimeBudget(minutes, schedule, batches.steps_per_epoch, done.elapsed)
        epochs_left = epochs_left if done.elapsed < minutes * 60 else 0

    def progress(epoch: int) -> Progress:
        best = -1.0 if task.judge is None else task.judge.best
        return Progress(epoch, settings, log.rows, best, 0.0 if budget is None else budget.elapsed, limit.steps)

    timer = StepTimer(batches.batch_size // replicas.workers, replicas.count // replicas.workers)
    clock = EpochTimes(timer, out / "tensorboard" / f"worker{replicas.worker}" if tensorboard else None)
    callbacks = [clock, StopOnNan(batches), limit, budget, task.judge, log]
    if tensorboard:
        callbacks.append(keras.callbacks.TensorBoard(str(out / "tensorboard"), write_graph=False))
    callbacks.append(Checkpoint(checkpoint, progress, meta))
    if not replicas.is_chief:
        callbacks = callbacks[:4]  # the files are the chief's
    try:
        with replicas.ready(model, batches), timer.watch(model):
            history = model.fit(
                replicas.train_data(batches, done.epoch),
                initial_epoch=done.epoch,
                epochs=done.epoch + epochs_left,
                steps_per_epoch=batches.steps_per_epoch,
                validation_data=replicas.val_data(task.validation),
                validation_steps=None if task.validation is None else len(task.validation),
                shuffle=False,  # Batches has shuffled already; Keras would warn that it cannot
                callbacks=[callback for callback in callbacks if callback is not None],
                verbose=verbose if replicas.is_chief else 0,
            )
    except Exception as error:
        # TensorFlow wraps what goes wrong while reading a picture in pages of text; the reader kept the
        # real one.
        if batches.error is not None:
            raise batches.error from error
        raise
    with replicas.scope(), replicas.together():
        # Without validation a file of best weights is not of this training.
        save_result(model, out, keep if task.judge is not None else "last", meta, log.rows, replicas.is_chief)
        summary = fit_summary(replicas, timer.total)
    if replicas.is_chief:
        summary.save(out)
        if verbose:
            print(summary.text())
    return history


def _total_steps(epochs: int | None, steps: int | None, minutes: float | None, steps_per_epoch: int) -> int:
    given = {"epochs": epochs, "steps": steps, "minutes": minutes}
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise ValueError(f"give one of epochs, steps and minutes; given: {', '.join(named) or 'none'}")
    if given[named[0]] <= 0:
        raise ValueError(f"{named[0]}={given[named[0]]}; give a positive number")
    if minutes is not None:
        return _WITHOUT_END * steps_per_epoch
    return steps if epochs is None else epochs * steps_per_epoch


def _check_settings(stored: Mapping[str, object], given: Mapping[str, object], path: Path) -> None:
    # What a checkpoint of an earlier version does not name had its default then, where there is one. JSON knows no
    # tuples.
    stored = {**given, **vars(Recipe()), "metric": "voc", **stored}
    stored = {name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()}
    differ = [
        f"{name} {stored.get(name)!r} then, {given[name]!r} now" for name in given if stored.get(name) != given[name]
    ]
    if differ:
        raise ValueError(
            f"{path} was written with other settings: {'; '.join(differ)}; resume with the same, or "
            "choose another folder"
        )


def _jit(asked: bool | Literal["auto"]) -> bool | Literal["auto"]:
    """On a CPU "auto" means no XLA: its convolutions are several times slower than TensorFlow's own."""
    if asked == "auto" and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return "auto" if tf.config.list_physical_devices("GPU") else False
    return asked


def save_result(
    model: keras.Model, out: Path, keep: str, meta: WeightsMeta, rows: list[dict[str, float]], write: bool = True
) -> None:
    """Leave the model with the weights to ``keep`` and, if ``write``, write them and their description into ``out``.

    ``rows`` are those of the log, whose last one describes the last weights.
    """
    scores = dict(rows[-1]) if rows else {}
    if keep == "best" and (out / BEST).is_file():
        load_weights_file(model, out / BEST)
        best = read_meta(out / BEST)
        scores = dict(best.scores) if best is not None else {}
    if write:
        meta = replace(meta, scores=scores)
        save_weights_file(model, out / FINAL, meta=meta)
        save_meta(meta, out / FINAL)
