"""What damaged files make their parsers raise, turned into errors that name the file."""

from __future__ import annotations

import contextlib
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from zoo.weights_error import WeightsError

# What zipfile, zlib and the parsers of what lies inside raise for damaged input.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    IndexError,
    NotImplementedError,
    RuntimeError,
    OverflowError,
)


@contextlib.contextmanager
def naming(path: Path, close: Callable[[], None] | None = None) -> Iterator[None]:
    """Turn what damaged input raises in the block into a ``WeightsError`` that names the file, and then ``close`` it.

    >>> with naming(Path("net.npz")):    # doctest: +SKIP
    ...     raise EOFError("no more data")
    WeightsError: net.npz is damaged or cut short (no more data); fetch it again
    """
    with contextlib.ExitStack() as stack:
        if close is not None:
            stack.callback(close)
        with _named(path):
            yield
        stack.pop_all()


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except WeightsError:
        raise
    except DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise WeightsError(f"{path} is damaged or cut short ({reason}); fetch it again") from error
