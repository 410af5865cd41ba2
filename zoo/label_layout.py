"""Where labels go: each near its box, inside the picture, and off the other labels if that can be had."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Costs of a label that lies wholly on another one, wholly on other boxes' outlines, that had to be pushed
# into the picture by its own height, and that is one step down the list of preferred places. Hiding a label
# is far worse than a less usual place.
_ON_LABEL, _ON_OUTLINE, _PUSHED, _STEP = 20.0, 0.6, 0.5, 0.05


def place_labels(
    boxes: np.ndarray, sizes: Sequence[tuple[int, int]], image_size: tuple[int, int], gap: int
) -> list[tuple[int, int]]:
    """Top left corner (x, y) in pixels of every label, in the order of the boxes; the first choose first.

    Args:
        boxes: (D, 4) x1 y1 x2 y2 in pixels.
        sizes: (width, height) of each label in pixels.
        image_size: (height, width) of the picture.
        gap: distance in pixels between a box and a label outside it: half the line width.

    Example:
        >>> place_labels(np.array([[10.0, 40, 60, 80]]), [(30, 12)], (100, 100), 0)
        [(10, 28)]
    """
    placed = np.zeros((0, 4))
    corners: list[tuple[int, int]] = []
    for index, (box, size) in enumerate(zip(boxes, sizes, strict=True)):
        wanted = _candidates(box, size, gap)
        limit = np.array([max(image_size[1] - size[0], 0), max(image_size[0] - size[1], 0)])
        candidates = np.clip(np.round(wanted), 0, limit).astype(int)
        pushed = np.abs(wanted - candidates).sum(1) / size[1]
        frames = np.concatenate([candidates, candidates + np.array([*size])], axis=1).astype(float)
        others = np.delete(boxes, index, axis=0)
        area = float(size[0] * size[1])
        cost = (
            _ON_LABEL * _intersections(frames, placed).sum(1) / area
            + _ON_OUTLINE * _outline_overlap(frames, others, max(gap, 1)) / area
            + _PUSHED * np.minimum(pushed, 2.0)
            + _STEP * np.arange(len(frames))
        )
        best = int(cost.argmin())
        placed = np.concatenate([placed, frames[best : best + 1]])
        corners.append((int(candidates[best, 0]), int(candidates[best, 1])))
    return corners


def _candidates(box: np.ndarray, size: tuple[int, int], gap: int) -> np.ndarray:
    """(N, 2) corners to choose from, the preferred first; some may lie outside the picture."""
    x1, y1, x2, y2 = (float(side) for side in box)
    width, height = size
    above, below = y1 - height - gap, y2 + gap
    inside_top, inside_bottom = y1 + gap, y2 - height - gap
    middle = (x1 + x2 - width) / 2
    left, right = x1 - gap, x2 - width + gap
    places = [
        (left, above),
        (left, inside_top),
        (right, above),
        (left, below),
        (right, inside_top),
        (right, below),
    ]
    places += [
        (middle, above),
        (middle, below),
        (left, inside_bottom),
        (right, inside_bottom),
        (middle, inside_top),
    ]
    places += [
        (x2 + gap, y1),
        (x1 - width - gap, y1),
        (middle, (y1 + y2 - height) / 2),
        (middle, inside_bottom),
    ]
    return np.array(places)


def _intersections(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N, M) areas in square pixels that boxes (N, 4) and (M, 4) share."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    return np.clip(high - low, 0, None).prod(2)


def _outline_overlap(frames: np.ndarray, boxes: np.ndarray, width: int) -> np.ndarray:
    """(N,) square pixels of each frame that lie on the outlines of the boxes (M, 4)."""
    if not len(boxes):
        return np.zeros(len(frames))
    outer = boxes + np.array([-width, -width, width, width])
    inner = boxes + np.array([width, width, -width, -width])
    return (_intersections(frames, outer) - _intersections(frames, inner)).sum(1)
