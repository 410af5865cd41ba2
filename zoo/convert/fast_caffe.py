"""The Caffe models of Fast R-CNN's release: CaffeNet, VGG_CNN_M_1024 and VGG-16 ('S', 'M' and 'L')."""

from __future__ import annotations

import numpy as np

from zoo.convert.layout import Array, Shape, Shapes, dense, same
from zoo.convert.networks import Names, plain_arrays

_PARTS = {"fc6/0", "fc7/0", "cls_score/0", "bbox_pred/0"}
# Shapes of the first convolution, and of the third: ZF's first is VGG_CNN_M_1024's.
_FIRST = {(96, 3, 11, 11): "fast_rcnn_caffenet", (96, 3, 7, 7): "fast_rcnn_vgg_m"}
_THIRD = {"fast_rcnn_caffenet": 384, "fast_rcnn_vgg_m": 512}


class CaffeFastRCNN:
    """``conv1/0``, ``conv1/1`` ... ``fc7/1``, ``cls_score/0``, ``bbox_pred/1``: as py-faster-rcnn, without an RPN.

    The released ``bbox_pred`` gives deltas as they are applied: the means and deviations of each class, by which
    training normalised its targets, were put into it when it was saved. Ours are 0 and 1 then. To train on, measure
    those of the data with ``new=False``: the model's ``measure_targets`` takes them out of the layer again.
    """

    name = "caffe"
    about = "Fast R-CNN's Caffe model of CaffeNet, VGG_CNN_M_1024 or VGG-16"

    def recognises(self, found: Shapes) -> bool:
        """By the box head's layers where there is no RPN."""
        rpn = any(name.startswith("rpn_") for name in found)
        return found.keys() >= _PARTS and not rpn and self.model(found) is not None

    def model(self, found: Shapes) -> str | None:
        """VGG-16 by its names, the others by the shapes of their convolutions."""
        if "conv1_1/0" in found:
            return "fast_rcnn_vgg16" if "conv5_4/0" not in found and "conv3_3/0" in found else None
        model = _FIRST.get(tuple(found.get("conv1/0", ())))
        return model if model and found.get("conv3/0", ())[:1] == (_THIRD[model],) else None

    def options(self, model: str, found: Shapes) -> dict[str, object]:
        """PIXEL_MEANS, OpenCV's resizing by a factor, the release's boxes and padding."""
        own: dict[str, object] = {"inputs": "py", "rounding": "factor", "convention": "fast-rcnn"}
        if model != "fast_rcnn_vgg16":
            own["padding"] = "caffe"
        if model == "fast_rcnn_caffenet":
            own["lrn"] = "caffe"
        if {"fc6/0", "fc7/0"} <= found.keys():
            widths = found["fc6/0"][0], found["fc7/0"][0]
            own["head_units"] = widths if model == "fast_rcnn_vgg_m" else widths[0]
        return own

    def arrays(self, model: str, wanted: Shapes, found: Shapes) -> dict[str, Array]:
        """Kernels (O, I, H, W), both groups of CaffeNet's in one, and (O, I); fc6 sees C, H, W."""
        backbone = {name: shape for name, shape in wanted.items() if name.startswith(("conv", "fc"))}
        return {
            **plain_arrays(backbone, _names, grouped=model == "fast_rcnn_caffenet"),
            "head/score/kernel": dense("cls_score/0"),
            "head/score/bias": same("cls_score/1"),
            "head/loc/kernel": dense("bbox_pred/0"),
            "head/loc/bias": same("bbox_pred/1"),
            **{name: _constant(wanted, name, value) for name, value in _CONSTANTS.items()},
        }

    def ignored(self, found: Shapes) -> dict[str, str]:
        """None."""
        return {}


# The step counter that seeds our sampling starts anew.
_CONSTANTS = {"box_means": np.float32(0), "box_deviations": np.float32(1), "sampling_step": np.int32(0)}


def _constant(wanted: Shapes, name: str, value: np.generic) -> Array:
    shape: Shape = tuple(wanted.get(name, ()))
    return Array((), lambda: np.full(shape, value))


def _names(layer: str) -> Names:
    return f"{layer}/0", f"{layer}/1"
