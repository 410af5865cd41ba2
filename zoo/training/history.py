"""The log of a training: a table with a row per epoch, and its curves."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from pathlib import Path

import keras

from zoo.files import save_atomically
from zoo.training.curves import draw_curves

Row = dict[str, float]
_REDRAW = 10.0  # seconds between two pictures


class HistoryLog(keras.callbacks.Callback):
    """Keeps ``rows`` and rewrites ``history.csv`` after every epoch and ``curves.png``, each atomically.

    The picture is drawn ten seconds after the one before at the earliest, and at the end: drawing takes a second, as
    much as an epoch of a few pictures.

    A row holds the epoch (from 1), the seconds it took, the learning rate at its end and all logs. ``rows``
    of an earlier part of a resumed training are given to begin with. Put this callback behind those that
    add logs.
    """

    def __init__(self, folder: str | Path, rows: Sequence[Row] = ()) -> None:
        """Nothing is written yet."""
        super().__init__()
        self.folder, self.rows = Path(folder), [dict(row) for row in rows]
        self._started = 0.0
        self._drawn, self._undrawn = time.monotonic(), False

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Add a row and write the files."""
        seconds = round(time.monotonic() - self._started, 2)
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        logs = dict(sorted((logs or {}).items(), key=lambda item: item[0] != "loss"))  # the sum before its parts
        numbers = {name: float(value) for name, value in logs.items()}
        self.rows.append({"epoch": epoch + 1, "seconds": seconds, "learning_rate": rate, **numbers})
        write_csv(self.rows, self.folder / "history.csv")
        self._undrawn = True
        if time.monotonic() - self._drawn >= _REDRAW:
            self._draw()

    def amend(self, numbers: Row) -> None:
        """Add to the last row what was measured after it was written."""
        self.rows[-1] |= {name: float(value) for name, value in numbers.items()}
        write_csv(self.rows, self.folder / "history.csv")
        self._undrawn = True

    def on_train_end(self, logs: dict | None = None) -> None:
        """Draw what has not been drawn."""
        if self._undrawn:
            self._draw()

    def _draw(self) -> None:
        draw_curves(self.rows, self.folder / "curves.png")
        self._drawn, self._undrawn = time.monotonic(), False


def write_csv(rows: Sequence[Row], path: str | Path) -> Path:
    """Write rows as CSV, atomically; a column per name that occurs in any row, empty where a row lacks it."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with save_atomically(path) as aside, open(aside, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return Path(path)


def read_csv(path: str | Path) -> list[Row]:
    """The rows of a file that ``write_csv`` wrote; empty cells are left out."""
    with open(path, newline="", encoding="utf-8") as file:
        return [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)]
