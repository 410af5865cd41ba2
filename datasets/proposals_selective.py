"""Selective search (Uijlings 2013), as OpenCV's contrib module computes it."""

from dataclasses import asdict, dataclass
from typing import Literal

import cv2
import numpy as np

from zoo.datasets.proposals import ProposalError, Scored, clipped, ranked, tidy

_MOST_TALL = 2


@dataclass(frozen=True)
class SelectiveSearch:
    """Boxes around regions that are merged step by step, by colour, texture, size and fill.

    R-CNN and Fast R-CNN scale pictures to a width of 500 before (Girshick 2014, section 2.3), and leave out boxes of
    less than 20 pixels a side there. OpenCV's segmentations are not the original Matlab code's (other scales k), so
    boxes and their number differ.

    OpenCV orders its boxes by the C library's ``rand()``, which ``cv2.setRNGSeed`` does not reach. Here they get an
    order of their own (`zoo.datasets.proposals.ranked`): a picture always gives the same boxes in the same order, in
    any thread.

    Attributes:
        mode: "fast" (2 colour spaces, 3 segmentations, 2 measures) or "quality" (5, 5 and 4: thrice the time, more than
            twice the boxes, and nearer to the number that the papers work with).
        width: pictures are scaled to it, very tall ones to twice this height; None leaves them as they are, which takes
            long for large ones.
        min_side: least side of a box, in pixels of the scaled picture.
        most: boxes kept, or None for all.
        seed: of the order.
        base_k: scale of the finest segmentation (Felzenszwalb 2004, section 3.1), and
        step_k: what it grows by from each to the next.
        sigma: width of the Gaussian before it, in pixels.

    >>> import zoo
    >>> image = zoo.datasets.load("digits:1").image(0)
    >>> SelectiveSearch()(image).dtype
    dtype('float32')
    """

    mode: Literal["fast", "quality"] = "fast"
    width: int | None = 500
    min_side: float = 20.0
    most: int | None = 2000
    seed: int = 0
    base_k: int = 150
    step_k: int = 150
    sigma: float = 0.8

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if self.mode not in ("fast", "quality"):
            raise ValueError(f"mode is 'fast' or 'quality', not {self.mode!r}")
        for name in ("width", "most"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} is at least 1, or None, not {value}")

    @property
    def name(self) -> str:
        """``"selective-fast"`` or ``"selective-quality"``."""
        return f"selective-{self.mode}"

    @property
    def settings(self) -> dict[str, object]:
        """All attributes."""
        return asdict(self)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Boxes (P, 4) float32 in continuous pixels of ``image``, uint8 RGB (H, W, 3)."""
        image = np.ascontiguousarray(image)
        height, width = image.shape[:2]
        seen = image if self.width is None else to_width(image, self.width)
        search = segmentation().createSelectiveSearchSegmentation()
        search.setBaseImage(cv2.cvtColor(seen, cv2.COLOR_RGB2BGR))
        switch = search.switchToSelectiveSearchFast if self.mode == "fast" else search.switchToSelectiveSearchQuality
        switch(self.base_k, self.step_k, self.sigma)
        found = np.asarray(search.process(), np.float64).reshape(-1, 4)
        boxes = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:]], axis=1)
        boxes = boxes[tidy(boxes, self.min_side)]
        boxes = boxes[ranked(boxes, self.seed)][: self.most]
        scale = np.array([width / seen.shape[1], height / seen.shape[0]] * 2)
        return clipped(boxes * scale, (height, width))

    def scored(self, image: np.ndarray) -> Scored:
        """The boxes; there are no scores."""
        return self(image), None


def to_width(image: np.ndarray, width: int) -> np.ndarray:
    """``image`` (H, W, 3) scaled to ``width``, its height in proportion; area-averaged when it shrinks.

    A strip whose height would be more than `_MOST_TALL` times the width is scaled to that height instead: the search
    would take for ever.
    """
    scale = min(width / image.shape[1], _MOST_TALL * width / image.shape[0])
    size = tuple(max(1, round(side * scale)) for side in image.shape[1::-1])
    if size == image.shape[1::-1]:
        return image
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def segmentation() -> object:
    """OpenCV's module for selective search; a `ProposalError` says what to install where it is missing."""
    return contrib().segmentation


def contrib() -> object:
    """OpenCV's ``ximgproc``; a `ProposalError` says what to install where it is missing."""
    if not hasattr(cv2, "ximgproc"):
        raise ProposalError(
            "this OpenCV has no contrib modules, which selective search and EdgeBoxes need. Its packages exclude each "
            "other: `pip uninstall opencv-python opencv-python-headless opencv-contrib-python`, then "
            "`pip install --force-reinstall opencv-contrib-python-headless`"
        )
    return cv2.ximgproc
