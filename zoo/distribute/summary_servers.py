"""Keeps what Downpour's and Sandblaster's workers tell: for TensorBoard while they train, and for a summary."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from zoo.distribute.observer import Observer
from zoo.distribute.summary import Cell, Summary
from zoo.distribute.timing_scalars import Scalars

_DOWNPOUR_NOTE = (
    "A mini-batch: fetching parameters, computing gradients, pushing them, by the worker's clock; other is the rest: "
    "waiting for work, also while the coordinator validates, and for data, which it reads and sends. Staleness: "
    "mini-batches of others between a fetch and the push after it. From the first result on, so that starting up does "
    "not count. This run only."
)
_SANDBLASTER_NOTE = (
    "A unit of data: fetching parameters and computing, by the worker's clock; other is the rest until its result is "
    "here: reading and sending data, waiting in the queue, sending the gradient. Late units are those of which another "
    "copy was first. This run only."
)


def summarise(observer: Observer, folder: str | Path, say: Callable[[str], None]) -> None:
    """If the observer is a `Recorder` and anything was done, keep its summary in a run folder, and say it."""
    if isinstance(observer, Recorder):
        summary = observer.summary()
        if not observer.recorded:
            return  # a training that was at its end already, whose summary is there
        summary.save(folder)
        say(summary.text())


@dataclass
class _Sums:
    """What one worker did."""

    count: int = 0  # mini-batches, or units that counted
    late: int = 0
    examples: int = 0
    fetch: float = 0.0
    compute: float = 0.0
    push: float = 0.0
    seconds: float = 0.0
    staleness: float = 0.0
    stalest: float = 0.0

    def per(self, name: str) -> float | None:
        """Milliseconds of a part for each mini-batch or unit."""
        count = self.count + self.late
        return 1000 * getattr(self, name) / count if count else None


class Recorder(Observer):
    """An observer that adds up by worker.

    Args:
        folder: for TensorBoard, in which each worker gets a folder of its own; None for none.
        every: seconds between two points of a curve.
        clock: seconds.

    Example:
        >>> recorder = Recorder("runs/downpour/tensorboard")                                  # doctest: +SKIP
        >>> train_downpour(model, batches, strategy, steps=1000, observer=recorder)           # doctest: +SKIP
        >>> print(recorder.summary().text())                                                  # doctest: +SKIP
    """

    def __init__(
        self, folder: str | Path | None = None, every: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Nothing has been told yet."""
        self.folder = None if folder is None else Path(folder)
        self._every, self._clock = every, clock
        self._lock = threading.Lock()
        self._workers: dict[str, _Sums] = {}
        self._shown: dict[str, _Sums] = {}
        self._scalars: dict[str, Scalars] = {}
        self._first: float | None = None  # when the first result came
        self._last = self._written = 0.0
        self._before = ("", 0)  # who was first, and with how many examples: nobody knows how long they took
        self._waited = 0.0
        self._passes: list[float] = []
        self._searches: list[int] = []
        self._backups = self._lost = 0

    def waited(self, *, seconds: float) -> None:
        """Add up."""
        self._waited += seconds

    def pushed(
        self,
        *,
        worker: str,
        steps: int,
        examples: int,
        staleness: float,
        loss: float,
        fetch: float,
        compute: float,
        push: float,
    ) -> None:
        """Add up and, now and then, write a point."""
        with self._lock:
            sums = self._of(worker, examples)
            sums.count += steps
            sums.examples += examples
            sums.fetch += fetch
            sums.compute += compute
            sums.push += push
            sums.staleness += staleness * steps
            sums.stalest = max(sums.stalest, staleness)
            if self._last - self._written >= self._every:
                self._write(sum(each.count for each in self._workers.values()))

    def unit_done(
        self, *, worker: str, unit: int, examples: int, fetch: float, compute: float, seconds: float, counted: bool
    ) -> None:
        """Add up."""
        with self._lock:
            sums = self._of(worker, examples)
            sums.count += counted
            sums.late += not counted
            sums.examples += examples if counted else 0
            sums.fetch += fetch
            sums.compute += compute
            sums.seconds += seconds

    def pass_done(self, *, seconds: float, loss: float, backups: int, lost: int) -> None:
        """Add up."""
        with self._lock:
            self._passes.append(seconds)
            self._backups += backups
            self._lost += lost

    def line_search(self, *, iteration: int, evaluations: int, length: float, seconds: float) -> None:
        """Add up, and write a point."""
        with self._lock:
            self._searches.append(evaluations)
            numbers = {"line_search/evaluations": evaluations, "line_search/length": length}
            self._scalars_of("coordinator").write({**numbers, "line_search/seconds": seconds}, iteration)
            self._write(iteration)

    def summary(self) -> Summary:
        """Everything until now; closes TensorBoard's files."""
        with self._lock:
            for each in self._scalars.values():
                each.close()
            return self._sandblaster() if self._passes else self._downpour()

    @property
    def recorded(self) -> bool:
        """Whether any worker has told of anything."""
        return bool(self._workers)

    def _of(self, worker: str, examples: int) -> _Sums:
        self._last = self._clock()
        if self._first is None:
            self._first = self._written = self._last
            self._before = (worker, examples)
        return self._workers.setdefault(worker, _Sums())

    def _scalars_of(self, name: str) -> Scalars:
        if name not in self._scalars:
            self._scalars[name] = Scalars(None if self.folder is None else self.folder / name.replace(" ", ""))
        return self._scalars[name]

    def _write(self, step: int) -> None:
        """What each worker did since the point before."""
        took, self._written = self._last - self._written, self._last
        for name, now in self._workers.items():
            then = self._shown.get(name, _Sums())
            new = _Sums(*(getattr(now, field) - getattr(then, field) for field in vars(now)))
            self._shown[name] = replace(now)
            numbers: dict[str, float | None] = {"examples_per_second": new.examples / took if took else None}
            if new.count + new.late:
                parts = ("fetch", "compute") if self._passes else ("fetch", "compute", "push")
                numbers |= {f"step/{part}_ms": new.per(part) for part in parts}
                numbers |= {} if self._passes else {"staleness": new.staleness / new.count}
            self._scalars_of(name).write(numbers, step)

    @property
    def _seconds(self) -> float:
        return 0.0 if self._first is None else self._last - self._first

    def _rate(self, examples: int) -> float | None:
        return examples / self._seconds if self._seconds else None

    def _downpour(self) -> Summary:
        everyone = self._workers.values()
        steps = sum(each.count for each in everyone)
        examples = sum(each.examples for each in everyone)
        totals: dict[str, Cell] = {
            "workers": len(everyone),
            "mini-batches": steps,
            "examples": examples,
            "seconds": self._seconds,
            "examples/s": self._rate(examples - self._before[1]),
            "staleness": sum(each.staleness for each in everyone) / steps if steps else None,
            "coordinator waited for data, s": self._waited,
        }
        rows = []
        for name, each in sorted(self._workers.items()):
            parts = {f"{part}, ms": each.per(part) for part in ("fetch", "compute", "push")}
            busy = each.fetch + each.compute + each.push
            rows.append(
                {
                    "worker": name,
                    "mini-batches": each.count,
                    "examples/s": self._rate(each.examples - (self._before[1] if name == self._before[0] else 0)),
                    "staleness": each.staleness / each.count,
                    "most": each.stalest,
                    **parts,
                    "other, ms": max(0.0, 1000 * (self._seconds - busy) / each.count),
                }
            )
        return Summary("downpour", totals, rows, [_DOWNPOUR_NOTE])

    def _sandblaster(self) -> Summary:
        everyone = self._workers.values()
        totals: dict[str, Cell] = {
            "workers": len(everyone),
            "iterations": len(self._searches),
            "passes": len(self._passes),
            "passes a line search": sum(self._searches) / len(self._searches) if self._searches else None,
            "most": max(self._searches, default=None),
            "examples": sum(each.examples for each in everyone),
            "seconds in passes": sum(self._passes),
            "examples/s": sum(each.examples for each in everyone) / sum(self._passes),
            "backup copies": self._backups,
            "workers lost": self._lost,
        }
        rows = []
        for name, each in sorted(self._workers.items()):
            busy = each.fetch + each.compute
            rows.append(
                {
                    "worker": name,
                    "units": each.count,
                    "late": each.late,
                    "examples/s": each.examples / sum(self._passes),
                    "fetch, ms": each.per("fetch"),
                    "compute, ms": each.per("compute"),
                    "other, ms": max(0.0, 1000 * (each.seconds - busy) / (each.count + each.late)),
                }
            )
        return Summary("sandblaster", totals, rows, [_SANDBLASTER_NOTE])
