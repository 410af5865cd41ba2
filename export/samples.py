"""The pictures on which artifacts and Keras models are compared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.export.errors import ExportError
from zoo.inputs import list_sources, load_source

# Landscape, portrait, and one that is larger than what most networks look at: shrunk and enlarged, both ways round.
SIZES = ((240, 320), (448, 320), (640, 1000))
# More pictures than these show no further ranges of what flows through a network.
_MOST = 100


@dataclass(frozen=True, eq=False)
class SamplePicture:
    """One picture: what to call it, and its pixels ``(H, W, 3)`` uint8.

    For a model that looks at proposals of others also those, ``(P, 4)`` float32 in its pixels.
    """

    name: str
    pixels: np.ndarray
    proposals: np.ndarray | None = None

    @property
    def digest(self) -> str:
        """Tells whether two pictures are the same: a hash of size, pixels and proposals."""
        boxes = b"" if self.proposals is None else self.proposals.tobytes()
        return hashlib.sha256(f"{self.pixels.shape}".encode() + self.pixels.tobytes() + boxes).hexdigest()

    def inputs(self, dtype: str = "uint8") -> dict[str, np.ndarray]:
        """What a model is given, by name, as a batch of one; ``dtype`` is that of the pixels."""
        boxes = {} if self.proposals is None else {"proposals": self.proposals[None]}
        return {"images": self.pixels[None].astype(dtype), **boxes}


def sample_pictures(
    images: Sequence[Any] | Any | None = None, size: tuple[int, int] | None = None
) -> list[SamplePicture]:
    """Three composed scenes of handwritten digits in three sizes, or the ``images`` given.

    Args:
        images: paths, a folder, arrays ``(H, W, 3)`` of RGB 0-255; see :func:`zoo.inputs.load_inputs`.
        size: (height, width) that all have to have; scenes are composed so.

    Raises:
        ImageError: an image cannot be read.
        ExportError: one of several cannot be read, or is not of the fixed ``size``.
    """
    if images is None:
        sizes = [size] * len(SIZES) if size is not None else SIZES
        return [_scene(number, *each) for number, each in enumerate(sizes)]
    return [_picture(number, source, size) for number, source in enumerate(list_sources(images)[0])]


def representative_pictures(
    images: Sequence[Any] | Any | None, size: tuple[int, int] | None = None
) -> Iterator[np.ndarray]:
    """Pictures ``(H, W, 3)`` uint8 that show which numbers flow through a network; at most 100, evenly spaced.

    Args:
        images: as for :func:`sample_pictures`.
        size: (height, width) that all have to have.

    Raises:
        ExportError: there are none, without which 8 bits for all that flows cannot be chosen; or as above.
    """
    if images is None:
        raise ExportError(
            "precision='int8' needs representative pictures, which show what numbers flow through the network: give "
            "representative=FOLDER (`zoo export --representative FOLDER`) with some fifty of the kind that the model "
            "will see; 'dynamic_int8' needs none"
        )
    sources, _ = list_sources(images)
    chosen = np.linspace(0, len(sources) - 1, min(len(sources), _MOST)).round().astype(int)
    return (_picture(number, sources[number], size).pixels for number in chosen.tolist())


def _picture(number: int, source: Any, size: tuple[int, int] | None) -> SamplePicture:
    item = load_source(source, number)
    if item.error is not None:
        raise ExportError(f"{item.error}; artifacts are made and compared with pictures that can be read")
    name = Path(item.path).name if item.path is not None else f"picture {number}"
    if size is not None and item.image.shape[:2] != size:
        height, width = item.image.shape[:2]
        raise ExportError(f"{name} is {height} x {width}, the artifact takes {size[0]} x {size[1]} only")
    return SamplePicture(name, item.image)


def digit_pictures(count: int, size: tuple[int, int] | None = None) -> list[np.ndarray]:
    """Composed scenes of handwritten digits ``(H, W, 3)`` uint8, none of them one of :func:`sample_pictures`.

    Args:
        count: how many.
        size: (height, width) of all; by default they vary.
    """
    return [_pixels("train", number, size) for number in range(count)]


def _scene(number: int, height: int, width: int) -> SamplePicture:
    return SamplePicture(f"digits:{number} {height}x{width}", _pixels("test", number, (height, width)))


def _pixels(split: str, number: int, size: tuple[int, int] | None) -> np.ndarray:
    from zoo.datasets.digits import digit_scenes  # imports scikit-learn

    if size is None:
        return digit_scenes(split, number + 1).image(number)
    height, width = size
    # Scenes have at least 64 pixels a side; networks for smaller pictures get a part of one.
    scenes = digit_scenes(split, number + 1, size=(max(height, 64), max(width, 64)))
    return np.ascontiguousarray(scenes.image(number)[:height, :width])
