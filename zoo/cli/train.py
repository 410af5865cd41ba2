"""``zoo train``: a detector from annotated pictures, a classifier from class folders."""

from __future__ import annotations

import argparse
import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli.alternating import add_alternating_options, alternates, train_by_turns
from zoo.cli.classes import AUGMENTATIONS
from zoo.cli.console import say, warn
from zoo.cli.data import add_data_options, is_digits, train_and_val
from zoo.cli.models import add_model_options, describe
from zoo.cli.proposal_options import FOLDER, add_proposal_options, chosen_proposals, wants_proposals
from zoo.cli.recipe_options import EPOCHS, add_recipe_options, choose_stage, chosen_recipe
from zoo.cli.remembered import recall, remember
from zoo.cli.servers import KINDS, SANDBLASTER, SERVED, train_on_servers
from zoo.cli.starting import add_start_options, check_train_from, find_start, tell_frozen
from zoo.cli.strategy import add_strategy_options, chosen_strategy, model_scope, naming_lost_workers, scaled

if TYPE_CHECKING:
    from zoo.datasets.class_batches import ClassBatches
    from zoo.datasets.class_records import ClassificationDataset
    from zoo.datasets.pipeline import Batches
    from zoo.datasets.records import DetectionDataset


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add ``train``."""
    parser = commands.add_parser(
        "train",
        help="train a detector or a classifier",
        description="Train a detector on annotated pictures, or a classifier on class folders (a folder, a .zip, or "
        "tfds:NAME); everything about it is left in one folder.",
    )
    add_data_options(parser, "trained on if ordinary, not if marked; validation does not count them")
    parser.add_argument("--split", help="split to train on; train or trainval if there is one, else all")
    parser.add_argument("--val-split", help="split to validate on; val if there is one; none for no validation")
    add_model_options(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for weights, logs and curves")
    add_start_options(parser)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=int, metavar="N", help=f"length in epochs; {EPOCHS} if no length is given")
    length.add_argument("--steps", type=int, metavar="N", help="length in batches")
    length.add_argument(
        "--minutes", type=float, metavar="M", help="length in minutes; the learning rate follows the clock"
    )
    add_recipe_options(parser.add_argument_group("steps"))
    add_alternating_options(parser.add_argument_group("alternating"))
    _add_augmentation(parser.add_argument_group("pictures"))
    add_strategy_options(parser.add_argument_group("devices"))
    parser.add_argument("--val-every", type=int, default=1, metavar="N", help="epochs between two validations (1)")
    parser.add_argument(
        "--metric",
        choices=("voc", "coco"),
        help="how to judge a detector: VOC's mAP or COCO's AP; by default coco for data from a COCO file, else voc",
    )
    parser.add_argument("--keep", choices=("best", "last"), default="best", help="which weights to end with (best)")
    parser.add_argument("--no-tensorboard", action="store_true", help="write no TensorBoard logs")
    parser.add_argument("--quiet", action="store_true", help="a line per epoch instead of a progress bar")
    parser.set_defaults(run=_train, tensorflow=False)  # the strategy imports it


def _add_augmentation(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--flip",
        action=argparse.BooleanOptionalAction,
        help="mirror half of the pictures (yes, except for digits)",
    )
    group.add_argument("--vertical-flip", action="store_true", help="also top to bottom")
    group.add_argument("--rotate90", action="store_true", help="turn by multiples of 90 degrees")
    group.add_argument("--scale-jitter", type=float, nargs=2, metavar=("LOW", "HIGH"), help="random scale")
    group.add_argument("--colour-jitter", type=float, default=0.0, metavar="SHARE", help="contrast and brightness (0)")
    group.add_argument(
        "--augmentation",
        choices=AUGMENTATIONS,
        help="of a classifier's pictures: the recipe's, or crop-flip for 32 pixels and scale-crop for photographs",
    )
    group.add_argument(
        "--short",
        type=int,
        nargs="+",
        metavar="N",
        help="for a detector, the short side that pictures are resized to while they are read; of several, one is "
        "drawn for each batch (by default the model resizes them). For a classifier, the short side that crops are "
        "taken from, or the least and the greatest",
    )
    group.add_argument("--long", type=int, metavar="N", help="greatest long side with --short, for a detector (1000)")
    group.add_argument(
        "--expand", type=float, default=1.0, metavar="FACTOR", help="zoom half of the pictures out by up to this (1)"
    )
    group.add_argument(
        "--crop", type=float, default=1.0, metavar="SHARE", help="cut out parts, their sides at least this share (1)"
    )
    add_proposal_options(group, f"whose boxes are kept in {FOLDER}/ of --out; they are of training and validation")
    group.add_argument("--workers", type=int, default=2, metavar="N", help="batches prepared at the same time (2)")
    group.add_argument("--pad-multiple", type=int, default=1, metavar="N", help="round picture sides up to this (1)")
    group.add_argument("--cache", action="store_true", help="keep decoded pictures in memory")


@contextlib.contextmanager
def _precision(policy: str) -> Iterator[None]:
    """Layers made inside follow ``policy``; Keras has it as a global, which is put back."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _tell_slow(policy: str) -> None:
    """Say so if the processor would be quicker with 32 bits."""
    import keras

    from zoo.processor import instruction_sets, slower_than_float32

    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    dtype = keras.DTypePolicy(policy).compute_dtype
    if tf.config.list_physical_devices("GPU"):
        return
    if slower_than_float32(dtype, instruction_sets()):
        warn(f"--precision {policy}: this processor computes {dtype} several times slower than float32")


