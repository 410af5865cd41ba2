"""``zoo svm``: support vector machines, and a regression of boxes, for a detector that is trained."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli.console import progress, say
from zoo.cli.data import add_data_options, train_and_val
from zoo.cli.models import add_model_options, describe, trained_model
from zoo.cli.proposal_options import add_proposal_options, beside_weights, chosen_proposals, wants_proposals
from zoo.cli.remembered import keep_options, take_proposals

if TYPE_CHECKING:
    import keras

    from zoo.datasets.proposals import ProposalSource
    from zoo.datasets.records import DetectionDataset
    from zoo.training.svm_class import SVMSettings

_DESCRIPTION = """Train one linear support vector machine a class on what the last layers of a trained Fast R-CNN,
SPPnet or R-CNN see, with hard negatives (Girshick 2015, table 8; Girshick 2014), and put them in place of its softmax.
With `--fit svms boxes` also a linear regression of boxes, as R-CNN's. The result is measured, used and exported like
any other model."""


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add ``svm``."""
    parser = commands.add_parser(
        "svm", help="replace a trained detector's softmax by support vector machines", description=_DESCRIPTION
    )
    add_data_options(parser, "left out if marked, as if they were not there; trained on if ordinary")
    parser.add_argument("--split", help="split to train on; train or trainval if there is one, else all")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N pictures")
    add_model_options(parser)
    add_proposal_options(parser, "whose boxes are kept in the folder that --weights names; by default that run's own")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the new weights")
    parser.add_argument(
        "--fit", nargs="+", choices=("svms", "boxes"), default=["svms"], help="what is trained (svms); boxes come last"
    )
    parser.add_argument("--passes", type=int, default=1, metavar="N", help="passes of mining over the pictures (1)")
    parser.add_argument("--cost", type=float, default=0.001, metavar="C", help="C of the machines' hinge loss (.001)")
    parser.add_argument(
        "--penalty", type=float, default=1000.0, metavar="L", help="lambda of the regression of boxes (1000)"
    )
    parser.add_argument(
        "--mirrored",
        action=argparse.BooleanOptionalAction,
        help="look at each picture mirrored too (yes, except for digits)",
    )
    parser.set_defaults(run=_svm)


def _svm(args: argparse.Namespace) -> int:
    from zoo.training.svm_class import SVMSettings

    settings = SVMSettings(cost=args.cost, passes=args.passes)
    if args.limit is not None and args.limit < 1:
        raise ValueError(f"--limit {args.limit}: give a number from 1 on")
    if args.weights is None:
        raise ValueError("give --weights, a run folder of `zoo train` or a weights file of a trained detector")
    model = trained_model(args)
    if not wants_proposals(args, model):
        raise ValueError(f"{model.name} looks at no proposals; a Fast R-CNN, an SPPnet or an R-CNN does")
    if not model.zoo_meta.model:
        raise ValueError(
            f"{args.weights} does not tell which registered model it is, so that weights alone could not be loaded "
            "again; use zoo.training.svm.train_svms and model.save"
        )
    classes = args.classes or model.classes
    data, _ = train_and_val(
        args.data, args.split, "none", classes=classes, images=args.images, difficult=args.difficult
    )
    if args.limit is not None:
        data = data.subset(range(min(args.limit, len(data))))
    say(f"Model: {describe(model)}")
    say(f"Data: {len(data)} pictures")
    take_proposals(args, args.weights)
    with beside_weights(args.weights) as folder:
        source = chosen_proposals(args, model, (data,), folder)
        model = _fitted(args, model, data, source, settings)
    _save(args, model)
    return 0


def _fitted(
    args: argparse.Namespace, model: keras.Model, data: DetectionDataset, source: ProposalSource, settings: SVMSettings
) -> keras.Model:
    from zoo.cli.data import is_digits
    from zoo.training.ridge_boxes import fit_boxes
    from zoo.training.svm import train_svms, work

    mirrored = not is_digits(args.data) if args.mirrored is None else args.mirrored
    if "svms" in args.fit:
        with _counting("support vector machines", work(data, settings, mirrored)) as count:
            model = train_svms(model, data, source, settings=settings, mirrored=mirrored, progress=count)
    if "boxes" in args.fit:
        with _counting("regression of boxes", len(data) * (1 + mirrored)) as count:
            model = fit_boxes(model, data, source, penalty=args.penalty, mirrored=mirrored, progress=count)
    return model


@contextmanager
def _counting(text: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar of so many pictures, which the function that this gives moves on."""
    with progress(text) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.advance(task, count)


def _save(args: argparse.Namespace, model: keras.Model) -> None:
    from zoo.weights_io import save_meta, save_weights_file

    meta = replace(model.zoo_meta, command=args.command_line)
    target = args.out / "model.weights.h5"
    save_weights_file(model, target, meta=meta)
    save_meta(meta, target)
    keep_options(Path(args.weights), args.out)
    say(f"Weights: {target}")
    say(f"Next: zoo eval --data {args.data} --weights {args.out}")
