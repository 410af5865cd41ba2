"""``zoo compress``: a detector with thinner dense layers, and what that brings and costs."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import zoo
from zoo.cli.console import out, progress, say, table
from zoo.cli.models import add_weights_options, describe, named_model
from zoo.cli.proposal_options import add_proposal_options, beside_weights, chosen_proposals, wants_proposals
from zoo.cli.remembered import keep_options, take_proposals
from zoo.datasets.proposals_choice import check_proposals

if TYPE_CHECKING:
    import keras
    import numpy as np

    from zoo.compression_report import Cost, LayerChange
    from zoo.datasets.proposals import ProposalSource
    from zoo.datasets.records import DetectionDataset

_DESCRIPTION = """Replace the dense layers of a trained detector's head by products of two thin ones, by truncated
singular value decomposition (Girshick 2015, section 3.1): --fc6 1024 --fc7 256 is what the paper does to VGG-16. The
result is a model like any other: it detects, can be trained further, and is exported."""
_NUMBERS = ("", "Before", "After")
# What ends so is meant as a file.
_SUFFIXES = (".h5", ".keras", ".npz", ".pth", ".pt", ".onnx", ".tflite", ".caffemodel", ".json")


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add ``compress``."""
    parser = commands.add_parser("compress", help="make a detector's dense layers thinner", description=_DESCRIPTION)
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a run folder of `zoo train`, a weights file, or a name that `zoo list --pretrained` shows",
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="NAME.weights.h5, NAME.keras, or a folder")
    add_weights_options(parser)
    how = parser.add_argument_group("how much, by one of")
    for layer in ("fc6", "fc7"):
        how.add_argument(f"--{layer}", type=int, metavar="RANK", help=f"rank of the layer {layer}")
    how.add_argument(
        "--rank", type=_layer_rank, action="append", default=[], metavar="LAYER=RANK", help="rank of another layer"
    )
    how.add_argument("--energy", type=float, metavar="SHARE", help="share of the squared singular values to keep")
    how.add_argument("--megabytes", type=float, metavar="MB", help="greatest size of OUT")
    how.add_argument("--half", action="store_true", help="store kernels in 16 bits; they are loaded as 32")
    report = parser.add_argument_group("report")
    report.add_argument("--data", metavar="DATA", help="measure mAP before and after on these pictures")
    report.add_argument("--split", help="split to measure on; test or else val if there is one, else all")
    report.add_argument("--limit", type=int, metavar="N", help="only the first N pictures")
    add_proposal_options(report, "whose boxes are kept in MODEL if that is a run; by default that run's own")
    report.add_argument("--image", type=Path, metavar="FILE", help="picture to take the time with (grey 600 x 800)")
    report.add_argument("--rois", type=int, default=300, metavar="R", help="boxes that the dense layers see (300)")
    report.add_argument("--repeats", type=int, default=5, metavar="N", help="times taken; 0 for none (5)")
    report.add_argument("--json", type=Path, metavar="FILE", help="write the report to this file")
    parser.set_defaults(run=_compress)


def _layer_rank(text: str) -> tuple[str, int]:
    name, _, rank = text.partition("=")
    if not name or not rank.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not LAYER=RANK, such as fc6=1024")
    return name, int(rank)


def _compress(args: argparse.Namespace) -> int:
    from zoo.compression import head_layers
    from zoo.compression_report import layer_changes

    ranks = _ranks(args)
    target = _target(args)
    storage = "float16" if args.half else "float32"
    model = named_model(args)
    head_layers(model)  # told before anything is done, if it has none
    data = _data(args, model)
    small = zoo.compress(model, ranks, energy=args.energy, megabytes=args.megabytes, storage=storage)
    changes = layer_changes(model, small)
    _save(small, target, storage, args)
    if args.half:
        small = zoo.load(target)  # measured with the numbers that are stored
    before, after = _costs(args, model, small, target, data)
    _tell(model, changes, before, after)
    say(f"Written: {target}")
    if args.json is not None:
        from zoo.files import save_json

        layers = [asdict(change) for change in changes]
        costs = {"before": before.to_dict(), "after": after.to_dict()}
        settings = {"storage": storage, "rois": args.rois, "data": args.data, "proposals": args.proposals}
        settings["command"] = args.command_line
        save_json({"model": describe(model), "layers": layers, **costs, **settings}, args.json)
        say(f"JSON: {args.json}")
    return 0


