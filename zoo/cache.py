"""The folder of downloaded and converted weights, and what the environment says about fetching.

``ZOO_HOME``     the folder; ``~/.cache/zoo`` if not set.
``ZOO_OFFLINE``  anything but empty, ``0``, ``false``, ``no`` or ``off``: the network is not used at all.
``ZOO_MIRROR``   an address under which files are looked for, by the name that they have in the folder, before
                 their publisher is asked; a served copy of somebody's ``ZOO_HOME`` is a mirror.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock, Timeout

from zoo.weights_error import WeightsError

_PATIENCE = 2.0  # seconds to wait for another process before saying so
_FULL = (errno.ENOSPC, errno.EDQUOT)
# Which folder to choose instead, for what is kept in the cache; data sets are kept elsewhere.
MEND = "set ZOO_HOME to a folder"


def cache_folder() -> Path:
    """Folder of downloaded weights: ``$ZOO_HOME``, or ``~/.cache/zoo``."""
    return Path(os.environ.get("ZOO_HOME") or Path.home() / ".cache" / "zoo").expanduser()


def is_offline() -> bool:
    """Whether ``ZOO_OFFLINE`` forbids the network."""
    return os.environ.get("ZOO_OFFLINE", "").strip().lower() not in ("", "0", "false", "no", "off")


def addresses(name: str, url: str) -> tuple[str, ...]:
    """Where to look for the file ``name`` that its publisher has at ``url``: the mirror, if there is one, first."""
    mirror = os.environ.get("ZOO_MIRROR", "").strip()
    if not mirror:
        return (url,)
    if not mirror.lower().startswith(("http://", "https://")):
        raise WeightsError(f"ZOO_MIRROR is {mirror!r}; give an address that starts with http:// or https://")
    return (f"{mirror.rstrip('/')}/{quote(name)}", url)


@contextmanager
def locked(path: Path, mend: str = MEND) -> Iterator[None]:
    """Only one process or thread at a time is inside for the same ``path``; the others wait.

    The operating system frees the lock of a process that dies. Lock files stay, in ``.locks`` beside ``path``: to
    remove one while others wait for it would let two in. ``mend`` begins the advice where that cannot be written.
    """
    lock_file = path.parent / ".locks" / (path.name + ".lock")
    try:
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(lock_file)
        try:
            lock.acquire(timeout=_PATIENCE)
        except Timeout:
            if sys.stderr.isatty():
                print(f"waiting for another process that makes {path.name} ...", file=sys.stderr)
            lock.acquire()
    except OSError as error:
        raise WeightsError(f"{lock_file.parent} cannot be written ({error}); {mend} that you may write to") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def room_for(what: str, path: Path, needed: int | None, mend: str = MEND) -> Iterator[None]:
    """Check that ``needed`` bytes fit beside ``path``, and turn a disk that fills up meanwhile into plain words.

    ``mend`` begins the advice to keep it elsewhere.
    """
    size = "an unknown number of" if needed is None else f"{needed:,}"
    mend = f"make room, or {mend} on another disk"
    free = shutil.disk_usage(path.parent).free
    if needed is not None and free < needed:
        raise WeightsError(f"{what}: {path} needs {size} bytes, but its disk has only {free:,} free; {mend}")
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise WeightsError(
            f"{what}: {os.strerror(error.errno)} any more while {path} was written, which needed {size} bytes there; "
            f"nothing was kept; {mend}"
        ) from error
