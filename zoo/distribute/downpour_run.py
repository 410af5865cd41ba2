"""A whole training by Downpour, as `zoo.train` is one on devices that train in step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from zoo.distribute.downpour import DownpourRow, check_pushes, steps_in, train_downpour
from zoo.distribute.downpour_rules import Rule
from zoo.distribute.run_folder import RunFolder
from zoo.distribute.summary_servers import Recorder, summarise
from zoo.training.history import read_csv
from zoo.training.kinds import DOWNPOUR
from zoo.training.recipe import Recipe
from zoo.training.schedule import WarmupDecay

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from zoo.distribute.observer import Observer
    from zoo.training.tasks import TrainData, ValData

CHECKPOINT = DOWNPOUR


def fit_downpour(
    model: keras.Model,
    train_data: TrainData,
    val_data: ValData | None = None,
    *,
    strategy: tf.distribute.ParameterServerStrategy,
    out: str | Path,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = 2,
    recipe: Recipe | None = None,
    rule: Literal["adagrad", "sgd"] = "adagrad",
    n_push: int = 1,
    n_fetch: int = 1,
    warm_start: int = 0,
    val_every: int = 1,
    metric: Literal["voc", "coco"] | None = None,
    keep: Literal["best", "last"] = "best",
    resume: bool = False,
    tensorboard: bool = True,
    command: str = "",
    say: Callable[[str], None] = print,
    observer: Observer | None = None,
) -> list[DownpourRow]:
    """Train ``model`` by Downpour and leave everything about it in the folder ``out``.

    The files are those of `zoo.train`, but for the checkpoint, ``downpour.npz``, which is written after each epoch.

    Args:
        model: a detector or a classifier, built after the strategy was made and outside its scope.
        train_data: see `zoo.train`; the chief reads it, in the order that one device would.
        val_data: see there; measured on the chief while the workers wait.
        strategy: of the chief, see `zoo.distribute.parameter_servers.server_strategy`.
        out: folder for all files.
        epochs: length in epochs. Give one of ``epochs`` and ``steps``.
        steps: length in mini-batches, of all workers together.
        batch_size: pictures of one worker's mini-batch.
        recipe: learning rate, schedule, weight decay, clipping, the biases' rate and freezing; momentum is not used.
        rule: see `zoo.distribute.downpour.train_downpour`, also for the next three.
        n_push: see there.
        n_fetch: see there.
        warm_start: see there.
        val_every: see `zoo.train`, also for the next five.
        metric: see there.
        keep: see there.
        resume: see there.
        tensorboard: see there.
        command: see there.
        say: prints a line for each epoch.
        observer: see `zoo.distribute.observer`; by default, or if it is a `Recorder`, the training ends with a summary.

    Example:
        >>> fit_downpour(model, data, strategy=strategy, out="runs/downpour", epochs=10)    # doctest: +SKIP
    """
    recipe = recipe or Recipe()
    _check_recipe(recipe)
    check_pushes(n_push, n_fetch)
    folder = RunFolder(
        model,
        train_data,
        val_data,
        out,
        CHECKPOINT,
        batch_size=batch_size,
        seed=recipe.seed,
        train_from=recipe.train_from,
        val_every=val_every,
        metric=metric,
        keep=keep,
        resume=resume,
        tensorboard=tensorboard,
        command=command,
    )
    batches = folder.batches
    every = batches.steps_per_epoch
    total = length_of({"epochs": epochs, "steps": steps}, every)
    warmup = min(500, total // 20) if recipe.warmup_steps is None else recipe.warmup_steps
    rate = WarmupDecay(recipe.learning_rate, total, warmup, recipe.schedule, recipe.drops)
    done = steps_in(folder.checkpoint) if folder.resumes else 0
    if folder.resumes:
        say(f"Going on from {folder.checkpoint}: {done} of {total} steps are done; what came after them is lost")
    together = max(n_push, n_fetch)
    rows = rows_until(done, folder.out, every, together)
    last = rows + rows_between(done, total, every, together)
    folder.open(rows, last, rate)

    def report(row: DownpourRow) -> None:
        logs = folder.add({"loss": row.loss, "staleness": row.staleness, "steps": row.steps}, row.steps)
        say(line_of("epoch", last, logs))

    settings = {**folder.settings, "learning_rate": recipe.learning_rate, "schedule": recipe.schedule}
    observer = observer or Recorder(folder.out / "tensorboard" if tensorboard else None)
    rows = train_downpour(
        model,
        batches,
        strategy,
        steps=total,
        learning_rate=rate,
        rule=Rule(rule, recipe.weight_decay, recipe.clipnorm, recipe.bias_rate),
        n_push=n_push,
        n_fetch=n_fetch,
        warm_start=warm_start,
        seed=recipe.seed,
        every=every,
        checkpoint=folder.checkpoint,
        resume=resume,
        settings={**settings, "warmup_steps": recipe.warmup_steps, "drops": recipe.drops},
        report=report,
        observer=observer,
    )
    folder.close()
    summarise(observer, folder.out, say)
    return rows


def rows_until(done: int, out: Path, every: int, together: int) -> int:
    """Rows of the log in ``out`` that belong to a checkpoint after ``done`` mini-batches."""
    file = out / "history.csv"
    rows = read_csv(file) if done and file.is_file() else []
    if rows and all("steps" in row for row in rows):
        return sum(row["steps"] <= done for row in rows)
    return rows_between(0, done, every, together)  # of an earlier version, which wrote no steps


def rows_between(done: int, end: int, every: int, together: int) -> int:
    """Rows of the log from ``done`` mini-batches to ``end``: one for each epoch, which ends with a whole fetch or push.

    >>> rows_between(0, 50, every=25, together=2), rows_between(26, 50, every=25, together=2)
    (2, 1)
    """
    rows = 0
    while done < end:
        left = min(done - done % every + every, end) - done
        done, rows = done + -(-left // together) * together, rows + 1
    return rows


def length_of(given: dict[str, int | None], steps_per_epoch: int) -> int:
    """Steps, from one length in epochs or in steps.

    >>> length_of({"epochs": 3, "steps": None}, steps_per_epoch=10)
    30
    """
    named = {name: value for name, value in given.items() if value is not None}
    if len(named) != 1:
        raise ValueError(f"give one of {' and '.join(given)}; given: {', '.join(named) or 'none'}")
    ((name, value),) = named.items()
    if value < 1:
        raise ValueError(f"{name}={value}; give at least 1")
    return value * steps_per_epoch if name == "epochs" else value


def line_of(what: str, last: int | None, row: dict[str, float]) -> str:
    """One row of the log, for people; ``last`` is None where nobody knows how many there will be.

    >>> line_of("epoch", 3, {"epoch": 1, "seconds": 2.5, "learning_rate": 0.01, "loss": 0.625})
    'epoch 1/3: loss 0.625, 2.5 s'
    """
    told = ", ".join(
        f"{name} {value:.4g}" for name, value in row.items() if name not in ("epoch", "seconds", "learning_rate")
    )
    return f"{what} {row['epoch']:.0f}{'' if last is None else f'/{last}'}: {told}, {row['seconds']:.1f} s"


def _check_recipe(recipe: Recipe) -> None:
    """Refuse what Downpour has no way to do; its rules have no momentum, which is left out without a word."""
    if recipe.ema is not None:
        raise ValueError(f"ema={recipe.ema}: the servers keep no average of the weights; leave it out")
    if recipe.accumulate > 1:
        raise ValueError(
            f"accumulate={recipe.accumulate}: the servers add up what is pushed, and average nothing; give "
            f"accumulate=1 (--accumulate 1), and n_push={recipe.accumulate} (--n-push) to push as rarely"
        )
