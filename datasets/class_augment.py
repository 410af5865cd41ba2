"""How the papers changed the photographs that their classifiers were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np

from zoo.datasets.class_records import ClassificationDataset
from zoo.datasets.class_views import NOMINAL, centre_crop, resize_short

_DECIMALS = 6  # by which components are compared; a picture has levels of 1/255
_DEVIATION = 0.1  # of the colour noise, in units of the principal components' variances
# Networks that see more pixels than this are for photographs, not for thumbnails as CIFAR's.
LARGEST_THUMBNAIL = 64


@dataclass(frozen=True)
class ColourComponents:
    """Principal components of the colours of a data set's pixels, RGB of 0-1 (Krizhevsky 2012, section 4.1).

    Attributes:
        variances: (3,) eigenvalues of the covariance matrix, the largest first.
        directions: (3, 3), the eigenvector of each in a row.
    """

    variances: tuple[float, ...]
    directions: tuple[tuple[float, ...], ...]

    def __repr__(self) -> str:
        """Rounded: a resumed training compares it, and another processor finds other last digits.

        It shows variances times directions, which is what is added: a direction without variance may be any.
        """
        noise = np.asarray(self.variances)[:, None] * np.asarray(self.directions)
        shown = ", ".join(str(tuple(row)) for row in (noise.round(_DECIMALS) + 0.0).tolist())  # + 0.0: no -0.0
        return f"{type(self).__name__}({shown})"

    def shift(self, alpha: np.ndarray) -> np.ndarray:
        """What is added to every pixel of a picture, (3,) in levels of 0-255: the sum of alpha x variance x direction.

        The eigenvalues are multiplied with as they are, as the paper prints it, not with their square roots.
        """
        return 255.0 * (np.asarray(alpha) * self.variances) @ np.asarray(self.directions)


def colour_components(dataset: ClassificationDataset, pictures: int = 1000, pixels: int = 1000) -> ColourComponents:
    """Principal components of the colours in ``dataset``.

    Args:
        dataset: training data; ``pictures`` of them, spread evenly over it, are read.
        pictures: at most so many; the same ones each time, and a training that is resumed finds the same noise.
        pixels: about so many of each picture, spread evenly over it; every picture counts alike.
    """
    if not len(dataset):
        raise ValueError(f"{dataset.name}: the data set is empty")
    mean, square = np.zeros(3), np.zeros((3, 3))
    chosen = np.linspace(0, len(dataset) - 1, min(pictures, len(dataset))).round().astype(int)
    for index in chosen:
        colours = dataset.image(index).reshape(-1, 3)
        colours = colours[:: max(1, len(colours) // pixels)] / 255.0
        mean += colours.mean(axis=0) / len(chosen)
        square += colours.T @ colours / len(colours) / len(chosen)
    variances, vectors = np.linalg.eigh(square - np.outer(mean, mean))
    directions = vectors.T[::-1]
    # An eigenvector's sign is open: the largest part is made positive, of equal ones the first.
    largest = np.abs(directions).round(_DECIMALS).argmax(axis=1)
    directions = directions * np.sign(directions[np.arange(3), largest])[:, None]
    return ColourComponents(
        tuple(np.maximum(variances[::-1], 0.0).tolist()), tuple(tuple(row) for row in directions.tolist())
    )


@dataclass(frozen=True)
class ScaleCrop:
    """A random crop of a photograph scaled to a fixed or a random short side, mirrored half of the time.

    Attributes:
        size: side of the crop, in pixels.
        short: least and greatest short side, both possible; each whole number between them is as likely.
        centre: take crops from the middle ``short x short`` of the picture only, as Krizhevsky 2012 does.
        flip: mirror left to right, half of the time.
        colours: add colour noise along these components, its strengths drawn from a Gaussian of deviation .1 once a
            picture (Krizhevsky 2012, section 4.1); ``None`` for none. The result is rounded and limited to 0-255.
    """

    size: int = 224
    short: tuple[int, int] = (256, 480)
    centre: bool = False
    flip: bool = True
    colours: ColourComponents | None = None

    def __post_init__(self) -> None:
        """Refuse short sides that a crop does not fit into."""
        low, high = self.short
        if not self.size <= low <= high:
            raise ValueError(f"short={low} to {high}: give two numbers, at least the crop's side {self.size}, in order")

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A changed copy, (size, size, 3) uint8, of ``image`` (H, W, 3)."""
        # All is drawn each time, so that the crops do not depend on what else is wanted.
        short = int(rng.integers(self.short[0], self.short[1] + 1))
        where, mirror, alpha = rng.random(2), rng.random() < 0.5, rng.normal(0.0, _DEVIATION, 3)
        image = resize_short(image, short)
        if self.centre:
            image = centre_crop(image, short)
        top, left = (int(share * (side - self.size + 1)) for share, side in zip(where, image.shape[:2], strict=True))
        crop = image[top : top + self.size, left : left + self.size]
        if mirror and self.flip:
            crop = crop[:, ::-1]
        return np.ascontiguousarray(crop) if self.colours is None else shift_colours(crop, self.colours.shift(alpha))


