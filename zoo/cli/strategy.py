"""The options of commands that train on several devices."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from zoo.cli.console import import_tensorflow_quietly
from zoo.cli.servers import SANDBLASTER, SERVED, add_server_options, check_server_options, join_cluster
from zoo.distribute.cluster import WorkerLostError
from zoo.distribute.resolve import SOURCES, find_cluster
from zoo.distribute.strategies import STRATEGIES, join_workers, make_strategy, multi_worker_strategy

if TYPE_CHECKING:
    import tensorflow as tf

    from zoo.training.recipe import Recipe

_WAIT = 20.0  # seconds; what is told comes within half a minute, the start of Python included


def add_strategy_options(group: argparse._ArgumentGroup) -> None:
    """Add ``--strategy`` and what goes with it."""
    group.add_argument(
        "--strategy",
        choices=(*STRATEGIES, SANDBLASTER),
        default="none",
        help="mirrored: all GPUs of this machine; multi_worker: those of several processes or machines, in step; "
        "parameter_server: Downpour SGD, each worker at its own pace; sandblaster: L-BFGS over all of the data (none)",
    )
    group.add_argument(
        "--devices", type=int, metavar="N", help="with mirrored, so many GPUs or, without GPUs, logical CPU devices"
    )
    group.add_argument(
        "--cluster", choices=SOURCES, default="auto", help="with several processes, what tells their addresses (auto)"
    )
    group.add_argument("--pods", metavar="LABEL", help="with --cluster kubernetes, the workers' label")
    group.add_argument(
        "--wait",
        type=float,
        default=_WAIT,
        metavar="S",
        help=f"with several processes, seconds until all have to be there ({_WAIT:.0f})",
    )
    group.add_argument(
        "--scale-lr",
        type=int,
        metavar="B",
        help="the learning rate is meant for batches of B pictures: scale it to --batch, and warm up for five epochs "
        "unless --warmup says otherwise",
    )
    add_server_options(group)


def chosen_strategy(args: argparse.Namespace) -> tf.distribute.Strategy:
    """The strategy; TensorFlow is imported after the workers have met, so that a wrong cluster is told soon.

    The command that uses it therefore says ``set_defaults(tensorflow=False)``.
    """
    only = {"--devices": (args.devices, ("mirrored",)), "--pods": (args.pods, ("multi_worker", *SERVED))}
    for option, (value, strategies) in only.items():
        if value is not None and args.strategy not in strategies:
            raise ValueError(f"{option} goes with --strategy {' or '.join(strategies)}, not with {args.strategy}")
    check_server_options(args)
    if args.strategy in SERVED:
        return join_cluster(args)
    if args.strategy == "multi_worker":
        join_workers(find_cluster(args.cluster, args.pods, args.wait), args.wait)
        import_tensorflow_quietly()
        return multi_worker_strategy()
    import_tensorflow_quietly()
    return make_strategy(args.strategy, args.devices)


def model_scope(strategy: tf.distribute.Strategy) -> AbstractContextManager:
    """Where the model is built: with parameter servers outside the strategy, which cannot hold Keras's variables."""
    import tensorflow as tf

    served = isinstance(strategy, tf.distribute.ParameterServerStrategy)
    return nullcontext() if served else strategy.scope()


@contextmanager
def naming_lost_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Turn what TensorFlow says when another worker is gone, pages of text, into a `WorkerLostError`."""
    import tensorflow as tf

    gone = (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
    )
    try:
        yield
    except gone as error:
        if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            raise
        # What it is lies deep in a description of the graph.
        aborted = (error.message or "").partition("Collective ops is aborted by: ")[2].strip().partition("\n")[0]
        raise WorkerLostError(
            f"another worker has ended ({aborted[:300] or type(error).__name__}); look at its log, then start all "
            "workers again with --resume: they go on from the last whole epoch"
        ) from error


def scaled(recipe: Recipe, args: argparse.Namespace, batch_size: int, steps_per_epoch: int) -> Recipe:
    """The recipe with the learning rate that ``--scale-lr`` asks for."""
    if args.scale_lr is None:
        return recipe
    from zoo.training.scaling import scale_rate

    made = scale_rate(recipe, batch_size, args.scale_lr, steps_per_epoch)
    return made if args.warmup is None else replace(made, warmup_steps=args.warmup)
