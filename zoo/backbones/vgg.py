"""VGG-11, -13, -16 and -19 (Simonyan 2015, configurations A, B, D and E)."""

from collections.abc import Sequence

import keras
from keras import layers

from zoo.backbones.inputs import CLASSIFIER_PREPROCESSING, normalised
from zoo.backbones.parts import DetectorParts, feature_model
from zoo.backbones.tops import classifier, dense_head, hidden_layers
from zoo.published import published_weights
from zoo.registry import register

# Convolutions in each of the five blocks.
BLOCKS = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
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


def _classifier(name: str, classes, include_top: bool, stages: Sequence[str] | None, inputs: str) -> keras.Model:
    images = keras.Input((224, 224, 3) if include_top else (None, None, 3), name="images")
    x = normalised(images, inputs)
    maps = _stages(x, BLOCKS[name])
    if not include_top:
        return feature_model(f"{name}_features", images, maps, STRIDES, stages)
    x = layers.MaxPooling2D(2, 2, name="pool5")(maps["conv5"])
    return classifier(images, hidden_layers(x, (4096, 4096)), classes, name)


@register(
    task="classification",
    paper="Simonyan and Zisserman 2015",
    summary="Eight 3x3 convolutions in five blocks; 224 pixels",
    params=132_863_336,
    input="RGB 0-255, 224 x 224",
    preprocessing=CLASSIFIER_PREPROCESSING,
    source="arXiv:1409.1556, table 1",
)
def vgg11(
    classes: int | Sequence[str] | None = None,
    *,
    include_top: bool = True,
    stages: Sequence[str] | None = None,
    inputs: str = "caffe",
) -> keras.Model:
    """VGG-11, configuration A; arguments and example as :func:`vgg16`."""
    return _classifier("vgg11", classes, include_top, stages, inputs)


@register(
    task="classification",
    paper="Simonyan and Zisserman 2015",
    summary="Ten 3x3 convolutions in five blocks; 224 pixels",
    params=133_047_848,
    input="RGB 0-255, 224 x 224",
    preprocessing=CLASSIFIER_PREPROCESSING,
    source="arXiv:1409.1556, table 1",
)
def vgg13(
    classes: int | Sequence[str] | None = None,
    *,
    include_top: bool = True,
    stages: Sequence[str] | None = None,
    inputs: str = "caffe",
) -> keras.Model:
    """VGG-13, configuration B; arguments and example as :func:`vgg16`."""
    return _classifier("vgg13", classes, include_top, stages, inputs)


@register(
    task="classification",
    paper="Simonyan and Zisserman 2015",
    summary="Thirteen 3x3 convolutions in five blocks; 224 pixels",
    params=138_357_544,
    input="RGB 0-255, 224 x 224",
    preprocessing=CLASSIFIER_PREPROCESSING,
    source="arXiv:1409.1556, table 1",
    weights=published_weights("vgg16"),
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
    weights=published_weights("vgg19"),
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
    images = keras.Input((None, None, 3), name="prepared")
    return dense_head(images, _stages(images, BLOCKS[name])["conv5"], 7, (head_units, head_units))
