"""A whole training by Sandblaster L-BFGS, as `zoo.train` is one by gradient descent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from zoo.distribute.downpour_run import line_of
from zoo.distribute.run_folder import RunFolder
from zoo.distribute.sandblaster import BatchUnits, SandblasterRow, train_sandblaster
from zoo.distribute.sandblaster_state import iterations_in
from zoo.distribute.summary_servers import Recorder, summarise
from zoo.training.kinds import SANDBLASTER

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from zoo.distribute.observer import Observer
    from zoo.training.tasks import TrainData, ValData

CHECKPOINT = SANDBLASTER
_WITHOUT_END = 10_000  # iterations, of a training whose length is in passes


def fit_sandblaster(
    model: keras.Model,
    train_data: TrainData,
    val_data: ValData | None = None,
    *,
    out: str | Path,
    strategy: tf.distribute.ParameterServerStrategy | None = None,
    workers: int = 1,
    passes: int | None = None,
    iterations: int | None = None,
    batch_size: int = 2,
    seed: int = 0,
    weight_decay: float = 0.0,
    train_from: str | None = None,
    memory: int = 10,
    copies: int = 2,
    vectors: Literal["chief", "servers"] | None = None,
    save_every: int = 1,
    val_every: int = 1,
    metric: Literal["voc", "coco"] | None = None,
    keep: Literal["best", "last"] = "best",
    resume: bool = False,
    tensorboard: bool = True,
    command: str = "",
    say: Callable[[str], None] = print,
    observer: Observer | None = None,
) -> list[SandblasterRow]:
    """Train ``model`` by L-BFGS over all of the data and leave everything about it in the folder ``out``.

    The files are those of `zoo.train`, an iteration being what an epoch is there, but for the checkpoint,
    ``sandblaster.npz``. Mirrored or cropped, the pictures stay as the first epoch has them.

    Args:
        model: a detector or a classifier; with a ``strategy``, built after it was made and outside its scope.
        train_data: see `zoo.train`. For a detector give ``Batches(..., drop_remainder=False)``, so that each picture
            counts once; ``ClassBatches`` leave out what does not fill a unit.
        val_data: see `zoo.train`.
        out: folder for all files.
        strategy: of the chief, see `zoo.distribute.parameter_servers.server_strategy`; without one, threads compute.
        workers: how many threads.
        passes: length in passes over the data, those of line searches included. Give one or both of the lengths.
        iterations: length in steps of L-BFGS.
        batch_size: pictures of a unit of work.
        seed: of the units, and of how their pictures are mirrored and cropped.
        weight_decay: see `zoo.distribute.sandblaster.train_sandblaster`.
        train_from: see `zoo.training.freeze.freeze_before`.
        memory: see `zoo.distribute.sandblaster.train_sandblaster`.
        copies: see there.
        vectors: see there.
        save_every: see there.
        val_every: iterations between two validations.
        metric: see `zoo.train`, also for the next four.
        keep: see there.
        resume: see there.
        tensorboard: see there.
        command: see there.
        say: prints a line for each iteration.
        observer: see `zoo.distribute.observer`; by default, or if it is a `Recorder`, the training ends with a summary.

    Example:
        >>> fit_sandblaster(model, data, strategy=strategy, out="runs/lbfgs", passes=50)    # doctest: +SKIP
    """
    if passes is None and iterations is None:
        raise ValueError("give a length: passes or iterations")
    folder = RunFolder(
        model,
        train_data,
        val_data,
        out,
        CHECKPOINT,
        batch_size=batch_size,
        seed=seed,
        train_from=train_from,
        val_every=val_every,
        metric=metric,
        keep=keep,
        resume=resume,
        tensorboard=tensorboard,
        command=command,
    )
    left_out = len(folder.batches.source) - folder.batches.batch_size * len(folder.batches)
    if left_out > 0:
        say(f"{left_out} pictures are left out, which do not fill a unit of {folder.batches.batch_size}")
    last = _WITHOUT_END if iterations is None else iterations
    done = iterations_in(folder.checkpoint) if folder.resumes else 0
    if folder.resumes:
        say(f"Going on from {folder.checkpoint}: {done} iterations are done; what came after them is lost")
    folder.open(min(done, last), last)

    def report(row: SandblasterRow) -> None:
        nonlocal done
        if row.iteration <= done:  # the first row, or a line search that found nothing
            say(f"at iteration {row.iteration}: loss {row.loss:.4g}, gradient {row.gradient:.3g}, {row.seconds:.1f} s")
            return
        done = row.iteration
        # The last one is validated in any case.
        model.stop_training = passes is not None and row.passes >= passes
        logs = {"loss": row.loss, "gradient": row.gradient, "length": row.length, "passes": row.passes}
        say(line_of("iteration", iterations, folder.add(logs)))

    observer = observer or Recorder(folder.out / "tensorboard" if tensorboard else None)
    rows = train_sandblaster(
        model,
        BatchUnits(folder.batches),
        iterations=last,
        passes=passes,
        workers=workers,
        strategy=strategy,
        memory=memory,
        weight_decay=weight_decay,
        copies=copies,
        vectors=vectors,
        save_every=save_every,
        checkpoint=folder.checkpoint,
        resume=resume,
        settings=folder.settings,
        report=report,
        observer=observer,
    )
    folder.close()
    summarise(observer, folder.out, say)
    return rows
