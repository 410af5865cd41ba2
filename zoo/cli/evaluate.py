"""``zoo eval``: average precision per class, mAP and speed."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli.console import out, progress, say, table
from zoo.cli.data import add_data_option, evaluation_data
from zoo.cli.models import add_model_options, describe, trained_model

if TYPE_CHECKING:
    from zoo.datasets.records import DetectionDataset
    from zoo.training.evaluate import Evaluation

_ON_SHEET = 12  # pictures on the contact sheet


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add ``eval``."""
    parser = commands.add_parser(
        "eval",
        help="measure a detector or a classifier",
        description="Measure a detector (PASCAL VOC), or a classifier on class folders (top-1 and top-5 error).",
    )
    add_data_option(parser)
    parser.add_argument("--split", help="split to measure on; test or else val if there is one, else all")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N pictures")
    add_model_options(parser)
    parser.add_argument("--batch", type=int, default=1, metavar="B", help="pictures at once (default: 1)")
    parser.add_argument("--iou", type=float, default=0.5, help="overlap a detection has to exceed (default: .5)")
    parser.add_argument(
        "--interpolation",
        choices=("11point", "area"),
        default="11point",
        help="VOC 2007's eleven points (default), or the area under the curve as from VOC 2010 on",
    )
    parser.add_argument("--score", type=float, default=0.05, metavar="S", help="least score (default: .05)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the scores to this file")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="draw the detections of every picture")
    parser.add_argument("--picture-score", type=float, default=0.5, metavar="S", help="least score drawn (default: .5)")
    parser.set_defaults(run=_evaluate)


def _evaluate(args: argparse.Namespace) -> int:
    from zoo.files import save_json
    from zoo.training.evaluate import evaluate

    model = trained_model(args)
    if not hasattr(model, "detect"):
        from zoo.cli.evaluate_classes import evaluate_classes

        return evaluate_classes(args, model)
    data, split = evaluation_data(args.data, args.split, model.classes)
    if args.limit is not None:
        data = data.subset(range(min(args.limit, len(data))))
    with progress("measuring") as bar:
        task = bar.add_task("", total=len(data))
        measured = evaluate(
            model,
            data,
            score_threshold=args.score,
            iou=args.iou,
            interpolation=args.interpolation,
            batch_size=args.batch,
            progress=lambda count: bar.advance(task, count),
        )
    result = measured.result
    say(f"{describe(model)} on {data.name}: {len(data)} pictures")
    rows = table("Class", "AP", "Objects", "Detections", right=("AP", "Objects", "Detections"))
    for row in zip(result.classes, result.ap, result.positives, result.found, strict=True):
        rows.add_row(row[0], "-" if math.isnan(row[1]) else f"{row[1]:.4f}", str(row[2]), str(row[3]))
    rows.add_section()
    rows.add_row("mAP", f"{result.map:.4f}", str(result.positives.sum()), str(result.found.sum()), style="bold")
    out.print(rows)
    kind = "VOC 2007, 11 points" if args.interpolation == "11point" else "area under the curve"
    say(f"IoU > {args.iou:g}, {kind}; {measured.images_per_second:.2f} pictures/s ({measured.seconds:.1f} s)")
    if args.json is not None:
        save_json(_record(args, split, data, measured, model), args.json)
        say(f"JSON: {args.json}")
    if args.pictures is not None:
        _draw(args.pictures, data, measured, args.picture_score)
        say(f"Pictures: {args.pictures}, the first {min(_ON_SHEET, len(data))} on {args.pictures / 'sheet.png'}")
    return 0


def _record(
    args: argparse.Namespace, split: str | None, data: DetectionDataset, measured: Evaluation, model: object
) -> dict[str, object]:
    return {
        "model": describe(model),
        "weights": args.weights,
        "data": args.data,
        "split": split,
        "images": len(data),
        **measured.result.to_dict(),
        "score_threshold": args.score,
        "batch": args.batch,
        "seconds": round(measured.seconds, 3),
        "images_per_second": round(measured.images_per_second, 3),
        "command": args.command_line,
    }


def _draw(folder: Path, data: DetectionDataset, measured: Evaluation, score: float) -> None:
    """A picture per image, and the first dozen on one sheet."""
    from zoo.drawing import save_picture
    from zoo.sheets import contact_sheet

    drawn, captions = [], []
    for index, found in enumerate(measured.detections):
        name = data.sample(index).image_id
        picture = found.above(score).draw(data.image(index), path=folder / f"{name.replace('/', '_')}.png")
        if len(drawn) < _ON_SHEET:
            drawn.append(picture)
            captions.append(name)
    save_picture(contact_sheet(drawn, captions), folder / "sheet.png")
