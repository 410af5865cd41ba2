"""What layouts share: how our networks name their variables, and which published arrays those are made of."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from zoo.convert.layout import Array, Shape, Shapes, convolution, dense, dense_after_flatten, same, zeros

# Models by their number of convolutions, with those of the shortcuts.
VGGS = {8: "vgg11", 10: "vgg13", 13: "vgg16", 16: "vgg19"}
RESNETS = {20: "resnet18", 36: "resnet34", 53: "resnet50", 104: "resnet101", 155: "resnet152"}

_RESNET = re.compile(r"conv(\d)(?:_block(\d+)_(\d))?_(conv|bn)/(\w+)")
_GROUPED = re.compile(r"(conv\d)_([12])")
_BLOCK = re.compile(r"conv(\d)_(\d+)/kernel")
NORM_ROLES = ("gamma", "beta", "moving_mean", "moving_variance")

# A layer's kernel and bias in a file.
Names = tuple[str, str]


def kernels(found: Shapes) -> int:
    """How many arrays are kernels of convolutions."""
    return sum(len(shape) == 4 for shape in found.values())


@dataclass(frozen=True)
class Place:
    """A convolution of a ResNet, or the normalisation behind it.

    Attributes:
        stage: 1 for the first convolution, 2 to 5 for the residual stages.
        block: within the stage, from 1; 0 in stage 1.
        index: within the block, from 1; 0 is the projection of the shortcut.
    """

    stage: int
    block: int = 0
    index: int = 1


def resnet_places(wanted: Shapes) -> dict[str, tuple[Place, str]]:
    """Place and role (``kernel``, ``gamma``, ...) of every variable of a ResNet up to its last stage.

    >>> resnet_places({"conv3_block1_0_bn/gamma": (512,)})
    {'conv3_block1_0_bn/gamma': (Place(stage=3, block=1, index=0), 'gamma')}
    """
    places = {}
    for name in wanted:
        match = _RESNET.fullmatch(name)
        if match:
            stage, block, index = (int(text) if text else None for text in match.group(1, 2, 3))
            place = Place(stage) if block is None else Place(stage, block, index)
            places[name] = place, match[5]
    return places


def resnet_arrays(
    wanted: Shapes,
    found: Shapes,
    conv: Callable[[Place], Names],
    norm: Callable[[Place], Mapping[str, Array]],
    top: Names,
) -> dict[str, Array]:
    """Sources of a ResNet's variables where kernels are stored (output, input, rows, columns).

    Args:
        wanted: our variables.
        found: the file's arrays; the bias of a convolution that it does not hold is zero.
        conv: names of a convolution's arrays.
        norm: sources of a normalisation's four variables by role.
        top: names of the last layer's arrays.
    """
    arrays: dict[str, Array] = {}
    for name, (place, role) in resnet_places(wanted).items():
        if role == "kernel":
            arrays[name] = convolution(conv(place)[0])
        elif role == "bias":
            bias = conv(place)[1]
            arrays[name] = same(bias) if bias in found else zeros(wanted[name])
        elif role in NORM_ROLES:
            arrays[name] = norm(place)[role]
    return arrays | {"predictions/kernel": dense(top[0]), "predictions/bias": same(top[1])}


def plain_arrays(wanted: Shapes, names: Callable[[str], Names], grouped: bool = False) -> dict[str, Array]:
    """Sources of the variables of a network of convolutions and three dense layers, as AlexNet's and VGG's.

    Those of a layer of low rank, ``fc6/first`` and ``fc6/second``, have none: no file holds such layers.

    Args:
        wanted: our variables.
        names: names of a layer's arrays; ``KeyError`` for a layer that the file does not have.
        grouped: ``conv2_1`` and ``conv2_2`` are the two groups of ``conv2``, which the file holds as one.
    """
    arrays: dict[str, Array] = {}
    for name, shape in wanted.items():
        layer, _, role = name.rpartition("/")
        if role not in ("kernel", "bias"):
            continue
        group = _GROUPED.fullmatch(layer) if grouped else None
        try:
            kernel, bias = names(group[1] if group else layer)
        except KeyError:
            continue
        if group:
            arrays[name] = _half(kernel if role == "kernel" else bias, int(group[2]) - 1, shape)
        elif role == "bias":
            arrays[name] = same(bias)
        elif len(shape) == 4:
            arrays[name] = convolution(kernel)
        elif layer == "fc6":
            arrays[name] = dense_after_flatten(kernel, *flattened(wanted))
        else:
            arrays[name] = dense(kernel)
    return arrays


def _half(name: str, part: int, shape: Shape) -> Array:
    """One of two groups of a convolution: the first or the second half of its outputs."""

    def load(array: np.ndarray) -> np.ndarray:
        half = array.shape[0] // 2
        if array.shape[0] != 2 * shape[-1]:
            raise ValueError(f"{name} {array.shape} has not twice {shape[-1]} outputs")
        array = array[part * half : (part + 1) * half]
        return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array

    return Array((name,), load)


def flattened(wanted: Shapes) -> tuple[int, int]:
    """Channels and height = width of the feature map that fc6 sees.

    >>> flattened({"conv5_3/kernel": (3, 3, 512, 512), "fc6/kernel": (25088, 4096)})
    (512, 7)
    """
    last = [shape[-1] for name, shape in wanted.items() if name.startswith("conv5") and len(shape) == 4]
    # AlexNet's fifth convolution has two groups, whose outputs stand side by side; VGG's are one after another.
    rows = wanted["fc6/kernel"][0]
    for channels in (last[-1], sum(last)):
        size = math.isqrt(rows // channels)
        if channels * size * size == rows:
            return channels, size
    raise ValueError(f"fc6 has {rows} inputs, which is no square map of conv5")


def vgg_index(wanted: Shapes) -> dict[str, int]:
    """Number of every convolution of a VGG among all of them, from 0.

    >>> vgg_index({"conv1_1/kernel": (3, 3, 3, 64), "conv1_1/bias": (64,), "conv2_1/kernel": (3, 3, 64, 128)})
    {'conv1_1': 0, 'conv2_1': 1}
    """
    blocks = sorted((int(match[1]), int(match[2])) for match in map(_BLOCK.fullmatch, wanted) if match)
    return {f"conv{block}_{i}": number for number, (block, i) in enumerate(blocks)}
