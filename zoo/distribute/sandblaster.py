"""Sandblaster L-BFGS (Dean 2012, section 4.2): a coordinator drives batch L-BFGS, workers compute loss and gradient."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import keras
import numpy as np

from zoo.distribute.lbfgs import LBFGSState, advance, start
from zoo.distribute.observer import Observer
from zoo.distribute.sandblaster_loss import SharedLoss
from zoo.distribute.sandblaster_model import Objective, local_workers
from zoo.distribute.sandblaster_pool import Pool
from zoo.distribute.sandblaster_state import load_state, save_state

if TYPE_CHECKING:
    import tensorflow as tf

    from zoo.distribute.lbfgs import Vector

# Bytes of gradients in a pass from which on servers keep the vectors: what takes a gigabit network .8 s. Asking servers
# took .1 to .2 s a pass where it was measured (benchmarks/sandblaster_vectors.py).
PAYS = 100_000_000
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
    passes: int | None = None,
    workers: int = 1,
    strategy: tf.distribute.ParameterServerStrategy | None = None,
    memory: int = 10,
    tolerance: float = 1e-6,
    weight_decay: float = 0.0,
    redraw: int = 5,
    training: bool = True,
    copies: int = 2,
    patience: float = 1.5,
    vectors: Literal["chief", "servers"] | None = None,
    save_every: int = 1,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    report: Callable[[SandblasterRow], None] | None = None,
    observer: Observer | None = None,
) -> list[SandblasterRow]:
    """Train a compiled model by L-BFGS over all of ``data``; its weights are then those of the last iteration.

    Every iteration is one pass over the data, or a few where the line search needs them; the result does not depend on
    who computes what, but for rounding. Nothing random changes between passes (see `Objective`).

    What a detector samples, and the proposals that it samples from, are drawn once in ``redraw`` iterations, with a
    pass of their own, and held in between: so long L-BFGS minimises one and the same function.

    Args:
        model: any that is compiled; with a ``strategy``, built after it was made and outside its scope.
        data: one ``(x, y)`` for each small unit of work, the same at every call: a list, or `BatchUnits`.
        iterations: at most.
        passes: over the data, at most, but for those of the last line search; ``None`` for no limit.
        workers: threads of this process; without a strategy.
        strategy: workers are those of its cluster, parameters lie on its servers. See `server_workers`.
        memory: pairs of vectors that L-BFGS keeps; each takes 16 bytes a parameter.
        tolerance: ends when no part of the gradient is larger.
        weight_decay: adds half of this times the squares of all kernels to the loss; vectors are left out.
        redraw: iterations between two draws, for detectors.
        training: see `Objective`.
        copies: workers on the same unit, at most; 1 for no backup copies.
        patience: a unit that takes so many times the usual is handed out again when there is no other.
        vectors: where the vectors of L-BFGS lie and its sums and dot products are made. ``"servers"``: with the
            parameters, as in the paper; the coordinator gets no gradient. ``"chief"``: here. ``None``: as
            `where` finds it.
        save_every: iterations between two checkpoints, for which all vectors come here; the last is always written.
        checkpoint: file.
        resume: go on from it, if it is there.
        settings: anything that JSON can hold, kept in the checkpoint; whoever resumes has to give the same.
        report: called after each iteration, before the checkpoint is written; the model has the weights then, for
            which servers send them once.
        observer: is told of each unit, pass and line search.

    Returns:
        One row for each iteration of this run, the first for where it started.

    Raises:
        WorkerLostError: when no worker or not all servers are left.
        ValueError: for a checkpoint of another training.

    Example:
        >>> model.compile(loss="sparse_categorical_crossentropy")                              # doctest: +SKIP
        >>> units = [(images[i : i + 100], labels[i : i + 100]) for i in range(0, 5000, 100)]  # doctest: +SKIP
        >>> train_sandblaster(model, units, iterations=50, workers=2)[-1].loss                 # doctest: +SKIP
        0.0163
    """
    objective, put = Objective(model, training), np.asarray
    if vectors not in (None, "chief", "servers") or (vectors == "servers" and strategy is None):
        raise ValueError(f'vectors={vectors!r}; give "chief", or "servers" together with a strategy that has them')
    if strategy is None:
        staff, prepare = local_workers(objective, data, workers)
    else:
        from zoo.distribute.sandblaster_servers import hosts_of, server_workers

        vectors = vectors or where(sum(objective.sizes), len(data), hosts_of(strategy))
        staff, prepare, space = server_workers(objective, data, strategy, observer, vectors)
        put = put if space is None else space.put
    with Pool(staff, len(data), prepare, copies, patience, observer) as pool:
        return drive(
            objective,
            pool,
            iterations=iterations,
            passes=passes,
            memory=memory,
            tolerance=tolerance,
            weight_decay=weight_decay,
            redraw=redraw,
            put=put,
            save_every=save_every,
            checkpoint=checkpoint,
            resume=resume,
            settings=settings,
            report=report,
        )


def where(parameters: int, units: int, hosts: int) -> Literal["chief", "servers"]:
    """Where vectors are kept unless something else is asked for: with the parameters, if that saves much of a network.

    >>> where(5_000_000, units=50, hosts=3), where(5_000_000, units=50, hosts=1)
    ('servers', 'chief')

    Args:
        parameters: of the model, of 4 bytes; the gradient of each unit has as many.
        units: in a pass.
        hosts: that the cluster has; 1 without one. On one machine nothing that is sent is slow.
    """
    return "servers" if hosts > 1 and 4 * parameters * units >= PAYS else "chief"


def drive(
    objective: Objective,
    pool: Pool,
    *,
    iterations: int,
    passes: int | None = None,
    memory: int = 10,
    tolerance: float = 1e-6,
    weight_decay: float = 0.0,
    redraw: int = 5,
    put: Callable[[np.ndarray], Vector] = np.asarray,
    save_every: int = 1,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    report: Callable[[SandblasterRow], None] | None = None,
) -> list[SandblasterRow]:
    """What the coordinator does; `train_sandblaster` explains the arguments. ``put`` brings vectors where they lie."""
    if iterations < 0 or min(redraw, save_every) < 1:
        raise ValueError(
            f"iterations={iterations}, redraw={redraw}, save_every={save_every}; give 0 or more, and 1 or more"
        )
    began, rows = time.monotonic(), []
    own = {"sizes": objective.sizes, "units": pool.units, "memory": memory, "training": objective.training}
    own |= {"weight_decay": weight_decay, "redraw": redraw, **(settings or {})}
    loss, saved = SharedLoss(objective, pool, weight_decay, put), None

    def save(state: LBFGSState) -> None:
        nonlocal saved
        if checkpoint is not None and saved is not state:
            whole = replace(state.at, extra=objective.whole(state.at.extra))
            save_state(replace(state, at=whole), checkpoint, own, loss.drawn)
            saved = state

    def settle(state: LBFGSState) -> None:
        objective.assign_state(state.at.extra)
        if report is not None or isinstance(state.x, np.ndarray):
            objective.assign(np.asarray(state.x))
        norm, seconds = math.sqrt(state.at.gradient @ state.at.gradient), time.monotonic() - began
        rows.append(
            SandblasterRow(
                state.iteration,
                state.evaluations,
                state.at.value,
                norm,
                state.length,
                seconds,
                *loss.backups_and_lost(),
            )
        )
        if report is not None:
            report(rows[-1])
        if state.iteration % save_every == 0:
            save(state)

    if resume and checkpoint is not None and Path(checkpoint).is_file():
        state, loss.drawn = load_state(checkpoint, own, put)
        objective.assign_state(state.at.extra)
        if objective.draws:
            # The proposals are not stored; where they were made says all about them.
            loss.draw(loss.drawn.x, loss.drawn.number, loss.drawn.iteration)
            state = replace(state, evaluations=state.evaluations + 1)
    else:
        state = start(lambda x: loss.draw(x, 0, 0), put(objective.vector()))
    settle(state)
    while state.iteration < iterations and (passes is None or state.evaluations < passes):
        if abs(state.at.gradient).max() <= tolerance:
            break
        age = state.iteration - loss.drawn.iteration
        if objective.draws and (age >= redraw or (state.stuck and age)):
            at = loss.draw(state.x, loss.drawn.number + 1, state.iteration)
            state = replace(state, at=at, evaluations=state.evaluations + 1, stuck=False)
        if state.stuck:
            break
        searched, before = time.monotonic(), state.evaluations
        state = advance(loss, state, memory=memory, noise=_NOISE)
        pool.observer.line_search(
            iteration=state.iteration,
            evaluations=state.evaluations - before,
            length=state.length,
            seconds=time.monotonic() - searched,
        )
        settle(state)
    save(state)
    objective.assign(np.asarray(state.x))
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


def summary(pool: Pool) -> list[dict[str, Any]]:
    """What each worker of a pool did so far: units that counted, that came too late, and seconds at work."""
    return [{"worker": name, **asdict(report), "error": repr(report.error)} for name, report in pool.reports.items()]