def _train(args: argparse.Namespace) -> int:
    strategy = chosen_strategy(args)
    import keras

    import zoo
    from zoo.distribute.replicas import Replicas
    from zoo.training.box_statistics import measures_boxes
    from zoo.training.fit import train
    from zoo.training.kinds import FIT, check_folder

    recall(args)
    start = find_start(args)
    check_train_from(args, start)
    _tell_slow(args.precision)
    if alternates(args):
        parts = _detection_batches(args)
        remember(args)
        with _precision(args.precision):
            return train_by_turns(args, start, *parts)
    task = zoo.info(start.model).task
    detector = task == "detection"
    recipe, batch, length = chosen_recipe(args, start.model, task)
    if detector:
        data, val, make_batches = _detection_batches(args)
    else:
        data, val = _classification_data(args)
    classes = data.classes
    keras.utils.set_random_seed(args.seed)
    with _precision(args.precision), model_scope(strategy):
        model = start.build(classes, dict(args.option))
        choose_stage(model, args.stage)
    tell_frozen(start, recipe.train_from, model)
    if not detector:
        batches = _class_batches(args, model.input_shape[1] or 224, data, batch)
    elif wants_proposals(args, model):
        # Before hours are spent on proposals.
        check_folder(args.out, KINDS.get(args.strategy, FIT), args.resume)
        Replicas(model).check(make_batches(data, batch, args.seed), recipe.accumulate, args.minutes is not None)
        source = chosen_proposals(args, model, (data, val), args.out / FOLDER)
        batches = make_batches(data, batch, args.seed, proposals=source, most_proposals=source.most)
    else:
        batches = make_batches(data, batch, args.seed)
    recipe = scaled(recipe, args, batches.batch_size, batches.steps_per_epoch)
    if Replicas(model).is_chief:  # several workers may share the folder
        remember(args)
    say(f"Model: {describe(model)}")
    say(f"Data: {len(data)} pictures to train, {0 if val is None else len(val)} to validate")
    say(f"Classes: {', '.join(classes[:40])}{' ...' if len(classes) > 40 else ''}")
    if measures_boxes(model) and not start.resumed:
        say("Statistics of box deltas are measured on the training pictures")
    if args.strategy in SERVED:
        train_on_servers(args, strategy, model, batches, val, recipe, length)
    else:
        with naming_lost_workers(strategy):
            train(
                model,
                batches,
                val,
                out=args.out,
                **length,
                recipe=recipe,
                val_every=args.val_every,
                metric=args.metric,
                keep=args.keep,
                resume=args.resume,
                tensorboard=not args.no_tensorboard,
                jit_compile="auto" if args.jit is None else args.jit,
                verbose=2 if args.quiet else "auto",
                command=args.command_line,
            )
    say(
        f"Weights: {args.out / 'model.weights.h5'}   log: {args.out / 'history.csv'}   curves: "
        f"{args.out / 'curves.png'}"
    )
    then = f"   or: zoo detect IMAGE --weights {args.out}" if detector else ""
    images = "" if args.images is None else f" --images {args.images}"
    say(f"Next: zoo eval --data {args.data}{images} --weights {args.out}{then}")
    return 0


def _detection_batches(
    args: argparse.Namespace,
) -> tuple[DetectionDataset, DetectionDataset | None, Callable[..., Batches]]:
    """Training and validation data, and what makes batches of the former, given a batch size and a seed."""
    from zoo.datasets.pipeline import Batches

    if args.augmentation is not None:
        raise ValueError("--augmentation: for classifiers only")
    if args.long is not None and args.short is None:
        raise ValueError("--long: without --short the model resizes the pictures; give its option long instead")
    data, val = train_and_val(
        args.data,
        args.split,
        args.val_split,
        classes=args.classes,
        images=args.images,
        difficult=args.difficult,
    )
    make_batches = functools.partial(
        Batches,
        flip=not is_digits(args.data) if args.flip is None else args.flip,
        drop_remainder=args.strategy != SANDBLASTER,
        workers=args.workers,
        vertical_flip=args.vertical_flip,
        rotate90=args.rotate90,
        scale_jitter=None if args.scale_jitter is None else tuple(args.scale_jitter),
        colour_jitter=args.colour_jitter,
        expand=args.expand,
        crop=args.crop,
        short=args.short,
        long=1000 if args.long is None else args.long,
        pad_multiple=args.pad_multiple,
        cache=args.cache,
    )
    return data, val, make_batches


def _classification_data(args: argparse.Namespace) -> tuple[ClassificationDataset, ClassificationDataset | None]:
    from zoo.cli.classes import class_train_and_val

    unused = {
        "--vertical-flip": args.vertical_flip,
        "--rotate90": args.rotate90,
        "--scale-jitter": args.scale_jitter,
        "--colour-jitter": args.colour_jitter,
        "--long": args.long,
        "--expand": args.expand != 1,
        "--crop": args.crop != 1,
        "--images": args.images,
        "--difficult": args.difficult != "marked",
        "--metric": args.metric,
        "--proposals": args.proposals,
        "--most-proposals": args.most_proposals,
    }
    asked = [name for name, value in unused.items() if value]
    if asked:
        raise ValueError(f"{', '.join(asked)}: for detectors only")
    return class_train_and_val(args.data, args.split, args.val_split, args.classes)


def _class_batches(args: argparse.Namespace, side: int, data: ClassificationDataset, batch: int) -> ClassBatches:
    from zoo.cli.classes import class_batches
    from zoo.training.recipes import named_recipe

    augmentation = args.augmentation
    if augmentation is None and args.recipe is not None:
        augmentation = named_recipe(args.recipe).augmentation
    flip = args.flip is not False
    return class_batches(side, data, batch, args.seed, args.workers, flip, augmentation, args.short)
