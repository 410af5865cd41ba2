"""The classic networks in plain PyTorch, written from the papers' and Caffe's definitions: what ours are compared with.

Each function takes an NCHW tensor, already normalised, and ``w``: kernels (O, I, H, W), dense kernels (I, O), biases
and batch-normalisation vectors by name. The last maps or logits come back.
"""

import numpy as np
import torch
from torch.nn import functional as F


def weights_of(model, *, spread: float = 0.0, seed: int = 0) -> dict:
    """A Keras model's weights as tensors by ``layer/variable``; with ``spread``, vectors are first made random."""
    rng = np.random.default_rng(seed)
    found = {}
    for layer in model.layers:
        for variable in layer.weights:
            kind = variable.name
            if spread and len(variable.shape) == 1:
                value = rng.normal(0.0, spread, variable.shape)
                # Scales and variances around one, and above zero.
                variable.assign(np.abs(1 + value) if kind in ("gamma", "moving_variance") else value)
            value = variable.numpy()
            value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
            found[f"{layer.name}/{kind}"] = torch.from_numpy(np.ascontiguousarray(value))
    return found


def tensor(images) -> torch.Tensor:
    """NHWC array to NCHW tensor."""
    return torch.from_numpy(np.ascontiguousarray(np.asarray(images, "float32").transpose(0, 3, 1, 2)))


def conv(x, w, name, **options):
    """Convolution with bias, without ReLU."""
    return F.conv2d(x, w[f"{name}/kernel"], w[f"{name}/bias"], **options)


def grouped(x, w, name, **options):
    """A convolution in two groups, whose kernels are kept apart."""
    kernel = torch.cat([w[f"{name}_1/kernel"], w[f"{name}_2/kernel"]])
    bias = torch.cat([w[f"{name}_1/bias"], w[f"{name}_2/bias"]])
    return F.conv2d(x, kernel, bias, groups=2, **options)


def top(x, w, activation=F.relu):
    """fc6, fc7, fc8 on a map flattened as H, W, C."""
    x = x.permute(0, 2, 3, 1).flatten(1)
    x = activation(x @ w["fc6/kernel"] + w["fc6/bias"])
    x = activation(x @ w["fc7/kernel"] + w["fc7/bias"])
    return x @ w["fc8/kernel"] + w["fc8/bias"]


def lrn(x, k, alpha):
    """``x / (k + alpha * sum of squares over five channels) ** .75`` (torch divides its alpha by five)."""
    return F.local_response_norm(x, 5, alpha=5 * alpha, beta=0.75, k=k)


def pool(x, **options):
    """3 x 3, stride 2."""
    return F.max_pool2d(x, 3, 2, **options)


def alexnet_maps(x, w, *, pool_first: bool, k: float, alpha: float, border: int = 0, pools: dict | None = None):
    """conv5 of AlexNet (Krizhevsky 2012, figure 2) or, with ``pool_first``, CaffeNet."""
    pools = pools or {}

    def shrink(x):
        return lrn(pool(x, **pools), k, alpha) if pool_first else pool(lrn(x, k, alpha), **pools)

    x = shrink(F.relu(conv(x, w, "conv1", stride=4, padding=border)))
    x = shrink(F.relu(grouped(x, w, "conv2", padding=2)))
    x = F.relu(conv(x, w, "conv3", padding=1))
    x = F.relu(grouped(x, w, "conv4", padding=1))
    return F.relu(grouped(x, w, "conv5", padding=1))


def one_tower_maps(x, w):
    """conv5 of torchvision's alexnet."""
    x = pool(F.relu(conv(x, w, "conv1", stride=4, padding=2)))
    x = pool(F.relu(conv(x, w, "conv2", padding=2)))
    x = F.relu(conv(x, w, "conv3", padding=1))
    x = F.relu(conv(x, w, "conv4", padding=1))
    return F.relu(conv(x, w, "conv5", padding=1))


def vgg_m_maps(x, w):
    """conv5 of VGG_CNN_M_1024 as Fast R-CNN's release defines it: Caffe's pools, alpha 5e-4 divided by five, k 2."""
    x = pool(lrn(F.relu(conv(x, w, "conv1", stride=2)), 2.0, 1e-4), ceil_mode=True)
    x = pool(lrn(F.relu(conv(x, w, "conv2", stride=2, padding=1)), 2.0, 1e-4), ceil_mode=True)
    for name in ("conv3", "conv4", "conv5"):
        x = F.relu(conv(x, w, name, padding=1))
    return x


def vgg_maps(x, w, blocks):
    """The last convolution of a VGG, its pools covering everything; ``blocks``: convolutions in each block."""
    for block, count in enumerate(blocks, start=1):
        x = F.max_pool2d(x, 2, 2, ceil_mode=True) if block > 1 else x
        for i in range(1, count + 1):
            x = F.relu(conv(x, w, f"conv{block}_{i}", padding=1))
    return x


def resnet_logits(x, w, blocks, *, bottleneck: bool, stride_in: str, pools: dict, epsilon: float):
    """Logits of a ResNet (He 2016, table 1); ``stride_in``: which convolution of a bottleneck strides."""

    def conv_norm(x, name, **options):
        x = conv(x, w, f"{name}_conv", **options)
        mean, variance = w[f"{name}_bn/moving_mean"], w[f"{name}_bn/moving_variance"]
        return F.batch_norm(x, mean, variance, w[f"{name}_bn/gamma"], w[f"{name}_bn/beta"], eps=epsilon)

    x = pool(F.relu(conv_norm(x, "conv1", stride=2, padding=3)), **pools)
    for stage, count in enumerate(blocks, start=2):
        for block in range(1, count + 1):
            name, step = f"conv{stage}_block{block}", 2 if stage > 2 and block == 1 else 1
            shortcut = x
            if f"{name}_0_conv/kernel" in w:
                shortcut = conv_norm(x, f"{name}_0", stride=step)
            if bottleneck:
                first, second = (step, 1) if stride_in == "1x1" else (1, step)
                x = F.relu(conv_norm(x, f"{name}_1", stride=first))
                x = F.relu(conv_norm(x, f"{name}_2", stride=second, padding=1))
                x = conv_norm(x, f"{name}_3")
            else:
                x = F.relu(conv_norm(x, f"{name}_1", stride=step, padding=1))
                x = conv_norm(x, f"{name}_2", padding=1)
            x = F.relu(x + shortcut)
    return x.mean((2, 3)) @ w["predictions/kernel"] + w["predictions/bias"]
