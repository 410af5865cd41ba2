"""Pictures of detections that a person likes to look at: anti-aliased boxes and labels that can be read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from zoo.files import save_atomically
from zoo.label_layout import place_labels

# 24 vivid colours, each as far as possible from all before it in OKLab (farthest-point search over sRGB
# with chroma above .10 and lightness .45 to .88); the nearest two are .13 apart. Beyond 24 classes they
# repeat.
# fmt: off
PALETTE = (
    "#1e88e5", "#ff7043", "#43be50", "#ff0087", "#ffd21e", "#7800e1", "#00f0ff", "#a55a00",
    "#e1b4ff", "#00693c", "#f000ff", "#5aff00", "#961e5a", "#1e9687", "#b4962d", "#e1000f",
    "#78b4f0", "#0000ff", "#ff78c3", "#96e196", "#b469b4", "#0f5a96", "#b400b4", "#965aff",
)
# fmt: on

MIN_LONG_SIDE = 640  # pixels; pictures smaller than this are enlarged for drawing with scale="auto"
_ENLARGED_AT_MOST = 16


def class_color(index: int) -> tuple[int, int, int]:
    """RGB of class ``index``; the same in every picture.

    >>> class_color(0)
    (30, 136, 229)
    """
    text = PALETTE[index % len(PALETTE)]
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def draw(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: Sequence[str] | None = None,
    scores: Sequence[float] | np.ndarray | None = None,
    *,
    classes: Sequence[int] | np.ndarray | None = None,
    dashed: Sequence[bool] | np.ndarray | None = None,
    scale: float | Literal["auto"] = 1.0,
) -> np.ndarray:
    """A copy of the image with boxes and labels drawn on it, (H * scale, W * scale, 3) uint8 RGB.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: (D, 4) x1 y1 x2 y2 in pixels of ``image``; may reach outside it.
        labels: D texts, class names as a rule; ``None`` for boxes alone.
        scores: D numbers in 0..1 shown behind the labels as per cent; ``None`` for none (ground truth).
        classes: D class indices that choose the colours; ``None`` for one colour per distinct label.
        dashed: D truth values, boxes to be drawn in dashes (ground truth beside detections); ``None`` for none.
        scale: how much to enlarge before drawing; ``"auto"`` brings the long side to at least 640 pixels.

    Example:
        >>> picture = draw(np.zeros((100, 200, 3), np.uint8), [[20, 30, 120, 90]], ["cat"], [0.97])
        >>> picture.shape
        (100, 200, 3)
    """
    image, boxes = np.asarray(image), np.asarray(boxes, np.float64).reshape(-1, 4)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image has shape {image.shape} and type {image.dtype}; it must be (H, W, 3) uint8")
    for name, given in (("labels", labels), ("scores", scores), ("classes", classes), ("dashed", dashed)):
        if given is not None and len(given) != len(boxes):
            raise ValueError(f"{len(given)} {name} for {len(boxes)} boxes; give one for each, or None")
    factor = _auto_scale(image) if scale == "auto" else float(scale)
    if not factor > 0:
        raise ValueError(f"scale={scale!r}; give a positive number or 'auto'")
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    picture = Image.fromarray(image)
    if (height, width) != image.shape[:2]:
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    canvas = np.asarray(picture).copy()
    boxes = boxes * factor
    usable = np.isfinite(boxes).all(axis=1)
    colors = _colors(labels, classes, len(boxes))
    line = line_width(height, width)
    order = _drawing_order(boxes, scores)
    for index in order:
        if usable[index]:
            _outline(canvas, boxes[index], colors[index], line, dashed is not None and bool(dashed[index]))
    texts = _texts(labels, scores, len(boxes))
    if not any(texts):
        return canvas
    # The most certain detection chooses its label's place first, so it is the last drawn and lies on top.
    first = [index for index in reversed(order) if usable[index] and texts[index]]
    return _draw_labels(canvas, boxes[first], [texts[i] for i in first], [colors[i] for i in first], line)


def line_width(height: int, width: int) -> float:
    """Pixels: 2.3 for a picture of 640x480, growing with the root of its area, never thinner than 1.5."""
    return max(1.5, 2.3 * math.sqrt(height * width / (640 * 480)) ** 0.8)


def save_picture(picture: np.ndarray, path: str | Path) -> Path:
    """Write (H, W, 3) uint8 RGB as PNG, JPEG (quality 92), WebP, BMP or TIFF, by suffix; gives the path."""
    path = Path(path)
    allowed = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
    if path.suffix.lower() not in allowed:
        raise ValueError(f"{path}: pictures are saved as {', '.join(allowed)}; choose one of these suffixes")
    with save_atomically(path) as aside:
        if path.suffix.lower() in (".jpg", ".jpeg"):
            Image.fromarray(picture).save(aside, quality=92, subsampling=0)
        else:
            Image.fromarray(picture).save(aside)
    return path


@lru_cache(maxsize=16)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own scalable font (it needs no file on the machine) in ``size`` pixels."""
    return ImageFont.load_default(size)


