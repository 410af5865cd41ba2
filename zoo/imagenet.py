"""ImageNet's thousand classes, as WordNet ids in the order that all published classifiers use."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

_LABELS = "datasets/imagenet2012/labels.txt"


@cache
def imagenet_classes() -> tuple[str, ...]:
    """The WordNet ids of ILSVRC 2012's classes in index order, sorted as in Caffe's ``synset_words.txt``.

    Read from the installed tensorflow-datasets, without importing it. Empty where that is not installed: models then
    know their classes by number only.

    >>> imagenet_classes()[:2]
    ('n01440764', 'n01443537')
    """
    package = find_spec("tensorflow_datasets")
    if package is None or package.origin is None:
        return ()
    labels = Path(package.origin).parent / _LABELS
    try:
        names = tuple(labels.read_text(encoding="ascii").split())
    except OSError:
        return ()
    return names if len(names) == len(set(names)) == 1000 else ()
