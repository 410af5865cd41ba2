"""The progress of a download, for people: on standard error, and only if that is a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType


class TransferBar:
    """A bar with bytes, speed and time left that vanishes when done; nothing at all where there is no terminal.

    >>> with TransferBar("net.npz") as bar:
    ...     bar.start(0, 10)
    ...     bar.at(5)
    """

    def __init__(self, name: str):
        self._name = name
        self._progress = None
        self._task = None

    def __enter__(self) -> TransferBar:
        """Show the bar."""
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
            from rich.progress import TimeRemainingColumn as TimeLeft
            from rich.progress import TransferSpeedColumn as Speed

            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                DownloadColumn(),
                Speed(),
                TimeLeft(),
            )
            self._progress = Progress(*columns, console=Console(file=sys.stderr), transient=True)
            self._task = self._progress.add_task(self._name, total=None)
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()

    def start(self, have: int, total: int | None) -> None:
        """A transfer begins at byte ``have`` of ``total``, ``None`` if that is unknown."""
        if self._progress is not None:
            self._progress.update(self._task, completed=have, total=total)

    def at(self, have: int) -> None:
        """``have`` bytes are there."""
        if self._progress is not None:
            self._progress.update(self._task, completed=have)

    def say(self, text: str) -> None:
        """A line above the bar."""
        if self._progress is not None:
            self._progress.console.print(text, markup=False, highlight=False)