def text_color(background: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever has the higher WCAG 2 contrast with ``background``."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in background)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else (255, 255, 255)


def _auto_scale(image: np.ndarray) -> float:
    return min(max(1.0, MIN_LONG_SIDE / max(image.shape[:2])), _ENLARGED_AT_MOST)


def _colors(
    labels: Sequence[str] | None, classes: Sequence[int] | np.ndarray | None, count: int
) -> list[tuple[int, int, int]]:
    if classes is None:
        order = {label: index for index, label in enumerate(sorted(set(labels or ())))}
        classes = [0] * count if labels is None else [order[label] for label in labels]
    return [class_color(int(index)) for index in classes]


def _texts(labels: Sequence[str] | None, scores: Sequence[float] | np.ndarray | None, count: int) -> list[str]:
    names = [""] * count if labels is None else [str(label) for label in labels]
    if scores is None:
        return names
    # Hundredths: short, and not to be taken for a part of a name that is a number itself.
    numbers = [f"{float(score):.0%}" for score in scores]
    return [f"{name} {number}".strip() for name, number in zip(names, numbers, strict=True)]


def _drawing_order(boxes: np.ndarray, scores: Sequence[float] | np.ndarray | None) -> list[int]:
    """Least certain first; large before small where there are no scores."""
    if scores is not None:
        return [int(index) for index in np.argsort(np.asarray(scores, np.float64), kind="stable")]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return [int(index) for index in np.argsort(-area, kind="stable")]


def _outline(canvas: np.ndarray, box: np.ndarray, color: tuple[int, int, int], line: float, dashed: bool) -> None:
    """Blend a rounded rectangle's outline into ``canvas``, with a faint dark rim for light backgrounds."""
    x1, y1, x2, y2 = (float(side) for side in box)
    x1, x2, y1, y2 = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
    radius = min(2.0 * line, (x2 - x1) / 2, (y2 - y1) / 2)
    rim = line / 2 + max(0.8, line / 3)
    reach = math.ceil(rim + radius) + 1
    left, top = math.floor(x1) - reach, math.floor(y1) - reach
    right, bottom = math.ceil(x2) + reach, math.ceil(y2) + reach
    inner_top, inner_bottom = min(top + 2 * reach, bottom), max(bottom - 2 * reach, top)
    inner_top = min(inner_top, inner_bottom) if inner_top > inner_bottom else inner_top
    # Four strips that do not overlap: along the top, the bottom, and the sides between them.
    strips = [
        (left, top, right, inner_top),
        (left, inner_bottom, right, bottom),
        (left, inner_top, min(left + 2 * reach, right), inner_bottom),
        (max(right - 2 * reach, left + 2 * reach), inner_top, right, inner_bottom),
    ]
    for number, strip in enumerate(strips):
        a, b = max(strip[0], 0), max(strip[1], 0)
        c, d = min(strip[2], canvas.shape[1]), min(strip[3], canvas.shape[0])
        if a >= c or b >= d:
            continue
        # Signed distance of every pixel centre to the rounded rectangle's edge; its coverage follows from
        # that.
        qx = np.abs(np.arange(a, c) + 0.5 - (x1 + x2) / 2) - (x2 - x1) / 2 + radius
        qy = np.abs(np.arange(b, d) + 0.5 - (y1 + y2) / 2) - (y2 - y1) / 2 + radius
        outside = np.hypot(np.maximum(qx, 0)[None, :], np.maximum(qy, 0)[:, None])
        distance = np.abs(outside + np.minimum(np.maximum(qx[None, :], qy[:, None]), 0) - radius)
        shown = 1.0
        if dashed:
            along = _dashes(np.arange(a, c) - x1, line) if number < 2 else _dashes(np.arange(b, d) - y1, line)
            shown = along[None, :] if number < 2 else along[:, None]
        region = canvas[b:d, a:c].astype(np.float32)
        for half, paint, opacity in ((rim, (0, 0, 0), 0.35), (line / 2, color, 1.0)):
            cover = (np.clip(half + 0.5 - distance, 0, 1) * opacity * shown)[..., None].astype(np.float32)
            region += cover * (np.array(paint, np.float32) - region)
        canvas[b:d, a:c] = np.round(region).astype(np.uint8)


def _dashes(along: np.ndarray, line: float) -> np.ndarray:
    """How much of each pixel is dash, 0 to 1; dashes are four line widths long and begin at 0, gaps three."""
    dash, period = 4 * line, 7 * line
    return np.clip(dash / 2 + 0.5 - np.abs((along + 0.5 + period / 2 - dash / 2) % period - period / 2), 0, 1)


def _draw_labels(
    canvas: np.ndarray, boxes: np.ndarray, texts: list[str], colors: list[tuple[int, int, int]], line: float
) -> np.ndarray:
    height, width = canvas.shape[:2]
    size = _font_size(height, width, len(texts))
    face = font(size)
    pad_x, pad_y = max(2, round(size * 0.3)), max(1, round(size * 0.14))
    ascent = face.getbbox("Hg")
    text_height = ascent[3] - ascent[1]
    texts = [_shorten(text, face, width - 2 * pad_x) for text in texts]
    sizes = [(math.ceil(face.getlength(text)) + 2 * pad_x, math.ceil(text_height) + 2 * pad_y) for text in texts]
    # Labels hug the visible part of a box that reaches outside the picture.
    visible = np.clip(boxes, 0, np.array([width, height, width, height], float))
    corners = place_labels(visible, sizes, (height, width), gap=round(line / 2))
    picture = Image.fromarray(canvas)
    for index in reversed(range(len(texts))):
        chip = _chip(sizes[index], texts[index], colors[index], face, (pad_x, pad_y - ascent[1]))
        picture.paste(chip, corners[index], chip)
    return np.array(picture)


def _font_size(height: int, width: int, count: int) -> int:
    """Pixels: 15 for a 640x480 picture, growing with it, a little smaller when it is crowded, at least 10."""
    size = 15.0 * math.sqrt(height * width / (640 * 480)) ** 0.8
    crowding = 1.0 if count <= 8 else max(0.75, (8 / count) ** 0.2)
    return max(10, round(size * crowding))


def _shorten(text: str, face: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: int) -> str:
    """The text, cut with an ellipsis if it is wider than the picture."""
    if face.getlength(text) <= room:
        return text
    while len(text) > 1 and face.getlength(text + "…") > room:
        text = text[:-1]
    return text + "…"


def _chip(
    size: tuple[int, int],
    text: str,
    color: tuple[int, int, int],
    face: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    offset: tuple[int, int],
) -> Image.Image:
    """A rounded label as RGBA; drawn four times as large and reduced, which smooths its corners."""
    mask = Image.new("L", (size[0] * 4, size[1] * 4))
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, size[0] * 4 - 1, size[1] * 4 - 1), radius=size[1], fill=235)
    chip = Image.new("RGBA", size, color)
    chip.putalpha(mask.resize(size, Image.Resampling.BOX))
    layer = Image.new("RGBA", size, (*text_color(color), 0))
    ImageDraw.Draw(layer).text(offset, text, font=face, fill=(*text_color(color), 255))
    return Image.alpha_composite(chip, layer)
