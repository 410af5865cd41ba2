"""Random zooming out and cropping with boxes (Liu 2016, "SSD", sections 2.2 and 3.6), as arithmetic on windows.

A *window* ``(x1, y1, x2, y2)`` is the part of the plane that a changed picture shows, in whole pixels of the picture
as it was read. It may reach beyond the picture: that is zooming out. Both changes, one after the other, are one
window, so that the pixels are copied once.

Why this is not left to a library: Keras' preprocessing layers were tried. ``keras.layers.RandomCrop`` of 3.15
subtracts the vertical shift from x and the horizontal one from y, does not clip boxes at the right and bottom, and
crops to one fixed size; none of its layers constrains a crop by overlap or drops a box; their random state is a
counter, so that a batch cannot be repeated from (seed, epoch, step) alone; they want TensorFlow, floats, and boxes
without `difficult` or `crowd`. ``tf.image.stateless_sample_distorted_bounding_box`` is repeatable and draws crops by
the covered share of an object, but moves no boxes, has no zooming out, and needs TensorFlow as well.
"""

import numpy as np

Window = tuple[int, int, int, int]

# Least IoU of a crop with some object; None keeps the whole picture, 0 asks for nothing (Liu 2016, section 2.2).
OVERLAPS = (None, 0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
TRIES = 50
# Mean colour of ImageNet: a model that subtracts it sees nothing there, as in its own padding.
FILL = (124, 117, 104)


def draw_window(
    rng: np.random.Generator,
    size: tuple[int, int],
    boxes: np.ndarray,
    expand: float = 1.0,
    crop: float = 1.0,
) -> Window | None:
    """A random window, or None for the whole picture.

    Half of the pictures are zoomed out: placed anywhere on a canvas whose sides are larger by a factor from 1 to
    ``expand``. Of that, a part is cut out whose sides are at least ``crop`` of the canvas's, its aspect ratio
    between half and twice the canvas's, and whose IoU with some object is at least one of `OVERLAPS`, drawn anew
    for each picture. Where there are objects, the centre of one at least stays inside. Wide pictures stay wide and
    tall ones tall, so that batches of either need little padding. If none of `TRIES` parts will do, nothing is cut.

    Args:
        rng: used up by the same amount whatever the boxes are.
        size: (height, width) of the picture.
        boxes: (G, 4) of single objects, crowds left out.
        expand: largest factor, 1 for no zooming out; 4 in the paper.
        crop: smallest share of a side, 1 for no cropping; .3 in the paper's code.

    >>> draw_window(np.random.default_rng(0), (60, 80), np.zeros((0, 4)), expand=4.0)
    """
    height, width = size
    window = (0, 0, width, height)
    out, factor, left, top = rng.random(4)
    if expand > 1 and out < 0.5:
        factor = 1 + (expand - 1) * factor
        canvas = round(height * factor), round(width * factor)
        x, y = round(left * (canvas[1] - width)), round(top * (canvas[0] - height))
        window = (-x, -y, canvas[1] - x, canvas[0] - y)
    overlap = OVERLAPS[rng.integers(len(OVERLAPS))]
    draws = rng.random((TRIES, 4))
    if crop < 1 and overlap is not None:
        parts = _parts(draws, window, crop)
        good = (parts[:, 2] - parts[:, 0] >= parts[:, 3] - parts[:, 1]) == (width >= height)
        if len(boxes):
            inside = _centres_inside(boxes, parts)
            good &= inside.any(axis=1) & (_iou(parts, boxes).max(axis=1) >= overlap)
        if good.any():
            window = tuple(int(side) for side in parts[good.argmax()])
    return None if window == (0, 0, width, height) else window


def cut(image: np.ndarray, window: Window) -> np.ndarray:
    """What the window shows of ``image`` (H, W, 3) uint8; `FILL` where it reaches beyond. May be a view."""
    x1, y1, x2, y2 = window
    height, width = image.shape[:2]
    if x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height:
        return image[y1:y2, x1:x2]
    shown = np.empty((y2 - y1, x2 - x1, 3), np.uint8)
    shown[:] = FILL
    left, top, right, bottom = max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)
    if left < right and top < bottom:
        shown[top - y1 : bottom - y1, left - x1 : right - x1] = image[top:bottom, left:right]
    return shown


def cut_boxes(boxes: np.ndarray, crowd: np.ndarray, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (K, 4) float32 as seen in the window, and which of the G given ones they are: bool (G,).

    A box stays if its centre is inside (Liu 2016, section 2.2), which leaves at least a quarter of it, and is
    clipped. A crowd, which is no single object, stays as long as a pixel of it does.

    Args:
        boxes: (G, 4) in pixels of the picture.
        crowd: (G,) bool.
        window: see the module.
    """
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    x1, y1, x2, y2 = window
    clipped = np.clip(boxes, (x1, y1, x1, y1), (x2, y2, x2, y2))
    seen = (clipped[:, 2:] - clipped[:, :2] >= 1).all(axis=1)
    kept = np.where(crowd, seen, _centres_inside(boxes, np.array([window]))[0])
    return (clipped - np.array([x1, y1, x1, y1], np.float32))[kept].astype(np.float32), kept


def _parts(draws: np.ndarray, window: Window, crop: float) -> np.ndarray:
    """Windows (N, 4) inside ``window`` from N x 4 numbers in [0, 1)."""
    height, width = window[3] - window[1], window[2] - window[0]
    share = crop + (1 - crop) * draws[:, 0]
    # The aspect ratio changes by this factor; its range keeps both sides within the window's.
    low, high = np.maximum(0.5, share**2), np.minimum(2.0, share**-2)
    aspect = np.sqrt(low + (high - low) * draws[:, 1])
    sides = np.stack([width * share * aspect, height * share / aspect], axis=1)
    sides = np.clip(np.round(sides), 1, (width, height))
    corner = np.round(draws[:, 2:] * ((width, height) - sides)) + window[:2]
    return np.concatenate([corner, corner + sides], axis=1).astype(np.int64)


def _centres_inside(boxes: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Whether the centre of each of G boxes is inside each of N windows: bool (N, G)."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((centres >= windows[:, None, :2]) & (centres < windows[:, None, 2:])).all(axis=2)


def _iou(windows: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """IoU of N windows with G boxes, (N, G)."""
    windows = windows[:, None].astype(np.float64)
    sides = np.minimum(windows[..., 2:], boxes[:, 2:]) - np.maximum(windows[..., :2], boxes[:, :2])
    common = np.clip(sides, 0, None).prod(axis=2)
    areas = [(each[..., 2:] - each[..., :2]).prod(axis=-1) for each in (windows, boxes)]
    return common / (areas[0] + areas[1] - common)
