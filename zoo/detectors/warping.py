"""How R-CNN prepares images: crops of boxes, warped to one size (Girshick 2014, appendix A)."""

import keras
import numpy as np
from keras import ops

from zoo.detectors.preprocessing import Preprocessing
from zoo.heads.warped_crops import warped_crops


@keras.saving.register_keras_serializable("zoo")
class Warping(Preprocessing):
    """Colours as the network wants them, and crops of boxes as large as the pictures that it was trained on.

    Args:
        side: of a crop, in pixels.
        context: of these, what surrounds the box on each side.
        at_once: crops that are computed at a time at test.
        mean: three numbers in the order of ``order``, subtracted.
        std: three numbers, divided by.
        order: ``"rgb"`` or ``"bgr"``.
    """

    def __init__(
        self,
        side: int = 224,
        context: int = 16,
        at_once: int = 32,
        mean=(123.68, 116.779, 103.939),
        std=(1.0, 1.0, 1.0),
        order: str = "rgb",
        name: str | None = None,
        dtype=None,
        trainable: bool = True,
    ):
        super().__init__(side, side, mean, std, order, name=name, dtype=dtype, trainable=trainable)
        if not 0 <= 2 * context < side:
            raise ValueError(f"context={context}; give pixels from 0 to below half the crop's {side}")
        if at_once < 1:
            raise ValueError(f"at_once={at_once}; give how many crops are computed at a time, from 1 on")
        self.side, self.context, self.at_once = int(side), int(context), int(at_once)

    def colours(self, images):
        """``(B, H, W, 3)`` float32 of RGB 0-255; the mean colour is 0."""
        images = ops.cast(images, "float32")
        images = images[..., ::-1] if self.order == "bgr" else images
        mean, std = (ops.convert_to_tensor(np.array(each, np.float32)) for each in (self.mean, self.std))
        return (images - mean) / std

    def crops(self, images, rois, image, sizes):
        """Crops ``(N, side, side, 3)`` of boxes; see :func:`zoo.heads.warped_crops.warped_crops`."""
        return warped_crops(images, rois, image, sizes, self.side, self.context)

    def describe(self) -> str:
        """One line for people."""
        return (
            f"{self.order.upper()} 0-255, minus {self.mean}, divided by {self.std}; boxes warped to {self.side} x "
            f"{self.side} pixels, {self.context} of them context, bilinear"
        )

    def get_config(self):
        """Arguments of ``__init__``."""
        config = super().get_config()
        for name in ("short", "long", "rounding"):
            del config[name]
        return {**config, "side": self.side, "context": self.context, "at_once": self.at_once}
