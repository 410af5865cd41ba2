"""``zoo train --strategy parameter_server`` and ``sandblaster``: training on parameter servers."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from zoo.cli.console import import_tensorflow_quietly, say
from zoo.distribute.parameter_servers import join_servers, take_part, with_roles
from zoo.distribute.resolve import find_cluster
from zoo.distribute.summary_servers import Recorder
from zoo.training import kinds

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from zoo.training.recipe import Recipe
    from zoo.training.tasks import TrainData, ValData

DOWNPOUR, SANDBLASTER = "parameter_server", "sandblaster"
SERVED = (DOWNPOUR, SANDBLASTER)
KINDS = {DOWNPOUR: kinds.DOWNPOUR, SANDBLASTER: kinds.SANDBLASTER}
_RULES = ("adagrad", "sgd")
# The options of `zoo train` that have no meaning for one of them, and why.
_NOT_DOWNPOUR = {
    "momentum": "late gradients act like momentum",
    "ema": "the servers keep no average",
    "accumulate": "the servers add up what is pushed, and average nothing; give --n-push to push as rarely",
}
_NOT_SANDBLASTER = dict.fromkeys(
    (
        "recipe",
        "lr",
        "schedule",
        "drops",
        "warmup",
        "momentum",
        "bias_rate",
        "accumulate",
        "clipnorm",
        "ema",
        "scale_lr",
    ),
    "a line search finds how far each step goes",
)


def add_server_options(group: argparse._ArgumentGroup) -> None:
    """Add what goes with ``--strategy parameter_server`` or ``sandblaster``."""
    group.add_argument(
        "--ps",
        type=int,
        metavar="N",
        help="the last N tasks are parameter servers and the first coordinates, where the cluster does not say so "
        "itself (Slurm, Kubernetes)",
    )
    group.add_argument(
        "--optimizer",
        choices=_RULES,
        help="with parameter_server, what the servers do with gradients (adagrad, as in the paper)",
    )
    group.add_argument(
        "--n-push", type=int, metavar="N", help="with parameter_server, batches between two pushes of gradients (1)"
    )
    group.add_argument(
        "--n-fetch", type=int, metavar="N", help="with parameter_server, batches between two fetches of parameters (1)"
    )
    group.add_argument(
        "--warm-start",
        type=int,
        metavar="STEPS",
        help="with parameter_server, batches that one worker trains on alone before the others join (0)",
    )
    group.add_argument(
        "--memory", type=int, metavar="N", help="with sandblaster, pairs of vectors that L-BFGS keeps (10)"
    )
    group.add_argument("--copies", type=int, metavar="N", help="with sandblaster, workers on the same unit at most (2)")
    group.add_argument(
        "--vectors",
        choices=("chief", "servers"),
        help="with sandblaster, where L-BFGS's vectors lie and are added up (servers where that saves network)",
    )
    group.add_argument(
        "--save-every", type=int, metavar="N", help="with sandblaster, iterations between two checkpoints (1)"
    )


def check_server_options(args: argparse.Namespace) -> None:
    """Refuse options that have no meaning with the strategy; before anything is waited for."""
    own = {
        DOWNPOUR: ("optimizer", "n_push", "n_fetch", "warm_start"),
        SANDBLASTER: ("memory", "copies", "vectors", "save_every"),
    }
    for strategy, names in own.items():
        for name in names:
            if getattr(args, name) is not None and args.strategy != strategy:
                raise ValueError(f"{_option(name)} goes with --strategy {strategy}, not with {args.strategy}")
    if args.strategy not in SERVED:
        if args.ps is not None:
            raise ValueError(f"--ps goes with --strategy {' or '.join(SERVED)}, not with {args.strategy}")
        return
    refused = dict(_NOT_DOWNPOUR if args.strategy == DOWNPOUR else _NOT_SANDBLASTER)
    refused["minutes"] = "give the length in --epochs or --steps"
    refused["jit"] = "the workers' functions are TensorFlow's own"
    for name, why in refused.items():
        if name == "accumulate" and args.strategy == DOWNPOUR and args.accumulate == 1:
            continue  # in place of a recipe's
        if getattr(args, name, None) is not None:
            raise ValueError(f"{_option(name)}: not with --strategy {args.strategy}: {why}")
    if args.precision == "mixed_float16":
        raise ValueError(f"--precision mixed_float16: not with --strategy {args.strategy}, which scales no loss")


def join_cluster(args: argparse.Namespace) -> tf.distribute.ParameterServerStrategy:
    """The chief's strategy; a worker or a server does its work here, and its process then ends."""
    cluster = with_roles(find_cluster(args.cluster, args.pods, args.wait), args.ps)
    join_servers(cluster, args.wait)
    import_tensorflow_quietly()
    return take_part(cluster)


def train_on_servers(
    args: argparse.Namespace,
    strategy: tf.distribute.ParameterServerStrategy,
    model: keras.Model,
    batches: TrainData,
    val: ValData | None,
    recipe: Recipe,
    length: dict[str, int],
) -> None:
    """Train on the chief; `zoo.cli.train` has made all that it needs."""
    common = {
        "strategy": strategy,
        "out": args.out,
        "val_every": args.val_every,
        "metric": args.metric,
        "keep": args.keep,
        "resume": args.resume,
        "tensorboard": not args.no_tensorboard,
        "command": args.command_line,
        "say": say,
        "observer": _Told(None if args.no_tensorboard else args.out / "tensorboard"),
    }
    if args.strategy == DOWNPOUR:
        from zoo.distribute.downpour_run import fit_downpour

        fit_downpour(
            model,
            batches,
            val,
            **length,
            recipe=recipe,
            rule=args.optimizer or "adagrad",
            n_push=1 if args.n_push is None else args.n_push,
            n_fetch=1 if args.n_fetch is None else args.n_fetch,
            warm_start=args.warm_start or 0,
            **common,
        )
        return
    from zoo.distribute.sandblaster_run import fit_sandblaster

    fit_sandblaster(
        model,
        batches,
        val,
        passes=length.get("epochs"),
        iterations=length.get("steps"),
        seed=args.seed,
        weight_decay=recipe.weight_decay,
        train_from=recipe.train_from,
        memory=10 if args.memory is None else args.memory,
        copies=2 if args.copies is None else args.copies,
        vectors=args.vectors,
        save_every=1 if args.save_every is None else args.save_every,
        **common,
    )


class _Told(Recorder):
    def placed(self, *, servers: Mapping[str, int]) -> None:
        """Say it."""
        say(f"Parameters: {', '.join(f'{size / 1e6:.1f} MB on {name}' for name, size in servers.items())}")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
