"""The networks of ``benchmarks/peer_training.py`` in plain PyTorch: ResNet-18 up to conv4, RPN, box head.

He 2016 (table 1) with group normalisation (Wu and He 2018), cut at stride 16; two dense layers on RoIs of 7 x 7.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

STRIDE, BINS, GROUPS = 16, 7, 32


class ConvNorm(nn.Module):
    """Convolution, then group normalisation."""

    def __init__(self, before: int, channels: int, size: int, stride: int):
        super().__init__()
        self.conv = nn.Conv2d(before, channels, size, stride, size // 2)
        self.norm = nn.GroupNorm(GROUPS, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(B, C, H, W)`` to the same, strided."""
        return self.norm(self.conv(x))


class Block(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, before: int, channels: int, stride: int):
        super().__init__()
        self.shortcut = ConvNorm(before, channels, 1, stride) if before != channels else None
        self.first = ConvNorm(before, channels, 3, stride)
        self.second = ConvNorm(channels, channels, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Likewise."""
        short = x if self.shortcut is None else self.shortcut(x)
        return F.relu(short + self.second(F.relu(self.first(x))))


class Networks(nn.Module):
    """All layers with weights; boxes and targets are elsewhere."""

    def __init__(self, settings: dict):
        super().__init__()
        anchors = len(settings["anchor_sizes"]) * len(settings["anchor_ratios"])
        self.classes = len(settings["classes"])
        self.conv1 = ConvNorm(3, 64, 7, 2)
        widths = ((64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1))
        self.blocks = nn.ModuleList(Block(*each) for each in widths)
        hidden, units = settings["rpn_channels"], settings["head_units"]
        self.rpn_conv = nn.Conv2d(256, hidden, 3, padding=1)
        self.rpn_score, self.rpn_loc = nn.Conv2d(hidden, 2 * anchors, 1), nn.Conv2d(hidden, 4 * anchors, 1)
        self.fc6, self.fc7 = nn.Linear(256 * BINS * BINS, units), nn.Linear(units, units)
        self.score, self.loc = nn.Linear(units, self.classes + 1), nn.Linear(units, 4 * (self.classes + 1))
        self.to(memory_format=torch.channels_last)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """``(B, 256, H / 16, W / 16)`` of normalised ``(B, 3, H, W)``."""
        x = F.max_pool2d(F.relu(self.conv1(images)), 3, 2, 1)
        for block in self.blocks:
            x = block(x)
        return x

    def rpn(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits ``(B, A, 2)`` of {background, object} and deltas ``(B, A, 4)``."""
        x = F.relu(self.rpn_conv(features))
        score, loc = (each.permute(0, 2, 3, 1).flatten(1) for each in (self.rpn_score(x), self.rpn_loc(x)))
        return score.unflatten(1, (-1, 2)), loc.unflatten(1, (-1, 4))

    def head(self, pooled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits ``(R, K + 1)`` and deltas ``(R, K + 1, 4)``."""
        x = F.relu(self.fc7(F.relu(self.fc6(pooled.flatten(1)))))
        return self.score(x), self.loc(x).unflatten(1, (-1, 4))

    def layers_by_name(self) -> Iterator[tuple[str, nn.Module]]:
        """Each layer, by the name that the start weights give it."""
        names = [("conv1", self.conv1)]
        for place, block in enumerate(self.blocks):
            name = f"conv{2 + place // 2}_block{1 + place % 2}"
            parts = zip(("0", "1", "2"), (block.shortcut, block.first, block.second), strict=True)
            names += [(f"{name}_{part}", layer) for part, layer in parts if layer is not None]
        for name, layer in names:
            yield f"{name}_conv", layer.conv
            yield f"{name}_bn", layer.norm
        yield from {"rpn/conv": self.rpn_conv, "rpn/score": self.rpn_score, "rpn/loc": self.rpn_loc}.items()
        yield from {"fc6": self.fc6, "fc7": self.fc7, "head/score": self.score, "head/loc": self.loc}.items()

    def parameters_by_name(self) -> dict[str, nn.Parameter]:
        """Each parameter, by the name that the start weights give it."""
        found = {}
        for name, layer in self.layers_by_name():
            weight, bias = ("gamma", "beta") if isinstance(layer, nn.GroupNorm) else ("kernel", "bias")
            found |= {f"{name}/{weight}": layer.weight, f"{name}/{bias}": layer.bias}
        return found

    def load(self, arrays: dict[str, np.ndarray]) -> None:
        """Take weights from arrays by name; all have to be there, and no others."""
        own = self.parameters_by_name()
        if own.keys() != arrays.keys():
            raise ValueError(f"other weights than these layers': {sorted(own.keys() ^ arrays.keys())}")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(torch.from_numpy(as_torch(name, arrays[name])))


def as_torch(name: str, array: np.ndarray) -> np.ndarray:
    """A kernel (H, W, I, O), or (I, O), as PyTorch has it; fc6 takes its cells channel by channel here."""
    if name == "fc6/kernel":
        array = array.reshape(BINS, BINS, -1, array.shape[-1]).transpose(2, 0, 1, 3).reshape(array.shape)
    order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[array.ndim]
    return np.ascontiguousarray(array.transpose(order))


def all_arrays(path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file."""
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}
