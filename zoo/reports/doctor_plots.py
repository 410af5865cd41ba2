"""Plots of an examined data set, as PNG files in memory."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from zoo.datasets import anchor_fit
from zoo.datasets.doctor_counts import RATIO_EDGES, SIZE_EDGES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from zoo.datasets.doctor import Examination

_CLASSES_SHOWN = 40
_POINTS = 5000  # boxes in a scatter plot
_BLUE, _ORANGE, _GREEN = "#1e88e5", "#e65100", "#2e7d32"


def plots(examination: Examination) -> dict[str, bytes]:
    """Title -> PNG, in the order to show them; without boxes only what is left."""
    made = {"Objects of each class": _classes(examination)}
    if len(examination.boxes.boxes):
        made |= {
            "Sizes of the boxes": _sizes(examination),
            "Shapes of the boxes": _ratios(examination),
            "Boxes and anchors": _scatter(examination),
            "How well anchors cover the boxes": _coverage(examination),
        }
    made["Boxes in a picture"] = _per_picture(examination)
    return made


def _figure(width: float, height: float) -> tuple[Axes, object]:
    # The object interface: pyplot would keep global state and choose a window system.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=130, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    return axes, canvas


def _png(canvas: object) -> bytes:
    stream = io.BytesIO()
    canvas.print_png(stream)
    return stream.getvalue()


def _classes(examination: Examination) -> bytes:
    """Bars, the largest class on top, coloured by split."""
    order = sorted(examination.classes, key=lambda each: -each.objects)
    shown = order[:_CLASSES_SHOWN]
    axes, canvas = _figure(6.4, max(1.6, 0.9 + 0.2 * len(shown)))
    names = [each.name if len(each.name) <= 30 else each.name[:29] + "…" for each in shown]
    # Names may be equal once cut: bars go by number.
    places, start = np.arange(len(shown)), np.zeros(len(shown))
    splits = [part.split for part in examination.parts if part.split]
    for split in splits or [""]:
        counts = np.array([each.by_split[split] if split else each.objects for each in shown], float)
        axes.barh(places, counts, left=start, label=split or None)
        start += counts
    for place, each in zip(places, shown, strict=True):
        axes.annotate(f" {each.objects:,}", (each.objects, place), va="center", fontsize=7)
    axes.set_yticks(places, names, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.1, y=0.5 / max(1, len(shown)))
    axes.grid(axis="y", visible=False)
    left_out = f", the {len(shown)} largest of {len(order)} classes" if len(order) > len(shown) else ""
    axes.set_xlabel(f"objects{left_out}")
    if splits:
        axes.legend(frameon=False, fontsize=8)
    return _png(canvas)


def _sizes(examination: Examination) -> bytes:
    axes, canvas = _figure(6.4, 3.2)
    axes.stairs(examination.histograms.size_counts, SIZE_EDGES, fill=True, color=_BLUE)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    for edge, name in ((32, "small"), (96, "medium")):
        axes.axvline(edge, color="gray", linewidth=0.8, linestyle=":")
        axes.annotate(f"{name} ", (edge, 0.97), xycoords=("data", "axes fraction"), ha="right", va="top", fontsize=7)
    axes.set(xlabel="root of the area, pixels of the original (dotted: COCO's limits)", ylabel="boxes")
    return _png(canvas)


def _ratios(examination: Examination) -> bytes:
    axes, canvas = _figure(6.4, 3.2)
    axes.stairs(examination.histograms.ratio_counts, RATIO_EDGES, fill=True, color=_BLUE)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    for ratio in examination.plan.ratios:
        axes.axvline(ratio, color=_ORANGE, linewidth=1)
    axes.set(xlabel="height / width (lines: ratios of the chosen anchors)", ylabel="boxes")
    return _png(canvas)


def _scatter(examination: Examination) -> bytes:
    plan, boxes = examination.plan, examination.boxes
    prepared, _ = anchor_fit.prepare(boxes.boxes, boxes.sizes, plan)
    sides = prepared[:, 2:] - prepared[:, :2]
    if len(sides) > _POINTS:
        sides = sides[np.random.default_rng(0).choice(len(sides), _POINTS, replace=False)]
    axes, canvas = _figure(6.4, 5.2)
    axes.scatter(sides[:, 0], sides[:, 1], s=4, color=_BLUE, alpha=0.35, linewidths=0, label="boxes")
    axes.scatter(*plan.shapes.T, s=60, marker="s", facecolors="none", edgecolors=_ORANGE, label="chosen anchors")
    suggested = np.array(examination.grids[0].shapes)
    axes.scatter(*suggested.T, s=60, marker="x", color=_GREEN, label="suggested anchors")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set(xlabel="width, pixels of the prepared picture", ylabel="height", aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.legend(frameon=False, fontsize=8)
    return _png(canvas)


def _coverage(examination: Examination) -> bytes:
    plan, boxes = examination.plan, examination.boxes
    prepared, sizes = anchor_fit.prepare(boxes.boxes, boxes.sizes, plan)
    axes, canvas = _figure(6.4, 3.6)
    shapes = np.array(examination.grids[0].shapes)
    curves = (
        ("chosen", plan.shapes, _ORANGE),
        ("suggested", shapes, _GREEN),
    )
    x = np.linspace(0, 1, 201)
    for name, anchors, colour in curves:
        for inside, style in ((False, "-"), (True, "--")):
            best = np.sort(anchor_fit.best_iou(prepared, sizes, anchors, plan.stride, inside))
            share = 1 - np.searchsorted(best, x, side="left") / len(best)
            label = f"{name}, inside the picture" if inside else name
            axes.plot(x, share, style, color=colour, linewidth=1.5, label=label)
    for level in (0.5, 0.7):
        axes.axvline(level, color="gray", linewidth=0.8, linestyle=":")
    axes.set(xlabel="IoU with the best anchor", ylabel="share of boxes that reach it", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=8)
    return _png(canvas)


def _per_picture(examination: Examination) -> bytes:
    axes, canvas = _figure(6.4, 3.0)
    counts = examination.histograms.per_picture
    if len(counts):
        most = int(counts.max())
        step = max(1, -(-most // 60))
        edges = np.arange(0, most + step + 1, step) - 0.5
        axes.stairs(np.histogram(counts, edges)[0], edges, fill=True, color=_BLUE)
        axes.axvline(counts.mean(), color=_ORANGE, linewidth=1)
        axes.set_xlabel(f"boxes in a picture (mean {counts.mean():.1f})")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylabel("pictures")
    return _png(canvas)
