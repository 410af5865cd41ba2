"""Several pictures on one sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from zoo.drawing import font


def contact_sheet(
    pictures: Sequence[np.ndarray],
    captions: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    cell: int = 420,
    gap: int = 12,
) -> np.ndarray:
    """Pictures in rows on white, (H, W, 3) uint8 RGB; each fitted into a cell, its caption below it.

    Args:
        pictures: (H, W, 3) uint8 RGB arrays of any sizes; at least one.
        captions: one text per picture, cut to the cell's width; ``None`` for none.
        columns: pictures in a row; ``None`` for about as many as rows.
        cell: width and greatest height of a picture on the sheet, in pixels.
        gap: white space between cells and at the border, in pixels.

    Example:
        >>> contact_sheet([np.zeros((60, 80, 3), np.uint8)] * 3, columns=2, cell=100, gap=10).shape
        (180, 230, 3)
    """
    if not pictures:
        raise ValueError("a contact sheet needs at least one picture")
    if captions is not None and len(captions) != len(pictures):
        raise ValueError(f"{len(captions)} captions for {len(pictures)} pictures; give one for each, or None")
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    fitted = [_fit(picture, cell) for picture in pictures]
    size = max(12, cell // 28)
    text_height = round(size * 1.6) if captions else 0
    rows = [fitted[start : start + columns] for start in range(0, len(fitted), columns)]
    heights = [max(picture.height for picture in row) + text_height for row in rows]
    page = Image.new("RGB", (columns * (cell + gap) + gap, sum(heights) + gap * (len(rows) + 1)), "white")
    write = ImageDraw.Draw(page)
    for index, picture in enumerate(fitted):
        row, column = divmod(index, columns)
        left = gap + column * (cell + gap) + (cell - picture.width) // 2
        top = gap * (row + 1) + sum(heights[:row])
        page.paste(picture, (left, top))
        if captions:
            text = captions[index]
            while len(text) > 1 and font(size).getlength(text) > cell:
                text = text[:-2] + "…"
            write.text((left, top + picture.height + size // 4), text, font=font(size), fill=(60, 60, 60))
    return np.asarray(page)


def _fit(picture: np.ndarray, cell: int) -> Image.Image:
    """The picture scaled so that its longer side fills the cell."""
    image = Image.fromarray(picture)
    factor = cell / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.LANCZOS)
