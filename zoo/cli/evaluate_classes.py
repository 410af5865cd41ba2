"""``zoo eval`` for classifiers: top-1 and top-5 error, and what is taken for what."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

import zoo
from zoo.cli.classes import class_evaluation_data
from zoo.cli.console import out, progress, say, table
from zoo.cli.models import describe, trained_model
from zoo.cli.starting import owner_of

if TYPE_CHECKING:
    import keras

    from zoo.datasets.class_records import ClassificationDataset
    from zoo.training.classify import ClassScores

_VIEWS = {"centre": "the middle", "ten-crop": "ten crops", "shifts": "18 shifted and mirrored views", "dense": "all"}
_ROWS = 20  # classes in the table; of more, the worst


def add_class_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``zoo eval`` that are for classifiers only."""
    group = parser.add_argument_group("classifiers")
    group.add_argument(
        "--views",
        choices=tuple(_VIEWS),
        help="what of a picture is looked at: its middle (default), ten crops, the middle moved a little to all sides "
        "and mirrored (for small pictures), or all of it (fully convolutional)",
    )
    group.add_argument(
        "--short", type=int, metavar="N", help="short side that crops are taken from (256 for networks of 224 or 227)"
    )
    group.add_argument(
        "--scales",
        type=int,
        nargs="+",
        metavar="N",
        help="short sides for dense, averaged; the papers: 256 384 512 (VGG), 224 256 384 480 640 (ResNet); by "
        "default the one for crops",
    )
    group.add_argument("--no-mirror", action="store_true", help="dense: without mirrored pictures")
    group.add_argument(
        "--ensemble",
        nargs="+",
        default=[],
        metavar="NAME|MODEL:NAME|PATH",
        help="more weights, whose probabilities are averaged with those of --weights: of the same model, of another "
        "('resnet101:imagenet'), or files, which tell whose they are",
    )


def check_detector_options(args: argparse.Namespace) -> None:
    """Raise if an option for classifiers was given together with a detector."""
    given = {
        "--views": args.views,
        "--short": args.short,
        "--scales": args.scales,
        "--no-mirror": args.no_mirror,
        "--ensemble": args.ensemble,
    }
    asked = [name for name, value in given.items() if value]
    if asked:
        raise ValueError(f"{', '.join(asked)}: for classifiers only")


def evaluate_classes(args: argparse.Namespace, model: keras.Model) -> int:
    """Measure the classifier ``model`` on ``--data``, together with those of ``--ensemble``."""
    from zoo.files import save_json
    from zoo.training.classify import average_scores

    _check(args)
    known = tuple(model.zoo_meta.classes)
    if known and args.classes and known != args.classes:
        raise ValueError(f"--classes {', '.join(args.classes)}: the model's are {', '.join(known)}")
    data, split = class_evaluation_data(args.data, args.split, known or args.classes)
    if args.limit is not None:
        # Spread over the classes, which folders list one after the other.
        data = data.subset(np.linspace(0, len(data) - 1, min(args.limit, len(data))).round().astype(int))
    scores, names = _measure(args, model, data), [describe(model)]
    members = [scores]
    for weights in args.ensemble:
        member = _member(args, weights)
        names.append(describe(member))
        members.append(_measure(args, member, data))
    if len(members) > 1:
        for name, each in zip(names, members, strict=True):
            say(f"{name}: top-1 error {each.top1_error:.2%}, top-5 error {each.top5_error:.2%}")
        scores = average_scores(members, data.labels)
    say(f"{' + '.join(names)} on {data.name}: {len(data)} pictures, {_told(args)}")
    out.print(_worst(scores.classes, scores.confusion))
    speed = len(data) / scores.seconds
    say(f"Top-1 error {scores.top1_error:.2%}, top-5 error {scores.top5_error:.2%}; {speed:.0f} pictures/s")
    if args.json is not None:
        record = {
            "model": " + ".join(names),
            "weights": args.weights,
            "ensemble": args.ensemble,
            "members": [
                {"model": name, "top1_error": each.top1_error, "top5_error": each.top5_error}
                for name, each in zip(names, members, strict=True)
            ],
            "data": args.data,
            "split": split,
            "images": len(data),
            "views": args.views or "centre",
            "scales": args.scales,
            "short": args.short,
            "mirror": not args.no_mirror,
            **scores.to_dict(),
            "seconds": round(scores.seconds, 3),
            "command": args.command_line,
        }
        save_json(record, args.json)
        say(f"JSON: {args.json}")
    return 0


def _member(args: argparse.Namespace, weights: str) -> keras.Model:
    """One of ``--ensemble``; ``--option`` is for models of the same name as the first."""
    named, colon, name = weights.partition(":")
    if colon and named in zoo.list_models():
        return zoo.get(named, weights=name)
    own = owner_of(weights)
    if own is not None and own != args.model:
        return zoo.load(weights)
    return trained_model(argparse.Namespace(**{**vars(args), "weights": weights}))


def _check(args: argparse.Namespace) -> None:
    for_detectors = {
        "--images": args.images,
        "--difficult": args.difficult != "marked",
        "--metric": args.metric,
        "--iou": args.iou != 0.5,
        "--interpolation": args.interpolation != "11point",
        "--report": args.report,
        "--results": args.results,
        "--pictures": args.pictures,
    }
    asked = [name for name, value in for_detectors.items() if value]
    if asked:
        raise ValueError(f"{', '.join(asked)}: for detectors only")
    dense = args.views == "dense"
    if (args.scales or args.no_mirror) and not dense:
        raise ValueError("--scales and --no-mirror belong to --views dense; crops have --short")
    if args.short and dense:
        raise ValueError("--short is for crops; give --scales with --views dense")


def _measure(args: argparse.Namespace, model: keras.Model, data: ClassificationDataset) -> ClassScores:
    """Test one model in the way that ``--views`` asks for."""
    if hasattr(model, "detect"):
        raise ValueError(f"{describe(model)} is a detector, which cannot be a member of an ensemble of classifiers")
    with progress("measuring") as bar:
        task = bar.add_task("", total=len(data))
        return _tester(args, model)(model, data, progress=lambda count: bar.advance(task, count))


def _tester(args: argparse.Namespace, model: keras.Model) -> Callable[..., ClassScores]:
    from functools import partial

    from zoo.datasets.class_views import CentreCrop, Shifts, TenCrop, usual_short
    from zoo.training.classify import evaluate_classifier
    from zoo.training.dense_test import evaluate_dense
    from zoo.training.tasks import thumbnail_crops

    side = model.input_shape[1] or 224
    most = {} if args.batch is None else {"batch_size": args.batch}
    if args.views == "dense":
        return partial(evaluate_dense, scales=args.scales or (usual_short(side),), mirror=not args.no_mirror, **most)
    if args.views == "shifts":
        views = Shifts(side, max(1, side // 32), thumbnail_crops(side).fill, args.short)
    else:
        views = (TenCrop if args.views == "ten-crop" else CentreCrop)(side, args.short)
    return partial(evaluate_classifier, views=views, **most)


def _told(args: argparse.Namespace) -> str:
    """The way of testing in words."""
    if args.views != "dense":
        return _VIEWS[args.views or "centre"] + (f", short side {args.short}" if args.short else "")
    scales = f", short side {', '.join(map(str, args.scales))}" if args.scales else ""
    return f"all of each{scales}{'' if args.no_mirror else ', mirrored too'}"


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
