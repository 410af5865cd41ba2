"""The residual stages of ResNet-18 to -152 (He 2016), and what differs between releases of their weights."""

from dataclasses import dataclass

from keras import layers

from zoo.backbones.norm import BATCH_EPSILON, normalise, pad
from zoo.backbones.pooling import max_pool

# Blocks in conv2 .. conv5, and whether they are bottlenecks (He 2016, table 1).
LAYOUTS = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
    "resnet152": ((3, 8, 36, 3), True),
}
STRIDES = {"conv1": 2, "conv2": 4, "conv3": 8, "conv4": 16, "conv5": 32}


@dataclass(frozen=True)
class Variant:
    """What differs between the releases of a ResNet's weights.

    Attributes:
        norm: ``"batch"``, ``"frozen"`` or ``"group"``.
        stride_in: where a bottleneck has its stride, ``"1x1"`` (He 2016 and its Caffe release) or ``"3x3"`` (the
            Torch and torchvision releases, known as v1.5). Basic blocks have no 1x1: theirs is in the first 3x3.
        pool: how pool1 treats the edges, ``"padded"`` or ``"covering"`` (Caffe, Chainer); see
            :func:`zoo.backbones.pooling.max_pool`.
        epsilon: of batch normalisation.
    """

    norm: str = "batch"
    stride_in: str = "1x1"
    pool: str = "padded"
    epsilon: float = BATCH_EPSILON

    def __post_init__(self):
        """Check the choices; the norm is checked where it is applied."""
        for option, allowed in (("stride_in", ("1x1", "3x3")), ("pool", ("padded", "covering"))):
            if getattr(self, option) not in allowed:
                raise ValueError(f"{option} must be {' or '.join(map(repr, allowed))}, got {getattr(self, option)!r}")


def _conv(x, filters: int, size: int, strides: int, variant: Variant, name: str, relu: bool = True):
    """Convolution, normalisation and, unless the shortcut comes first, ReLU; layer names as keras.applications'."""
    if size > 1:
        x = pad(x, size // 2, f"{name}_pad")
    # The bias is redundant before a normalisation, but published weights and their parameter counts have it.
    x = layers.Conv2D(filters, size, strides, kernel_initializer="he_normal", name=f"{name}_conv")(x)
    x = normalise(x, variant.norm, f"{name}_bn", variant.epsilon)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x


def _block(x, filters: int, strides: int, bottleneck: bool, project: bool, variant: Variant, name: str):
    """One residual block (He 2016, figure 5)."""
    shortcut = x
    if project:
        width = 4 * filters if bottleneck else filters
        shortcut = _conv(x, width, 1, strides, variant, f"{name}_0", relu=False)
    if bottleneck:
        first, second = (strides, 1) if variant.stride_in == "1x1" else (1, strides)
        x = _conv(x, filters, 1, first, variant, f"{name}_1")
        x = _conv(x, filters, 3, second, variant, f"{name}_2")
        x = _conv(x, 4 * filters, 1, 1, variant, f"{name}_3", relu=False)
    else:
        x = _conv(x, filters, 3, strides, variant, f"{name}_1")
        x = _conv(x, filters, 3, 1, variant, f"{name}_2", relu=False)
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.ReLU(name=f"{name}_out")(x)


def residual_stage(x, model: str, stage: int, variant: Variant):
    """The blocks of ``conv<stage>``, 2 to 5, of the network ``model``."""
    counts, bottleneck = LAYOUTS[model]
    filters = 64 * 2 ** (stage - 2)
    for i in range(counts[stage - 2]):
        strides = 2 if stage > 2 and i == 0 else 1
        # conv2 of a basic network keeps its 64 channels: its first shortcut is the identity.
        project = i == 0 and (bottleneck or stage > 2)
        x = _block(x, filters, strides, bottleneck, project, variant, f"conv{stage}_block{i + 1}")
    return x


def residual_stages(x, model: str, variant: Variant, last: int = 5) -> dict:
    """``conv1`` to ``conv<last>`` of the network ``model``, by name."""
    stages = {}
    x = stages["conv1"] = _conv(x, 64, 7, 2, variant, "conv1")
    x = max_pool(x, variant.pool, "pool1_pool", "pool1_pad")
    for stage in range(2, last + 1):
        x = stages[f"conv{stage}"] = residual_stage(x, model, stage, variant)
    return stages
