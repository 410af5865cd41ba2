"""Curves of a training as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zoo.files import save_atomically

# Columns of the log that have no curve of their own.
_NOT_CURVES = ("epoch", "seconds", "steps")
_COCO = ("coco_map", "coco_recall")  # what `zoo.training.coco_map` logs
_WIDE = 4.6  # inches per panel


def draw_curves(rows: Sequence[dict[str, float]], path: str | Path) -> Path:
    """Draw the rows of a history as PNG, atomically: losses, validation mAP or AP, errors, the rest, learning rate.

    Training is a full line, validation (``val_`` columns) a dashed one of the same colour.
    """
    # The object interface: pyplot would keep global state and choose a window system.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = _panels(rows)
    figure = Figure(figsize=(_WIDE * len(panels), 3.4), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for axes, (title, names) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels.items(), strict=True):
        _draw_panel(axes, title, names, rows)
    with save_atomically(path) as aside:
        canvas.print_png(str(aside))
    return Path(path)


def _panels(rows: Sequence[dict[str, float]]) -> dict[str, list[str]]:
    """Title -> training columns of each panel that has something to show."""
    names = dict.fromkeys(name for row in rows for name in row if name not in _NOT_CURVES)
    bases = list(dict.fromkeys(name.removeprefix("val_") for name in names))
    shares = ("recall", "precision", "accuracy", "iou", "map")
    errors = [name for name in bases if name.endswith("_error")]
    losses = [n for n in bases if n != "learning_rate" and n not in errors and not any(share in n for share in shares)]
    coco = [name for name in bases if name.startswith(_COCO)]
    rest = [name for name in bases if name not in (*losses, *errors, *coco, "map", "learning_rate")]
    panels = {
        "Loss": losses,
        "Validation mAP": [name for name in bases if name == "map"],
        "Validation AP (COCO)": coco,
        "Error": errors,
        "Other metrics": rest,
        "Learning rate": [name for name in bases if name == "learning_rate"],
    }
    return {title: columns for title, columns in panels.items() if columns} or {"Nothing logged": []}


def _draw_panel(axes: object, title: str, names: Sequence[str], rows: Sequence[dict[str, float]]) -> None:
    for number, name in enumerate(names):
        for column, style in ((name, "-"), (f"val_{name}", "--")):
            points = [(row["epoch"], row[column]) for row in rows if np.isfinite(row.get(column, np.nan))]
            if points:
                marker = "o" if len(points) < 30 else None
                label = column.replace("_", " ")
                x, y = zip(*points, strict=True)
                axes.plot(x, y, style, color=f"C{number % 10}", marker=marker, markersize=3, label=label)
    axes.set(title=title, xlabel="epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if title.startswith("Validation"):
        first = f"val_{names[0]}"  # by which the best weights are chosen
        top = max((row[first] for row in rows if np.isfinite(row.get(first, np.nan))), default=0.0)
        axes.set_ylim(0, 1.03)
        axes.axhline(top, color="gray", linewidth=0.8, linestyle=":")
        axes.set_title(f"{title} (best {top:.3f})")
        if len(names) > 1:
            axes.legend(frameon=False, fontsize=7)
    elif title == "Learning rate":
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="y", scilimits=(-2, 3))
    elif axes.lines:
        axes.legend(frameon=False, fontsize=7)
        # Heights can be compared only from zero; a share that reaches 1 keeps clear of the frame.
        axes.set_ylim(min(0.0, axes.dataLim.y0), axes.dataLim.y1 * 1.03 or 1.0)
