"""Precision-recall curves and kinds of error as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.datasets.coco_matching import IOUS
from zoo.datasets.coco_metrics import RECALLS, CocoResult
from zoo.datasets.errors import KINDS, ErrorReport
from zoo.datasets.voc_metrics import VocResult
from zoo.drawing import PALETTE
from zoo.files import save_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colour and words for each kind, the same in the plot and in the pictures of errors.
KIND_COLORS = {
    "correct": "#43be50",
    "duplicate": "#1e88e5",
    "class": "#ff0087",
    "localisation": "#ff7043",
    "both": "#7800e1",
    "background": "#e1000f",
    "missed": "#ffd21e",
}
KIND_WORDS = {"class": "wrong class", "both": "class and localisation"}

_NAMED = 16  # curves or rows with a name; of more classes, the best and the worst, or those with most errors


def draw_precision_recall(result: VocResult | CocoResult, path: str | Path) -> Path:
    """Draw the precision-recall curves as PNG, atomically; gives the path.

    For VOC each class and, in black, the mean of all: the highest precision at that recall or beyond, as AP counts
    it. For COCO the same at an IoU of .5, and beside it the mean at five IoUs.
    """
    coco = isinstance(result, CocoResult)
    figure = _figure(11.5 if coco else 7.2, 4.6)
    axes = np.atleast_1d(figure.subplots(1, 2 if coco else 1, width_ratios=(1, 1.1) if coco else None))
    if coco:
        _by_iou(axes[0], result)
        curves, aps, title = result.precision[0, :, :, 0].T, result.ap50, f"IoU .5: mAP {result.figures['AP50']:.3f}"
    else:
        curves = np.array([_envelope(*one) for one in zip(result.recall, result.precision, strict=True)])
        curves[np.isnan(result.ap)] = np.nan
        aps, title = result.ap, f"IoU {result.iou:g}: mAP {result.map:.3f}"
    _by_class(axes[-1], curves.reshape(-1, len(RECALLS)), aps, result.classes)
    axes[-1].set_title(title)
    return _save(figure, path)


def draw_errors(report: ErrorReport, path: str | Path) -> Path:
    """Draw kinds of error as PNG, atomically: a bar of shares for each class's detections and objects; gives the path.

    Of more than 16 classes those with the most errors and missed objects are shown.
    """
    wrong = report.counts[:, 1:].sum(axis=1) + report.missed_counts
    shown = np.sort(np.argsort(-wrong, kind="stable")[:_NAMED])
    found = [("all", report.counts.sum(axis=0)), *((report.classes[i], report.counts[i]) for i in shown)]
    objects = np.stack([report.positives - report.missed_counts, report.missed_counts], axis=1)
    things = [("all", objects.sum(axis=0)), *((report.classes[i], objects[i]) for i in shown)]
    figure = _figure(11.5, 1.6 + 0.3 * len(found))
    left, right = figure.subplots(1, 2, width_ratios=(1.6, 1))
    _bars(left, found, KINDS)
    left.set_title("What became of the detections")
    _bars(right, things, ("correct", "missed"))
    right.set_title("Objects found and missed")
    return _save(figure, path)


def _figure(width: float, height: float) -> Figure:
    # The object interface: pyplot would keep global state and choose a window system.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: str | Path) -> Path:
    with save_atomically(path) as aside:
        figure.canvas.print_png(str(aside))
    return Path(path)


def _envelope(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """(101,) the highest precision at each recall or beyond; 0 where the recall is not reached."""
    highest = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return highest[np.searchsorted(recall, RECALLS - 1e-12)]


def _by_iou(axes: Axes, result: CocoResult) -> None:
    from matplotlib import colormaps

    for number in range(0, len(IOUS), 2):
        curves = result.precision[number, :, :, 0]
        known = ~np.isnan(curves[0])
        mean = curves[:, known].mean(axis=1) if known.any() else np.full(len(RECALLS), np.nan)
        color = colormaps["viridis"](number / len(IOUS))
        axes.plot(RECALLS, mean, color=color, label=f"IoU {IOUS[number]:.1f}: {mean.mean():.3f}")
    _frame(axes)
    axes.set_title(f"Mean of the classes: AP {result.map:.3f} over all IoUs")
    axes.legend(frameon=False, fontsize=8, loc="upper right")


def _by_class(axes: Axes, curves: np.ndarray, aps: np.ndarray, classes: Sequence[str]) -> None:
    known = np.flatnonzero(~np.isnan(aps))
    ranked = known[np.argsort(-aps[known], kind="stable")]
    named = ranked
    if len(ranked) > _NAMED:
        named = np.concatenate([ranked[: _NAMED // 2], ranked[-_NAMED // 2 :]])
        for label in ranked[_NAMED // 2 : -_NAMED // 2]:
            axes.plot(RECALLS, curves[label], color="#bbbbbb", linewidth=0.6, drawstyle="steps-pre")
    for place, label in enumerate(named):
        color = PALETTE[(label if len(classes) <= len(PALETTE) else place) % len(PALETTE)]
        text = f"{classes[label]} {aps[label]:.3f}"
        axes.plot(RECALLS, curves[label], color=color, linewidth=1.4, drawstyle="steps-pre", label=text)
    if len(known):
        mean, text = curves[known].mean(axis=0), f"mean {aps[known].mean():.3f}"
        axes.plot(RECALLS, mean, color="black", linewidth=2.2, drawstyle="steps-pre", label=text)
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), title="AP by class")
    _frame(axes)


def _frame(axes: Axes) -> None:
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.005), ylim=(0, 1.03))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _bars(axes: Axes, rows: Sequence[tuple[str, np.ndarray]], kinds: Sequence[str]) -> None:
    """A bar of shares for each row, its count behind it."""
    counts = np.array([count for _, count in rows])
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    ends = np.cumsum(shares, axis=1)
    for column, kind in enumerate(kinds):
        axes.barh(
            np.arange(len(rows)),
            shares[:, column],
            left=ends[:, column] - shares[:, column],
            color=KIND_COLORS[kind],
            label=f"{KIND_WORDS.get(kind, kind)} {counts[0, column]:,}",
            height=0.7,
        )
    for row, total in enumerate(totals[:, 0]):
        axes.text(1.01, row, f"{total:,}", va="center", fontsize=8, color="#555555")
    axes.set_yticks(np.arange(len(rows)), [name for name, _ in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.07 - 0.3 / len(rows)))
