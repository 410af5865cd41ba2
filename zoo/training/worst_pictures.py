"""Pictures of what a detector did worst, its detections over the ground truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zoo.datasets.errors import KINDS, NOT_COUNTED, ErrorReport
from zoo.datasets.records import DetectionDataset, Sample
from zoo.detections import Detections
from zoo.drawing import PALETTE, draw, save_picture
from zoo.sheets import contact_sheet
from zoo.training.score_plots import KIND_COLORS, KIND_WORDS

_COLOR = {kind: PALETTE.index(color) for kind, color in KIND_COLORS.items()}
_NEUTRAL = PALETTE.index("#b4962d")  # difficult and crowd objects


def save_worst(
    folder: str | Path, dataset: DetectionDataset, detections: list[Detections], report: ErrorReport, count: int = 12
) -> list[Path]:
    """Draw the ``count`` worst pictures into ``folder``, and all on one sheet beside it.

    The worst have the most, and the most confident, errors and missed objects (``report.badness``). Files are
    called by rank and image id, and replace those of an earlier run; the sheet has the folder's name and ".png".

    Args:
        folder: where to; it is made.
        dataset: the pictures and their objects.
        detections: of each picture, in the order of the data set.
        report: of these detections.
        count: how many.

    Returns the pictures' paths, the worst first; none if there is no error.
    """
    folder = Path(folder)
    for earlier in folder.glob("[0-9][0-9]-*.png"):
        earlier.unlink()
    paths, drawn, captions = [], [], []
    for rank, index in enumerate(report.worst(count), 1):
        image, sample = dataset.load(index)
        kinds, missed = report.kinds[index], report.missed[index]
        drawn.append(draw_judged(image, sample, detections[index], kinds, missed, dataset.classes))
        name = "".join(sign if sign.isalnum() or sign in "._- " else "_" for sign in sample.image_id)
        paths.append(save_picture(drawn[-1], folder / f"{rank:02d}-{name}.png"))
        captions.append(f"{sample.image_id}: {int((kinds > 0).sum())} wrong, {int(missed.sum())} missed")
    if drawn:
        save_picture(contact_sheet(drawn, captions), folder.with_name(f"{folder.name}.png"))
    return paths


def draw_judged(
    image: np.ndarray,
    sample: Sample,
    found: Detections,
    kinds: np.ndarray,
    missed: np.ndarray,
    classes: tuple[str, ...],
) -> np.ndarray:
    """Objects dashed, detections in full lines, in the colours of their kinds; only what is wrong has a label.

    Args:
        image: (H, W, 3) uint8 RGB.
        sample: its objects.
        found: its detections.
        kinds: (D,) places in ``zoo.datasets.errors.KINDS``; others are not drawn.
        missed: (G,) bool, objects without a correct detection.
        classes: all class names.

    Returns the picture, (H', W', 3) uint8 RGB, enlarged if it is small.
    """
    counted = np.flatnonzero(kinds != NOT_COUNTED)
    boxes = np.concatenate([sample.boxes, found.boxes[counted]])
    labels = [f"missed {classes[label]}" if lost else "" for label, lost in zip(sample.classes, missed, strict=True)]
    ignored = sample.difficult | sample.crowd
    colors = np.where(missed, _COLOR["missed"], np.where(ignored, _NEUTRAL, _COLOR["correct"])).tolist()
    for index in counted:
        kind = KINDS[kinds[index]]
        text = f"{found.class_names[index]} {found.scores[index]:.0%}: {KIND_WORDS.get(kind, kind)}"
        labels.append("" if kind == "correct" else text)
        colors.append(_COLOR[kind])
    dashed = np.arange(len(boxes)) < len(sample)
    return draw(image, boxes, labels, classes=colors, dashed=dashed, scale="auto")
