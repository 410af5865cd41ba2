"""ResNet-18, -34, -50, -101 and -152 (He 2016)."""

from collections.abc import Sequence

import keras
from keras import layers

from zoo.backbones.inputs import CLASSIFIER_PREPROCESSING, normalised
from zoo.backbones.norm import BATCH_EPSILON
from zoo.backbones.parts import DetectorParts, class_count, feature_model
from zoo.backbones.residual import STRIDES, Variant, residual_stage, residual_stages
from zoo.published import published_weights
from zoo.registry import register


def _classifier(name: str, classes, include_top: bool, stages, variant: Variant, inputs: str) -> keras.Model:
    images = keras.Input((None, None, 3), name="images")
    maps = residual_stages(normalised(images, inputs), name, variant)
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
    stride_in: str = "1x1",
    pool: str = "padded",
    epsilon: float = BATCH_EPSILON,
) -> keras.Model:
    """ResNet-18 as a classifier of RGB images, or as a feature extractor.

    Args:
        classes: how many, or their names; ImageNet's 1000 by default.
        include_top: false gives a dict of feature maps by stage; the model's ``strides`` has theirs.
        stages: which stages, without the top.
        norm: ``"batch"``, ``"frozen"`` or ``"group"``.
        inputs: channel order, mean and scale, one of :data:`zoo.backbones.inputs.INPUTS`.
        stride_in: which convolution of a bottleneck strides; without effect here, where blocks are basic.
        pool: ``"padded"``, or ``"covering"`` for weights from Caffe and Chainer.
        epsilon: of batch normalisation: Caffe and torch 1e-5, Chainer 2e-5; the default is keras.applications'.

    Example:
        >>> import zoo
        >>> zoo.get("resnet18", classes=10).output_shape
        (None, 10)
    """
    variant = Variant(norm, stride_in, pool, epsilon)
    return _classifier("resnet18", classes, include_top, stages, variant, inputs)


@register(
    task="classification",
    paper="He, Zhang, Ren, Sun 2016",
    summary="34 layers in basic blocks; 224 pixels",
    params=21_823_208,
    input="RGB 0-255, 224 x 224 in the paper, any size here",
    preprocessing=CLASSIFIER_PREPROCESSING,
    source="arXiv:1512.03385, table 1",
)
def resnet34(
    classes: int | Sequence[str] | None = None,
    *,
    include_top: bool = True,
    stages: Sequence[str] | None = None,
    norm: str = "batch",
    inputs: str = "caffe",
    stride_in: str = "1x1",
    pool: str = "padded",
    epsilon: float = BATCH_EPSILON,
) -> keras.Model:
    """ResNet-34; arguments as :func:`resnet18`."""
    variant = Variant(norm, stride_in, pool, epsilon)
    return _classifier("resnet34", classes, include_top, stages, variant, inputs)


@register(
    task="classification",
    paper="He, Zhang, Ren, Sun 2016",
    summary="Fifty layers in bottleneck blocks; 224 pixels",
    params=25_636_712,
    input="RGB 0-255, 224 x 224 in the paper, any size here",
    preprocessing=CLASSIFIER_PREPROCESSING,
    source="arXiv:1512.03385, table 1",
    weights=published_weights("resnet50"),
)
def resnet50(
    classes: int | Sequence[str] | None = None,
    *,
    include_top: bool = True,
    stages: Sequence[str] | None = None,
    norm: str = "batch",
    inputs: str = "caffe",
    stride_in: str = "1x1",
    pool: str = "padded",
    epsilon: float = BATCH_EPSILON,
) -> keras.Model:
    """ResNet-50; arguments as :func:`resnet18`.

    ``stride_in="1x1"`` is the paper's network and its Caffe release, ``"3x3"`` the variant v1.5 of torchvision.
    """
    variant = Variant(norm, stride_in, pool, epsilon)
    return _classifier("resnet50", classes, include_top, stages, variant, inputs)


