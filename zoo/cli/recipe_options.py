"""The options of ``zoo train`` that say how weights are stepped, and the recipes that they are based on."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

    from zoo.training.recipe import Recipe

EPOCHS = 12  # length if none is given


def add_recipe_options(group: argparse._ArgumentGroup) -> None:
    """Add ``--recipe`` and the settings that override it."""
    group.add_argument("--recipe", metavar="NAME", help="a paper's settings; the options below override them")
    group.add_argument(
        "--batch", type=int, metavar="B", help="pictures in a batch, of all devices together (2; 128 for a classifier)"
    )
    group.add_argument("--lr", type=float, metavar="RATE", help="highest learning rate (.001)")
    group.add_argument("--schedule", choices=("step", "cosine", "constant"), help="how it falls (step)")
    group.add_argument(
        "--drops",
        type=float,
        nargs="+",
        metavar="SHARE",
        help="shares of the training after which a step schedule divides by ten (.7)",
    )
    group.add_argument(
        "--warmup", type=int, metavar="STEPS", help="steps of linear warm-up; by default a twentieth of all"
    )
    group.add_argument("--momentum", type=float, metavar="M", help="of SGD (.9)")
    group.add_argument("--weight-decay", type=float, metavar="W", help="of kernels, in Caffe's meaning (5e-4)")
    group.add_argument("--bias-rate", type=float, metavar="N", help="learning rate of biases, as a multiple (1)")
    group.add_argument(
        "--accumulate", type=int, metavar="N", help="batches whose gradients are averaged for one step (1)"
    )
    group.add_argument(
        "--train-from",
        metavar="LAYER",
        help="freeze the layers before this one, or before this stage; fc6 for all convolutions, 'paper' for those "
        "that Girshick 2015 freezes, 'all' to train all",
    )
    group.add_argument(
        "--stage",
        choices=("joint", "class", "box", "rpn"),
        help="what is trained: class, then box of those weights, for a Fast R-CNN's classification alone and its "
        "regression afterwards (table 6 of its paper); rpn for all of a Faster R-CNN but the box head (joint)",
    )
    group.add_argument("--clipnorm", type=float, metavar="N", help="limit of the norm of all gradients (none)")
    group.add_argument("--ema", type=float, metavar="M", help="momentum of a moving average of the weights to keep")
    group.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the weights, the order and the augmentation (0)"
    )
    group.add_argument(
        "--precision",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
        default="float32",
        help="arithmetic of the networks; weights and boxes stay in 32 bits (float32)",
    )
    group.add_argument("--jit", action=argparse.BooleanOptionalAction, help="compile with XLA (as Keras sees fit)")


def chosen_recipe(args: argparse.Namespace, model: str, task: str) -> tuple[Recipe, int, dict[str, float]]:
    """Settings, batch size and length: the named recipe's or the defaults, with what was given in place."""
    from zoo.training.recipe import Recipe
    from zoo.training.recipes import named_recipe, recipes_for

    recipe, length, batch = Recipe(), {"epochs": EPOCHS}, 2 if task == "detection" else 128
    if args.recipe is not None:
        named = named_recipe(args.recipe)
        if not named.suits(model, task):
            fitting = ", ".join(recipes_for(model, task)) or "none"
            raise ValueError(
                f"--recipe {args.recipe} is for {named.task}, models {named.models}; for {model} there are: {fitting}"
            )
        recipe, batch, length = named.recipe, named.batch_size, named.length
    asked = {"epochs": args.epochs, "steps": args.steps, "minutes": args.minutes}
    length = {name: value for name, value in asked.items() if value is not None} or length
    return overridden(recipe, args), batch if args.batch is None else args.batch, length


def choose_stage(model: keras.Model, stage: str | None) -> None:
    """Let a detector train what ``--stage`` says."""
    if stage is None:
        return
    if not hasattr(model, "set_stage"):
        raise ValueError(f"--stage {stage}: {model.name} is not trained in stages; a Fast or Faster R-CNN is")
    model.set_stage(stage)


def overridden(recipe: Recipe, args: argparse.Namespace) -> Recipe:
    """A recipe with the settings that were given in place of its own."""
    given: dict[str, Any] = {
        "learning_rate": args.lr,
        "momentum": args.momentum,
        "weight_decay": args.weight_decay,
        "warmup_steps": args.warmup,
        "schedule": args.schedule,
        "drops": None if args.drops is None else tuple(args.drops),
        "clipnorm": args.clipnorm,
        "ema": args.ema,
        "bias_rate": args.bias_rate,
        "accumulate": args.accumulate,
        "train_from": args.train_from,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if given.get("train_from") == "all":
        given["train_from"] = None
    return replace(recipe, seed=args.seed, **given)
