"""What ``zoo eval`` says about a detector, on the screen and in a folder."""

from __future__ import annotations

import math
from pathlib import Path

from zoo.cli.console import out, say, table
from zoo.datasets.coco_metrics import CocoResult
from zoo.datasets.errors import KINDS, ErrorReport
from zoo.datasets.records import DetectionDataset
from zoo.datasets.voc_metrics import VocResult
from zoo.training.evaluate import Evaluation
from zoo.training.score_plots import KIND_WORDS


def print_scores(measured: Evaluation, errors: ErrorReport, score: float) -> None:
    """Tables of scores and of errors; ``score``: from which on detections count among the errors."""
    result = measured.result
    speed = f"{measured.images_per_second:.2f} pictures/s ({measured.seconds:.1f} s)"
    if isinstance(result, CocoResult):
        _print_coco(result)
        say(f"COCO: mean over IoU .50 to .95; s, m, l: objects below 32x32, below 96x96, larger; {speed}")
    else:
        _print_voc(result)
        kind = "VOC 2007, 11 points" if result.interpolation == "11point" else "area under the curve"
        say(f"IoU > {result.iou:g}, {kind}; {speed}")
    _print_errors(errors, score)


def write_report(
    folder: Path,
    data: DetectionDataset,
    measured: Evaluation,
    errors: ErrorReport,
    record: dict[str, object],
    count: int,
) -> None:
    """Write scores.json, precision_recall.png, errors.png and the ``count`` worst pictures into ``folder``."""
    from zoo.files import save_json
    from zoo.training.score_plots import draw_errors, draw_precision_recall
    from zoo.training.worst_pictures import save_worst

    save_json(record, folder / "scores.json")
    draw_precision_recall(measured.result, folder / "precision_recall.png")
    draw_errors(errors, folder / "errors.png")
    worst = save_worst(folder / "worst", data, measured.detections, errors, count)
    say(f"Report: {folder} (scores.json, precision_recall.png, errors.png)")
    say(f"Worst pictures: {folder / 'worst'}, all {len(worst)} on {folder / 'worst.png'}" if worst else "No errors.")


def _print_voc(result: VocResult) -> None:
    rows = table("Class", "AP", "Objects", "Detections", right=("AP", "Objects", "Detections"))
    for row in zip(result.classes, result.ap, result.positives, result.found, strict=True):
        rows.add_row(row[0], _number(row[1]), str(row[2]), str(row[3]))
    rows.add_section()
    rows.add_row("mAP", _number(result.map), str(result.positives.sum()), str(result.found.sum()), style="bold")
    out.print(rows)


def _print_coco(result: CocoResult) -> None:
    numbers = ("AP", "AP50", "AR", "Objects", "Detections")
    rows = table("Class", *numbers, right=numbers)
    parts = (result.classes, result.ap, result.ap50, result.ar, result.positives, result.found)
    for name, *values in zip(*parts, strict=True):
        rows.add_row(name, *map(_number, values[:3]), str(values[3]), str(values[4]))
    rows.add_section()
    all_counts = str(result.positives.sum()), str(result.found.sum())
    figures = result.figures
    rows.add_row("mean", *(_number(figures[name]) for name in ("AP", "AP50", "AR100")), *all_counts, style="bold")
    out.print(rows)
    names = tuple(figures)
    for some in (names[:6], names[6:]):
        rows = table(*some, right=some)
        rows.add_row(*(_number(figures[name]) for name in some))
        out.print(rows)


def _print_errors(errors: ErrorReport, score: float) -> None:
    columns = [KIND_WORDS.get(kind, kind) for kind in (*KINDS, "missed")]
    rows = table("Class", *columns, right=tuple(columns))
    for name, counts, missed in zip(errors.classes, errors.counts, errors.missed_counts, strict=True):
        if counts.any() or missed:
            rows.add_row(name, *map(str, counts), str(missed))
    rows.add_section()
    rows.add_row("all", *map(str, errors.counts.sum(axis=0)), str(errors.missed_counts.sum()), style="bold")
    say(f"Detections of a score from {score:g} on, and objects missed:")
    out.print(rows)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"
