"""``zoo eval`` for classifiers: top-1 and top-5 error, and what is taken for what."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import numpy as np

from zoo.cli.console import out, progress, say, table
from zoo.cli.data import tell_notes
from zoo.cli.models import describe

if TYPE_CHECKING:
    import keras

_ROWS = 20  # classes in the table; of more, the worst


def evaluate_classes(args: argparse.Namespace, model: keras.Model) -> int:
    """Measure the classifier ``model`` on ``--data``."""
    from zoo.datasets.class_sources import class_splits, load_classes
    from zoo.files import save_json
    from zoo.training.classify import evaluate_classifier

    known = class_splits(args.data)
    split = args.split or next((name for name in ("test", "val", "validation") if name in known), None)
    names = tuple(model.zoo_meta.classes) or None
    data = load_classes(args.data, split, names)
    tell_notes(data)
    if args.limit is not None:
        # Spread over the classes, which folders list one after the other.
        data = data.subset(np.linspace(0, len(data) - 1, min(args.limit, len(data))).round().astype(int))
    with progress("measuring") as bar:
        task = bar.add_task("", total=len(data))
        scores = evaluate_classifier(model, data, progress=lambda count: bar.advance(task, count))
    say(f"{describe(model)} on {data.name}: {len(data)} pictures")
    out.print(_worst(scores.classes, scores.confusion))
    speed = len(data) / scores.seconds
    say(f"Top-1 error {scores.top1_error:.2%}, top-5 error {scores.top5_error:.2%}; {speed:.0f} pictures/s")
    if args.json is not None:
        record = {
            "model": describe(model),
            "weights": args.weights,
            "data": args.data,
            "split": split,
            "images": len(data),
            **scores.to_dict(),
            "seconds": round(scores.seconds, 3),
            "command": args.command_line,
        }
        save_json(record, args.json)
        say(f"JSON: {args.json}")
    return 0


def _worst(classes: tuple[str, ...], confusion: np.ndarray) -> object:
    """Classes by their error, each with the class that it is taken for most often."""
    totals = confusion.sum(axis=1)
    errors = 1 - np.diag(confusion) / np.maximum(totals, 1)
    wrong = confusion - np.diag(np.diag(confusion))
    rows = table("Class", "Error", "Pictures", "Taken for", right=("Error", "Pictures"))
    for index in np.argsort(-errors, kind="stable")[:_ROWS]:
        if totals[index]:
            other = wrong[index].argmax()
            taken = f"{classes[other]} ({wrong[index, other]})" if wrong[index, other] else "-"
            rows.add_row(classes[index], f"{errors[index]:.2%}", str(totals[index]), taken)
    return rows
