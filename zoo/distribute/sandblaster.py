"""Sandblaster L-BFGS (Dean 2012, section 4.2): a coordinator drives batch L-BFGS, workers compute loss and gradient."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from zoo.distribute.lbfgs import Evaluation, LBFGSState, advance, start
from zoo.distribute.sandblaster_model import Objective, local_workers
from zoo.distribute.sandblaster_pool import Pool
from zoo.files import save_atomically

if TYPE_CHECKING:
    import tensorflow as tf

# How far a loss of 32-bit numbers may be off, relatively, without saying anything.
_NOISE = 2e-7


@dataclass(frozen=True)
class SandblasterRow:
    """One iteration.

    Attributes:
        iteration: counted from 1; 0 is where the training started.
        passes: over the data, since the start; those of the line searches included.
        loss: mean over the data.
        gradient: its Euclidean norm.
        length: of the step, in units of L-BFGS's direction.
        seconds: since this run started.
        backups: units handed out a second time.
        lost: workers that ended.
    """

    iteration: int
    passes: int
    loss: float
    gradient: float
    length: float
    seconds: float
    backups: int
    lost: int


def train_sandblaster(
    model: keras.Model,
    data: Sequence[tuple[Any, Any]],
    *,
    iterations: int,
    workers: int = 1,
    strategy: tf.distribute.ParameterServerStrategy | None = None,
    memory: int = 10,
    tolerance: float = 1e-6,
    training: bool = True,
    copies: int = 2,
    patience: float = 1.5,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    report: Callable[[SandblasterRow], None] | None = None,
) -> list[SandblasterRow]:
    """Train a compiled model by L-BFGS over all of ``data``; its weights are then those of the last iteration.

    Every iteration is one pass over the data, or a few where the line search needs them; the result does not depend on
    who computes what, but for rounding. Nothing random changes between passes (see `Objective`).

    Args:
        model: any that is compiled; with a ``strategy``, built after it was made and outside its scope.
        data: one ``(x, y)`` for each small unit of work, the same at every call: a list, or `BatchUnits`.
        iterations: at most.
        workers: threads of this process; without a strategy.
        strategy: workers are those of its cluster, parameters lie on its servers. See `server_workers`.
        memory: pairs of vectors that L-BFGS keeps; each takes 16 bytes a parameter.
        tolerance: ends when no part of the gradient is larger.
        training: see `Objective`.
        copies: workers on the same unit, at most; 1 for no backup copies.
        patience: a unit that takes so many times the usual is handed out again when there is no other.
        checkpoint: file, written after each iteration.
        resume: go on from it, if it is there.
        report: called after each iteration.

    Returns:
        One row for each iteration of this run, the first for where it started.

    Raises:
        WorkerLostError: when no worker is left.
        ValueError: for a checkpoint of another training.

    Example:
        >>> model.compile(loss="sparse_categorical_crossentropy")                              # doctest: +SKIP
        >>> units = [(images[i : i + 100], labels[i : i + 100]) for i in range(0, 5000, 100)]  # doctest: +SKIP
        >>> train_sandblaster(model, units, iterations=50, workers=2)[-1].loss                 # doctest: +SKIP
        0.0163
    """
    objective = Objective(model, training)
    if strategy is None:
        staff, prepare = local_workers(objective, data, workers)
    else:
        from zoo.distribute.sandblaster_servers import server_workers

        staff, prepare = server_workers(objective, data, strategy)
    with Pool(staff, len(data), prepare, copies, patience) as pool:
        return drive(
            objective,
            pool,
            iterations=iterations,
            memory=memory,
            tolerance=tolerance,
            checkpoint=checkpoint,
            resume=resume,
            report=report,
        )


def drive(
    objective: Objective,
    pool: Pool,
    *,
    iterations: int,
    memory: int = 10,
    tolerance: float = 1e-6,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    report: Callable[[SandblasterRow], None] | None = None,
) -> list[SandblasterRow]:
    """What the coordinator does; `train_sandblaster` explains the arguments."""
    if iterations < 0:
        raise ValueError(f"iterations={iterations}; give 0 or more")
    began, rows, counts = time.monotonic(), [], {"backups": 0, "lost": 0}
    settings = {"sizes": objective.sizes, "units": pool.units, "memory": memory, "training": objective.training}

    def evaluate(x: np.ndarray) -> Evaluation:
        done = pool.run(x)
        counts["backups"] += done.backups
        counts["lost"] += done.lost
        return Evaluation(done.loss, done.gradient, done.state)

    def settle(state: LBFGSState) -> None:
        objective.assign(state.x, state.at.extra)
        if checkpoint is not None:
            save_state(state, checkpoint, settings)
        norm, seconds = float(np.linalg.norm(state.at.gradient)), time.monotonic() - began
        row = SandblasterRow(state.iteration, state.evaluations, state.at.value, norm, state.length, seconds, **counts)
        counts.update(backups=0, lost=0)
        rows.append(row)
        if report is not None:
            report(row)

    if resume and checkpoint is not None and Path(checkpoint).is_file():
        state = load_state(checkpoint, settings)
    else:
        state = start(evaluate, objective.vector())
    settle(state)
    while state.iteration < iterations and not state.stuck and np.abs(state.at.gradient).max() > tolerance:
        state = advance(evaluate, state, memory=memory, noise=_NOISE)
        settle(state)
    return rows


class BatchUnits(Sequence):
    """The batches of one epoch as units: the same ones at every pass, mirrored and cropped as that epoch has it.

    Args:
        batches: `zoo.datasets.pipeline.Batches` or `ClassBatches`; ``drop_remainder=False`` counts each picture once.
        epoch: whose.

    Example:
        >>> data = BatchUnits(Batches(dataset, 16, drop_remainder=False))                     # doctest: +SKIP
    """

    def __init__(self, batches: Any, epoch: int = 0) -> None:
        """Reads nothing yet."""
        self.batches, self.epoch = batches, epoch

    def __len__(self) -> int:
        """Units."""
        return len(self.batches)

    def __getitem__(self, unit: int) -> tuple[Any, Any]:
        """``(x, y)`` of a unit."""
        return self.batches.batch(self.epoch, unit)


def save_state(state: LBFGSState, path: str | Path, settings: dict[str, Any]) -> None:
    """Write all that a run goes on from, atomically."""
    told = {"value": state.at.value, "settings": settings, "pairs": len(state.pairs), "extra": len(state.at.extra)}
    told |= {name: getattr(state, name) for name in ("iteration", "evaluations", "length", "stuck")}
    arrays = {"x": state.x, "gradient": state.at.gradient, "told": np.array(json.dumps(told))}
    for number, (step, change) in enumerate(state.pairs):
        arrays |= {f"step{number}": step, f"change{number}": change}
    arrays |= {f"extra{number}": each for number, each in enumerate(state.at.extra)}
    with save_atomically(path) as aside, aside.open("wb") as file:
        np.savez(file, **arrays)


def load_state(path: str | Path, settings: dict[str, Any]) -> LBFGSState:
    """Read what `save_state` wrote in a training with the same ``settings``; else a ``ValueError``."""
    try:
        with np.load(path, allow_pickle=False) as file:
            told = json.loads(str(file["told"]))
            pairs = tuple((file[f"step{number}"], file[f"change{number}"]) for number in range(told["pairs"]))
            extra = [file[f"extra{number}"] for number in range(told["extra"])]
            x, at = file["x"], Evaluation(told["value"], file["gradient"], extra)
            rest = {name: told[name] for name in ("iteration", "evaluations", "length", "stuck")}
            stored = told["settings"]
    except (OSError, KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is no checkpoint of Sandblaster ({error}); start without resuming, or with another file"
        ) from error
    differ = [
        f"{name} {stored.get(name)!r} then, {settings[name]!r} now"
        for name in settings
        if stored.get(name) != settings[name]
    ]
    if differ:
        raise ValueError(
            f"{path} was written with other settings: {'; '.join(differ)[:500]}; resume with the same, or start anew "
            "with another file"
        )
    return replace(LBFGSState(x, at, pairs), **rest)


def summary(pool: Pool) -> list[dict[str, Any]]:
    """What each worker of a pool did so far: units that counted, that came too late, and seconds at work."""
    return [{"worker": name, **asdict(report), "error": repr(report.error)} for name, report in pool.reports.items()]
