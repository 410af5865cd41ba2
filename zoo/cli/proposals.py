"""``zoo proposals``: boxes for Fast R-CNN, kept on disk, and how many of the objects they cover."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli.console import import_tensorflow_quietly, out, progress, say, table
from zoo.cli.data import DATA_HELP, tell_notes
from zoo.cli.models import add_model_options, trained_model

if TYPE_CHECKING:
    import numpy as np

    from zoo.datasets.proposal_recall import RecallResult
    from zoo.datasets.proposals import ProposalMethod
    from zoo.datasets.records import DetectionDataset

METHODS = ("selective-fast", "selective-quality", "edge-boxes", "dense", "rpn")
_LIMITS = (10, 50, 100, 300, 500, 1000, 2000, 5000, 10000)
_IOUS = (0.5, 0.7)


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add ``proposals``."""
    parser = commands.add_parser(
        "proposals",
        help="propose boxes for Fast R-CNN and keep them on disk",
        description=(
            "Propose boxes for every picture of a data set, keep them in a folder, and tell which share of the objects "
            "they cover. A run that was stopped goes on where it was: what is in the folder is not computed again."
        ),
    )
    parser.add_argument("--data", required=True, metavar="DATA", help=DATA_HELP)
    parser.add_argument("--split", help="split of the data; without it all there is, or train for digits")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of the pictures of a COCO or CSV file")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N pictures")
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument(
        "--method",
        choices=METHODS,
        help="selective search, EdgeBoxes, a sliding window, or the RPN of a Faster R-CNN (--weights)",
    )
    way.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="PATH",
        help="propose nothing: measure a .mat, .npz or .json file, or a folder that this command wrote",
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where to keep them; several methods may share one")
    parser.add_argument("--most", type=int, default=2000, metavar="N", help="boxes a picture (default: 2000)")
    parser.add_argument(
        "--width",
        type=int,
        metavar="W",
        help="selective search and EdgeBoxes: scale pictures to this width before, 0 for not at all (default: 500 for "
        "selective search, 0 for EdgeBoxes)",
    )
    parser.add_argument("--min-side", type=float, metavar="S", help="the same: least side in scaled pixels")
    parser.add_argument("--seed", type=int, default=0, help="of the order of boxes without scores (default: 0)")
    parser.add_argument(
        "--edge-model",
        type=Path,
        metavar="FILE",
        help="EdgeBoxes: the structured forest's model.yml (of opencv_extra); without it edges are plain gradients",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="pictures at once (default: as many as cores)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write recall and time to this file")
    add_model_options(parser)
    parser.set_defaults(run=_run, tensorflow=False)


def _run(args: argparse.Namespace) -> int:
    from zoo.datasets.loading import load
    from zoo.datasets.proposals import Gathered, open_proposals

    _check(args)
    source = None if args.source is None else open_proposals(args.source)
    method = None if args.method is None else _method(args)
    data = load(args.data, args.split, images=args.images)
    tell_notes(data)
    if args.limit is not None:
        data = data.subset(range(min(args.limit, len(data))))
    record: dict[str, object] = {"data": args.data, "split": args.split, "images": len(data)}
    if method is None:
        record["from"] = str(args.source)
        found: Sequence[np.ndarray] = Gathered(source, data)
        say(f"{args.source} on {data.name}: {len(data)} pictures")
    else:
        found = _make(args, data, method, record)
    _measure(found, data, args.most, record)
    if args.json is not None:
        from zoo.files import save_json

        save_json({**record, "command": args.command_line}, args.json)
        say(f"JSON: {args.json}")
    return 0


