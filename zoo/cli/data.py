"""Choosing data sets for ``zoo train`` and ``zoo eval``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from zoo.cli.console import say, warn

if TYPE_CHECKING:
    from zoo.datasets.records import DetectionDataset

Difficult = Literal["marked", "ordinary"]

DATA_HELP = (
    "a folder in the VOC, COCO, YOLO or CSV layout, FILE.csv, FILE.json (COCO), data.yaml (YOLO), tfds:NAME, digits, "
    "or digits:COUNT; voc:, coco:, yolo: or csv: before a path says which is meant"
)
CLASS_DATA_HELP = "; for a classifier a folder or .zip of class folders (CLASS/FILE or SPLIT/CLASS/FILE), or tfds:NAME"
_NOTES_SHOWN = 5
# What layouts call their splits: VOC and YOLO, COCO, other exports, tensorflow-datasets.
_TRAIN = ("train", "trainval", "train2017", "07+12")
_VAL = ("val", "val2017", "valid", "validation")
_HELD_OUT = 10  # one picture in so many, where a folder has no splits


def add_data_options(parser: argparse.ArgumentParser, difficult: str) -> None:
    """Add ``--data`` and how to read it; ``difficult``: what the mark means to the command."""
    parser.add_argument("--data", required=True, metavar="DATA", help=DATA_HELP + CLASS_DATA_HELP)
    add_reading_options(parser)
    parser.add_argument(
        "--difficult",
        choices=("marked", "ordinary"),
        default="marked",
        help=f"objects marked difficult: {difficult} (default: marked)",
    )


def add_reading_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--images`` and ``--classes``, which mean what they mean to `zoo.datasets.load`."""
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of the pictures of a COCO or CSV file")
    parser.add_argument(
        "--classes",
        type=class_list,
        metavar="FILE|A,B",
        help="the class names in the order to number them; one that is not among them is an error",
    )


def class_list(text: str) -> tuple[str, ...]:
    """The names that ``--classes`` gives: between commas, or in a file of them."""
    from zoo.datasets.checks import checked_classes
    from zoo.datasets.class_lists import read_class_list

    names = tuple(name.strip() for name in text.split(","))
    try:
        if os.path.isfile(text):  # Path.is_file raises where many names are too long for one of a file
            return read_class_list(text)
        if len(names) == 1 and (Path(text).suffix in (".txt", ".csv") or "/" in text):
            raise ValueError(f"there is no file {text}; give names as A,B or a file that lists them")
        if "" in names:
            raise ValueError(f"{text!r} holds an empty name")
        return checked_classes(names)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def is_digits(spec: str) -> bool:
    """Whether the data are the embedded digit scenes: mirrored, they would teach nonsense."""
    return spec.partition(":")[0] == "digits"


def train_and_val(
    spec: str,
    split: str | None,
    val_split: str | None,
    *,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
    difficult: Difficult = "marked",
) -> tuple[DetectionDataset, DetectionDataset | None]:
    """Training and validation data; where no splits are named, those that the data have.

    For data without any split, or with none but ``train`` (as YOLO's), every tenth picture is held out.
    ``val_split="none"`` turns validation off.
    ``difficult`` is for training alone: validation neither counts nor punishes difficult objects, as in the papers.
    """
    from zoo.datasets.difficult import DifficultAsOrdinary
    from zoo.datasets.loading import load, splits

    def for_training(data: DetectionDataset) -> DetectionDataset:
        return DifficultAsOrdinary(data) if difficult == "ordinary" else data

    known = splits(spec)
    undivided = split is None and (known == ("train",) or _first(known, _TRAIN) is None)
    split = split or _first(known, _TRAIN)
    data = load(spec, split, classes, images=images)
    tell_notes(data)
    if val_split == "none":
        return for_training(data), None
    if val_split is None and undivided and len(data) >= 2 * _HELD_OUT:
        held_out = range(_HELD_OUT // 2, len(data), _HELD_OUT)
        say(f"{spec} has no split to validate on: every {_HELD_OUT}th picture is held out")
        return for_training(data.subset(sorted(set(range(len(data))) - set(held_out)))), data.subset(held_out)
    val_split = val_split or (_first(known, _VAL) if split in ("train", "train2017") else None)
    if val_split is None:
        return for_training(data), None
    val = load(spec, val_split, data.classes, images=images)
    tell_notes(val)
    return for_training(data), val


def evaluation_data(
    spec: str,
    split: str | None,
    known: Sequence[str],
    *,
    classes: Sequence[str] | None = None,
    images: Path | None = None,
    difficult: Difficult = "marked",
    unlabelled: bool = False,
) -> tuple[DetectionDataset, str | None]:
    """Data to measure on, and the split's name: without one ``test`` or else ``val``, if there are such with objects.

    ``known`` are the model's classes, which the data are numbered by; ``classes`` are the data's, where these have no
    names of their own or other ones are to be refused. ``unlabelled``: take a split that was given, or data
    without splits, although they have no annotations, for the detections alone.

    Raises:
        ValueError: nothing can be measured, as no picture has an object.
    """
    from zoo.datasets.loading import load, splits
    from zoo.datasets.renumbered import Renumbered

    there = () if split else splits(spec)
    names = [split] if split else [name for name in ("test", "2007/test", *_VAL) if name in there] or [None]
    for name, following in zip(names, [*names[1:], None], strict=True):
        data = load(spec, name, known if classes is None else classes, images=images, difficult=difficult)
        tell_notes(data)
        if data.max_boxes or (unlabelled and (split or names == [None])):
            break
        # tensorflow-datasets has the pictures of VOC's and COCO's tests, whose annotations were never published.
        if following:
            say(f"{spec}: the split {name} has no annotations; measured on {following} instead")
    else:
        raise ValueError(
            f"{spec}: {', '.join(name or 'the data set' for name in names)} has no annotations to measure against; "
            f"choose another split with --split; splits: {', '.join(splits(spec)) or 'none'}"
        )
    return (data if data.classes == tuple(known) else Renumbered(data, known)), name


def tell_notes(data: DetectionDataset) -> None:
    """Say what was dropped or clipped in reading the data."""
    for note in data.notes[:_NOTES_SHOWN]:
        warn(f"note: {note}")
    if len(data.notes) > _NOTES_SHOWN:
        warn(f"note: and {len(data.notes) - _NOTES_SHOWN} more like these")


def _first(known: Sequence[str], wanted: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in known), None)
