"""ResNet-18, -34, -50, -101 and -152 (He 2016)."""

from collections.abc import Sequence

import keras
from keras import layers

from zoo.backbones.inputs import CLASSIFIER_PREPROCESSING, normalised
from zoo.backbones.norm import normalise, pad
from zoo.backbones.parts import DetectorParts, class_count, feature_model
from zoo.registry import register

# Blocks in conv2 .. conv5, and whether they are bottlenecks (He 2016, table 1).
LAYOUTS = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
    "resnet152": ((3, 8, 36, 3), True),
}
STRIDES = {"conv1": 2, "conv2": 4, "conv3": 8, "conv4": 16, "conv5": 32}


def _conv(x, filters: int, size: int, strides: int, norm: str, name: str, relu: bool = True):
    """Convolution, normalisation and, unless the shortcut comes first, ReLU; layer names as keras.applications'."""
    if size > 1:
        x = pad(x, size // 2, f"{name}_pad")
    # The bias is redundant before a normalisation, but published weights and their parameter counts have it.
    x = layers.Conv2D(filters, size, strides, kernel_initializer="he_normal", name=f"{name}_conv")(x)
    x = normalise(x, norm, f"{name}_bn")
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x


def _block(x, filters: int, strides: int, bottleneck: bool, project: bool, norm: str, name: str):
    """One residual block (He 2016, figure 5); the stride is in its first convolution."""
    shortcut = x
    if project:
        width = 4 * filters if bottleneck else filters
        shortcut = _conv(x, width, 1, strides, norm, f"{name}_0", relu=False)
    if bottleneck:
        x = _conv(x, filters, 1, strides, norm, f"{name}_1")
        x = _conv(x, filters, 3, 1, norm, f"{name}_2")
        x = _conv(x, 4 * filters, 1, 1, norm, f"{name}_3", relu=False)
    else:
        x = _conv(x, filters, 3, strides, norm, f"{name}_1")
        x = _conv(x, filters, 3, 1, norm, f"{name}_2", relu=False)
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.ReLU(name=f"{name}_out")(x)


def _stage(x, model: str, stage: int, norm: str):
    """The blocks of ``conv<stage>``, 2 to 5."""
    counts, bottleneck = LAYOUTS[model]
    filters = 64 * 2 ** (stage - 2)
    for i in range(counts[stage - 2]):
        strides = 2 if stage > 2 and i == 0 else 1
        # conv2 of a basic network keeps its 64 channels: its first shortcut is the identity.
        project = i == 0 and (bottleneck or stage > 2)
        x = _block(x, filters, strides, bottleneck, project, norm, f"conv{stage}_block{i + 1}")
    return x


def _stages(x, model: str, norm: str, last: int) -> dict:
    stages = {}
    x = stages["conv1"] = _conv(x, 64, 7, 2, norm, "conv1")
    # The zeros of the padding never win: the maximum is over values after ReLU.
    x = layers.MaxPooling2D(3, 2, name="pool1_pool")(pad(x, 1, "pool1_pad"))
    for stage in range(2, last + 1):
        x = stages[f"conv{stage}"] = _stage(x, model, stage, norm)
    return stages


def _classifier(name: str, classes, include_top: bool, stages, norm: str, inputs: str) -> keras.Model:
    images = keras.Input((None, None, 3), name="images")
    x = normalised(images, inputs)
    maps = _stages(x, name, norm, last=5)
    if not include_top:
        return feature_model(f"{name}_features", images, maps, STRIDES, stages)
    x = layers.GlobalAveragePooling2D(name="avg_pool")(maps["conv5"])
    x = layers.Dense(class_count(classes), name="predictions")(x)
    return keras.Model(images, layers.Softmax(dtype="float32", name="prob")(x), name=name)


@register(
    task="classification",
    paper="He, Zhang, Ren, Sun 2016",
    summary="Eighteen layers in basic blocks; 224 pixels",
    params=11_703_912,
    input="RGB 0-255, 224 x 224 in the paper, any size here",
    preprocessing=CLASSIFIER_PREPROCESSING,
    source="arXiv:1512.03385, table 1",
)
def resnet18(
    classes: int | Sequence[str] | None = None,
    *,
    include_top: bool = True,
    stages: Sequence[str] | None = None,
    norm: str = "batch",
    inputs: str = "caffe",
) -> keras.Model:
    """ResNet-18 as a classifier of RGB images, or as a feature extractor.

    Args:
        classes: how many, or their names; ImageNet's 1000 by default.
        include_top: false gives a dict of feature maps by stage; the model's ``strides`` has theirs.
        stages: which stages, without the top.
        norm: ``"batch"``, ``"frozen"`` or ``"group"``.
        inputs: channel order, mean and scale, one of :data:`zoo.backbones.inputs.INPUTS`.

    Example:
        >>> import zoo
        >>> zoo.get("resnet18", classes=10).output_shape
        (None, 10)
    """
    return _classifier("resnet18", classes, include_top, stages, norm, inputs)


@register(
    task="classification",
    paper="He, Zhang, Ren, Sun 2016",
    summary="Fifty layers in bottleneck blocks; 224 pixels",
    params=25_636_712,
    input="RGB 0-255, 224 x 224 in the paper, any size here",
    preprocessing=CLASSIFIER_PREPROCESSING,
    source="arXiv:1512.03385, table 1",
)
def resnet50(
    classes: int | Sequence[str] | None = None,
    *,
    include_top: bool = True,
    stages: Sequence[str] | None = None,
    norm: str = "batch",
    inputs: str = "caffe",
) -> keras.Model:
    """ResNet-50, the stride in a stage's first 1x1 convolution; arguments as :func:`resnet18`."""
    return _classifier("resnet50", classes, include_top, stages, norm, inputs)


@register(
    task="classification",
    paper="He, Zhang, Ren, Sun 2016",
    summary="101 layers in bottleneck blocks; 224 pixels",
    params=44_707_176,
    input="RGB 0-255, 224 x 224 in the paper, any size here",
    preprocessing=CLASSIFIER_PREPROCESSING,
    source="arXiv:1512.03385, table 1",
)
def resnet101(
    classes: int | Sequence[str] | None = None,
    *,
    include_top: bool = True,
    stages: Sequence[str] | None = None,
    norm: str = "batch",
    inputs: str = "caffe",
) -> keras.Model:
    """ResNet-101; arguments as :func:`resnet18`."""
    return _classifier("resnet101", classes, include_top, stages, norm, inputs)


@register(
    task="classification",
    paper="He, Zhang, Ren, Sun 2016",
    summary="152 layers in bottleneck blocks; 224 pixels",
    params=60_419_944,
    input="RGB 0-255, 224 x 224 in the paper, any size here",
    preprocessing=CLASSIFIER_PREPROCESSING,
    source="arXiv:1512.03385, table 1",
)
def resnet152(
    classes: int | Sequence[str] | None = None,
    *,
    include_top: bool = True,
    stages: Sequence[str] | None = None,
    norm: str = "batch",
    inputs: str = "caffe",
) -> keras.Model:
    """ResNet-152; arguments as :func:`resnet18`."""
    return _classifier("resnet152", classes, include_top, stages, norm, inputs)


def resnet_parts(name: str, norm: str, head: str = "conv5", units: int = 1024) -> DetectorParts:
    """A ResNet for a detector: conv4 at stride 16, then one of two heads.

    Args:
        name: which ResNet.
        norm: ``"batch"``, ``"frozen"`` or ``"group"``.
        head: ``"conv5"``, RoI pooling 14 x 14 before conv5 and its average (He 2016, appendix A), or ``"fc"``, RoI
            pooling 7 x 7 and two dense layers.
        units: width of the two dense layers.
    """
    inputs = keras.Input((None, None, 3), name="prepared")
    extractor = keras.Model(inputs, _stages(inputs, name, norm, last=4)["conv4"], name="extractor")
    channels = extractor.output_shape[-1]
    if head == "conv5":
        pooled = keras.Input((14, 14, channels), name="pooled")
        x = layers.GlobalAveragePooling2D(name="avg_pool")(_stage(pooled, name, 5, norm))
        return DetectorParts(extractor, keras.Model(pooled, x, name="body"), pool_size=14)
    if head == "fc":
        pooled = keras.Input((7, 7, channels), name="pooled")
        x = layers.Flatten(name="flatten")(pooled)
        for layer in ("fc6", "fc7"):
            x = layers.Dense(units, "relu", kernel_initializer="he_normal", name=layer)(x)
        return DetectorParts(extractor, keras.Model(pooled, x, name="body"), pool_size=7)
    raise ValueError(f"unknown head {head!r}; there are 'conv5' and 'fc'")
