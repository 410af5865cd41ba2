"""``zoo eval``: average precision per class, what goes wrong, speed, and files to look at or to hand in."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli.console import out, progress, say, table
from zoo.cli.data import add_data_options, evaluation_data
from zoo.cli.evaluate_classes import add_class_options, check_detector_options, evaluate_classes
from zoo.cli.models import add_model_options, describe, trained_model
from zoo.cli.proposal_options import add_proposal_options, beside_weights, chosen_proposals, wants_proposals
from zoo.cli.remembered import take_proposals

if TYPE_CHECKING:
    import keras

    from zoo.datasets.errors import ErrorReport
    from zoo.datasets.proposals import ProposalSource
    from zoo.datasets.records import DetectionDataset
    from zoo.training.evaluate import Evaluation

_ON_SHEET = 12  # pictures on the contact sheet


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add ``eval``."""
    parser = commands.add_parser(
        "eval",
        help="measure a detector or a classifier",
        description=(
            "Measure a detector (by PASCAL VOC's or COCO's rules), or a classifier on class folders (top-1 and top-5 "
            "error)."
        ),
    )
    add_data_options(parser, "counted like others if ordinary, neither counted nor punished if marked")
    parser.add_argument("--split", help="split to measure on; test or else val if there is one, else all")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N pictures")
    add_model_options(parser)
    add_proposal_options(parser, "whose boxes are kept in the folder that --weights names; by default that run's own")
    parser.add_argument(
        "--sweep-proposals",
        type=int,
        nargs="+",
        metavar="N",
        help="measure a Fast R-CNN with the first N boxes of a picture, for each N (the rest is about the greatest)",
    )
    parser.add_argument(
        "--batch", type=int, metavar="B", help="pictures at once (1); for classifiers, views (250, or 64 if dense)"
    )
    parser.add_argument(
        "--metric",
        choices=("voc", "coco"),
        help="AP at one overlap, or COCO's twelve figures; by default coco for data from a COCO file, else voc",
    )
    parser.add_argument("--iou", type=float, default=0.5, help="voc: overlap a detection has to exceed (default: .5)")
    parser.add_argument(
        "--interpolation",
        choices=("11point", "area"),
        default="11point",
        help="voc: 2007's eleven points (default), or the area under the curve as from 2010 on",
    )
    parser.add_argument("--score", type=float, default=0.05, metavar="S", help="least score (default: .05)")
    files = parser.add_argument_group("files")
    files.add_argument("--json", type=Path, metavar="FILE", help="write the scores to this file")
    files.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="scores, precision-recall curves, kinds of error and the worst pictures",
    )
    files.add_argument(
        "--worst", type=int, default=12, metavar="N", help="pictures of errors in a report (default: 12)"
    )
    files.add_argument(
        "--results",
        type=Path,
        metavar="PATH",
        help="the detections for an evaluation server: a folder of comp4_det_*.txt for voc, a JSON file for coco",
    )
    files.add_argument("--pictures", type=Path, metavar="DIR", help="draw the detections of every picture")
    files.add_argument(
        "--picture-score",
        type=float,
        default=0.5,
        metavar="S",
        help="least score drawn, and counted among the errors (default: .5)",
    )
    add_class_options(parser)
    parser.set_defaults(run=_evaluate)


def _evaluate(args: argparse.Namespace) -> int:
    from zoo.cli.evaluate_report import print_scores
    from zoo.datasets.errors import find_errors
    from zoo.training.evaluate import evaluate, usual_metric

    _check(args)
    model = trained_model(args)
    proposing = wants_proposals(args, model)
    if not hasattr(model, "detect"):
        return evaluate_classes(args, model)
    check_detector_options(args)
    args.batch = 1 if args.batch is None else args.batch
    data, split = evaluation_data(
        args.data,
        args.split,
        model.classes,
        classes=args.classes,
        images=args.images,
        difficult=args.difficult,
        # For evaluation servers, which keep the annotations, and to look at.
        unlabelled=args.results is not None or args.pictures is not None,
    )
    if args.limit is not None:
        data = data.subset(range(min(args.limit, len(data))))
    metric = args.metric or usual_metric(data)
    if metric == "coco" and (args.iou, args.interpolation) != (0.5, "11point"):
        raise ValueError("--iou and --interpolation belong to --metric voc; COCO's figures have their own")

    def measure(proposals: ProposalSource | None) -> Evaluation:
        with progress("measuring") as bar:
            task = bar.add_task("", total=len(data))
            return evaluate(
                model,
                data,
                metric=metric,
                score_threshold=args.score,
                iou=args.iou,
                interpolation=args.interpolation,
                batch_size=args.batch,
                proposals=proposals,
                progress=lambda count: bar.advance(task, count),
            )

    measured, about = _on_proposals(args, model, data, measure) if proposing else (measure(None), {})
    errors = find_errors(measured.triples, data, score=args.picture_score, iou=args.iou, background=min(0.1, args.iou))
    say(f"{describe(model)} on {data.name}: {len(data)} pictures")
    print_scores(measured, errors, args.picture_score)
    record = _record(args, metric, split, data, measured, errors, model) | about
    _save(args, metric, split, data, measured, errors, record)
    return 0


