"""AlexNet (Krizhevsky 2012)."""

from collections.abc import Sequence

import keras
from keras import layers

from zoo.backbones.inputs import CLASSIFIER_PREPROCESSING, normalised
from zoo.backbones.norm import LocalResponseNorm, pad
from zoo.backbones.parts import DetectorParts, class_count, feature_model
from zoo.registry import register

STRIDES = {"conv1": 4, "conv2": 8, "conv3": 16, "conv4": 16, "conv5": 16}


def _conv(x, filters: int, size: int, name: str, groups: int = 1, padding: str = "same", strides: int = 1, bias=0.0):
    """Convolution and ReLU with the paper's initialisation: Gaussian of deviation .01, bias 0 or 1 (section 5).

    Groups are written as split, convolve, concatenate, which every backend and export format can run.
    """
    normal = keras.initializers.RandomNormal(stddev=0.01)
    bias = keras.initializers.Constant(bias)
    step = x.shape[-1] // groups
    outs = []
    for g in range(groups):
        part = x if groups == 1 else x[..., g * step : (g + 1) * step]
        suffix = "" if groups == 1 else f"_{g + 1}"
        outs.append(
            layers.Conv2D(
                filters // groups,
                size,
                strides=strides,
                padding=padding,
                activation="relu",
                kernel_initializer=normal,
                bias_initializer=bias,
                name=name + suffix,
            )(part)
        )
    return outs[0] if groups == 1 else layers.Concatenate(name=name)(outs)


def _stages(x, padded: bool) -> dict:
    """The five convolutions. Padded for detection, so that every stride divides exactly; bare as in the paper."""
    stages = {}

    def pool(x, name):
        if padded:
            x = pad(x, 1, f"{name}_pad")
        return layers.MaxPooling2D(3, 2, name=name)(x)

    if padded:
        x = pad(x, 5, "conv1_pad")
    x = stages["conv1"] = _conv(x, 96, 11, "conv1", padding="valid", strides=4)
    x = pool(LocalResponseNorm(name="norm1")(x), "pool1")
    x = stages["conv2"] = _conv(x, 256, 5, "conv2", groups=2, bias=1.0)
    x = pool(LocalResponseNorm(name="norm2")(x), "pool2")
    x = stages["conv3"] = _conv(x, 384, 3, "conv3")
    x = stages["conv4"] = _conv(x, 384, 3, "conv4", groups=2, bias=1.0)
    stages["conv5"] = _conv(x, 256, 3, "conv5", groups=2, bias=1.0)
    return stages


def _dense(x, units: int, name: str):
    normal = keras.initializers.RandomNormal(stddev=0.005)
    ones = keras.initializers.Ones()
    x = layers.Dense(units, "relu", kernel_initializer=normal, bias_initializer=ones, name=name)(x)
    return layers.Dropout(0.5, name=f"drop{name[-1]}")(x)


@register(
    task="classification",
    paper="Krizhevsky, Sutskever, Hinton 2012",
    summary="Five convolutions, two groups, local response normalisation; 227 pixels",
    params=60_965_224,
    input="RGB 0-255, 227 x 227",
    preprocessing=CLASSIFIER_PREPROCESSING,
    source="NIPS 2012, figure 2",
)
def alexnet(
    classes: int | Sequence[str] | None = None,
    *,
    include_top: bool = True,
    stages: Sequence[str] | None = None,
    inputs: str = "caffe",
) -> keras.Model:
    """AlexNet as a classifier of 227 x 227 RGB images, or as a feature extractor of any size.

    Args:
        classes: how many, or their names; ImageNet's 1000 by default.
        include_top: false gives a dict of feature maps by stage; the model's ``strides`` has theirs.
        stages: which stages, without the top.
        inputs: channel order, mean and scale, one of :data:`zoo.backbones.inputs.INPUTS`.

    Returns:
        A model from ``(B, 227, 227, 3)`` RGB 0-255 to ``(B, classes)`` probabilities, or to feature maps.

    Example:
        >>> import zoo
        >>> zoo.get("alexnet").count_params()
        60965224
    """
    images = keras.Input((227, 227, 3) if include_top else (None, None, 3), name="images")
    x = normalised(images, inputs)
    maps = _stages(x, padded=not include_top)
    if not include_top:
        return feature_model("alexnet_features", images, maps, STRIDES, stages)
    x = layers.MaxPooling2D(3, 2, name="pool5")(maps["conv5"])
    x = layers.Flatten(name="flatten")(x)
    x = _dense(_dense(x, 4096, "fc6"), 4096, "fc7")
    normal = keras.initializers.RandomNormal(stddev=0.01)
    x = layers.Dense(class_count(classes), kernel_initializer=normal, name="fc8")(x)
    return keras.Model(images, layers.Softmax(dtype="float32", name="prob")(x), name="alexnet")


def alexnet_parts(*, head_units: int = 4096) -> DetectorParts:
    """AlexNet for a detector: conv5 at stride 16, RoI pooling 6 x 6, then fc6 and fc7 of ``head_units``."""
    inputs = keras.Input((None, None, 3), name="prepared")
    extractor = keras.Model(inputs, _stages(inputs, padded=True)["conv5"], name="extractor")
    pooled = keras.Input((6, 6, 256), name="pooled")
    x = layers.Flatten(name="flatten")(pooled)
    x = _dense(_dense(x, head_units, "fc6"), head_units, "fc7")
    return DetectorParts(extractor, keras.Model(pooled, x, name="body"), pool_size=6)
