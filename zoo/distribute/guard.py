"""The small processes that see to it that ``zoo launch`` leaves nothing behind; run as ``python -m``.

``watch`` reads from its standard input which process groups run. The launcher holds the other end; when it is gone,
even by ``kill -9``, the input ends and the groups are ended. ``child COMMAND ...`` becomes the command, having asked
Linux to kill it with its parent: that covers the moment before the watcher knows of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterable
from typing import BinaryIO

GRACE = 5.0  # seconds between asking a group to end and killing it
_PR_SET_PDEATHSIG = 1  # from <sys/prctl.h>
CANNOT_START = 127  # as a shell says it


def end_groups(groups: Iterable[int], grace: float = GRACE, first: signal.Signals = signal.SIGTERM) -> None:
    """Send ``first`` to process groups; kill those that have processes left after ``grace`` seconds.

    Children of the caller have to be waited for by somebody: a process nobody has asked after counts as running.
    """
    left = [group for group in groups if _signal(group, first)]
    until = time.monotonic() + grace
    while left and time.monotonic() < until:
        time.sleep(0.02)
        left = [group for group in left if _signal(group, 0)]
    for group in left:
        _signal(group, signal.SIGKILL)


def watch(commands: BinaryIO) -> None:
    """Keep the list of groups that ``+GROUP`` and ``-GROUP`` lines make; end what is on it when the input ends."""
    groups: set[int] = set()
    for line in commands:
        with contextlib.suppress(ValueError):
            number = int(line)
            if number > 0:
                groups.add(number)
            else:
                groups.discard(-number)
    end_groups(groups)


def become(command: list[str], parent: int) -> None:
    """Turn this process into ``command``, to be killed when ``parent`` dies (on Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(CANNOT_START)  # it died before it could be tied to
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}; give a command that can be run", file=sys.stderr)
        sys.exit(CANNOT_START)


def _signal(group: int, number: int) -> bool:
    """Whether the group had a process to send the signal to."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    if sys.argv[1] == "watch":
        # Ctrl-C in a terminal and the like are for the launcher to deal with.
        for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ignored, signal.SIG_IGN)
        watch(sys.stdin.buffer)
    else:
        become(sys.argv[3:], int(sys.argv[2]))
