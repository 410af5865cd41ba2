"""The workers of Sandblaster, and the sums over the data that they make together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.distribute.cluster import WorkerLostError
from zoo.distribute.observer import Observer
from zoo.distribute.sandblaster_units import Units

if TYPE_CHECKING:
    from zoo.distribute.server_vectors import ServerVector


@dataclass(frozen=True, eq=False)
class UnitSums:
    """What a worker makes of a unit.

    Attributes:
        loss: sum over the unit's examples.
        gradient: the same for its gradient, one array for each variable; or a vector on the servers.
        state: the same for what a model has besides, such as the averages of batch normalisation.
        examples: how many.
        kept: what is to stay as it is while the parameters change, by name; see `Draw` of `sandblaster_model`.
        worker: who did it, if that is another than whoever was asked.
        fetch: seconds until the worker had the parameters.
        compute: seconds for loss and gradient.
    """

    loss: float
    gradient: Sequence[np.ndarray] | ServerVector
    state: Sequence[np.ndarray]
    examples: int
    kept: Mapping[str, np.ndarray] = field(default_factory=dict)
    worker: str = ""
    fetch: float = 0.0
    compute: float = 0.0


# From what `prepare` made of a point, and the number of a unit. An error of any kind says that the worker is lost.
Worker = Callable[[Any, int], UnitSums]


@dataclass
class WorkerReport:
    """What one worker did: units that counted, units that came too late, seconds at work."""

    counted: int = 0
    late: int = 0
    seconds: float = 0.0
    error: Exception | None = None


@dataclass(frozen=True, eq=False)
class PassResult:
    """One pass: the means over all examples, and how it went.

    Attributes:
        loss: mean.
        gradient: mean, one ``(n,)`` float64 vector of all variables, where those of the units were.
        state: means, float64.
        seconds: it took.
        backups: units handed out a second time.
        lost: workers that ended in it.
        kept: by unit, what is to stay as it is; of the copy that counted.
    """

    loss: float
    gradient: np.ndarray | ServerVector
    state: list[np.ndarray]
    seconds: float
    backups: int
    lost: int
    kept: Mapping[int, Mapping[str, np.ndarray]]


@dataclass
class _Sum:
    loss: float = 0.0
    gradient: np.ndarray | ServerVector | None = None
    state: list[np.ndarray] = field(default_factory=list)
    examples: int = 0
    kept: dict[int, Mapping[str, np.ndarray]] = field(default_factory=dict)

    def add(self, unit: int, part: UnitSums) -> None:
        if not self.examples:
            self.state = [np.zeros(each.shape) for each in part.state]
        self._add_gradient(part.gradient)  # first: where a server is gone, nothing has been counted
        self.loss += part.loss
        self.examples += part.examples
        self.kept[unit] = part.kept
        for total, each in zip(self.state, part.state, strict=True):
            total += each

    def _add_gradient(self, gradient: Sequence[np.ndarray] | ServerVector) -> None:
        if not isinstance(gradient, Sequence):
            self.gradient = gradient if self.gradient is None else self.gradient + gradient
            return
        if self.gradient is None:
            self.gradient = np.zeros(sum(each.size for each in gradient))
        at = 0
        for each in gradient:
            self.gradient[at : at + each.size] += np.ravel(each)
            at += each.size


class Pool:
    """Workers, each called by a thread of its own, that share the units of every pass.

    What counts is decided here, also where the sums are made on servers: a unit that is computed twice must count once.
    A worker that raises an error has ended; its unit goes to the others. One that hangs or is slow keeps nobody waiting
    as long as a backup copy gets through; it may go on with its unit into the next pass, where its result is dropped.

    Args:
        workers: by name.
        units: in a pass.
        prepare: what the workers get of a point ``(n,)`` and of what `run` was given besides; called once before each
            pass.
        copies: see `Units`.
        patience: see `Units`.
        observer: is told of each unit.

    Example:
        >>> with Pool({"only": lambda x, unit: UnitSums(0.0, [x * unit], [], 1)}, units=3) as pool:
        ...     pool.run(np.ones(2)).gradient.tolist()
        [1.0, 1.0]
    """

    def __init__(
        self,
        workers: Mapping[str, Worker],
        units: int,
        prepare: Callable[[np.ndarray, Any], Any] = lambda x, draw: x,
        copies: int = 2,
        patience: float = 1.5,
        observer: Observer | None = None,
    ) -> None:
        """Starts the threads."""
        if not workers:
            raise ValueError("no workers; give at least one")
        self.units, self.prepare, self.copies, self.patience = units, prepare, copies, patience
        self.observer = observer or Observer()
        self.reports: dict[str, WorkerReport] = {}
        self._usual: float | None = None
        self._pass: tuple[Units, Any, _Sum] | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._alive: set[str] = set()
        for name, worker in workers.items():
            self.add(name, worker)

    def __enter__(self) -> Pool:
        """Use it in ``with``."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close it."""
        self.close()

    @property
    def alive(self) -> list[str]:
        """Names of the workers that have not ended."""
        with self._changed:
            return sorted(self._alive)

    def add(self, name: str, worker: Worker) -> None:
        """Let another worker join, also in the middle of a pass; one that has ended may come back by its name."""
        with self._changed:
            if name in self._alive:
                raise ValueError(f"there is a worker {name} already")
            self._alive.add(name)
            self.reports.setdefault(name, WorkerReport()).error = None
        # A worker that hangs must not keep the process from ending.
        threading.Thread(target=self._work, args=(name, worker), name=f"sandblaster {name}", daemon=True).start()

    def run(self, x: np.ndarray | ServerVector, draw: Any = None) -> PassResult:
        """One pass at ``x (n,)``; ``draw`` is for ``prepare``.

        Raises:
            WorkerLostError: when no worker is left.
        """
        began = time.monotonic()
        units, total = Units(self.units, self.copies, self.patience, self._usual), _Sum()
        point = self.prepare(x, draw)
        with self._changed:
            if not self._alive:
                raise self._all_lost()
            before = len(self._alive)
            self._pass = (units, point, total)
            self._changed.notify_all()
        try:
            units.wait()
        finally:
            units.give_up()
        with self._changed:
            if units.left:
                raise self._all_lost()
            lost = max(0, before - len(self._alive))
        self._usual = units.usual
        n = total.examples
        state = [each / n for each in total.state]
        seconds = time.monotonic() - began
        self.observer.pass_done(seconds=seconds, loss=total.loss / n, backups=units.backups, lost=lost)
        return PassResult(total.loss / n, total.gradient / n, state, seconds, units.backups, lost, total.kept)

    def close(self) -> None:
        """Let the threads end, each after what it is at."""
        with self._changed:
            self._closed = True
            if self._pass is not None:
                self._pass[0].give_up()
            self._changed.notify_all()

    def _all_lost(self) -> WorkerLostError:
        errors = [(name, report.error) for name, report in self.reports.items() if report.error is not None]
        told = "; ".join(f"{name}: {type(error).__name__}: {str(error)[:300]}" for name, error in errors[-3:])
        lost = WorkerLostError(f"all workers of Sandblaster have ended ({told}); mend that and resume")
        lost.__cause__ = errors[-1][1] if errors else None
        return lost

    def _work(self, name: str, worker: Worker) -> None:
        last: Units | None = None
        while True:
            with self._changed:
                while not self._closed and (self._pass is None or self._pass[0] is last or self._pass[0].over):
                    self._changed.wait()
                if self._closed:
                    return
                last, point, total = self._pass
            if not self._share(name, worker, last, point, total):
                return

    def _share(self, name: str, worker: Worker, units: Units, point: Any, total: _Sum) -> bool:
        """One worker's part of one pass; False if it ended."""
        report = self.reports[name]
        while (unit := units.take(name)) is not None:
            began = time.monotonic()
            try:
                part = worker(point, unit)
                # Counted alone: no two threads add up at the same time.
                counted = units.finish(name, unit, lambda unit=unit, part=part: total.add(unit, part))
            except Exception as error:
                self._end(name, error, units)
                return False
            seconds = time.monotonic() - began
            report.seconds += seconds
            report.counted += counted
            report.late += not counted
            self.observer.unit_done(
                worker=part.worker or name,
                unit=unit,
                examples=part.examples,
                fetch=part.fetch,
                compute=part.compute,
                seconds=seconds,
                counted=counted,
            )
        return True

    def _end(self, name: str, error: Exception, units: Units) -> None:
        with self._changed:
            self._alive.discard(name)
            self.reports[name].error = error
            units.lose(name)
            current = self._pass[0]
            if current is not units:
                current.lose(name)
            if not self._alive:
                current.give_up()
