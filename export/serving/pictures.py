"""The pictures in a request: checked first, decoded when there is room for their pixels."""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from zoo.datasets.images import ImageError, image_size, read_image
from zoo.export.serving.bodies import kind, only_numbers
from zoo.export.serving.refused import OtherSize, Refused

_NO_FILES = "the server opens no files and no addresses, send the picture's own bytes"


@dataclass(frozen=True)
class Wanted:
    """What the model takes.

    Attributes:
        dtype: of tensors, ``"uint8"`` or ``"float32"``.
        size: (height, width) of every image; ``None`` for any.
        max_pixels: of one image.
        proposals: how many boxes that others propose it looks at, the first ones; ``None`` where it finds its own.
        max_proposals: of one image.
        proposes: whether the server proposes boxes for images that come without.
    """

    dtype: str
    size: tuple[int, int] | None
    max_pixels: int
    proposals: int | None = None
    max_proposals: int = 0
    proposes: bool = False

    def check(self, height: int, width: int, where: str) -> None:
        """Raise ``Refused`` for an image of that size if it is too large, or not the only size taken."""
        if height * width > self.max_pixels:
            raise too_many_pixels(where, f"{width} x {height} pixels", self.max_pixels)
        if self.size is not None and (height, width) != self.size:
            raise OtherSize(
                400,
                f"{where} is {width} x {height} pixels; this model was exported for {self.size[1]} x {self.size[0]}",
            )


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture of a request.

    Attributes:
        where: what to call it in errors, such as ``instances[0]``.
        size: (height, width), upright.
        source: its file's bytes, or pixels.
        proposals: boxes ``(P, 4)`` that came with it; see :func:`zoo.export.serving.proposals.boxes_of`.
    """

    where: str
    size: tuple[int, int]
    source: bytes | np.ndarray
    proposals: np.ndarray | None = None

    @property
    def pixels(self) -> int:
        """How many there are."""
        return self.size[0] * self.size[1]

    def decode(self) -> np.ndarray:
        """``(H, W, 3)`` RGB, upright as its EXIF block says, as ``model.detect`` reads files.

        Raises:
            Refused: it is damaged behind its header.
        """
        if isinstance(self.source, np.ndarray):
            return self.source
        try:
            return read_image(self.source, self.where)
        except ImageError as error:
            raise Refused(400, str(error)) from error


def too_many_pixels(where: str, found: str, most: int) -> Refused:
    """The answer to a picture of too many pixels."""
    return Refused(413, f"{where}: {found} are more than the {most:,} that this server decodes; scale it down")


def encoded_picture(text: Any, where: str, wanted: Wanted) -> Picture:
    """A picture from the base64 text of its file; only the header is read.

    Raises:
        Refused: it is no base64, no picture, or of a size that is not taken.
    """
    if not isinstance(text, str):
        raise Refused(400, f"{where} is a {kind(text)}; give the picture's bytes as base64 text")
    try:
        # Strict: what is no base64, such as a path, would otherwise be skipped letter by letter.
        data = binascii.a2b_base64("".join(text.split()).encode("ascii"), strict_mode=True)
    except ValueError as error:  # also what is not ASCII
        raise Refused(400, f"{where} is not base64 ({error}); {_NO_FILES} in base64") from error
    try:
        height, width = image_size(data, where)
    except ImageError as error:
        if isinstance(error.__cause__, Image.DecompressionBombError):
            raise too_many_pixels(where, "its header's pixels", wanted.max_pixels) from error
        raise Refused(400, f"{error}; {_NO_FILES} in base64") from error
    wanted.check(height, width, where)
    return Picture(where, (height, width), data)


def pixel_picture(value: Any, where: str, wanted: Wanted) -> Picture:
    """A picture from numbers ``(H, W, 3)``: nested lists or an array.

    Raises:
        Refused: another shape, other numbers than the model takes, or of a size that is not taken.
    """
    array = numbers(value, where, wanted)
    if array.ndim != 3 or array.shape[2] != 3:
        raise Refused(400, f"{where} has shape {list(array.shape)}; an image is [height, width, 3]")
    wanted.check(*array.shape[:2], where)
    return Picture(where, array.shape[:2], array)


def numbers(value: Any, where: str, wanted: Wanted) -> np.ndarray:
    """Nested lists as an array of the type that the model takes, every value from 0 to 255.

    Raises:
        Refused: lists of unequal lengths, something else than numbers, or numbers out of range.
    """
    if isinstance(value, str):
        raise Refused(400, f"{where} is text where numbers belong; {_NO_FILES}")
    whole = wanted.dtype == "uint8"
    words = "whole numbers from 0 to 255 (UINT8)" if whole else "numbers from 0 to 255 (FP32)"
    if not only_numbers(value):
        raise Refused(400, f"{where} holds something else than numbers; images here are {words}, RGB")
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise Refused(400, f"{where}: its lists are not all of one length, so they are no tensor") from error
    if not array.size:
        raise Refused(400, f"{where} has shape {list(array.shape)}, without any pixel; an image is [height, width, 3]")
    if array.dtype.kind not in ("iu" if whole else "iuf"):
        found = "fractions" if array.dtype.kind == "f" else "something else than numbers"
        raise Refused(400, f"{where} holds {found}; images here are {words}, RGB")
    # Written so that NaN fails too.
    if not (array.min() >= 0 and array.max() <= 255):
        raise Refused(400, f"{where} has values from {array.min():g} to {array.max():g}; pixels are 0 to 255")
    return array.astype(wanted.dtype)
