"""Published Faster R-CNNs: ChainerCV's (VGG-16), and py-faster-rcnn's Caffe models (VGG-16, VGG_CNN_M_1024).

The networks are ours; what differs is the order of arrays and of channels, and the conventions under which the weights
were trained: those come as builder options.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from zoo.convert.layout import Array, Shape, Shapes, convolution, dense, same
from zoo.convert.networks import Names, plain_arrays
from zoo.detectors.deltas import DELTA_DEVIATIONS

_Change = Callable[[np.ndarray], np.ndarray]
# Both references measure the least size of proposals in the original's pixels, let all cells propose, and have the
# paper's anchors. (Options of the model: an entry that holds them needs nothing else to be built as its release was.)
_BOTH = {
    "min_size_in": "original",
    "edge_cells": True,
    "anchor_sizes": (128, 256, 512),
    "anchor_ratios": (0.5, 1, 2),
}


class ChainerFasterRCNN:
    """``extractor/conv1_1/conv/W`` ... ``rpn/loc/b``, ``head/fc6/W`` ... (ChainerCV 0.13, ``links/model/faster_rcnn``).

    Channel ``anchor * 2 + {background, foreground}`` of the RPN's scores and class 0 for the background are ours too;
    deltas lie as (dy, dx, dh, dw), and change places here. ChainerCV gives all detections above .05; ours stop at
    ``max_detections``, 100 as in py-faster-rcnn.
    """

    name = "chainercv"
    about = "ChainerCV's Faster R-CNN on VGG-16"

    def recognises(self, found: Shapes) -> bool:
        """By the first convolution under ``extractor`` and the RPN's deltas."""
        return {"extractor/conv1_1/conv/W", "rpn/loc/W", "head/cls_loc/W"} <= found.keys()

    def model(self, found: Shapes) -> str | None:
        """There is only one."""
        return "faster_rcnn_vgg16"

    def options(self, model: str, found: Shapes) -> dict[str, object]:
        """Its mean colour, sizes truncated, proposals ranked by the raw logit."""
        own = {"inputs": "chainer", "rounding": "floor", "convention": "continuous", "rank_by": "logit"}
        return {**own, **_BOTH, **_widths(found, rpn_channels="rpn/conv1/W", head_units="head/fc6/W")}

    def arrays(self, model: str, wanted: Shapes, found: Shapes) -> dict[str, Array]:
        """Kernels (O, I, H, W) and (O, I); fc6 sees C, H, W."""
        return {
            **plain_arrays(_backbone(wanted), _chainer_names),
            "rpn/conv/kernel": convolution("rpn/conv1/W"),
            "rpn/conv/bias": same("rpn/conv1/b"),
            "rpn/score/kernel": convolution("rpn/score/W"),
            "rpn/score/bias": same("rpn/score/b"),
            "rpn/loc/kernel": _rearranged(convolution("rpn/loc/W"), _swap_axes, _swap_axes),
            "rpn/loc/bias": _rearranged(same("rpn/loc/b"), _swap_axes, _swap_axes),
            "head/score/kernel": dense("head/score/W"),
            "head/score/bias": same("head/score/b"),
            "head/loc/kernel": _rearranged(dense("head/cls_loc/W"), _swap_axes, _swap_axes),
            "head/loc/bias": _rearranged(same("head/cls_loc/b"), _swap_axes, _swap_axes),
            **_COUNTER,
        }

    def ignored(self, found: Shapes) -> dict[str, str]:
        """None."""
        return {}

    def extras(self, wanted: Shapes) -> dict[str, np.ndarray]:
        """Arrays that the file has besides, when it is written: none."""
        return {}


