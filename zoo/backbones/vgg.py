"""VGG-16 and VGG-19 (Simonyan 2015, configurations D and E)."""

from collections.abc import Sequence

import keras
from keras import layers

from zoo.backbones.inputs import CLASSIFIER_PREPROCESSING, normalised
from zoo.backbones.parts import DetectorParts, class_count, feature_model
from zoo.registry import register

# Convolutions in each of the five blocks.
BLOCKS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
FILTERS = (64, 128, 256, 512, 512)
STRIDES = {"conv1": 1, "conv2": 2, "conv3": 4, "conv4": 8, "conv5": 16}


def _stages(x, blocks: Sequence[int]) -> dict:
    stages = {}
    for block, (count, filters) in enumerate(zip(blocks, FILTERS, strict=True), start=1):
        if block > 1:
            # 'same': the pool covers all of its input, as Caffe's does (600 pixels give 38 cells).
            x = layers.MaxPooling2D(2, 2, padding="same", name=f"pool{block - 1}")(x)
        for i in range(1, count + 1):
            # He initialisation in place of the paper's two-stage training, which trained A first (section 3.1).
            x = layers.Conv2D(
                filters,
                3,
                padding="same",
                activation="relu",
                kernel_initializer="he_normal",
                name=f"conv{block}_{i}",
            )(x)
        stages[f"conv{block}"] = x
    return stages


def _dense(x, units: int, name: str, dropout: float):
    x = layers.Dense(units, "relu", kernel_initializer="he_normal", name=name)(x)
    return layers.Dropout(dropout, name=f"drop{name[-1]}")(x)


def _classifier(name: str, classes, include_top: bool, stages: Sequence[str] | None, inputs: str) -> keras.Model:
    images = keras.Input((224, 224, 3) if include_top else (None, None, 3), name="images")
    x = normalised(images, inputs)
    maps = _stages(x, BLOCKS[name])
    if not include_top:
        return feature_model(f"{name}_features", images, maps, STRIDES, stages)
    x = layers.MaxPooling2D(2, 2, name="pool5")(maps["conv5"])
    x = layers.Flatten(name="flatten")(x)
    x = _dense(_dense(x, 4096, "fc6", 0.5), 4096, "fc7", 0.5)
    normal = keras.initializers.RandomNormal(stddev=0.01)
    x = layers.Dense(class_count(classes), kernel_initializer=normal, name="fc8")(x)
    return keras.Model(images, layers.Softmax(dtype="float32", name="prob")(x), name=name)


@register(
    task="classification",
    paper="Simonyan and Zisserman 2015",
    summary="Thirteen 3x3 convolutions in five blocks; 224 pixels",
    params=138_357_544,
    input="RGB 0-255, 224 x 224",
    preprocessing=CLASSIFIER_PREPROCESSING,
    source="arXiv:1409.1556, table 1",
)
def vgg16(
    classes: int | Sequence[str] | None = None,
    *,
    include_top: bool = True,
    stages: Sequence[str] | None = None,
    inputs: str = "caffe",
) -> keras.Model:
    """VGG-16 as a classifier of 224 x 224 RGB images, or as a feature extractor of any size.

    Args:
        classes: how many, or their names; ImageNet's 1000 by default.
        include_top: false gives a dict of feature maps by stage; the model's ``strides`` has theirs.
        stages: which stages, without the top.
        inputs: channel order, mean and scale, one of :data:`zoo.backbones.inputs.INPUTS`.

    Example:
        >>> import zoo
        >>> zoo.get("vgg16", include_top=False, stages=["conv5"]).output_shape
        {'conv5': (None, None, None, 512)}
    """
    return _classifier("vgg16", classes, include_top, stages, inputs)


@register(
    task="classification",
    paper="Simonyan and Zisserman 2015",
    summary="Sixteen 3x3 convolutions in five blocks; 224 pixels",
    params=143_667_240,
    input="RGB 0-255, 224 x 224",
    preprocessing=CLASSIFIER_PREPROCESSING,
    source="arXiv:1409.1556, table 1",
)
def vgg19(
    classes: int | Sequence[str] | None = None,
    *,
    include_top: bool = True,
    stages: Sequence[str] | None = None,
    inputs: str = "caffe",
) -> keras.Model:
    """VGG-19; arguments and example as :func:`vgg16`."""
    return _classifier("vgg19", classes, include_top, stages, inputs)


def vgg_parts(name: str, *, head_units: int = 4096) -> DetectorParts:
    """VGG for a detector: conv5 at stride 16 (pool5 left out), RoI pooling 7 x 7, then fc6 and fc7.

    Args:
        name: which VGG.
        head_units: width of fc6 and fc7.
    """
    inputs = keras.Input((None, None, 3), name="prepared")
    extractor = keras.Model(inputs, _stages(inputs, BLOCKS[name])["conv5"], name="extractor")
    pooled = keras.Input((7, 7, 512), name="pooled")
    x = layers.Flatten(name="flatten")(pooled)
    x = _dense(_dense(x, head_units, "fc6", 0.5), head_units, "fc7", 0.5)
    return DetectorParts(extractor, keras.Model(pooled, x, name="body"), pool_size=7)
