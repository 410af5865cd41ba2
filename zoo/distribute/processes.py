"""Child processes that end with their parent, each in a process group of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Thread

from zoo.distribute.guard import GRACE, end_groups
from zoo.distribute.merged_log import MergedLog

_GUARD = (sys.executable, "-m", "zoo.distribute.guard")
_LAST_WORDS = 2.0  # seconds to read what a process wrote before it ended


@dataclass
class Child:
    """A running command: its name in the log, its process and the thread that copies what it writes."""

    name: str
    process: subprocess.Popen
    reader: Thread

    @property
    def status(self) -> int | None:
        """None while it runs, else its exit status; less than 0 if a signal ended it."""
        return self.process.poll()


class Children:
    """Starts commands and ends them with all that they started; a watcher does it if this process is killed.

    Use it as a context, in the main thread: Linux ties a child to the thread that started it.
    """

    def __init__(self, log: MergedLog) -> None:
        """Starts the watcher."""
        self.log = log
        self._watcher: subprocess.Popen | None = None
        self._groups: set[int] = set()
        self._watch()

    def __enter__(self) -> Children:
        """The children end with the block."""
        return self

    def __exit__(self, *error: object) -> None:
        """Ends what is left, and the watcher."""
        end_groups(self._groups)
        self._groups.clear()
        if self._watcher is not None:
            self._watcher.stdin.close()
            self._watcher.wait()

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> Child:
        """Start ``command`` with these environment variables added; what it writes goes to the log."""
        self._watch()
        process = subprocess.Popen(
            [*_GUARD, "child", str(os.getpid()), *command],
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._groups.add(process.pid)
        self._tell(process.pid)
        return Child(name, process, self.log.follow(name, process.stdout))

    def send(self, children: Sequence[Child], number: signal.Signals) -> None:
        """Send a signal to the groups of those that run."""
        for child in children:
            if child.status is None:
                os.killpg(child.process.pid, number)

    def end(self, children: Sequence[Child], grace: float = GRACE) -> None:
        """End children and all that they started; give them ``grace`` seconds to do it themselves."""
        waiting = [Thread(target=child.process.wait, daemon=True) for child in children]
        for thread in waiting:
            thread.start()
        end_groups([child.process.pid for child in children], grace)
        for child, thread in zip(children, waiting, strict=True):
            thread.join()
            child.reader.join(_LAST_WORDS)
            self._groups.discard(child.process.pid)
            self._tell(-child.process.pid)

    def _watch(self) -> None:
        """Start the watcher, again if somebody has killed it."""
        if self._watcher is not None and self._watcher.poll() is None:
            return
        self._watcher = subprocess.Popen([*_GUARD, "watch"], stdin=subprocess.PIPE, start_new_session=True)
        for group in self._groups:
            self._tell(group)

    def _tell(self, number: int) -> None:
        try:
            self._watcher.stdin.write(b"%d\n" % number)
            self._watcher.stdin.flush()
        except OSError:  # the watcher was killed: the next one is told anew
            self._watch()