def _ranks(args: argparse.Namespace) -> dict[str, int] | None:
    """Ranks that were given by layer, or ``None``; one way of the three is to be chosen."""
    given = {"fc6": args.fc6, "fc7": args.fc7, **dict(args.rank)}
    ranks = {name: rank for name, rank in given.items() if rank is not None}
    ways = {"ranks of layers": ranks or None, "--energy": args.energy, "--megabytes": args.megabytes}
    chosen = [name for name, value in ways.items() if value is not None]
    if len(chosen) != 1:
        raise ValueError(
            f"give ranks (--fc6 RANK, --fc7 RANK, --rank LAYER=RANK), --energy or --megabytes; given: "
            f"{', '.join(chosen) or 'none'}"
        )
    return ranks or None


def _target(args: argparse.Namespace) -> Path:
    """The file to write; a mistake in the command is told before a model is loaded."""
    from zoo.weights_io import SUFFIX

    target = args.out / f"model{SUFFIX}" if _is_folder(args.out) else args.out
    if not target.name.endswith((SUFFIX, ".keras")):
        raise ValueError(f"{args.out}: give NAME{SUFFIX}, NAME.keras, or a folder")
    if args.half and target.suffix == ".keras":
        raise ValueError(f"--half: a .keras file keeps 32 bits; give NAME{SUFFIX}")
    if args.repeats < 0 or args.rois < 1:
        raise ValueError(f"--repeats {args.repeats} --rois {args.rois}: give 0 or more times, and 1 box or more")
    _check_apart(args, target)
    return target


def _is_folder(out: Path) -> bool:
    """``runs/joint-0.9`` is one, though it has a dot."""
    return out.is_dir() or out.suffix not in _SUFFIXES


def _check_apart(args: argparse.Namespace, target: Path) -> None:
    """Raise if OUT would replace what is to be compressed."""
    from zoo.weights_io import meta_path

    if args.weights is None and args.model in zoo.list_models():
        return
    source = Path(args.model if args.weights is None else args.weights)
    if not source.exists():
        return
    source = source.resolve()
    # The same description stands beside NAME.weights.h5 and NAME.keras.
    told, written = source / "model.json" if source.is_dir() else meta_path(source), meta_path(target.resolve())
    # Nor is a run's result replaced by what one of its other files becomes.
    if written == told or (written == told.with_name("model.json") and (target.exists() or written.exists())):
        raise ValueError(
            f"{args.out}: {target} would replace what is to be compressed, or its run; give another file or folder as "
            "OUT"
        )


def _data(args: argparse.Namespace, model: keras.Model) -> DetectionDataset | None:
    from zoo.cli.data import evaluation_data

    if args.data is None:
        only = (args.split, args.limit, args.proposals, args.most_proposals)
        if any(value is not None for value in only):
            raise ValueError("--split, --limit, --proposals and --most-proposals are for --data; give that too")
        return None
    if args.limit is not None and args.limit < 1:
        raise ValueError(f"--limit {args.limit}: give a number from 1 on")
    wants_proposals(args, model)  # told before anything is done, if it does not
    data, _ = evaluation_data(args.data, args.split, model.classes)
    return data if args.limit is None else data.subset(range(min(args.limit, len(data))))


