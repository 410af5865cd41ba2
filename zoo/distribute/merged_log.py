"""One log of several processes: whole lines, each behind the name of the process it came from."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import BinaryIO


class MergedLog:
    """Copies lines to a stream, and to a file if there is one.

    Args:
        width: room for the names.
        path: file to append to; its folder is made.
        stream: where the lines are shown; standard output by default.

    Example:
        >>> log = MergedLog(len("worker 0"))
        >>> reader = log.follow("worker 0", process.stdout)    # doctest: +SKIP
    """

    def __init__(self, width: int = 0, path: Path | None = None, stream: BinaryIO | None = None) -> None:
        """Opens the file."""
        self._width, self._lock = width, threading.Lock()
        self._streams = [sys.stdout.buffer if stream is None else stream]
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._streams.append(open(path, "ab"))  # noqa: SIM115 - closed by close()

    def say(self, name: str, text: str) -> None:
        """Add a line."""
        self._write(f"{name:{self._width}} | {text}\n".encode())

    def follow(self, name: str, pipe: BinaryIO) -> threading.Thread:
        """Copy all lines of ``pipe`` by a thread that ends with it; the last one is ended if it is not."""
        prefix = f"{name:{self._width}} | ".encode()

        def copy() -> None:
            with pipe:
                for line in pipe:
                    # What a progress bar wrote over itself is not worth a line of its own.
                    text = line.rstrip(b"\r\n").rpartition(b"\r")[2]
                    self._write(prefix + text.replace(b"\b", b"") + b"\n")

        thread = threading.Thread(target=copy, daemon=True, name=f"log of {name}")
        thread.start()
        return thread

    def close(self) -> None:
        """Close the file; standard output stays open."""
        with self._lock:
            for stream in self._streams[1:]:
                stream.close()
            del self._streams[1:]

    def _write(self, line: bytes) -> None:
        with self._lock:
            for stream in list(self._streams):
                try:
                    stream.write(line)
                    stream.flush()
                except (OSError, ValueError):  # nobody looks any more, or the disk is full: the training goes on
                    self._streams.remove(stream)
