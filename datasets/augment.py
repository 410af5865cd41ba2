"""The random changes of a training picture, decided beforehand and applied to picture and boxes together."""

from dataclasses import dataclass

import cv2
import numpy as np

_TURNS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}


@dataclass(frozen=True)
class Change:
    """What to do with one picture; applied in this order.

    Attributes:
        scale: factor on height and width.
        mirror: left and right swapped.
        upside_down: top and bottom swapped.
        quarter_turns: turns by 90 degrees against the clock, 0 to 3.
        contrast: factor on the distance from mid-gray.
        brightness: added, in gray levels.
    """

    scale: float = 1.0
    mirror: bool = False
    upside_down: bool = False
    quarter_turns: int = 0
    contrast: float = 1.0
    brightness: float = 0.0


def apply(change: Change, image: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Picture (H, W, 3) uint8 and boxes (G, 4) float32, both changed; the arguments stay as they are.

    >>> apply(Change(mirror=True), np.zeros((4, 10, 3), np.uint8), np.array([[1, 0, 3, 2]], np.float32))[1]
    array([[7., 0., 9., 2.]], dtype=float32)
    """
    boxes = np.array(boxes, np.float32)
    if change.scale != 1.0:
        image, boxes = _scaled(image, boxes, change.scale)
    height, width = image.shape[:2]
    if change.mirror:
        image = cv2.flip(np.ascontiguousarray(image), 1)
        boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)
    if change.upside_down:
        image = cv2.flip(np.ascontiguousarray(image), 0)
        boxes = np.stack([boxes[:, 0], height - boxes[:, 3], boxes[:, 2], height - boxes[:, 1]], axis=1)
    turns = change.quarter_turns % 4
    if turns:
        image = cv2.rotate(np.ascontiguousarray(image), _TURNS[turns])
    for _ in range(turns):
        # One turn moves the point (x, y) to (y, W - x).
        boxes = np.stack([boxes[:, 1], width - boxes[:, 2], boxes[:, 3], width - boxes[:, 0]], axis=1)
        height, width = width, height
    if change.contrast != 1.0 or change.brightness:
        levels = (np.arange(256) - 128.0) * change.contrast + 128.0 + change.brightness
        image = cv2.LUT(np.ascontiguousarray(image), np.clip(np.round(levels), 0, 255).astype(np.uint8))
    return image, boxes


def scaled_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Whole height and width nearest to ``scale`` times the given ones, at least 1."""
    return max(1, round(height * scale)), max(1, round(width * scale))


def _scaled(image: np.ndarray, boxes: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    height, width = image.shape[:2]
    new_h, new_w = scaled_size(height, width, scale)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image = cv2.resize(np.ascontiguousarray(image), (new_w, new_h), interpolation=method)
    # The true factors, not the wished one: sizes are whole pixels.
    factors = np.array([new_w / width, new_h / height] * 2, np.float32)
    return image.reshape(new_h, new_w, 3), boxes * factors
