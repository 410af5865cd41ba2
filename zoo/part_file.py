"""A download that is not complete yet, and what it takes to go on with it."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from zoo.files import save_json


class PartFile:
    """The bytes that came so far from one address; kept in ``.parts`` beside the file that they will be.

    A note beside the part holds the length and the validator (ETag, or time of change) that the server gave,
    so that bytes of two versions of a file are never put together.
    """

    def __init__(self, target: Path, address: str):
        self.target = target
        key = hashlib.sha256(address.encode()).hexdigest()[:8]
        self.path = target.parent / ".parts" / f"{key}-{target.name}"
        self._note = self.path.with_name(self.path.name + ".json")
        self.path.parent.mkdir(parents=True, exist_ok=True)

    @property
    def size(self) -> int:
        """Bytes that came so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def total(self) -> int | None:
        """Bytes of the whole file, as the server said; ``None`` if it did not."""
        return self._read().get("total")

    @property
    def validator(self) -> str:
        """What to send as ``If-Range``; empty if the server gave nothing that identifies the file's bytes."""
        return self._read().get("validator") or ""

    def begin(self, validator: str, total: int | None) -> None:
        """Start anew with a file that the server describes like this."""
        self.drop()
        # On a full disk this fails first; that is said where the bytes themselves do not fit.
        with contextlib.suppress(OSError):
            save_json({"validator": validator, "total": total}, self._note)

    def drop(self) -> None:
        """Leave nothing behind."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def _read(self) -> dict[str, object]:
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}


def drop_parts(target: Path) -> None:
    """Remove the parts of ``target`` from all addresses; it is complete."""
    for path in (target.parent / ".parts").glob(f"????????-{target.name}*"):
        path.unlink(missing_ok=True)
