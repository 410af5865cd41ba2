"""What the command prints, and where."""

from __future__ import annotations

import os
import sys
import tempfile

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

# Results go to standard output, progress and complaints to standard error, so that results can be piped.
# A pipe has no width: tables are given room there.
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def import_tensorflow_quietly() -> None:
    """Import TensorFlow without its start-up chatter on the screen, unless ``TF_CPP_MIN_LOG_LEVEL`` is set.

    The first lines are written by C++ before any log level is in force, straight to file descriptor 2; for
    the time of the import that leads to a file, which is shown if the import fails.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.stderr.flush()
    screen = os.dup(2)
    with tempfile.TemporaryFile() as chatter:
        os.dup2(chatter.fileno(), 2)
        try:
            import keras
            import tensorflow as tf

            tf.config.list_physical_devices()  # talks about devices when first asked
            keras.backend.backend()
        except BaseException:
            chatter.seek(0)
            os.write(screen, chatter.read())
            raise
        finally:
            os.dup2(screen, 2)
            os.close(screen)


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
