"""One summary at the end of a training: a row for each worker, printed and kept in the run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.files import save_json

if TYPE_CHECKING:
    from zoo.distribute.replicas import Replicas
    from zoo.distribute.timing import StepTimes

SUMMARY = "summary.json"
Cell = float | int | str | None


@dataclass(frozen=True)
class Summary:
    """How a training went, not how well.

    Attributes:
        strategy: how it was distributed.
        totals: of all workers, by name; units are part of the names.
        workers: a row for each, all with the same names; None for what is not known.
        notes: what the numbers mean and leave out.

    Example:
        >>> print(Summary("mirrored", {"steps": 20}, [{"worker": "0", "examples": 40}]).text())
        mirrored: steps 20
        worker  examples
             0        40
    """

    strategy: str
    totals: Mapping[str, Cell]
    workers: Sequence[Mapping[str, Cell]] = ()
    notes: Sequence[str] = field(default=())

    def text(self) -> str:
        """The whole as lines."""
        told = ", ".join(f"{name} {_shown(value)}" for name, value in self.totals.items() if value is not None)
        lines = [f"{self.strategy}: {told}"]
        if self.workers:
            names = list(self.workers[0])
            cells = [names, *([_shown(row[name]) for name in names] for row in self.workers)]
            widths = [max(len(row[place]) for row in cells) for place in range(len(names))]
            lines += ["  ".join(map(str.rjust, row, widths)) for row in cells]
        return "\n".join([*lines, *self.notes])

    def save(self, folder: str | Path) -> Path:
        """Write ``summary.json`` into a run folder, atomically."""
        return save_json(asdict(self), Path(folder) / SUMMARY)


def fit_summary(replicas: Replicas, times: StepTimes) -> Summary:
    """What all workers' steps took. All of them have to call it, and get the same.

    Args:
        replicas: of the training.
        times: of this worker.
    """
    from zoo.distribute.timing import StepTimes

    workers = [StepTimes(*numbers) for numbers in replicas.rows_of_all(astuple(times))]
    name = "one device" if replicas.strategy is None else "mirrored" if replicas.workers == 1 else "multi_worker"
    seconds = max(each.seconds for each in workers)
    totals: dict[str, Cell] = {
        "workers": replicas.workers,
        "replicas": replicas.count,
        "steps": round(workers[0].steps),
        "examples": round(sum(each.examples for each in workers)),
        "seconds": seconds,
        "examples/s": sum(each.examples for each in workers) / seconds if seconds else None,
        "steps with tracing": round(workers[0].traced),
        "seconds of these": max(each.tracing for each in workers),
    }
    rows = [
        {
            "worker": str(number),
            "examples/s": each.examples_per_second,
            **{f"{part}, ms": value for part, value in each.milliseconds.items()},
        }
        for number, each in enumerate(workers)
    ]
    notes = [
        "A step: waiting for input; computing until the gradients are there; their exchange as far as it comes after "
        "that, waiting for others included; update; other (callbacks, Python). Validation, and steps in which "
        "TensorFlow traces, are left out. This run only."
    ]
    if not all(each.inside for each in workers):
        notes.append("The parts are not known here: XLA, gradient accumulation or loss scaling, or no step timed.")
    return Summary(name, totals, rows, notes)


def _shown(value: Cell) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)
