"""The residual networks of He 2016 for CIFAR-10, and their plain twins without shortcuts."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import keras
from keras import layers, ops

from zoo.backbones.batch_norm import BatchNorm
from zoo.backbones.norm import InputNormalisation
from zoo.registry import register
from zoo.shipped import shipped_weights

# Mean and deviation of the channels over CIFAR-10's training pictures, 0-255 (Krizhevsky 2009's data). He 2016
# subtracts the mean of each pixel instead; the channels' means differ from those by a few levels.
CIFAR_MEAN = (125.3, 123.0, 113.9)
CIFAR_STD = (63.0, 62.1, 66.7)
PREPROCESSING = f"RGB 0-255, minus {CIFAR_MEAN}, divided by {CIFAR_STD}, inside the model"


@keras.saving.register_keras_serializable("zoo")
class OptionAShortcut(layers.Layer):
    """The shortcut without parameters: every second cell, the new channels zero (He 2016, section 4.1, option A).

    ``(B, Hf, Wf, C)`` gives ``(B, ceil(Hf / 2), ceil(Wf / 2), channels)``. Half of the zeros come before the old
    channels and half behind.
    """

    def __init__(self, channels: int, name: str | None = None, dtype=None, trainable: bool = True):
        super().__init__(name=name, dtype=dtype, trainable=trainable)
        self.channels = channels

    def call(self, inputs):
        """Subsample and pad."""
        extra = self.channels - inputs.shape[-1]
        return ops.pad(inputs[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (extra // 2, extra - extra // 2)))

    def compute_output_shape(self, input_shape):
        """Half the cells, ``channels`` channels."""
        batch, *cells, _ = input_shape
        return (batch, *(None if side is None else -(-side // 2) for side in cells), self.channels)

    def get_config(self):
        """Arguments of ``__init__``."""
        return {**super().get_config(), "channels": self.channels}


def _conv(x, filters: int, strides: int, name: str, relu: bool = True):
    padding = "same"
    if strides > 1:
        # 'same' would pad an even picture only at the bottom and right when it strides.
        x, padding = layers.ZeroPadding2D(1, name=f"{name}_pad")(x), "valid"
    # He 2015's initialisation by fan-in, as He 2016 takes it; no bias, which the normalisation would undo.
    x = layers.Conv2D(
        filters, 3, strides, padding, use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)
    # Momentum .9: .99 takes longer to settle than the last, slowest part of a short training lasts.
    x = BatchNorm(momentum=0.9, epsilon=1e-5 * 1.001, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x


def cifar_network(name: str, depth: int, classes: int | Sequence[str] | None, shortcuts: bool) -> keras.Model:
    """``depth`` = 6n + 2 layers: a convolution, three stages of n blocks with 16, 32, 64 channels, a dense layer."""
    blocks, rest = divmod(depth - 2, 6)
    if blocks < 1 or rest:
        raise ValueError(f"a CIFAR ResNet has 6n + 2 layers, not {depth}: 20, 32, 44, 56, 110, ...")
    count = 10 if classes is None else classes if isinstance(classes, int) else len(tuple(classes))
    if count < 1:
        raise ValueError(f"a classifier needs at least one class, got {classes!r}")
    inputs = keras.Input((32, 32, 3), name="images")
    x = _conv(InputNormalisation(CIFAR_MEAN, CIFAR_STD, name="normalise")(inputs), 16, 1, "conv1")
    for stage, filters in enumerate((16, 32, 64), start=2):
        for block in range(1, blocks + 1):
            label = f"conv{stage}_block{block}"
            strides = 2 if stage > 2 and block == 1 else 1
            shortcut = x
            x = _conv(x, filters, strides, f"{label}_1")
            x = _conv(x, filters, 1, f"{label}_2", relu=False)
            if shortcuts:
                if strides == 2:
                    shortcut = OptionAShortcut(filters, name=f"{label}_shortcut")(shortcut)
                x = layers.Add(name=f"{label}_add")([shortcut, x])
            x = layers.ReLU(name=f"{label}_out")(x)
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    x = layers.Dense(count, kernel_initializer="he_normal", name="predictions")(x)
    with recursion(20 * depth):
        return keras.Model(inputs, layers.Softmax(dtype="float32", name="prob")(x), name=name)


@contextmanager
def recursion(limit: int) -> Iterator[None]:
    """Allow calls nested ``limit`` deep: Keras walks from the output to the input, a call or two for every layer."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, limit))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def _register(name: str, depth: int, shortcuts: bool, params: int) -> None:
    def builder(classes: int | Sequence[str] | None = None) -> keras.Model:
        return cifar_network(name, depth, classes, shortcuts)

    kind = "residual, parameter-free shortcuts" if shortcuts else "plain: the same without shortcuts"
    builder.__name__ = builder.__qualname__ = name
    builder.__doc__ = f"{depth} layers for pictures of 32 x 32, {kind}; ``classes``: how many, or names (10)."
    register(
        task="classification",
        paper="He, Zhang, Ren, Sun 2016, section 4.2",
        summary=f"{depth} layers for CIFAR-10, {kind}",
        params=params,
        input="RGB 0-255, 32 x 32",
        preprocessing=PREPROCESSING,
        source="arXiv:1512.03385, section 4.2",
        weights=shipped_weights(name),
    )(builder)
    globals()[name] = builder


# Moving statistics counted; the paper's table 6 rounds: .27M, .46M, .66M, .85M, 1.7M, 19.4M.
_PARAMS = {20: 271_098, 32: 466_426, 44: 661_754, 56: 857_082, 110: 1_736_058, 1202: 19_510_906}
for _depth, _count in _PARAMS.items():
    _register(f"resnet{_depth}", _depth, True, _count)
    if _depth <= 110:
        _register(f"plain{_depth}", _depth, False, _count)
