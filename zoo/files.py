"""Files that are either whole or not there: written aside, then renamed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def save_atomically(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write to, and rename it to ``path`` when the block ends without an error.

    A reader, or a process killed half way, sees the old file or the new one, never a part. The temporary
    file lies in the same folder (a rename across disks is not atomic) and keeps the whole name behind a
    prefix, because Keras looks at suffixes such as ``.weights.h5``. Missing parent folders are made.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "new" / "note.txt"
    >>> with save_atomically(target) as aside:
    ...     _ = aside.write_text("hello")
    >>> target.read_text()
    'hello'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def save_json(data: object, path: str | Path) -> Path:
    """Write ``data`` as indented JSON, atomically; gives the path back."""
    with save_atomically(path) as aside:
        aside.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    return Path(path)


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file as 64 hex digits, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
