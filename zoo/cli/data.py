"""Choosing data sets for ``zoo train`` and ``zoo eval``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.cli.console import say, warn

if TYPE_CHECKING:
    from zoo.datasets.records import DetectionDataset

DATA_HELP = (
    "a folder in the VOC, COCO, YOLO or CSV layout, FILE.csv, FILE.json (COCO), data.yaml (YOLO), tfds:NAME, digits, "
    "or digits:COUNT; voc:, coco:, yolo: or csv: before a path says which is meant"
)
_NOTES_SHOWN = 5
# What layouts call their splits: VOC and YOLO, COCO, other exports, tensorflow-datasets.
_TRAIN = ("train", "trainval", "train2017", "07+12")
_VAL = ("val", "val2017", "valid", "validation")
_HELD_OUT = 10  # one picture in so many, where a folder has no splits


def add_data_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--data``."""
    parser.add_argument(
        "--data",
        required=True,
        metavar="DATA",
        help=DATA_HELP,
    )


def is_digits(spec: str) -> bool:
    """Whether the data are the embedded digit scenes: mirrored, they would teach nonsense."""
    return spec.partition(":")[0] == "digits"


def train_and_val(
    spec: str, split: str | None, val_split: str | None
) -> tuple[DetectionDataset, DetectionDataset | None]:
    """Training and validation data; where no splits are named, those that the data have.

    For a folder without any split every tenth picture is held out. ``val_split="none"`` turns validation off.
    """
    from zoo.datasets.loading import load, splits

    known = splits(spec)
    split = split or _first(known, _TRAIN)
    data = load(spec, split)
    tell_notes(data)
    if val_split == "none":
        return data, None
    if val_split is None and split is None and len(data) >= 2 * _HELD_OUT:
        held_out = range(_HELD_OUT // 2, len(data), _HELD_OUT)
        say(f"{spec} has no splits: every {_HELD_OUT}th picture is held out for validation")
        return data.subset(sorted(set(range(len(data))) - set(held_out))), data.subset(held_out)
    val_split = val_split or (_first(known, _VAL) if split in ("train", "train2017") else None)
    if val_split is None:
        return data, None
    val = load(spec, val_split, data.classes)
    tell_notes(val)
    return data, val


def evaluation_data(spec: str, split: str | None, classes: Sequence[str]) -> tuple[DetectionDataset, str | None]:
    """Data to measure on, and the split's name: without one ``test`` or else ``val``, if there are such."""
    from zoo.datasets.loading import load, splits

    split = split or _first(splits(spec), ("test", "2007/test", *_VAL))
    data = load(spec, split, classes)
    tell_notes(data)
    return data, split


def tell_notes(data: DetectionDataset) -> None:
    """Say what was dropped or clipped in reading the data."""
    for note in data.notes[:_NOTES_SHOWN]:
        warn(f"note: {note}")
    if len(data.notes) > _NOTES_SHOWN:
        warn(f"note: and {len(data.notes) - _NOTES_SHOWN} more like these")


def _first(known: Sequence[str], wanted: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in known), None)
