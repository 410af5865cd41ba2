"""Choosing data sets for ``zoo train`` and ``zoo eval``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.cli.console import say, warn

if TYPE_CHECKING:
    from zoo.datasets.records import DetectionDataset

_NOTES_SHOWN = 5
_HELD_OUT = 10  # one picture in so many, where a folder has no splits


def add_data_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--data``."""
    parser.add_argument(
        "--data",
        required=True,
        metavar="DATA",
        help="a VOC folder (Annotations, JPEGImages, ImageSets/Main), or digits, or digits:COUNT",
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
    from zoo.datasets import load

    known = _splits(spec)
    split = split or _first(known, ("train", "trainval"))
    data = load(spec, split)
    tell_notes(data)
    if val_split == "none":
        return data, None
    if val_split is None and split is None and len(data) >= 2 * _HELD_OUT:
        held_out = range(_HELD_OUT // 2, len(data), _HELD_OUT)
        say(f"{spec} has no splits: every {_HELD_OUT}th picture is held out for validation")
        return data.subset(sorted(set(range(len(data))) - set(held_out))), data.subset(held_out)
    val_split = val_split or (_first(known, ("val",)) if split == "train" else None)
    if val_split is None:
        return data, None
    val = load(spec, val_split, data.classes)
    tell_notes(val)
    return data, val


def evaluation_data(spec: str, split: str | None, classes: Sequence[str]) -> tuple[DetectionDataset, str | None]:
    """Data to measure on, and the split's name: without one ``test`` or else ``val``, if there are such."""
    from zoo.datasets import load

    split = split or _first(_splits(spec), ("test", "val"))
    data = load(spec, split, classes)
    tell_notes(data)
    return data, split


def tell_notes(data: DetectionDataset) -> None:
    """Say what was dropped or clipped in reading the data."""
    for note in data.notes[:_NOTES_SHOWN]:
        warn(f"note: {note}")
    if len(data.notes) > _NOTES_SHOWN:
        warn(f"note: and {len(data.notes) - _NOTES_SHOWN} more like these")


def _splits(spec: str) -> tuple[str, ...]:
    if is_digits(spec):
        return ("train", "val", "test")
    from zoo.datasets.voc import voc_splits

    return voc_splits(spec)


def _first(known: Sequence[str], wanted: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in known), None)