def _save(model: keras.Model, target: Path, storage: str, args: argparse.Namespace) -> None:
    from zoo.files import save_atomically
    from zoo.weights_io import save_meta, save_weights_file

    meta = replace(model.zoo_meta, command=args.command_line)
    if target.suffix != ".keras" and not meta.model:
        raise ValueError(
            f"{args.weights or args.model} does not tell which registered model it is, so that weights alone could "
            f"not be loaded again; give OUT as NAME.keras"
        )
    with save_atomically(target) as aside:
        if target.suffix == ".keras":
            model.save(aside)
        else:
            save_weights_file(model, aside, storage, meta)
        size = aside.stat().st_size
        if args.megabytes is not None and size > args.megabytes * 1e6:
            # Before it takes the place of what is there.
            raise ValueError(
                f"{target} would have {size / 1e6:.2f} MB, more than {args.megabytes:g}; ask for a little less"
            )
    save_meta(meta, target)
    if _is_folder(args.out) and args.weights is not None:
        keep_options(Path(args.weights), target.parent)


def _costs(
    args: argparse.Namespace,
    model: keras.Model,
    small: keras.Model,
    target: Path,
    data: DetectionDataset | None,
) -> tuple[Cost, Cost]:
    from zoo.compression import stored_bytes
    from zoo.compression_report import Cost, take_times

    # Both in the same precision: halving it is no merit of smaller layers.
    sizes = (stored_bytes(model, "float16" if args.half else "float32"), target.stat().st_size)
    costs = [Cost(m.count_params(), size / 1e6) for m, size in zip((model, small), sizes, strict=True)]
    if args.repeats:
        times = take_times((model, small), _picture(args.image), args.rois, args.repeats)
        costs = [replace(cost, dense_ms=t[0], whole_ms=t[1]) for cost, t in zip(costs, times, strict=True)]
    if data is not None:
        scores = _maps(args, (model, small), data)
        costs = [replace(cost, map=score) for cost, score in zip(costs, scores, strict=True)]
    return costs[0], costs[1]


def _picture(path: Path | None) -> np.ndarray:
    import numpy as np

    from zoo.inputs import load_inputs

    return np.full((600, 800, 3), 128, np.uint8) if path is None else load_inputs(path)[0][0].image


def _maps(args: argparse.Namespace, models: Sequence[keras.Model], data: DetectionDataset) -> list[float]:
    """Mean average precision of each model, a Fast R-CNN's on the same proposals for all."""
    if not wants_proposals(args, models[0]):
        return [_map(model, data, None) for model in models]
    take_proposals(args, args.weights)
    with beside_weights(args.weights) as folder:
        source = chosen_proposals(args, models[0], (data,), folder)
        check_proposals(source, data)
        return [_map(model, data, source) for model in models]


def _map(model: keras.Model, data: DetectionDataset, proposals: ProposalSource | None) -> float:
    with progress("measuring") as bar:
        task = bar.add_task("", total=len(data))
        advance = functools.partial(bar.advance, task)
        return zoo.evaluate(model, data, proposals=proposals, progress=advance).result.map


def _tell(model: keras.Model, changes: list[LayerChange], before: Cost, after: Cost) -> None:
    say(describe(model))
    rows = table("Layer", "Kernel", "Rank", "Energy", "Numbers before", "After", right=("Rank", "Energy", *_NUMBERS))
    for each in changes:
        shape = f"{each.shape[0]} x {each.shape[1]}"
        rows.add_row(each.name, shape, str(each.rank), f"{each.energy:.4f}", f"{each.before:,}", f"{each.after:,}")
    out.print(rows)
    rows = table(*_NUMBERS, right=("Before", "After"))
    rows.add_row("Parameters", f"{before.parameters:,}", f"{after.parameters:,}")
    rows.add_row("Weights, MB", f"{before.megabytes:.2f}", f"{after.megabytes:.2f}")
    for name, field in (("Dense layers, ms", "dense_ms"), ("Whole picture, ms", "whole_ms")):
        if getattr(before, field) is not None:
            rows.add_row(name, f"{getattr(before, field):.1f}", f"{getattr(after, field):.1f}")
    if before.map is not None:
        rows.add_row("mAP (VOC 2007)", f"{before.map:.4f}", f"{after.map:.4f}")
    out.print(rows)
