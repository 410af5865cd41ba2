"""The worst cases of an examined data set, drawn."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from zoo.datasets.doctor_boxes import TINY
from zoo.datasets.findings import Finding
from zoo.datasets.images import ImageError, read_image
from zoo.drawing import draw
from zoo.sheets import contact_sheet

if TYPE_CHECKING:
    from zoo.datasets.doctor import Examination

_PER_KIND = 3
_POOREST = 4  # boxes that no anchor covers well
_ON_SHEET = 24
_AROUND = 2.0  # a small box is shown with so many times its size around it
_LEAST_VIEW = 110  # pixels
_RIM = 4  # pixels that stay around a box at the border, for its line
_POINT = 12  # pixels around a box without area, which could not be seen
_BEYOND = 0.5  # share of the picture's side that is added to show a box outside it
_TITLES = {
    "zero-area": "no area",
    "swapped": "swapped corners",
    "outside": "outside",
    "clipped": "reaches beyond",
    "duplicate-box": "twice",
    "two-classes": "two classes",
    "tiny-box": "tiny",
    "wrong-size": "other size than annotated",
    "turned": "turned by EXIF",
    "mislabelled": "wrong suffix",
    "no-annotation": "no annotation",
    "no-boxes": "no objects",
    "leak": "in two splits",
    "near-leak": "nearly the same, in two splits",
    "twin": "twice",
    "similar-classes": "rare spelling of a class",
}


def worst_cases(examination: Examination) -> np.ndarray | None:
    """A contact sheet, (H, W, 3) uint8: some pictures of every kind of finding that can be drawn, the worst kinds
    first, then the boxes that the chosen anchors cover least. None where there is nothing to draw.
    """
    places = {
        (part.split, part.data.sample(index).image_id): (part.data, index)
        for part in examination.parts
        for index in range(len(part.data))
    }
    pictures, captions = [], []
    shown: Counter[str] = Counter()
    for finding in examination.findings:
        if shown[finding.kind] >= _PER_KIND or len(pictures) >= _ON_SHEET - _POOREST or finding.kind not in _TITLES:
            continue
        try:
            picture = _draw(finding, places)
        except (ImageError, OSError):
            continue  # it has a finding of its own
        if picture is not None:
            shown[finding.kind] += 1
            pictures.append(picture)
            captions.append(f"{_TITLES[finding.kind]}: {_called(finding, places)}")
    for picture, caption in _poorest(examination):
        pictures.append(picture)
        captions.append(caption)
    return contact_sheet(pictures, captions, columns=min(4, len(pictures))) if pictures else None


def _called(finding: Finding, places: dict[tuple[str, str], tuple]) -> str:
    found = places.get((finding.split, finding.image_id))
    if found is None:
        return finding.image_id or finding.file.name
    sample = found[0].sample(found[1])
    return sample.image_id if sample.path is None else sample.path.name


def _draw(finding: Finding, places: dict[tuple[str, str], tuple]) -> np.ndarray | None:
    found = places.get((finding.split, finding.image_id))
    if found is None:
        return read_image(finding.file) if finding.kind == "no-annotation" else None
    data, index = found
    if finding.kind == "wrong-size":
        return read_image(finding.file)  # as boxes of another picture would mean nothing, the data set refuses it
    image = data.image(index)
    if finding.other is not None:
        other = places.get(finding.other)
        return image if other is None else _together(image, other[0].image(other[1]))
    if not finding.boxes:
        return image
    return _with_boxes(image, np.array(finding.boxes), _TITLES[finding.kind])


def _with_boxes(image: np.ndarray, boxes: np.ndarray, title: str) -> np.ndarray:
    """The part of the picture around some boxes, with these drawn; gray where they reach beyond it."""
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    flat = (high - low).min(axis=1) <= 1
    low, high = low - _POINT * flat[:, None], high + _POINT * flat[:, None]
    height, width = image.shape[:2]
    side = np.array([width, height])
    low = np.clip(low, -_BEYOND * side, (1 + _BEYOND) * side)
    high = np.clip(high, -_BEYOND * side, (1 + _BEYOND) * side)
    # The view: around all boxes, and within the picture as far as these do not reach beyond it.
    first, last = low.min(axis=0), high.max(axis=0)
    margin = np.maximum((last - first).max() * _AROUND, _LEAST_VIEW) / 2
    start = np.floor(np.minimum(np.maximum(first - margin, 0), first - _RIM)).astype(int)
    end = np.ceil(np.maximum(np.minimum(last + margin, side), last + _RIM)).astype(int)
    view = np.full((end[1] - start[1], end[0] - start[0], 3), 128, np.uint8)
    a, b = np.clip(start, 0, side), np.clip(end, 0, side)
    if (b > a).all():
        view[a[1] - start[1] : b[1] - start[1], a[0] - start[0] : b[0] - start[0]] = image[a[1] : b[1], a[0] : b[0]]
    shifted = np.concatenate([low, high], axis=1) - np.tile(start, 2)
    return draw(view, shifted, [title] + [""] * (len(boxes) - 1), classes=[3] * len(boxes), scale="auto")


def _together(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Two pictures, wide ones one above the other, tall ones side by side."""
    if a.shape[1] < a.shape[0]:
        return _together(a.swapaxes(0, 1), b.swapaxes(0, 1)).swapaxes(0, 1)
    page = np.full((a.shape[0] + b.shape[0] + 8, max(a.shape[1], b.shape[1]), 3), 255, np.uint8)
    page[: a.shape[0], : a.shape[1]] = a
    page[a.shape[0] + 8 :, : b.shape[1]] = b
    return page


def _poorest(examination: Examination) -> list[tuple[np.ndarray, str]]:
    """The boxes with the lowest IoU with any anchor, one a picture."""
    boxes, found, used = examination.boxes, [], set()
    for at in np.argsort(examination.best, kind="stable"):
        place = (int(boxes.part[at]), int(boxes.index[at]))
        if len(found) >= _POOREST or examination.best[at] >= 0.5:
            break
        if place in used or np.diff(boxes.boxes[at].reshape(2, 2), axis=0).min() < TINY:
            continue  # tiny ones have findings of their own
        used.add(place)
        data = examination.parts[place[0]].data
        try:
            image = data.image(place[1])
        except (ImageError, OSError):
            continue
        name = data.classes[boxes.classes[at]]
        picture = _with_boxes(image, boxes.boxes[at : at + 1], f"{name}, IoU {examination.best[at]:.2f}")
        sample = data.sample(place[1])
        found.append((picture, f"poorly covered: {sample.path.name if sample.path else sample.image_id}"))
    return found
