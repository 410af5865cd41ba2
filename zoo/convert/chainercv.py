"""ChainerCV's classifiers: VGG-16 and the ResNets, converted by its authors from Caffe, and 'fb' ResNets."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from zoo.convert.layout import Array, Shapes, same
from zoo.convert.networks import RESNETS, VGGS, Names, Place, kernels, plain_arrays, resnet_arrays

# Chainer counts the batches that a normalisation has seen; only training uses it.
_COUNTER = re.compile(r".*/bn/N")


class ChainerVGG:
    """``conv1_1/conv/W`` ... ``fc8/b``; images RGB minus VGG's mean colour (ChainerCV 0.13, ``links/model/vgg``)."""

    name = "chainercv"
    about = "ChainerCV's VGG-16 classifier"

    def recognises(self, found: Shapes) -> bool:
        """By ``conv1_1/conv/W`` at the root."""
        return {"conv1_1/conv/W", "fc8/W"} <= found.keys()

    def model(self, found: Shapes) -> str | None:
        """Told by the number of convolutions."""
        return VGGS.get(kernels(found))

    def options(self, model: str, found: Shapes) -> dict[str, object]:
        """RGB; VGG's pools cover their whole input in both libraries."""
        return {"inputs": "chainer_imagenet"}

    def arrays(self, model: str, wanted: Shapes, found: Shapes) -> dict[str, Array]:
        """Kernels (O, I, H, W) and (O, I); fc6 sees C, H, W."""
        return plain_arrays(wanted, _vgg_names)

    def ignored(self, found: Shapes) -> dict[str, str]:
        """None."""
        return {}

    def extras(self, wanted: Shapes) -> dict[str, np.ndarray]:
        """Arrays that the file has besides, when it is written: none."""
        return {}


class ChainerResNet:
    """``conv1/conv/W``, ``res2/a/conv1/bn/gamma`` ... ``fc6/b`` (ChainerCV 0.13, ``links/model/resnet``).

    Both of its kinds, 'he' with the stride in the first 1x1 and 'fb' with it in the 3x3, have the same arrays; 'he' is
    taken unless the option ``stride_in="3x3"`` says otherwise. The published 'he' weights come from He's Caffe release.
    """

    name = "chainercv"
    about = "ChainerCV's ResNet classifiers"

    def recognises(self, found: Shapes) -> bool:
        """By the names of the first block's arrays."""
        return {"conv1/conv/W", "res2/a/conv1/conv/W", "fc6/W"} <= found.keys()

    def model(self, found: Shapes) -> str | None:
        """Told by the number of convolutions."""
        return RESNETS.get(kernels(found))

    def options(self, model: str, found: Shapes) -> dict[str, object]:
        """Chainer's epsilon, its covering pool, and the mean colour of He's release."""
        return {"inputs": "chainer_resnet", "epsilon": 2e-5, "pool": "covering", "stride_in": "1x1"}

    def arrays(self, model: str, wanted: Shapes, found: Shapes) -> dict[str, Array]:
        """No convolution has a bias, but for the first of the converted ResNet-50."""
        if not found and model == "resnet50":
            found = {"conv1/conv/b": wanted["conv1_conv/bias"]}  # writing: ChainerCV's ResNet50 'he' asks for it
        return resnet_arrays(wanted, found, _conv_names, _norm, ("fc6/W", "fc6/b"))

    def ignored(self, found: Shapes) -> dict[str, str]:
        """The counters of the normalisations."""
        return {name: "a count of batches, used in training only" for name in found if _COUNTER.fullmatch(name)}

    def extras(self, wanted: Shapes) -> dict[str, np.ndarray]:
        """Those counters: Chainer refuses files without them."""
        names = resnet_arrays(wanted, {}, _conv_names, _norm, ("fc6/W", "fc6/b")).values()
        norms = sorted(
            {array.names[0].rpartition("/")[0] for array in names if array.names and "/bn/" in array.names[0]}
        )
        return {f"{norm}/N": np.zeros((), np.int64) for norm in norms}


def _vgg_names(layer: str) -> Names:
    return (f"{layer}/conv/W", f"{layer}/conv/b") if layer.startswith("conv") else (f"{layer}/W", f"{layer}/b")


def _base(place: Place) -> str:
    """ChainerCV's name of a convolution with its normalisation: blocks are ``a``, ``b1``, ``b2``, ..."""
    if place.stage == 1:
        return "conv1"
    block = "a" if place.block == 1 else f"b{place.block - 1}"
    return f"res{place.stage}/{block}/" + (f"conv{place.index}" if place.index else "residual_conv")


def _conv_names(place: Place) -> Names:
    return f"{_base(place)}/conv/W", f"{_base(place)}/conv/b"


def _norm(place: Place) -> Mapping[str, Array]:
    roles = {"gamma": "gamma", "beta": "beta", "moving_mean": "avg_mean", "moving_variance": "avg_var"}
    return {ours: same(f"{_base(place)}/bn/{theirs}") for ours, theirs in roles.items()}
