"""The ONNX model zoo: AlexNet, CaffeNet and VGG out of Caffe2, VGG and ResNet v1 out of MXNet's Gluon."""

from __future__ import annotations

import re
from collections.abc import Mapping

from zoo.convert.layout import Array, Shapes, same
from zoo.convert.networks import (
    RESNETS,
    VGGS,
    Names,
    Place,
    kernels,
    plain_arrays,
    resnet_arrays,
    resnet_places,
    vgg_index,
)

# Numbers that exporters keep beside the weights: the target shapes of Reshape nodes.
_SHAPES = re.compile(r"OC2_DUMMY_\d+|reshape_attr_tensor\d+")
_GLUON = re.compile(r"((?:resnetv1|vgg)\d+)_(?:conv0|dense0)_weight")


class OnnxCaffe2:
    """``conv1_w_0``, ``conv1_b_0`` ... ``fc8_b_0``: nets that came from Caffe through Caffe2, with Caffe's BGR input.

    AlexNet's and CaffeNet's arrays are the same by name and shape: the file does not tell which of the two it is.
    """

    name = "onnx"
    about = "the ONNX model zoo's AlexNet, CaffeNet or VGG from Caffe2"

    def recognises(self, found: Shapes) -> bool:
        """By Caffe2's suffixes."""
        return "fc6_w_0" in found and ("conv1_w_0" in found or "conv1_1_w_0" in found)

    def model(self, found: Shapes) -> str | None:
        """VGGs by the number of convolutions."""
        return VGGS.get(kernels(found))

    def options(self, model: str, found: Shapes) -> dict[str, object]:
        """Caffe's mean colours, and its local response normalisation."""
        return {"inputs": "caffe"} if "conv1_1_w_0" in found else {"inputs": "bvlc", "lrn": "caffe"}

    def arrays(self, model: str, wanted: Shapes, found: Shapes) -> dict[str, Array]:
        """Kernels (O, I, H, W) with both groups in one, and (O, I); fc6 sees C, H, W."""
        return plain_arrays(wanted, lambda layer: (f"{layer}_w_0", f"{layer}_b_0"), "conv1_w_0" in found)

    def ignored(self, found: Shapes) -> dict[str, str]:
        """The target of a Reshape."""
        return _shapes(found)


class OnnxGluonVGG:
    """``vgg0_conv0_weight`` ... ``vgg0_dense2_bias``, convolutions counted through."""

    name = "onnx"
    about = "the ONNX model zoo's VGG from Gluon"

    def recognises(self, found: Shapes) -> bool:
        """By Gluon's names; those with batch normalisation are another network."""
        prefix = _prefix(found)
        return prefix.startswith("vgg") and f"{prefix}_batchnorm0_gamma" not in found

    def model(self, found: Shapes) -> str | None:
        """Told by the number of convolutions."""
        return VGGS.get(kernels(found))

    def options(self, model: str, found: Shapes) -> dict[str, object]:
        """Gluon's mean and deviation are torchvision's."""
        return {"inputs": "torch"}

    def arrays(self, model: str, wanted: Shapes, found: Shapes) -> dict[str, Array]:
        """Kernels (O, I, H, W) and (O, I); fc6 sees C, H, W."""
        prefix = _prefix(found)
        names = {layer: f"{prefix}_conv{n}" for layer, n in vgg_index(wanted).items()}
        names |= {f"fc{6 + n}": f"{prefix}_dense{n}" for n in range(3)}
        return plain_arrays(wanted, lambda layer: _names(names[layer]))

    def ignored(self, found: Shapes) -> dict[str, str]:
        """The target of a Reshape."""
        return _shapes(found)


class OnnxGluonResNet:
    """``resnetv17_conv0_weight``, ``resnetv17_stage1_conv0_weight`` ...: v1, the stride in a stage's first 1x1.

    Within a stage convolutions are counted through; a projection is counted after its block's own. Of a bottleneck the
    two 1x1 have biases, the 3x3 has none.
    """

    name = "onnx"
    about = "the ONNX model zoo's ResNet v1 from Gluon"

    def recognises(self, found: Shapes) -> bool:
        """By Gluon's names."""
        return _prefix(found).startswith("resnetv1")

    def model(self, found: Shapes) -> str | None:
        """Told by the number of convolutions."""
        return RESNETS.get(kernels(found))

    def options(self, model: str, found: Shapes) -> dict[str, object]:
        """Gluon's mean and deviation are torchvision's, and so are its epsilon and its pool."""
        return {"inputs": "torch", "epsilon": 1e-5, "pool": "padded", "stride_in": "1x1"}

    def arrays(self, model: str, wanted: Shapes, found: Shapes) -> dict[str, Array]:
        """Kernels (O, I, H, W) and (O, I)."""
        prefix = _prefix(found)
        order = _order(wanted)

        def conv(place: Place) -> Names:
            return _names(_gluon(prefix, place, "conv", order))

        def norm(place: Place) -> Mapping[str, Array]:
            base = _gluon(prefix, place, "batchnorm", order)
            ends = {"gamma": "gamma", "beta": "beta", "moving_mean": "running_mean", "moving_variance": "running_var"}
            return {ours: same(f"{base}_{theirs}") for ours, theirs in ends.items()}

        return resnet_arrays(wanted, found, conv, norm, _names(f"{prefix}_dense0"))

    def ignored(self, found: Shapes) -> dict[str, str]:
        """The target of a Reshape."""
        return _shapes(found)


def _shapes(found: Shapes) -> dict[str, str]:
    return {name: "the target of a Reshape node, no weight" for name in found if _SHAPES.fullmatch(name)}


def _prefix(found: Shapes) -> str:
    """What Gluon puts before all names, such as ``resnetv17``; empty for other files."""
    prefixes = {match[1] for match in map(_GLUON.fullmatch, found) if match}
    return prefixes.pop() if len(prefixes) == 1 else ""


def _names(base: str) -> Names:
    return f"{base}_weight", f"{base}_bias"


def _order(wanted: Shapes) -> dict[Place, int]:
    """Number of every convolution within its stage, as Gluon counts them."""
    places = {place for place, _ in resnet_places(wanted).values() if place.stage > 1}
    order: dict[Place, int] = {}
    for stage in {place.stage for place in places}:
        # A projection (index 0) comes last in its block.
        here = sorted((p.block, p.index or 9, p) for p in places if p.stage == stage)
        order |= {place: number for number, (*_, place) in enumerate(here)}
    return order


def _gluon(prefix: str, place: Place, kind: str, order: Mapping[Place, int]) -> str:
    if place.stage == 1:
        return f"{prefix}_{kind}0"
    return f"{prefix}_stage{place.stage - 1}_{kind}{order[place]}"
