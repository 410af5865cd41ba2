"""What the writers of the layouts are given: splits of pictures that lie in their new places already."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from zoo.datasets.records import Sample


@dataclass(frozen=True)
class Entry:
    """A picture: its name without suffix, its file relative to the new folder, and its ground truth."""

    name: str
    file: PurePosixPath
    sample: Sample


@dataclass(frozen=True)
class Part:
    """A split; its name is "" where there is only one."""

    split: str
    classes: tuple[str, ...]
    category_ids: tuple[int, ...] | None
    entries: Sequence[Entry]


def number(value: float) -> str:
    """A coordinate in as few characters as .0001 pixel needs.

    >>> number(2.0800000429), number(37.0)
    ('2.08', '37')
    """
    return f"{float(value):.4f}".rstrip("0").rstrip(".")
