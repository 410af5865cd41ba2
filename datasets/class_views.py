"""What a classifier looks at when it is tested: crops of a picture."""

from dataclasses import dataclass

import cv2
import numpy as np


def resize_short(image: np.ndarray, short: int) -> np.ndarray:
    """``image`` (H, W, 3) scaled so that its short side is ``short``; area-averaged when it shrinks."""
    height, width = image.shape[:2]
    if min(height, width) == short:
        return image
    scale = short / min(height, width)
    size = (max(round(width * scale), short), max(round(height * scale), short))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


@dataclass(frozen=True)
class CentreCrop:
    """The middle of a picture: one view.

    Attributes:
        size: side of the crop, in pixels.
        short: the picture is first scaled to this short side; ``None`` for ``size * 256 / 224``, and no scaling for
            pictures of ``size`` x ``size`` (Krizhevsky 2012, section 2: 256 and 224).
    """

    size: int = 224
    short: int | None = None

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """``(1, size, size, 3)`` uint8 of ``image`` (H, W, 3)."""
        if self.short is None and image.shape[:2] == (self.size, self.size):
            return image[None]
        image = resize_short(image, round(self.size * 256 / 224) if self.short is None else self.short)
        top, left = (image.shape[0] - self.size) // 2, (image.shape[1] - self.size) // 2
        if top < 0:
            raise ValueError(f"short={self.short} is less than the crop's size {self.size}")
        return image[None, top : top + self.size, left : left + self.size]
