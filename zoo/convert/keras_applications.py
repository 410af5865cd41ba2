"""keras.applications: VGG-16/19 and ResNet-50/101/152, whose kernels lie as ours do."""

from __future__ import annotations

import re

import numpy as np

from zoo.convert.layout import Array, Shapes, same
from zoo.convert.networks import RESNETS, VGGS, kernels, resnet_places

_CONV = re.compile(r"conv(\d)_(\d)")
_TOP = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}


class KerasVGG:
    """``block1_conv1/kernel`` ... ``fc1``, ``fc2``, ``predictions``; images BGR minus VGG's mean colour."""

    name = "keras_applications"
    about = "keras.applications' VGG"

    def recognises(self, found: Shapes) -> bool:
        """By the first and the last convolution."""
        return {"block1_conv1/kernel", "block5_conv3/kernel"} <= found.keys()

    def model(self, found: Shapes) -> str | None:
        """Told by the number of convolutions."""
        return VGGS.get(kernels(found))

    def options(self, model: str, found: Shapes) -> dict[str, object]:
        """Caffe's convention, from whose release the weights are."""
        return {"inputs": "caffe"}

    def arrays(self, model: str, wanted: Shapes, found: Shapes) -> dict[str, Array]:
        """Other names, same arrays."""
        return {name: same(_vgg_name(name)) for name in wanted if _vgg_name(name)}

    def ignored(self, found: Shapes) -> dict[str, str]:
        """None."""
        return {}

    def extras(self, wanted: Shapes) -> dict[str, np.ndarray]:
        """None."""
        return {}


class KerasResNet:
    """The very names that our ResNets have; images BGR minus VGG's mean colour, the stride in the first 1x1.

    The published files were saved when the last layer was called ``probs`` (keras-applications at 1838a367). Keras
    loads them by the layers' order, so that it never noticed that today's models call it ``predictions``.
    """

    name = "keras_applications"
    about = "keras.applications' ResNet"

    def recognises(self, found: Shapes) -> bool:
        """By the first block's arrays; version 2, which normalises before it convolves, has no ``conv1_bn``."""
        return {"conv1_conv/kernel", "conv1_bn/gamma", "conv2_block1_1_conv/kernel"} <= found.keys()

    def model(self, found: Shapes) -> str | None:
        """Told by the number of convolutions."""
        return RESNETS.get(kernels(found))

    def options(self, model: str, found: Shapes) -> dict[str, object]:
        """What keras.applications builds."""
        return {"inputs": "caffe", "epsilon": 1.001e-5, "pool": "padded", "stride_in": "1x1"}

    def arrays(self, model: str, wanted: Shapes, found: Shapes) -> dict[str, Array]:
        """Same names, same arrays, but for the last layer's former name."""
        top = "probs" if "probs/kernel" in found else "predictions"
        last = {f"predictions/{role}": same(f"{top}/{role}") for role in ("kernel", "bias")}
        places = resnet_places(wanted)
        return {name: last.get(name) or same(name) for name in wanted if name in places or name in last}

    def ignored(self, found: Shapes) -> dict[str, str]:
        """None."""
        return {}

    def extras(self, wanted: Shapes) -> dict[str, np.ndarray]:
        """None."""
        return {}


def _vgg_name(name: str) -> str | None:
    layer, _, role = name.rpartition("/")
    conv = _CONV.fullmatch(layer)
    theirs = f"block{conv[1]}_conv{conv[2]}" if conv else _TOP.get(layer)
    return f"{theirs}/{role}" if theirs else None