def _on_proposals(
    args: argparse.Namespace,
    model: keras.Model,
    data: DetectionDataset,
    measure: Callable[[ProposalSource | None], Evaluation],
) -> tuple[Evaluation, dict[str, object]]:
    """Measure a Fast R-CNN, once for each number of proposals; the last evaluation, and what to write of them all."""
    from zoo.datasets.proposals_choice import First, check_proposals, source_name

    take_proposals(args, args.weights)
    with beside_weights(args.weights) as folder:
        source = chosen_proposals(args, model, (data,), folder)
        check_proposals(source, data)
        numbers = sorted(set(args.sweep_proposals or [source.most]))
        measured = [measure(First(source, number)) for number in numbers]
    about: dict[str, object] = {"proposals": source_name(source.source), "most_proposals": source.most}
    if args.sweep_proposals is not None:
        rows = table("Proposals", "mAP", "Seconds a picture", right=("Proposals", "mAP", "Seconds a picture"))
        swept = []
        for number, each in zip(numbers, measured, strict=True):
            score, seconds = float(each.result.map), each.seconds / max(1, len(data))
            rows.add_row(str(number), f"{score:.4f}", f"{seconds:.3f}")
            swept.append({"proposals": number, "map": score, "seconds_per_image": round(seconds, 4)})
        out.print(rows)
        about["sweep"] = swept
    return measured[-1], about


def _check(args: argparse.Namespace) -> None:
    """Mistakes are told before the pictures are looked at, not after."""
    if args.sweep_proposals is not None:
        if args.most_proposals is not None:
            raise ValueError("--most-proposals and --sweep-proposals: give one of them")
        if min(args.sweep_proposals) < 1:
            raise ValueError(f"--sweep-proposals {min(args.sweep_proposals)}: give numbers from 1 on")
        args.most_proposals = max(args.sweep_proposals)
    if not 0 < args.iou <= 1:
        raise ValueError(f"--iou {args.iou:g}: give an overlap above 0 and up to 1")
    if args.worst < 1:
        raise ValueError(f"--worst {args.worst}: give a number from 1 on")
    if args.limit is not None and args.limit < 1:
        raise ValueError(f"--limit {args.limit}: give a number from 1 on")


def _record(
    args: argparse.Namespace,
    metric: str,
    split: str | None,
    data: DetectionDataset,
    measured: Evaluation,
    errors: ErrorReport,
    model: keras.Model,
) -> dict[str, object]:
    return {
        "model": describe(model),
        "weights": args.weights,
        "data": args.data,
        "split": split,
        "difficult": args.difficult,
        "images": len(data),
        "metric": metric,
        **measured.result.to_dict(),
        "errors": {"score": args.picture_score, **errors.to_dict()},
        "score_threshold": args.score,
        "batch": args.batch,
        "seconds": round(measured.seconds, 3),
        "images_per_second": round(measured.images_per_second, 3),
        "command": args.command_line,
    }


def _save(
    args: argparse.Namespace,
    metric: str,
    split: str | None,
    data: DetectionDataset,
    measured: Evaluation,
    errors: ErrorReport,
    record: dict[str, object],
) -> None:
    """Write what was asked for, and say where it is."""
    from zoo.cli.evaluate_report import write_report
    from zoo.datasets.result_files import save_coco_results, save_voc_results
    from zoo.files import save_json

    if args.json is not None:
        save_json(record, args.json)
        say(f"JSON: {args.json}")
    if args.results is not None:
        if metric == "coco":
            save_coco_results(args.results, measured.triples, data)
            say(f"Results for COCO's server: {args.results}")
        else:
            # A split may be called 2007/test.
            paths = save_voc_results(args.results, measured.triples, data, (split or "test").rpartition("/")[2])
            say(f"Results for VOC's server: {paths[0]} and so on, {len(paths)} classes")
    if args.report is not None:
        write_report(args.report, data, measured, errors, record, args.worst)
    if args.pictures is not None:
        _draw(args.pictures, data, measured, args.picture_score)
        say(f"Pictures: {args.pictures}, the first {min(_ON_SHEET, len(data))} on {args.pictures / 'sheet.png'}")


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
