"""AlexNet (Krizhevsky 2012) and CaffeNet, which pools before it normalises."""

from collections.abc import Sequence

import keras
from keras import layers

from zoo.backbones.inputs import CLASSIFIER_PREPROCESSING, normalised
from zoo.backbones.norm import local_response_norm, pad
from zoo.backbones.parts import DetectorParts, feature_model
from zoo.backbones.pooling import max_pool
from zoo.backbones.tops import classifier, dense_head, gaussian, hidden_layers
from zoo.published import published_weights
from zoo.registry import register

STRIDES = {"conv1": 4, "conv2": 8, "conv3": 16, "conv4": 16, "conv5": 16}
# Deviation of fc6's and fc7's kernels: the paper's .01 for all layers, .005 in CaffeNet's definition.
_DENSE_DEVIATION = {"alexnet": 0.01, "caffenet": 0.005}
# How the paper's 227 pixels, whole strides and Caffe's detectors want pool1 and pool2, and the zeros around conv1. The
# classifier's pools cover all of 224 pixels too, as those of the ONNX model zoo do; at 227 nothing is left over.
_EDGES = {"classifier": ("covering", 0), "exact": ("padded", 5), "caffe": ("padded covering", 5)}


def _conv(x, filters: int, size: int, name: str, groups: int = 1, padding: str = "same", strides: int = 1, bias=0.0):
    """Convolution and ReLU with the paper's initialisation: Gaussian of deviation .01, bias 0 or 1 (section 5).

    Groups are written as split, convolve, concatenate, which every backend and export format can run.
    """
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
                kernel_initializer=gaussian(0.01),
                bias_initializer=keras.initializers.Constant(bias),
                name=name + suffix,
            )(part)
        )
    return outs[0] if groups == 1 else layers.Concatenate(name=name)(outs)


def _stages(x, network: str, lrn: str, padding: str) -> dict:
    """The five convolutions; ``padding`` is a key of ``_EDGES``."""
    edges, border = _EDGES[padding]
    stages = {}

    def shrink(x, number: int):
        if network == "caffenet":
            return local_response_norm(max_pool(x, edges, f"pool{number}"), lrn, f"norm{number}")
        return max_pool(local_response_norm(x, lrn, f"norm{number}"), edges, f"pool{number}")

    if border:
        x = pad(x, border, "conv1_pad")
    x = stages["conv1"] = _conv(x, 96, 11, "conv1", padding="valid", strides=4)
    x = stages["conv2"] = _conv(shrink(x, 1), 256, 5, "conv2", groups=2, bias=1.0)
    x = stages["conv3"] = _conv(shrink(x, 2), 384, 3, "conv3")
    x = stages["conv4"] = _conv(x, 384, 3, "conv4", groups=2, bias=1.0)
    stages["conv5"] = _conv(x, 256, 3, "conv5", groups=2, bias=1.0)
    return stages


def _network(name: str, classes, include_top: bool, stages, inputs: str, lrn: str, side: int) -> keras.Model:
    images = keras.Input((side, side, 3) if include_top else (None, None, 3), name="images")
    maps = _stages(normalised(images, inputs), name, lrn, "classifier" if include_top else "exact")
    if not include_top:
        return feature_model(f"{name}_features", images, maps, STRIDES, stages)
    x = max_pool(maps["conv5"], "covering", "pool5")
    return classifier(images, hidden_layers(x, (4096, 4096), _DENSE_DEVIATION[name], bias=1.0), classes, name)


@register(
    task="classification",
    paper="Krizhevsky, Sutskever, Hinton 2012",
    summary="Five convolutions, two groups, local response normalisation; 227 pixels",
    params=60_965_224,
    input="RGB 0-255, 227 x 227",
    preprocessing=CLASSIFIER_PREPROCESSING,
    source="NIPS 2012, figure 2",
    weights=published_weights("alexnet"),
)
def alexnet(
    classes: int | Sequence[str] | None = None,
    *,
    include_top: bool = True,
    stages: Sequence[str] | None = None,
    inputs: str = "caffe",
    lrn: str = "paper",
    side: int = 227,
) -> keras.Model:
    """AlexNet as a classifier of 227 x 227 RGB images, or as a feature extractor of any size.

    Two groups in conv2, conv4 and conv5, local response normalisation and then overlapping pools after conv1 and
    conv2 (section 3), dropout in fc6 and fc7 (4.2), initialised as in section 5: Gaussian of deviation .01, biases 1
    in conv2, conv4, conv5 and the hidden dense layers, else 0. As a feature extractor it has zeros around conv1 and
    the pools, so that every stride divides exactly.

    Args:
        classes: how many, or their names; ImageNet's 1000 by default.
        include_top: false gives a dict of feature maps by stage; the model's ``strides`` has theirs.
        stages: which stages, without the top.
        inputs: channel order, mean and scale, one of :data:`zoo.backbones.inputs.INPUTS`.
        lrn: constants of the normalisation, ``"paper"`` (k 2, alpha 1e-4) or ``"caffe"`` (k 1, alpha 2e-5).
        side: of the images, in pixels; 224, which the ONNX model zoo's releases take, leads to the same weights.

    Returns:
        A model from ``(B, 227, 227, 3)`` RGB 0-255 to ``(B, classes)`` probabilities, or to feature maps.

    Example:
        >>> import zoo
        >>> zoo.get("alexnet").count_params()
        60965224
    """
    return _network("alexnet", classes, include_top, stages, inputs, lrn, side)


@register(
    task="classification",
    paper="Krizhevsky, Sutskever, Hinton 2012; Jia et al. 2014",
    summary="AlexNet, pooling before it normalises ('S' of Fast R-CNN); 227 pixels",
    params=60_965_224,
    input="RGB 0-255, 227 x 227",
    preprocessing=CLASSIFIER_PREPROCESSING,
    source="Caffe's bvlc_reference_caffenet",
    weights=published_weights("caffenet"),
)
def caffenet(
    classes: int | Sequence[str] | None = None,
    *,
    include_top: bool = True,
    stages: Sequence[str] | None = None,
    inputs: str = "caffe",
    lrn: str = "caffe",
    side: int = 227,
) -> keras.Model:
    """CaffeNet: :func:`alexnet` with each pool before the normalisation, and fc6 and fc7 begun at a deviation of .005.

    Arguments as there; weights from Caffe want ``inputs="bvlc"``.

    Example:
        >>> import zoo
        >>> zoo.get("caffenet", classes=10).output_shape
        (None, 10)
    """
    return _network("caffenet", classes, include_top, stages, inputs, lrn, side)


def alexnet_parts(name: str, *, head_units: int = 4096, lrn: str = "paper", padding: str = "exact") -> DetectorParts:
    """AlexNet or CaffeNet for a detector: conv5 at stride 16, RoI pooling 6 x 6, then fc6 and fc7.

    Args:
        name: ``"alexnet"`` or ``"caffenet"``.
        head_units: width of fc6 and fc7.
        lrn: ``"paper"`` or ``"caffe"``.
        padding: ``"exact"``, H x W pixels give ``ceil(H / 16)`` x ``ceil(W / 16)`` cells; or ``"caffe"``, the pools of
            Fast R-CNN's release, which give up to one cell more (600 pixels: 39).
    """
    if padding not in ("exact", "caffe"):
        raise ValueError(f"padding must be 'exact' or 'caffe', got {padding!r}")
    images = keras.Input((None, None, 3), name="prepared")
    features = _stages(images, name, lrn, padding)["conv5"]
    return dense_head(images, features, 6, (head_units, head_units), _DENSE_DEVIATION[name], bias=1.0)
