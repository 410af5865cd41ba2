"""Caffe's classifiers: AlexNet, CaffeNet, VGG_CNN_M_1024, VGG of its authors, and ResNet of He's release."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from zoo.convert.layout import Array, Shapes, same
from zoo.convert.networks import RESNETS, VGGS, Names, Place, kernels, plain_arrays, resnet_arrays


class CaffePlain:
    """``conv1/0``, ``conv1/1`` ... ``fc8/1``: kernel and bias of AlexNet, CaffeNet, VGG_CNN_M_1024 and VGG.

    AlexNet's and CaffeNet's arrays are the same by name and shape: the file does not tell which of the two it is.
    """

    name = "caffe"
    about = "a Caffe model of AlexNet, CaffeNet, VGG_CNN_M_1024 or VGG"

    def recognises(self, found: Shapes) -> bool:
        """By the first and the last layer."""
        return "fc8/0" in found and ("conv1/0" in found or "conv1_1/0" in found)

    def model(self, found: Shapes) -> str | None:
        """VGGs by the number of convolutions, VGG_CNN_M_1024 by the 7 x 7 of its first and the width of fc7."""
        if "conv1_1/0" in found:
            return VGGS.get(kernels(found))
        of_chatfield = tuple(found["conv1/0"])[2:] == (7, 7) and tuple(found.get("fc7/0", ()))[:1] == (1024,)
        return "vgg_cnn_m_1024" if of_chatfield else None

    def options(self, model: str, found: Shapes) -> dict[str, object]:
        """Mean colours of the releases; AlexNet and CaffeNet normalise responses as Caffe does."""
        grouped = _grouped(found)
        return {"inputs": "bvlc", "lrn": "caffe"} if grouped else {"inputs": "caffe"}

    def arrays(self, model: str, wanted: Shapes, found: Shapes) -> dict[str, Array]:
        """Kernels (O, I, H, W) with both groups in one, and (O, I); fc6 sees C, H, W."""
        return plain_arrays(wanted, _names, _grouped(found))

    def ignored(self, found: Shapes) -> dict[str, str]:
        """None."""
        return {}


class CaffeResNet:
    """``conv1/0``, ``bn_conv1/0``, ``scale_conv1/0``, ``res2a_branch2a/0`` ... ``fc1000/1`` of He's release.

    A BatchNorm layer holds sums of mean and variance and the factor that they are to be divided by; gamma and beta are
    in a Scale layer. Blocks are lettered (``res4f``), or numbered where there are many (``res4b22``).
    """

    name = "caffe"
    about = "He's Caffe release of ResNet"

    def recognises(self, found: Shapes) -> bool:
        """By the first block's layers."""
        return {"conv1/0", "bn_conv1/0", "scale_conv1/0", "res2a_branch2a/0", "fc1000/0"} <= found.keys()

    def model(self, found: Shapes) -> str | None:
        """Told by the number of convolutions."""
        return RESNETS.get(kernels(found))

    def options(self, model: str, found: Shapes) -> dict[str, object]:
        """Caffe's epsilon and covering pool, and the mean colour of the release."""
        return {"inputs": "caffe_resnet", "epsilon": 1e-5, "pool": "covering", "stride_in": "1x1"}

    def arrays(self, model: str, wanted: Shapes, found: Shapes) -> dict[str, Array]:
        """Kernels (O, I, H, W) and (O, I); only ResNet-50's first convolution has a bias."""

        def conv(place: Place) -> Names:
            return _names("conv1" if place.stage == 1 else "res" + _branch(place, found))

        def norm(place: Place) -> Mapping[str, Array]:
            end = "_conv1" if place.stage == 1 else _branch(place, found)
            return {
                "gamma": same(f"scale{end}/0"),
                "beta": same(f"scale{end}/1"),
                "moving_mean": Array((f"bn{end}/0", f"bn{end}/2"), _divide),
                "moving_variance": Array((f"bn{end}/1", f"bn{end}/2"), _divide),
            }

        return resnet_arrays(wanted, found, conv, norm, _names("fc1000"))

    def ignored(self, found: Shapes) -> dict[str, str]:
        """None."""
        return {}


def _names(layer: str) -> Names:
    return f"{layer}/0", f"{layer}/1"


def _grouped(found: Shapes) -> bool:
    """Whether conv2 has two groups: its inputs are then half of conv1's outputs."""
    return "conv2/0" in found and 2 * found["conv2/0"][1] == found["conv1/0"][0]


def _branch(place: Place, found: Shapes) -> str:
    """``2a_branch2a``: stage, block and convolution as He's release names them."""
    numbered = f"res{place.stage}b1_branch2a/0" in found
    letter = chr(ord("a") + place.block - 1)
    block = letter if place.block == 1 or not numbered else f"b{place.block - 1}"
    branch = f"branch2{chr(ord('a') + place.index - 1)}" if place.index else "branch1"
    return f"{place.stage}{block}_{branch}"


def _divide(total: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """A running sum by its factor; Caffe takes 0 where that is 0."""
    scale = factor.reshape(-1)[0] if factor.size else 0
    return total / scale if scale else np.zeros_like(total)
