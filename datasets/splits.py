"""Which splits of a data set are parts of their own, and which are unions of others."""

from collections.abc import Iterable, Iterator

_WHOLE = ("all", "full", "default")
_YEARS = ("07", "12")  # what papers call the trainval of a year; of a devkit whose splits are "2007/train" and so on


def base_splits(names: Iterable[str]) -> tuple[str, ...]:
    """The splits that are not unions of others, going by their names, as "trainval" is that of "train" and "val".

    Of a VOC devkit's combinations ("07+12") too only the parts remain. Numbers are unions, as "12" is that of "1" and
    "2", only if all that are long enough are: where there is an "11" as well, somebody has counted.

    >>> base_splits(("test", "train", "trainval", "val"))
    ('test', 'train', 'val')
    >>> base_splits(("trainval", "test"))
    ('trainval', 'test')
    """
    known = list(names)
    kept = []
    for name in known:
        year, _, split = name.rpartition("/")
        others = {other.rpartition("/")[2] for other in known if other != name and other.rpartition("/")[0] == year}
        paper = "+" in name or (name in _YEARS and any("/" in other for other in known))
        if not paper and split not in _WHOLE and not _is_union(split, others):
            kept.append(name)
    return tuple(kept or known)


def _is_union(name: str, others: set[str]) -> bool:
    """Whether a name is made of two or more different others, written one after the other."""
    if not name.isdecimal():
        return any(True for _ in _ways(name, others))
    numbers = {name, *(other for other in others if other.isdecimal())}
    least = min(map(len, numbers))
    return len(name) > least and all(
        any(list(way) == sorted(way, key=int) for way in _ways(number, numbers))
        for number in numbers
        if len(number) > least
    )


def _ways(name: str, others: set[str]) -> Iterator[tuple[str, ...]]:
    """The ways to make a name of others, each taken once."""
    for other in others:
        rest = name.removeprefix(other)
        if other and rest and rest != name:
            left = others - {other}
            if rest in left:
                yield other, rest
            yield from ((other, *way) for way in _ways(rest, left))
