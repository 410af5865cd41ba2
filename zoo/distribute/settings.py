"""What must not change when a training goes on from its checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_LATER = ("model", "options")


def check_settings(stored: Mapping[str, Any], given: Mapping[str, Any], path: str | Path) -> None:
    """Raise a ``ValueError`` that names what differs between a checkpoint's settings and this training's.

    >>> check_settings({"seed": 0}, {"seed": 1}, "run.npz")
    Traceback (most recent call last):
    ...
    ValueError: run.npz was written with other settings: seed 0 then, 1 now; resume with the same, or start anew with
    another file
    """
    now = json.loads(json.dumps(dict(given)))  # JSON knows no tuples
    # Checkpoints of earlier versions do not say what model they are of.
    now = {name: value for name, value in now.items() if name in stored or name not in _LATER}
    names = [*now, *(name for name in stored if name not in now)]
    differ = [
        f"{name} {stored.get(name)!r} then, {now.get(name)!r} now"
        for name in names
        if stored.get(name) != now.get(name)
    ]
    if differ:
        raise ValueError(
            f"{path} was written with other settings: {'; '.join(differ)[:500]}; resume with the same, or start anew "
            "with another file"
        )
