"""What becomes of one picture of one batch: decided from sizes and boxes alone, then done to the pixels."""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from zoo.datasets.augment import Change, apply, scaled_size
from zoo.datasets.crops import Window, cut, cut_boxes
from zoo.datasets.records import Sample

Size = tuple[int, int]


@dataclass(frozen=True)
class Steps:
    """What to do with one picture, in this order.

    Attributes:
        window: the part that is shown, or None for all of it.
        change: scale, flips, turns and colours.
        size: (height, width) of the result, to which it is resized if it is not that large by then.
    """

    window: Window | None
    change: Change
    size: Size


def plan_steps(size: Size, window: Window | None, change: Change, short: int | None, long: int) -> Steps:
    """The steps for a picture of ``size``.

    With ``short``, the change's scale comes on top of the size that `prepared_size` gives, in one resizing.
    """
    height, width = size if window is None else (window[3] - window[1], window[2] - window[0])
    if short is not None:
        height, width = prepared_size(height, width, short, long)
    height, width = scaled_size(height, width, change.scale)
    if short is not None:
        change = replace(change, scale=1.0)
    return Steps(window, change, (width, height) if change.quarter_turns % 2 else (height, width))


def prepared_size(height: int, width: int, short: int, long: int) -> Size:
    """The size at which the short side is ``short``, or the long side ``long`` where it would exceed that.

    Girshick 2015, section 5.2. Sides are rounded to whole pixels, halves up. One side is exactly ``short`` or
    ``long``, so that a model with the same two numbers leaves the picture as it is.

    >>> prepared_size(480, 640, 600, 1000), prepared_size(333, 999, 600, 1000)
    ((600, 800), (333, 1000))
    """
    small, large = min(height, width), max(height, width)
    target, side = (short, small) if short * large <= long * small else (long, large)
    return tuple(max((2 * target * each + side) // (2 * side), 1) for each in (height, width))


def prepare(steps: Steps, image: np.ndarray, sample: Sample, out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take the steps; gives the boxes (K, 4) float32 that are left, and which of the sample's they are: bool (G,).

    Pixels are resized as a model does it (bilinear, centres at halves, no antialiasing), but rounded to whole levels.

    Args:
        steps: what to do.
        image: (H, W, 3) uint8; stays as it is.
        sample: the picture's ground truth.
        out: (*steps.size, 3) uint8, takes the picture; may be a part of a larger array.
    """
    boxes, kept = sample.boxes, np.ones(len(sample), bool)
    if steps.window is not None:
        image = cut(image, steps.window)
        boxes, kept = cut_boxes(boxes, sample.crowd, steps.window)
    image, boxes = apply(steps.change, image, boxes)
    height, width = steps.size
    if image.shape[:2] == steps.size:
        out[:] = image
        return boxes, kept
    # Straight to its place: a new array for each picture costs more than the arithmetic.
    cv2.resize(np.ascontiguousarray(image), (width, height), dst=out, interpolation=cv2.INTER_LINEAR)
    return boxes * np.array([width / image.shape[1], height / image.shape[0]] * 2, np.float32), kept


def prepare_with(
    steps: Steps, image: np.ndarray, sample: Sample, proposals: np.ndarray, out: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`prepare` for a picture with proposals (P, 4), which follow as its boxes do; those left come third.

    Of a picture that is cut, proposals are left whose centre stays inside, clipped and in their order.
    """
    count, more = len(sample), len(proposals)
    together = replace(
        sample,
        boxes=np.concatenate([sample.boxes, proposals]),
        classes=np.zeros(count + more),
        difficult=np.zeros(count + more),
        crowd=np.append(sample.crowd, np.zeros(more, bool)),
        areas=None,
    )
    boxes, kept = prepare(steps, image, together, out)
    own = kept[:count]
    return boxes[: own.sum()], own, boxes[own.sum() :]
