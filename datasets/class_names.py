"""Numbers classes that a data set and a model may know by different names."""

import re
from collections.abc import Mapping, Sequence

_SYNSET = re.compile(r"n\d{8}")
_SHOWN = 8


def number_classes(
    found: Sequence[str], classes: Sequence[str] | None, where: str
) -> tuple[tuple[str, ...], Mapping[str, int]]:
    """Names of the classes in index order, and the index of each class of the data.

    Args:
        found: names of the data's classes, in their own order.
        classes: names in the order wanted, for example a model's; ``None`` for the data's own.
        where: what to call the data in an error.

    ImageNet's folders are called by synset (``n01440764``) and its models' classes mostly by word (``tench``): where
    all of one are synsets, none of the other is, and there are equally many, they go together in the order of the
    synsets, which is that of every published list.

    >>> number_classes(["cat", "dog"], ["dog", "cat", "cow"], "photos")
    (('dog', 'cat', 'cow'), {'cat': 1, 'dog': 0})
    """
    known = tuple(found if classes is None else classes)
    strange = sorted(set(found) - set(known))
    if strange and _are_synsets(found) and not any(map(_SYNSET.fullmatch, known)) and len(found) == len(known):
        return known, {name: index for index, name in enumerate(sorted(found))}
    if strange:
        raise ValueError(f"{where} has other classes: {_list(strange)}; known are {_list(known)}")
    # Lists of ImageNet's words hold two kinds of crane; names that a data set uses have to be clear.
    twice = [name for name in found if known.count(name) > 1]
    if twice:
        raise ValueError(f"{where}: the class {twice[0]!r} occurs twice among {_list(known)}")
    return known, {name: known.index(name) for name in found}


def _are_synsets(names: Sequence[str]) -> bool:
    return all(map(_SYNSET.fullmatch, names))


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