class CaffeFasterRCNN:
    """``conv1_1/0`` ... ``rpn_conv/3x3/0``, ``rpn_cls_score/0``, ``fc6/0``, ``cls_score/0``, ``bbox_pred/1``.

    The RPN's score channel is ``{background, foreground} * anchors + anchor``. The released ``bbox_pred`` gives deltas
    as they are applied: the deviations (and means) that training divided by were multiplied into it when it was
    saved. Ours multiplies by :data:`zoo.detectors.deltas.DELTA_DEVIATIONS` afterwards, and is divided by them here.
    """

    name = "caffe"
    about = "py-faster-rcnn's Caffe model of VGG-16 or VGG_CNN_M_1024"

    def recognises(self, found: Shapes) -> bool:
        """By the RPN's scores and the box head's; the third network of the release, ZF, is not among ours."""
        parts = {"rpn_cls_score/0", "rpn_bbox_pred/0", "cls_score/0", "bbox_pred/0"}
        return parts <= found.keys() and self.model(found) is not None

    def model(self, found: Shapes) -> str | None:
        """VGG-16 by its names; VGG_CNN_M_1024, unlike ZF, has 512 channels in conv3."""
        if "conv1_1/0" in found:
            return "faster_rcnn_vgg16" if "conv5_4/0" not in found else None
        of_chatfield = found.get("conv1/0") == (96, 3, 7, 7) and found.get("conv3/0", ())[:1] == (512,)
        return "faster_rcnn_vgg_cnn_m_1024" if of_chatfield else None

    def options(self, model: str, found: Shapes) -> dict[str, object]:
        """PIXEL_MEANS, OpenCV's resizing by a factor, inclusive boxes."""
        own = {"inputs": "py", "rounding": "factor", "convention": "caffe", "rank_by": "softmax"}
        own |= {**_BOTH, **_widths(found, rpn_channels="rpn_conv/3x3/0", head_units="fc6/0")}
        if model == "faster_rcnn_vgg_cnn_m_1024":
            own["padding"] = "caffe"
            if "head_units" in own and "fc7/0" in found:
                own["head_units"] = (found["fc6/0"][0], found["fc7/0"][0])
        return own

    def arrays(self, model: str, wanted: Shapes, found: Shapes) -> dict[str, Array]:
        """Kernels (O, I, H, W) and (O, I); fc6 sees C, H, W."""
        return {
            **plain_arrays(_backbone(wanted), _caffe_names),
            "rpn/conv/kernel": convolution("rpn_conv/3x3/0"),
            "rpn/conv/bias": same("rpn_conv/3x3/1"),
            "rpn/score/kernel": _rearranged(convolution("rpn_cls_score/0"), _anchors_first, _classes_first),
            "rpn/score/bias": _rearranged(same("rpn_cls_score/1"), _anchors_first, _classes_first),
            "rpn/loc/kernel": convolution("rpn_bbox_pred/0"),
            "rpn/loc/bias": same("rpn_bbox_pred/1"),
            "head/score/kernel": dense("cls_score/0"),
            "head/score/bias": same("cls_score/1"),
            "head/loc/kernel": _rearranged(dense("bbox_pred/0"), _normalised, _applied),
            "head/loc/bias": _rearranged(same("bbox_pred/1"), _normalised, _applied),
            **_COUNTER,
        }

    def ignored(self, found: Shapes) -> dict[str, str]:
        """None."""
        return {}


# The step counter that seeds our sampling starts anew.
_COUNTER = {"sampling_step": Array((), lambda: np.zeros((), np.int32))}


def _backbone(wanted: Shapes) -> dict[str, Shape]:
    """The variables that a classifier has too: convolutions, fc6 and fc7."""
    return {name: shape for name, shape in wanted.items() if name.startswith(("conv", "fc"))}


def _chainer_names(layer: str) -> Names:
    if layer.startswith("conv"):
        return f"extractor/{layer}/conv/W", f"extractor/{layer}/conv/b"
    return f"head/{layer}/W", f"head/{layer}/b"


def _caffe_names(layer: str) -> Names:
    return f"{layer}/0", f"{layer}/1"


def _widths(found: Shapes, **options: str) -> dict[str, int]:
    """Options that are the number of outputs of a layer; without those layers that the file lacks."""
    return {option: found[name][0] for option, name in options.items() if found.get(name)}


def _rearranged(array: Array, load: _Change, save: _Change) -> Array:
    """``array`` with the file's outputs, its first axis, rearranged before loading and after saving."""
    return Array(array.names, lambda w: array.load(load(w)), lambda k: save(array.save(k)))


def _swap_axes(w: np.ndarray) -> np.ndarray:
    """Outputs 4 i + (dy, dx, dh, dw) to 4 i + (dx, dy, dw, dh), or back."""
    return w.reshape(-1, 2, 2, *w.shape[1:])[:, :, ::-1].reshape(w.shape)


def _anchors_first(w: np.ndarray) -> np.ndarray:
    """Outputs class * anchors + anchor to anchor * 2 + class."""
    return w.reshape(2, -1, *w.shape[1:]).swapaxes(0, 1).reshape(w.shape)


def _classes_first(w: np.ndarray) -> np.ndarray:
    """The inverse of :func:`_anchors_first`."""
    return w.reshape(-1, 2, *w.shape[1:]).swapaxes(0, 1).reshape(w.shape)


def _scale(w: np.ndarray) -> np.ndarray:
    """The deviation of every output, along the first axis."""
    deviations = np.asarray(DELTA_DEVIATIONS, np.float32)
    return np.tile(deviations, w.shape[0] // 4).reshape(-1, *[1] * (w.ndim - 1))


def _normalised(w: np.ndarray) -> np.ndarray:
    return w / _scale(w)


def _applied(w: np.ndarray) -> np.ndarray:
    return w * _scale(w)
