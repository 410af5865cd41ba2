"""AlexNet in one tower (Krizhevsky 2014), which torchvision calls alexnet."""

from collections.abc import Sequence

import keras
from keras import layers

from zoo.backbones.inputs import CLASSIFIER_PREPROCESSING, normalised
from zoo.backbones.norm import pad
from zoo.backbones.parts import DetectorParts, feature_model
from zoo.backbones.pooling import max_pool
from zoo.backbones.tops import classifier, dense_head, hidden_layers
from zoo.registry import register

STRIDES = {"conv1": 4, "conv2": 8, "conv3": 16, "conv4": 16, "conv5": 16}


def _stages(x, exact: bool) -> dict:
    """The five convolutions; ``exact``: padded so that every stride divides exactly, or else as published."""
    stages = {}
    edges = "padded" if exact else "bare"

    def conv(x, filters: int, size: int, name: str):
        # He's initialisation: the paper names none.
        layer = layers.Conv2D(
            filters, size, padding="same", activation="relu", kernel_initializer="he_normal", name=name
        )
        stages[name] = layer(x)
        return stages[name]

    x = pad(x, 5 if exact else 2, "conv1_pad")
    x = layers.Conv2D(64, 11, 4, activation="relu", kernel_initializer="he_normal", name="conv1")(x)
    stages["conv1"] = x
    x = conv(max_pool(x, edges, "pool1"), 192, 5, "conv2")
    x = conv(max_pool(x, edges, "pool2"), 384, 3, "conv3")
    conv(conv(x, 256, 3, "conv4"), 256, 3, "conv5")
    return stages


@register(
    task="classification",
    paper="Krizhevsky 2014",
    summary="AlexNet in one tower, without normalisation: torchvision's alexnet; 224 pixels",
    params=61_100_840,
    input="RGB 0-255, 224 x 224",
    preprocessing=CLASSIFIER_PREPROCESSING,
    source="arXiv:1404.5997, footnote 1; torchvision's alexnet",
)
def alexnet_one_tower(
    classes: int | Sequence[str] | None = None,
    *,
    include_top: bool = True,
    stages: Sequence[str] | None = None,
    inputs: str = "caffe",
) -> keras.Model:
    """AlexNet without groups and without local response normalisation: 64, 192, 384, 256 and 256 channels.

    torchvision's weights want ``inputs="torch"``.

    Args:
        classes: how many, or their names; ImageNet's 1000 by default.
        include_top: false gives a dict of feature maps by stage; the model's ``strides`` has theirs.
        stages: which stages, without the top.
        inputs: channel order, mean and scale, one of :data:`zoo.backbones.inputs.INPUTS`.

    Example:
        >>> import zoo
        >>> zoo.get("alexnet_one_tower").count_params()
        61100840
    """
    images = keras.Input((224, 224, 3) if include_top else (None, None, 3), name="images")
    maps = _stages(normalised(images, inputs), exact=not include_top)
    if not include_top:
        return feature_model("alexnet_one_tower_features", images, maps, STRIDES, stages)
    x = max_pool(maps["conv5"], "bare", "pool5")
    return classifier(images, hidden_layers(x, (4096, 4096)), classes, "alexnet_one_tower")


def one_tower_parts(*, head_units: int = 4096) -> DetectorParts:
    """One-tower AlexNet for a detector: conv5 at stride 16, RoI pooling 6 x 6, fc6 and fc7 of ``head_units``."""
    images = keras.Input((None, None, 3), name="prepared")
    return dense_head(images, _stages(images, exact=True)["conv5"], 6, (head_units, head_units))