def _check(args: argparse.Namespace) -> None:
    """Mistakes are told before any picture is looked at."""
    for name, least in (("most", 1), ("limit", 1), ("workers", 1), ("width", 0), ("min_side", 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise ValueError(f"--{name.replace('_', '-')} {value}: give a number from {least} on")
    if args.method is not None and args.out is None:
        raise ValueError("--out: give a folder to keep the proposals in")
    if args.edge_model is not None and args.method != "edge-boxes":
        raise ValueError("--edge-model belongs to --method edge-boxes")
    if args.method != "rpn" and (args.weights or args.model or args.option):
        raise ValueError("--weights, --model and --option belong to --method rpn")
    if args.method not in ("selective-fast", "selective-quality", "edge-boxes"):
        for name in ("width", "min_side"):
            if getattr(args, name) is not None:
                raise ValueError(f"--{name.replace('_', '-')} belongs to selective search and EdgeBoxes")


def _method(args: argparse.Namespace) -> ProposalMethod:
    if args.method == "rpn":
        import_tensorflow_quietly()
        from zoo.proposals_of import RPNProposals

        return RPNProposals(trained_model(args), args.most, max(12000, args.most))
    if args.method == "dense":
        from zoo.datasets.proposals_dense import DenseBoxes

        return DenseBoxes(most=args.most, seed=args.seed)
    given: dict[str, object] = {"most": args.most}
    if args.width is not None:
        given["width"] = args.width or None
    if args.min_side is not None:
        given["min_side"] = args.min_side
    if args.method == "edge-boxes":
        from zoo.datasets.proposals_edges import EdgeBoxes

        return EdgeBoxes(args.edge_model, **given)
    from zoo.datasets.proposals_selective import SelectiveSearch

    return SelectiveSearch(args.method.removeprefix("selective-"), seed=args.seed, **given)


def _make(
    args: argparse.Namespace, data: DetectionDataset, method: ProposalMethod, record: dict[str, object]
) -> Sequence[np.ndarray]:
    from zoo.datasets.proposals_make import make_proposals

    started = time.perf_counter()
    with progress("proposing") as bar:
        task = bar.add_task("", total=len(data))
        made = make_proposals(data, method, args.out, workers=args.workers, progress=lambda: bar.advance(task))
    record |= {
        "method": method.name,
        "settings": method.settings,
        "computed": made.computed,
        "seconds": round(time.perf_counter() - started, 3),
        "seconds_per_image": round(made.seconds / made.computed, 4) if made.computed else None,
    }
    took = f", {made.seconds / made.computed:.2f} s each" if made.computed else ""
    say(f"{method.name} on {data.name}: {len(data)} pictures, {made.computed} computed now{took}")
    say(f"Proposals: {made.folder.path}")
    return made


def _measure(found: Sequence[np.ndarray], data: DetectionDataset, most: int, record: dict[str, object]) -> None:
    """Print recall by number of proposals, and put it into the record."""
    from zoo.datasets.proposal_recall import average_recall

    counted = _Counted(found)
    limits = [*(limit for limit in _LIMITS if limit < most), most]
    result = average_recall(counted, data, limits)
    mean = counted.boxes / max(1, len(data))
    record |= {"proposals_per_image": round(mean, 1), "recall": _rows(result)}
    say(f"{mean:.0f} proposals a picture; share of the {int(result.positives[0])} objects that they cover:")
    numbers = [*(f"IoU {iou:g}" for iou in _IOUS), "Average .5 to .95"]
    rows = table("Proposals", *numbers, right=("Proposals", *numbers))
    for limit, values in _rows(result).items():
        rows.add_row(limit, *("-" if value is None else f"{value:.3f}" for value in values.values()))
    out.print(rows)


class _Counted(Sequence):
    """Counts the boxes that pass through; one picture's are in memory at a time."""

    def __init__(self, found: Sequence[np.ndarray]) -> None:
        self._found, self.boxes = found, 0

    def __len__(self) -> int:
        return len(self._found)

    def __getitem__(self, index: int) -> np.ndarray:
        boxes = self._found[index]
        self.boxes += len(boxes)
        return boxes


def _rows(result: RecallResult) -> dict[str, dict[str, float | None]]:
    """By number of proposals: recall at each of ``_IOUS``, and their average from .5 to .95."""
    places = {f"{iou:g}": int(abs(result.ious - iou).argmin()) for iou in _IOUS}
    rows = {}
    for at, limit in enumerate(result.limits):
        values = {name: result.recall[place, 0, at] for name, place in places.items()} | {
            "average": result.average[0, at]
        }
        rows[str(limit)] = {name: None if value != value else float(value) for name, value in values.items()}
    return rows
