"""Alternating training from the command line: ``zoo train --alternating RPN FAST``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from zoo.cli.console import say
from zoo.cli.models import describe
from zoo.cli.recipe_options import overridden
from zoo.cli.starting import Start, tell_frozen

if TYPE_CHECKING:
    from zoo.datasets.pipeline import Batches
    from zoo.datasets.records import DetectionDataset

# What a recipe of four steps settles otherwise, or what has no meaning for it.
_NOT_HERE = ("epochs", "steps", "minutes", "batch", "metric", "jit", "scale_lr", "proposals", "most_proposals", "stage")


def add_alternating_options(group: argparse._ArgumentGroup) -> None:
    """Add ``--alternating`` and ``--only``."""
    group.add_argument(
        "--alternating",
        type=int,
        nargs=2,
        metavar=("RPN", "FAST"),
        help="train a Faster R-CNN by turns (Ren 2015, section 3.2): RPN batches for the region proposals, FAST ones "
        "for Fast R-CNN on them, and both once more on shared convolutions; --recipe voc07-alternating does so for "
        "80,000 and 40,000",
    )
    group.add_argument(
        "--only",
        type=int,
        nargs="+",
        choices=(1, 2, 3, 4),
        metavar="N",
        help="do only these of the four; what they need of the others has to be in --out",
    )


def alternates(args: argparse.Namespace) -> bool:
    """Whether the four steps are asked for."""
    from zoo.training.four_steps import FOUR_STEPS

    asked = args.alternating is not None or args.recipe in FOUR_STEPS
    if args.only is not None and not asked:
        raise ValueError("--only is for --alternating")
    return asked


def train_by_turns(
    args: argparse.Namespace,
    start: Start,
    data: DetectionDataset,
    val: DetectionDataset | None,
    make_batches: Callable[..., Batches],
) -> int:
    """Run the four steps, or some of them."""
    from zoo.training.alternating import train_alternating
    from zoo.training.four_steps import FOUR_STEPS, FourSteps

    wrong = [f"--{name.replace('_', '-')}" for name in _NOT_HERE if getattr(args, name) is not None]
    if args.strategy != "none":
        wrong.append("--strategy")
    if wrong:
        raise ValueError(
            f"{', '.join(wrong)}: not with --alternating, whose steps have their own lengths, batches and proposals"
        )
    if args.recipe is not None and args.recipe not in FOUR_STEPS:
        raise ValueError(f"--recipe {args.recipe} is not for --alternating; there are: {', '.join(FOUR_STEPS)}")
    plan = FourSteps() if args.recipe is None else FOUR_STEPS[args.recipe]
    plan = replace(plan, rpn=overridden(plan.rpn, args), fast=overridden(plan.fast, args))
    if args.alternating is not None:
        plan = replace(plan, rpn_steps=args.alternating[0], fast_steps=args.alternating[1])
    import keras

    keras.utils.set_random_seed(args.seed)
    model = start.build(data.classes, dict(args.option))
    tell_frozen(start, plan.rpn.train_from, model)
    say(f"Model: {describe(model)}")
    say(f"Data: {len(data)} pictures to train, {0 if val is None else len(val)} to validate")
    train_alternating(
        model,
        data,
        val,
        out=args.out,
        plan=plan,
        steps=args.only or (1, 2, 3, 4),
        make_batches=make_batches,
        resume=args.resume,
        tensorboard=not args.no_tensorboard,
        verbose=2 if args.quiet else "auto",
        say=say,
        command=args.command_line,
    )
    final = args.out / "model.weights.h5"
    if final.is_file():
        say(f"Weights: {final}")
        say(f"Next: zoo eval --data {args.data} --weights {args.out}   or: zoo detect IMAGE --weights {args.out}")
    return 0
