"""VGG_CNN_M_1024 (Chatfield 2014), the network 'M' of Fast R-CNN."""

from collections.abc import Sequence

import keras
from keras import layers

from zoo.backbones.inputs import CLASSIFIER_PREPROCESSING, normalised
from zoo.backbones.norm import local_response_norm, pad
from zoo.backbones.parts import DetectorParts, feature_model
from zoo.backbones.pooling import max_pool
from zoo.backbones.tops import classifier, dense_head, hidden_layers
from zoo.registry import register

STRIDES = {"conv1": 2, "conv2": 8, "conv3": 16, "conv4": 16, "conv5": 16}


def _stages(x, padding: str) -> dict:
    """The five convolutions, padded as the release ``"caffe"``, or so that strides are whole, ``"exact"``."""
    if padding not in ("exact", "caffe"):
        raise ValueError(f"padding must be 'exact' or 'caffe', got {padding!r}")
    stages = {}
    edges, first, second = ("covering", 0, 1) if padding == "caffe" else ("padded", 3, 2)

    def conv(x, filters: int, size: int, name: str, strides: int = 1, border: int = 0):
        if border:
            x = pad(x, border, f"{name}_pad")
        # He's initialisation, as in our VGGs.
        x = layers.Conv2D(filters, size, strides, activation="relu", kernel_initializer="he_normal", name=name)(x)
        stages[name] = x
        return x

    def shrink(x, number: int):
        # The release says alpha 5e-4 and k 2; Caffe divides alpha by the five channels: the constants of 2012.
        return max_pool(local_response_norm(x, "paper", f"norm{number}"), edges, f"pool{number}")

    x = shrink(conv(x, 96, 7, "conv1", strides=2, border=first), 1)
    x = shrink(conv(x, 256, 5, "conv2", strides=2, border=second), 2)
    for number in (3, 4, 5):
        x = conv(x, 512, 3, f"conv{number}", border=1)
    return stages


@register(
    task="classification",
    paper="Chatfield, Simonyan, Vedaldi, Zisserman 2014",
    summary="Five convolutions, fc7 of 1024 ('M' of Fast R-CNN); 224 pixels",
    params=87_250_536,
    input="RGB 0-255, 224 x 224",
    preprocessing=CLASSIFIER_PREPROCESSING,
    source="arXiv:1405.3531, table 1; the release's VGG_CNN_M_1024",
)
def vgg_cnn_m_1024(
    classes: int | Sequence[str] | None = None,
    *,
    include_top: bool = True,
    stages: Sequence[str] | None = None,
    inputs: str = "caffe",
) -> keras.Model:
    """VGG_CNN_M_1024 as a classifier of 224 x 224 RGB images, or as a feature extractor of any size.

    As a feature extractor it has zeros around conv1 and the pools, so that every stride divides exactly.

    Args:
        classes: how many, or their names; ImageNet's 1000 by default.
        include_top: false gives a dict of feature maps by stage; the model's ``strides`` has theirs.
        stages: which stages, without the top.
        inputs: channel order, mean and scale, one of :data:`zoo.backbones.inputs.INPUTS`.

    Example:
        >>> import zoo
        >>> zoo.get("vgg_cnn_m_1024", include_top=False).strides["conv5"]
        16
    """
    images = keras.Input((224, 224, 3) if include_top else (None, None, 3), name="images")
    maps = _stages(normalised(images, inputs), "caffe" if include_top else "exact")
    if not include_top:
        return feature_model("vgg_cnn_m_1024_features", images, maps, STRIDES, stages)
    x = max_pool(maps["conv5"], "covering", "pool5")
    return classifier(images, hidden_layers(x, (4096, 1024)), classes, "vgg_cnn_m_1024")


def vgg_m_parts(*, head_units: Sequence[int] = (4096, 1024), padding: str = "exact") -> DetectorParts:
    """VGG_CNN_M_1024 for a detector: conv5 at stride 16, RoI pooling 6 x 6, then fc6 and fc7.

    Args:
        head_units: widths of fc6 and fc7.
        padding: ``"exact"``, H x W pixels give ``ceil(H / 16)`` x ``ceil(W / 16)`` cells; or ``"caffe"``, the padding
            of Fast R-CNN's release, which gives up to two cells less (600 pixels: 36) and centres cell 0 at pixel 17.
    """
    images = keras.Input((None, None, 3), name="prepared")
    return dense_head(images, _stages(images, padding)["conv5"], 6, tuple(head_units))
