"""``zoo list`` and ``zoo info``, and choosing a model by ``--model``, ``--weights`` and ``--option``."""

from __future__ import annotations

import argparse
import ast
import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zoo
from zoo.cli.console import out, say, table

if TYPE_CHECKING:
    import keras

# Name of the weights entry that ships with the package.
_SHIPPED = "digits"


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add ``list`` and ``info``."""
    listing = commands.add_parser("list", help="list the models")
    listing.add_argument("pattern", nargs="?", default="*", help="part of a name, or a pattern such as '*vgg*'")
    listing.add_argument("--pretrained", action="store_true", help="only models that have weights")
    listing.add_argument("--task", choices=("detection", "classification"))
    listing.set_defaults(run=_list)
    info = commands.add_parser("info", help="tell all about a model, or a recipe of `zoo train`")
    info.add_argument("name")
    info.set_defaults(run=_info)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--model``, ``--weights`` and ``--option``."""
    parser.add_argument("--model", metavar="NAME", help="a name that `zoo list` shows")
    parser.add_argument(
        "--weights",
        metavar="NAME|PATH",
        help="weights that `zoo info` shows, a run folder of `zoo train`, a .weights.h5 or .keras file, or a published "
        "file of any layout that `zoo convert --help` lists",
    )
    add_option(parser, "an option of the model as a Python value, such as 'anchor_sizes=(24, 48, 96)'; may be repeated")


def add_weights_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--weights`` and ``--option`` for a command whose model is a word of its own; see :func:`named_model`."""
    parser.add_argument("--weights", metavar="NAME|PATH", help="weights for MODEL, where that is a model's name")
    add_option(parser, "an option of the model as a Python value; may be repeated")


def add_option(parser: argparse.ArgumentParser, meaning: str) -> None:
    """Add ``--option NAME=VALUE``, which may be repeated and comes as pairs."""
    parser.add_argument("--option", metavar="NAME=VALUE", action="append", default=[], type=option_pair, help=meaning)


def trained_model(args: argparse.Namespace) -> keras.Model:
    """The model, with weights, that ``--model`` and ``--weights`` ask for; the shipped one by default."""
    options = dict(args.option)
    if args.weights is None:
        name = args.model or _shipped_detector()
        entries = zoo.info(name).weights
        if not entries:
            raise ValueError(f"{name} has no weights of its own; give --weights PATH, or train it with `zoo train`")
        return zoo.get(name, weights=(zoo.info(name).entry(_SHIPPED) or entries[0]).name, **options)
    if args.model is None and Path(args.weights).exists():
        return zoo.load(args.weights, **options)
    return zoo.get(args.model or _model_with(args.weights), weights=args.weights, **options)


def named_model(args: argparse.Namespace) -> keras.Model:
    """The model that the word MODEL, ``--weights`` and ``--option`` ask for.

    Without ``--weights``, a file, a folder or the name of weights stands for the model that they belong to.
    """
    if args.weights is None and args.model not in zoo.list_models():
        args.model, args.weights = None, args.model
    return trained_model(args)


def describe(model: keras.Model) -> str:
    """Name and number of parameters, for a headline."""
    meta = getattr(model, "zoo_meta", None)
    return f"{(meta and meta.model) or model.name} ({model.count_params():,} parameters)"


def option_pair(text: str) -> tuple[str, Any]:
    """NAME=VALUE of the command line; what is no Python value is a word, except true and false."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        # As shells and JSON spell them; as a word, "false" would count as true.
        return name, {"true": True, "false": False}.get(value.lower(), value)


def _list(args: argparse.Namespace) -> int:
    pattern = args.pattern if any(mark in args.pattern for mark in "*?[") else f"*{args.pattern}*"
    names = zoo.list_models(pattern, pretrained=args.pretrained, task=args.task)
    if not names:
        known = ", ".join(zoo.list_models()) or "none"
        raise ValueError(f"no model matches {args.pattern!r}; all models: {known}")
    rows = table("Model", "Task", "Parameters", "Paper", "Weights", right=("Parameters",))
    for name in names:
        model = zoo.info(name)
        # Counting undeclared parameters would build the model: `zoo info` does that.
        count = f"{model.params:,}" if model.params is not None else "-"
        weights = ", ".join(entry.name for entry in model.weights) or "-"
        rows.add_row(name, model.task, count, model.paper, weights)
    out.print(rows)
    return 0


def _info(args: argparse.Namespace) -> int:
    from zoo.training.four_steps import FOUR_STEPS
    from zoo.training.recipes import RECIPES, recipes_for

    recipes = {**RECIPES, **FOUR_STEPS}
    if args.name in recipes:
        say(recipes[args.name].describe(args.name))
        return 0
    if args.name not in zoo.list_models():
        near = difflib.get_close_matches(args.name, recipes, n=1)
        if near:
            raise ValueError(f"there is no model {args.name!r}; did you mean the recipe {near[0]!r}?")
    model = zoo.info(args.name)
    say(str(model))
    fitting = recipes_for(args.name, model.task)
    if args.name.startswith("faster_rcnn_"):
        fitting += FOUR_STEPS
    if fitting:
        say(f"\nRecipes of `zoo train --recipe NAME`; `zoo info NAME` tells what they are\n\n  {', '.join(fitting)}")
    return 0


def _shipped_detector() -> str:
    """The first detector that has the shipped weights."""
    names = [n for n in zoo.list_models(pretrained=True, task="detection") if zoo.info(n).entry(_SHIPPED)]
    if not names:
        raise ValueError("no detector ships with weights; give --weights PATH, or train one with `zoo train`")
    return names[0]


def _model_with(weights: str) -> str:
    """The only model that has weights of that name."""
    names = [name for name in zoo.list_models(pretrained=True) if zoo.info(name).entry(weights)]
    if len(names) == 1:
        return names[0]
    if names:
        raise ValueError(f"several models have weights {weights!r}: {', '.join(names)}; choose one with --model")
    raise ValueError(
        f"--weights {weights}: there is no such file, and no model has weights of that name; `zoo list "
        "--pretrained` "
        "shows which there are"
    )
