"""What ``zoo train`` starts with: a new model, other weights, or the checkpoint of a training that was broken off."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import zoo
from zoo.cli.console import say, warn

if TYPE_CHECKING:
    import keras

    from zoo.weights_io import WeightsMeta


@dataclass(frozen=True)
class Start:
    """Where a training starts.

    Attributes:
        model: name of the model.
        weights: name or path of the weights to start from, ``None`` for random ones.
        resumed: whether they are those of the checkpoint in ``--out``.
    """

    model: str
    weights: str | Path | None
    resumed: bool = False

    def build(self, classes: Sequence[str], options: dict[str, object]) -> keras.Model:
        """The model for these classes; a resumed one keeps its own, which `zoo.train` compares with the data's."""
        from zoo.weights_io import read_meta

        if not self.resumed:
            return zoo.get(self.model, self.weights, classes, **options)
        made = zoo.get(self.model, self.weights, **options)
        # The file tells what it was started from; options are those that it was built with now, to be compared.
        made.zoo_meta = replace(read_meta(self.weights), options=made.zoo_meta.options)
        return made


def add_start_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--init-from`` and ``--resume``."""
    parser.add_argument(
        "--init-from",
        metavar="NAME|PATH",
        help="weights that a new training starts from, as --weights: a name that `zoo info` shows, a run folder or a "
        "file; the model is theirs if --model is not given. Layers that depend on the classes are new if these differ",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the checkpoint in --out as if the training had never stopped; --init-from then says nothing",
    )


def find_start(args: argparse.Namespace) -> Start:
    """Where the training starts, by ``--model``, ``--weights``, ``--init-from``, ``--resume`` and ``--out``."""
    from zoo.training.fit import CHECKPOINT
    from zoo.training.four_steps import SETTINGS, START
    from zoo.weights_io import read_meta

    if args.init_from is not None and args.weights is not None:
        raise ValueError("--init-from and --weights: give one of them")
    weights = args.weights if args.init_from is None else args.init_from
    # An alternating training starts several of its steps from one and the same file.
    checkpoint = args.out / (START if (args.out / SETTINGS).is_file() else CHECKPOINT)
    if args.resume and checkpoint.is_file():
        meta = read_meta(checkpoint)
        owner = meta.model if meta is not None else ""
        if owner and args.model not in (None, owner):
            raise ValueError(f"--model {args.model}: {checkpoint} is of {owner}; resume that, or choose another --out")
        if weights is not None:
            say(f"Going on from {checkpoint}; {weights} was for the start")
        if owner:
            return Start(owner, checkpoint, resumed=True)
    name = args.model or owner_of(weights)
    if name is None:
        detectors = ", ".join(zoo.list_models(task="detection")) or "none"
        raise ValueError(f"give --model NAME; detectors: {detectors}")
    return Start(name, weights)


def check_train_from(args: argparse.Namespace, start: Start) -> None:
    """Refuse ``--train-from`` where it would train no more than without it.

    Raises:
        ValueError: for a new SPPnet, whose builder has fixed its convolutions.
    """
    if args.train_from is None or start.resumed or not start.model.startswith("sppnet_"):
        return
    meta = None if start.weights is None else _meta_of(str(start.weights))
    told = {} if meta is None or meta.model != start.model else meta.options
    fixed = "train_from" not in {**told, **dict(args.option)}
    if fixed and not args.train_from.startswith("fc"):
        what = "LAYER" if args.train_from in ("all", "paper") else args.train_from
        raise ValueError(
            f"--train-from {args.train_from}: an SPPnet's convolutions are fixed as long as its option train_from does "
            f"not name the first to train; give --option train_from={what}"
        )


def tell_frozen(start: Start, train_from: str | None, model: keras.Model) -> None:
    """Warn where layers of ``model``, which ``start`` has built, are frozen that have never been trained."""
    from zoo.training.freeze import PAPER, paper_start

    if start.weights is not None:
        return
    if train_from is not None and (train_from != PAPER or paper_start(model) is not None):
        warn(
            f"note: train_from={train_from!r}: the weights of what it freezes are random; start from trained ones with "
            "--init-from, or train all with --train-from all"
        )
    elif start.model.startswith("sppnet_"):
        warn(
            "note: an SPPnet's convolutions are fixed, and these are random; start from trained ones with --init-from, "
            "or train some with --option train_from=LAYER"
        )


def owner_of(weights: str | None) -> str | None:
    """The model that a file or folder of weights belongs to, if it tells."""
    meta = None if weights is None else _meta_of(weights)
    return None if meta is None else meta.model or None


def _meta_of(weights: str) -> WeightsMeta | None:
    """What a file of ours, or a run folder, tells of its weights."""
    from zoo.convert.readers import is_foreign
    from zoo.weights_io import read_meta

    path = Path(weights)
    if path.is_dir():
        path = path / "model.weights.h5"
    return None if not path.is_file() or is_foreign(path) else read_meta(path)
