"""Forward passes of the published networks in PyTorch, straight from a file's own arrays and its library's definition.

Nothing of ours is used: kernels (O, I, H, W), dense matrices (O, I) behind a map flattened as C, H, W.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

VGG = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
RESNET = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}


def tensor(array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


def prepared(image: np.ndarray, mean, std=(1, 1, 1), bgr: bool = False) -> torch.Tensor:
    """(H, W, 3) RGB of 0-255 to (1, 3, H, W), ``mean`` and ``std`` in the resulting order of channels."""
    x = image.astype(np.float64)[:, :, ::-1] if bgr else image.astype(np.float64)
    return tensor(((x - np.array(mean)) / np.array(std)).transpose(2, 0, 1)[None])


def plain_logits(x: torch.Tensor, layer: Callable[[str], tuple], convs, pool: Callable, dense=("fc6", "fc7", "fc8")):
    """AlexNet and VGG: ``convs`` are dicts of ``name`` and conv2d's options; a string among them is passed to pool."""
    for step in convs:
        if isinstance(step, str):
            x = pool(x, step)
        else:
            options = {k: v for k, v in step.items() if k != "name"}
            w, b = layer(step["name"])
            x = F.relu(F.conv2d(x, tensor(w), tensor(b), **options))
    x = x.flatten(1)
    for name in dense[:-1]:
        w, b = layer(name)
        x = F.relu(F.linear(x, tensor(w), tensor(b)))
    w, b = layer(dense[-1])
    return F.linear(x, tensor(w), tensor(b)).numpy()


def vgg_steps(model: str):
    steps = []
    for block, count in enumerate(VGG[model], start=1):
        steps += [{"name": f"conv{block}_{i}", "padding": 1} for i in range(1, count + 1)] + [f"pool{block}"]
    return steps


ALEXNET_STEPS = {
    # BVLC's prototxt: normalise, then pool; CaffeNet's: pool, then normalise.
    "alexnet": ("lrn", "pool"),
    "caffenet": ("pool", "lrn"),
}


def alexnet_steps(model: str):
    return [
        {"name": "conv1", "stride": 4},
        *ALEXNET_STEPS[model],
        {"name": "conv2", "padding": 2, "groups": 2},
        *ALEXNET_STEPS[model],
        {"name": "conv3", "padding": 1},
        {"name": "conv4", "padding": 1, "groups": 2},
        {"name": "conv5", "padding": 1, "groups": 2},
        "pool",
    ]


def caffe_pool(x: torch.Tensor, step: str) -> torch.Tensor:
    """Caffe's 3x3 pool of stride 2, which covers all of its input, or its normalisation: alpha 1e-4 over five."""
    if step == "lrn":
        return F.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1.0)
    return F.max_pool2d(x, 3, 2, ceil_mode=True)


def resnet_logits(
    x: torch.Tensor,
    conv: Callable[[int, int, int], tuple],
    norm: Callable[[int, int, int], tuple],
    top: tuple,
    model: str,
    *,
    epsilon: float,
    stride_in: str,
    ceil_mode: bool,
):
    """He 2016. ``conv(stage, block, index)``: kernel and bias or None; ``norm``: gamma, beta, mean, variance."""

    def conv_norm(x, place, **options):
        w, b = conv(*place)
        x = F.conv2d(x, tensor(w), None if b is None else tensor(b), **options)
        gamma, beta, mean, variance = map(tensor, norm(*place))
        return F.batch_norm(x, mean, variance, gamma, beta, eps=epsilon)

    x = F.relu(conv_norm(x, (1, 0, 1), stride=2, padding=3))
    # Caffe and Chainer pool without padding and cover all; the others pad by one.
    x = F.max_pool2d(x, 3, 2, ceil_mode=True) if ceil_mode else F.max_pool2d(x, 3, 2, padding=1)
    for stage, count in enumerate(RESNET[model], start=2):
        for block in range(1, count + 1):
            step = 2 if stage > 2 and block == 1 else 1
            shortcut = x
            if block == 1 and (model != "resnet18" or stage > 2):
                shortcut = conv_norm(x, (stage, block, 0), stride=step)
            if model == "resnet18":
                x = F.relu(conv_norm(x, (stage, block, 1), stride=step, padding=1))
                x = conv_norm(x, (stage, block, 2), padding=1)
            else:
                first, second = (step, 1) if stride_in == "1x1" else (1, step)
                x = F.relu(conv_norm(x, (stage, block, 1), stride=first))
                x = F.relu(conv_norm(x, (stage, block, 2), stride=second, padding=1))
                x = conv_norm(x, (stage, block, 3))
            x = F.relu(x + shortcut)
    return F.linear(x.mean((2, 3)), tensor(top[0]), tensor(top[1])).numpy()
