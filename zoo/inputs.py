"""What a user may give to ``model.detect``, made into uint8 RGB images one by one."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zoo.datasets.images import ImageError, list_images, natural_key, read_image

_ALLOWED = (
    "give the path of an image, a folder, a pattern such as 'photos/*.jpg', an array (H, W, 3) uint8 "
    "RGB, an array "
    "(B, H, W, 3) of several, or a list of paths and arrays"
)

# A path, or an array-like of one image: what one entry of a list may be.
Source = Any


@dataclass(frozen=True, eq=False)
class Input:
    """One image to look at, or why it cannot be.

    Attributes:
        image: (H, W, 3) uint8 RGB; ``None`` with an ``error``.
        path: the file it came from; ``None`` for an array.
        error: what is wrong, naming the file or the place in the list; ``None`` for a good image.
    """

    image: np.ndarray | None
    path: Path | None = None
    error: str | None = None


def load_inputs(x: Source | Sequence[Source]) -> tuple[list[Input], bool]:
    """All images of ``x``, and whether ``x`` was a single one.

    A single image that cannot be read raises ``ImageError``; in a folder, pattern or list it becomes an
    ``Input`` with ``error`` set, and the others are still read. Many images: use ``list_sources`` and
    ``load_source`` piece by piece.

    Example:
        >>> inputs, single = load_inputs(np.zeros((20, 30, 3), np.uint8))
        >>> inputs[0].image.shape, single
        ((20, 30, 3), True)
    """
    sources, single = list_sources(x)
    if single:
        return [_read(sources[0], "array")], True
    return [load_source(source, index) for index, source in enumerate(sources)], False


def list_sources(x: Source | Sequence[Source]) -> tuple[list[Source], bool]:
    """One entry per image, nothing read yet, and whether ``x`` was a single image.

    Raises:
        ImageError: an empty folder, a pattern without matches; the message names it.
    """
    if isinstance(x, str | Path):
        if Path(x).is_dir():
            return list(list_images(x)), False
        if any(mark in str(x) for mark in "*?[") and not Path(x).exists():
            found = sorted(glob.glob(str(x)), key=natural_key)
            if not found:
                raise ImageError(str(x), "no file matches this pattern")
            return [Path(name) for name in found], False
        return [Path(x)], True
    if isinstance(x, list | tuple):
        if not x:
            raise ImageError("input", f"an empty list; {_ALLOWED}")
        return [source for item in x for source in _expand(item)], False
    if _is_array(x) and np.ndim(x) == 4:
        if not len(x):
            raise ImageError("input", f"an array of shape {tuple(np.shape(x))} holds no image")
        return list(np.asarray(x)), False
    return [x], True


def load_source(source: Source, index: int | None = None) -> Input:
    """Read one entry of ``list_sources``; a bad image does not raise. ``index`` names an array in errors."""
    try:
        return _read(source, "array" if index is None else f"array number {index}")
    except ImageError as error:
        return Input(None, Path(source) if isinstance(source, str | Path) else None, str(error))


def as_image(array: Source, name: str = "array") -> np.ndarray:
    """An array-like or Pillow image as (H, W, 3) uint8 RGB; ``name`` is used in errors.

    Taken as they are: (H, W, 3) RGB, (H, W) and (H, W, 1) gray, (H, W, 4) RGBA (composited on white, as for
    files). Integers and floats must lie in 0..255; floats are rounded. Floats in 0..1 are refused, not
    guessed at: scaling depending on an image's brightest pixel would treat one dark frame of a film unlike
    the others.
    """
    if isinstance(array, Image.Image):
        transparent = "A" in array.getbands() or "transparency" in array.info
        return as_image(np.asarray(array.convert("RGBA" if transparent else "RGB")), name)
    if not _is_array(array):
        raise ImageError(name, f"a {type(array).__name__} is no image; {_ALLOWED}")
    pixels = np.asarray(array)
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4) and pixels.shape[0] in (1, 3, 4):
        raise ImageError(
            name,
            f"shape {pixels.shape} looks like channels first; give (H, W, C), for example x.transpose(1, 2, 0)",
        )
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4)):
        raise ImageError(name, f"shape {pixels.shape}; an image is (H, W, 3), (H, W, 4), (H, W, 1) or (H, W)")
    if 0 in pixels.shape:
        raise ImageError(name, f"shape {pixels.shape} has no pixels")
    pixels = _to_uint8(pixels, name)
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)
    if pixels.shape[2] == 4:
        alpha = pixels[..., 3:].astype(np.float32) / 255
        return np.round(pixels[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return np.ascontiguousarray(pixels)


def _to_uint8(pixels: np.ndarray, name: str) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind not in "uif":
        raise ImageError(name, f"type {pixels.dtype}; give uint8, or numbers in 0..255")
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        count = int((~np.isfinite(pixels)).sum())
        raise ImageError(name, f"{count} of {pixels.size} values are NaN or infinite; give numbers in 0..255")
    low, high = pixels.min(), pixels.max()
    if pixels.dtype.kind == "f" and low >= 0 and 0 < high <= 1:
        raise ImageError(name, f"floats from {low:.3g} to {high:.3g}: pixels are 0..255 here; multiply by 255")
    if low < 0 or high > 255:
        mend = "divide 16-bit values by 257" if pixels.dtype == np.uint16 else "undo any normalisation first"
        raise ImageError(name, f"values from {low:.6g} to {high:.6g}; pixels are 0..255: {mend}")
    return np.round(pixels).astype(np.uint8)


def _is_array(x: object) -> bool:
    return hasattr(x, "__array__") and not isinstance(x, Image.Image)


def _expand(item: Source) -> list[Source]:
    """An entry of a list: a folder stands for its images, everything else for itself."""
    if isinstance(item, str | Path) and Path(item).is_dir():
        return list(list_images(item))
    return [item]


def _read(source: Source, name: str) -> Input:
    if isinstance(source, str | Path):
        return Input(read_image(source), Path(source))
    return Input(as_image(source, name))
