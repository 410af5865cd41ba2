"""What the command prints, and where."""

from __future__ import annotations

import os

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

# Results go to standard output, progress and complaints to standard error, so that results can be piped.
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def quiet_tensorflow() -> None:
    """Keep TensorFlow's start-up chatter off the screen; what the user has set in the environment stands."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("ABSL_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")


def progress(text: str) -> Progress:
    """A progress bar on standard error that vanishes when done; nothing where that is no terminal."""
    columns = (TextColumn(text), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal)


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table; the columns named in ``right`` are numbers."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return made


def say(text: str) -> None:
    """Print plain text: no markup, so that a file called ``[x].jpg`` is printed as it is."""
    out.print(text, markup=False)


def warn(text: str) -> None:
    """Print plain text to standard error."""
    err.print(text, markup=False)
