"""Boxes for models that look at proposals of others, as Fast R-CNN: those that artifacts are compared on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from zoo.datasets.proposals_dense import DenseBoxes
from zoo.detectors.detect import ProposalsOf
from zoo.export.errors import ExportError
from zoo.export.samples import SamplePicture

_MOST = 300
# Windows are this part of the short side and more, half of their own side apart: smaller ones, or nearer ones, would
# fall on the same cells of a feature map, have the same score, and leave it to rounding which one suppresses the other.
_SMALLEST, _STEP = 1 / 8, 0.5


def with_proposals(
    pictures: Iterable[SamplePicture], most: int | None, given: ProposalsOf | None = None
) -> list[SamplePicture]:
    """The pictures with the boxes that a model looks at there.

    Args:
        pictures: without.
        most: how many boxes of a picture it looks at; ``None`` for a model that finds its own.
        given: a function from an image ``(H, W, 3)`` uint8 RGB to boxes ``(P, 4)`` in its pixels, best first, or such
            boxes for each picture; by default a sliding window's (:class:`zoo.datasets.proposals_dense.DenseBoxes`).

    Raises:
        ExportError: what is given is no boxes, not as many as pictures, or for a model that finds its own.

    Example:
        >>> (picture,) = with_proposals([SamplePicture("grey", np.full((240, 320, 3), 127, np.uint8))], 2000)
        >>> picture.proposals.shape
        (300, 4)
    """
    pictures = list(pictures)
    if most is None:
        if given is not None:
            raise ExportError("proposals are for models that look at those of others, as Fast R-CNN; leave them out")
        return pictures
    if given is None:
        return [replace(picture, proposals=_dense(picture.pixels, most)) for picture in pictures]
    made: Sequence = [given(picture.pixels) for picture in pictures] if callable(given) else given
    if len(made) != len(pictures):
        raise ExportError(f"proposals has {len(made)} entries for {len(pictures)} pictures; give boxes (P, 4) for each")
    return [
        replace(picture, proposals=_checked(boxes, picture.name)[:most])
        for picture, boxes in zip(pictures, made, strict=True)
    ]


def shown(pixels: np.ndarray, most: int | None, dtype: str) -> dict[str, np.ndarray]:
    """What a model is given to look at ``pixels (H, W, 3)``, by name; see :func:`with_proposals` for ``most``.

    Proposals are as many for every picture, filled up with boxes of no area (:mod:`zoo.export.tflite_int8` tells why).
    """
    (picture,) = with_proposals([SamplePicture("", pixels)], most)
    if most is not None:
        missing = min(most, _MOST) - len(picture.proposals)
        picture = replace(picture, proposals=np.pad(picture.proposals, ((0, missing), (0, 0))))
    return picture.inputs(dtype)


def _dense(pixels: np.ndarray, most: int) -> np.ndarray:
    smallest = max(min(pixels.shape[:2]) * _SMALLEST, 1.0)
    return DenseBoxes(smallest=smallest, step=_STEP, most=min(most, _MOST))(pixels)


def _checked(boxes: object, name: str) -> np.ndarray:
    boxes = np.asarray(boxes, np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes) or not np.isfinite(boxes).all():
        raise ExportError(f"proposals of {name} have shape {boxes.shape}; give finite boxes (P, 4), x1 y1 x2 y2")
    return boxes
