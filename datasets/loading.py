"""Opens a data set by what a person types: a built-in name or a folder."""

import re
from collections.abc import Sequence
from pathlib import Path

from zoo.datasets.digits import CLASSES, SPLITS, digit_scenes
from zoo.datasets.records import DetectionDataset
from zoo.datasets.voc import load_voc

DIGIT_COUNTS = {"train": 2000, "val": 200, "test": 200}

_ALLOWED = '"digits", "digits:COUNT" (composed scenes, COUNT of them), or the path of a folder in the VOC layout'


def load(spec: str | Path, split: str | None = None, classes: Sequence[str] | None = None) -> DetectionDataset:
    """Open a data set.

    Args:
        spec: "digits", "digits:200" (that many scenes), or a VOC folder's path; a folder called "digits" is
            reached as "./digits".
        split: a split of it. None means "train" for digits, every annotated picture for a VOC folder.
        classes: class names in the order to number them; None takes the data set's own.

    >>> load("digits:20", "test")
    <DigitScenes 'digits test': 20 images, 10 classes>
    """
    text = str(spec)
    if match := re.fullmatch(r"digits(?::(.*))?", text):
        split = split or "train"
        if split not in SPLITS:
            raise ValueError(f"{text}: no split {split!r}; there are {', '.join(SPLITS)}")
        count = match[1] if match[1] is not None else str(DIGIT_COUNTS[split])
        if not re.fullmatch(r"0*[1-9][0-9]*", count):
            raise ValueError(f"{text}: what follows the colon is the number of scenes, as in digits:200")
        return digit_scenes(split, int(count), classes=CLASSES if classes is None else classes)
    if not Path(spec).is_dir():
        raise ValueError(f"{text}: no such data set; give {_ALLOWED}")
    return load_voc(spec, split, classes)
