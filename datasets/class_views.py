"""What a classifier looks at when it is tested: crops of a picture, or all of it at several scales."""

from dataclasses import dataclass

import cv2
import numpy as np


def resize_short(image: np.ndarray, short: int) -> np.ndarray:
    """``image`` (H, W, 3) scaled so that its short side is ``short``.

    Area-averaged when it shrinks; bilinear when it grows, in OpenCV's exact fixed point, which an exported classifier
    computes too (the usual one is now and then a level off).
    """
    height, width = image.shape[:2]
    if min(height, width) == short:
        return image
    scale = short / min(height, width)
    size = (max(round(width * scale), short), max(round(height * scale), short))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR_EXACT)


def centre_crop(image: np.ndarray, size: int) -> np.ndarray:
    """The middle ``size x size`` of ``image`` (H, W, 3), which is at least as large."""
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


# Sides of crops that short sides are given for: the papers', and that of Caffe's AlexNets, which take 227 from the
# same 256.
NOMINAL = (224, 227)


def usual_short(size: int) -> int:
    """The short side that crops of ``size`` are taken from: 256 for 224 (Krizhevsky 2012, section 2) and for 227.

    >>> usual_short(224), usual_short(227), usual_short(32)
    (256, 256, 37)
    """
    return 256 if size in NOMINAL else round(size * 256 / NOMINAL[0])


def _short(size: int, short: int | None) -> int:
    short = usual_short(size) if short is None else short
    if short < size:
        raise ValueError(f"short={short} is less than the crop's size {size}")
    return short


@dataclass(frozen=True)
class CentreCrop:
    """The middle of a picture: one view.

    Attributes:
        size: side of the crop, in pixels.
        short: the picture is first scaled to this short side; ``None`` for `usual_short`, and no scaling for pictures
            of ``size`` x ``size``.
    """

    size: int = 224
    short: int | None = None

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """``(1, size, size, 3)`` uint8 of ``image`` (H, W, 3)."""
        if self.short is None and image.shape[:2] == (self.size, self.size):
            return image[None]
        return centre_crop(resize_short(image, _short(self.size, self.short)), self.size)[None]


@dataclass(frozen=True)
class TenCrop:
    """Corners and middle of a picture, and the same mirrored: ten views (Krizhevsky 2012, section 4.1).

    As there, the corners are those of the middle ``short x short`` (256 x 256), not of the whole picture.

    Attributes:
        size: side of the crops, in pixels.
        short: the picture is first scaled to this short side; ``None`` for `usual_short`.
    """

    size: int = 224
    short: int | None = None

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """``(10, size, size, 3)`` uint8 of ``image`` (H, W, 3): four corners row by row, the middle, all mirrored."""
        short = _short(self.size, self.short)
        image = centre_crop(resize_short(image, short), short)
        last = short - self.size
        places = [(0, 0), (0, last), (last, 0), (last, last), (last // 2, last // 2)]
        crops = np.stack([image[top : top + self.size, left : left + self.size] for top, left in places])
        return np.concatenate([crops, crops[:, :, ::-1]])


@dataclass(frozen=True)
class Shifts:
    """A picture as large as the network's input, moved a little to all sides, and the same mirrored: 18 views.

    For small pictures, which hold no larger crops than themselves. What comes into view is filled as He 2016 fills it
    in training (section 4.2); there, a test looks at the picture alone.

    Attributes:
        size: side of the views, in pixels.
        by: pixels that it is moved by; each of left, not at all and right goes with each of up, not at all and down.
        fill: colour of what comes into view, RGB.
        short: the picture is first scaled to this short side, as for `CentreCrop`, and its middle taken.
    """

    size: int = 32
    by: int = 1
    fill: tuple[int, int, int] = (0, 0, 0)
    short: int | None = None

    def __post_init__(self) -> None:
        """Refuse what moves nothing, or everything, out of view."""
        if not 1 <= self.by < self.size:
            raise ValueError(f"by={self.by}: give 1 to {self.size - 1} pixels")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """``(18, size, size, 3)`` uint8 of ``image`` (H, W, 3): nine places row by row, then the same mirrored."""
        middle = CentreCrop(self.size, self.short)(image)[0]
        canvas = cv2.copyMakeBorder(middle, *[self.by] * 4, cv2.BORDER_CONSTANT, value=self.fill)
        starts = (2 * self.by, self.by, 0)  # a window further right shows the picture further left
        views = np.stack([canvas[y : y + self.size, x : x + self.size] for y in starts for x in starts])
        return np.concatenate([views, views[:, :, ::-1]])


@dataclass(frozen=True)
class WholePictures:
    """All of a picture at several scales, for networks that take any size.

    Attributes:
        scales: short sides, in pixels (Q of Simonyan 2015, section 3.2).
        mirror: each scale mirrored too.
    """

    scales: tuple[int, ...]
    mirror: bool = True

    def __post_init__(self) -> None:
        """Refuse what is no scale."""
        if not self.scales or min(self.scales) < 1:
            raise ValueError(f"scales={self.scales}: give short sides in pixels, for example (256, 384, 512)")

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        """For each scale ``(1 or 2, H, W, 3)`` uint8."""
        scaled = [resize_short(image, scale) for scale in self.scales]
        return [np.stack([each, each[:, ::-1]] if self.mirror else [each]) for each in scaled]