def shift_colours(image: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """``image`` (H, W, 3) uint8 with ``shift`` (3,) added to each pixel, rounded and limited to 0-255."""
    table = np.clip(np.rint(np.arange(256.0)[:, None] + shift), 0, 255).astype(np.uint8)
    return cv2.LUT(np.ascontiguousarray(image), table[None])


@dataclass(frozen=True)
class PhotoAugmentation:
    """A paper's way, for crops of 224 (or Caffe's 227) pixels.

    Attributes:
        short: least and greatest short side.
        centre: see `ScaleCrop`.
        colours: whether there is colour noise.
        source: where the paper says so.
    """

    short: tuple[int, int]
    centre: bool
    colours: bool
    source: str


PHOTO_AUGMENTATIONS: Mapping[str, PhotoAugmentation] = MappingProxyType(
    {
        "alexnet": PhotoAugmentation(
            (256, 256), True, True, "Krizhevsky 2012, sections 2 and 4.1: crops of the middle 256 x 256, colour noise"
        ),
        "vgg": PhotoAugmentation(
            (256, 256), False, True, "Simonyan 2015, section 3.1: S = 256; also 384, and 256 to 512 at random"
        ),
        "resnet": PhotoAugmentation((256, 480), False, True, "He 2016, section 3.4"),
        "scale-crop": PhotoAugmentation((256, 480), False, False, "He 2016, section 3.4, without colour noise"),
    }
)


def photo_augmentation(
    name: str,
    size: int,
    dataset: ClassificationDataset,
    *,
    flip: bool = True,
    short: tuple[int, int] | None = None,
) -> ScaleCrop:
    """The augmentation called ``name`` for a network that sees ``size`` pixels.

    Args:
        name: ``"alexnet"``, ``"vgg"``, ``"resnet"`` or ``"scale-crop"``.
        size: side of the crops. For other sizes than 224 and 227 the short sides change in proportion.
        dataset: training data, whose colours are looked at if there is colour noise.
        flip: mirror half of the pictures.
        short: other short sides than the paper's first, for example ``(256, 512)`` for VGG.

    >>> photo_augmentation("scale-crop", 224, dataset).short              # doctest: +SKIP
    (256, 480)
    """
    if name not in PHOTO_AUGMENTATIONS:
        raise ValueError(f"unknown augmentation {name!r}; there are {', '.join(PHOTO_AUGMENTATIONS)}")
    plan = PHOTO_AUGMENTATIONS[name]
    if short is None:
        share = 1.0 if size in NOMINAL else size / NOMINAL[0]
        short = (round(plan.short[0] * share), round(plan.short[1] * share))
    colours = colour_components(dataset) if plan.colours else None
    return ScaleCrop(size, short, plan.centre, flip, colours)