@register(
    task="classification",
    paper="He, Zhang, Ren, Sun 2016",
    summary="101 layers in bottleneck blocks; 224 pixels",
    params=44_707_176,
    input="RGB 0-255, 224 x 224 in the paper, any size here",
    preprocessing=CLASSIFIER_PREPROCESSING,
    source="arXiv:1512.03385, table 1",
    weights=published_weights("resnet101"),
)
def resnet101(
    classes: int | Sequence[str] | None = None,
    *,
    include_top: bool = True,
    stages: Sequence[str] | None = None,
    norm: str = "batch",
    inputs: str = "caffe",
    stride_in: str = "1x1",
    pool: str = "padded",
    epsilon: float = BATCH_EPSILON,
) -> keras.Model:
    """ResNet-101; arguments as :func:`resnet18`, the stride as in :func:`resnet50`."""
    variant = Variant(norm, stride_in, pool, epsilon)
    return _classifier("resnet101", classes, include_top, stages, variant, inputs)


@register(
    task="classification",
    paper="He, Zhang, Ren, Sun 2016",
    summary="152 layers in bottleneck blocks; 224 pixels",
    params=60_419_944,
    input="RGB 0-255, 224 x 224 in the paper, any size here",
    preprocessing=CLASSIFIER_PREPROCESSING,
    source="arXiv:1512.03385, table 1",
    weights=published_weights("resnet152"),
)
def resnet152(
    classes: int | Sequence[str] | None = None,
    *,
    include_top: bool = True,
    stages: Sequence[str] | None = None,
    norm: str = "batch",
    inputs: str = "caffe",
    stride_in: str = "1x1",
    pool: str = "padded",
    epsilon: float = BATCH_EPSILON,
) -> keras.Model:
    """ResNet-152; arguments as :func:`resnet18`, the stride as in :func:`resnet50`."""
    variant = Variant(norm, stride_in, pool, epsilon)
    return _classifier("resnet152", classes, include_top, stages, variant, inputs)


def resnet_parts(
    name: str,
    *,
    norm: str = "group",
    head: str = "conv5",
    head_units: int = 1024,
    stride_in: str = "1x1",
    pool: str = "padded",
    epsilon: float = BATCH_EPSILON,
) -> DetectorParts:
    """A ResNet for a detector: conv4 at stride 16, then one of two heads.

    Args:
        name: which ResNet.
        norm: ``"batch"``, ``"frozen"`` or ``"group"``.
        head: ``"conv5"``, RoI pooling 14 x 14 before conv5 and its average (He 2016, appendix A), or ``"fc"``, RoI
            pooling 7 x 7 and two dense layers.
        head_units: width of the two dense layers.
        stride_in: which convolution of a bottleneck strides, ``"1x1"`` or ``"3x3"``.
        pool: ``"padded"``, or ``"covering"`` for weights from Caffe and Chainer; the map is then the smaller by one
            cell at some sizes of the image.
        epsilon: of batch normalisation.
    """
    variant = Variant(norm, stride_in, pool, epsilon)
    images = keras.Input((None, None, 3), name="prepared")
    extractor = keras.Model(images, residual_stages(images, name, variant, last=4)["conv4"], name="extractor")
    channels = extractor.output_shape[-1]
    if head == "conv5":
        pooled = keras.Input((14, 14, channels), name="pooled")
        x = layers.GlobalAveragePooling2D(name="avg_pool")(residual_stage(pooled, name, 5, variant))
        return DetectorParts(extractor, keras.Model(pooled, x, name="body"), pool_size=14)
    if head == "fc":
        pooled = keras.Input((7, 7, channels), name="pooled")
        x = layers.Flatten(name="flatten")(pooled)
        for layer in ("fc6", "fc7"):
            x = layers.Dense(head_units, "relu", kernel_initializer="he_normal", name=layer)(x)
        return DetectorParts(extractor, keras.Model(pooled, x, name="body"), pool_size=7)
    raise ValueError(f"unknown head {head!r}; there are 'conv5' and 'fc'")
