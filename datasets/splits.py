"""Which splits of a data set are parts of their own, and which are unions of others."""

from collections.abc import Iterable
from functools import cache

_WHOLE = ("all", "full", "default")
_YEARS = ("07", "12")  # what papers call the trainval of a year; of a devkit whose splits are "2007/train" and so on


def base_splits(names: Iterable[str]) -> tuple[str, ...]:
    """The splits that are not unions of others, going by their names, as "trainval" is that of "train" and "val".

    Of a VOC devkit's combinations ("07+12") too only the parts remain.

    >>> base_splits(("test", "train", "trainval", "val"))
    ('test', 'train', 'val')
    >>> base_splits(("trainval", "test"))
    ('trainval', 'test')
    """
    known = list(names)
    kept = []
    for name in known:
        year, _, split = name.rpartition("/")
        others = frozenset(
            other.rpartition("/")[2] for other in known if other != name and other.rpartition("/")[0] == year
        )
        paper = "+" in name or (name in _YEARS and any("/" in other for other in known))
        if not paper and split not in _WHOLE and not _is_union(split, others):
            kept.append(name)
    return tuple(kept or known)


@cache
def _is_union(name: str, others: frozenset[str]) -> bool:
    """Whether a name is made of two or more others, written one after the other."""
    return any(
        name.startswith(other) and (name[len(other) :] in others or _is_union(name[len(other) :], others))
        for other in others
        if other and len(other) < len(name)
    )
