"""The registered Faster R-CNNs: one builder a backbone."""

from collections.abc import Callable, Sequence

import keras

from zoo.backbones.alexnet import alexnet_parts
from zoo.backbones.inputs import input_convention
from zoo.backbones.parts import DetectorParts
from zoo.backbones.resnet import resnet_parts
from zoo.backbones.vgg import vgg_parts
from zoo.detectors.faster_rcnn import FasterRCNN
from zoo.detectors.preprocessing import Preprocessing
from zoo.registry import register
from zoo.shipped import shipped_weights

DEFAULT_INPUTS = "chainer_imagenet"
VOC_CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


def assemble(
    name: str,
    parts: DetectorParts,
    classes: Sequence[str] | None,
    *,
    short: int,
    long: int,
    anchor_sizes: Sequence[float],
    anchor_ratios: Sequence[float],
    rpn_channels: int,
    train_proposals: int,
    proposals: int,
    head_samples: int,
    max_detections: int,
    train_from: str | None,
    inputs: str,
) -> FasterRCNN:
    """A Faster R-CNN from a backbone's parts; the options are those of the registered builders.

    Args:
        name: of the model.
        parts: extractor and body.
        classes: names; PASCAL VOC's twenty by default.
        short: images are resized to this short side,
        long: unless their long side would exceed this.
        anchor_sizes: square roots of the anchors' areas, in pixels of the prepared image.
        anchor_ratios: height / width of the anchors.
        rpn_channels: of the RPN's 3x3 convolution.
        train_proposals: P in training; six times as many are looked at before NMS.
        proposals: P at test, out of the best 6000.
        head_samples: RoIs an image in training.
        max_detections: D.
        train_from: name of the first layer that is trained; earlier ones are frozen (Girshick 2015, section 4.5:
            ``"conv3_1"`` for VGG-16 from ImageNet weights). ``None`` trains all.
        inputs: channel order, mean and scale of the backbone's weights, one of
            :data:`zoo.backbones.inputs.INPUTS`.
    """
    colours = input_convention(inputs)
    if train_from is not None:
        _freeze_before(parts.extractor, train_from)
    return FasterRCNN(
        parts.extractor,
        parts.body,
        VOC_CLASSES if classes is None else classes,
        Preprocessing(short, long, mean=colours.mean, std=colours.std, order=colours.order, name="preprocessing"),
        stride=parts.stride,
        pool_size=parts.pool_size,
        anchor_sizes=anchor_sizes,
        anchor_ratios=anchor_ratios,
        rpn_channels=rpn_channels,
        train_proposals=(6 * train_proposals, train_proposals),
        test_proposals=(6000, proposals),
        # Boxes smaller than a cell of the feature map at 600 pixels; small images have smaller ones.
        proposal_min_size=min(16.0, min(anchor_sizes) / 4),
        head_samples=head_samples,
        max_detections=max_detections,
        name=name,
    )


def _freeze_before(extractor: keras.Model, layer: str) -> None:
    names = [each.name for each in extractor.layers]
    if layer not in names:
        weighted = [each.name for each in extractor.layers if each.weights]
        raise ValueError(f"train_from={layer!r} is no layer of the extractor; it has {', '.join(weighted)}")
    for each in extractor.layers[: names.index(layer)]:
        each.trainable = False


def _plain(name: str, parts: Callable[[int], DetectorParts], rpn: int, summary: str, params: int) -> None:
    """Register a detector whose head is fc6 and fc7."""

    def builder(
        classes: Sequence[str] | None = None,
        *,
        short: int = 600,
        long: int = 1000,
        anchor_sizes: Sequence[float] = (128, 256, 512),
        anchor_ratios: Sequence[float] = (0.5, 1, 2),
        rpn_channels: int = rpn,
        head_units: int = 4096,
        train_proposals: int = 2000,
        proposals: int = 300,
        head_samples: int = 128,
        max_detections: int = 100,
        train_from: str | None = None,
        inputs: str = DEFAULT_INPUTS,
    ) -> FasterRCNN:
        return assemble(
            name,
            parts(head_units),
            classes,
            short=short,
            long=long,
            anchor_sizes=anchor_sizes,
            anchor_ratios=anchor_ratios,
            rpn_channels=rpn_channels,
            train_proposals=train_proposals,
            proposals=proposals,
            head_samples=head_samples,
            max_detections=max_detections,
            train_from=train_from,
            inputs=inputs,
        )

    _register(builder, name, summary, params, "Ren, He, Girshick, Sun 2015")


def _residual(name: str, params: int, default_head: str = "conv5", default_units: int = 1024) -> None:
    """Register a detector on a ResNet."""

    def builder(
        classes: Sequence[str] | None = None,
        *,
        short: int = 600,
        long: int = 1000,
        anchor_sizes: Sequence[float] = (128, 256, 512),
        anchor_ratios: Sequence[float] = (0.5, 1, 2),
        rpn_channels: int = 512,
        norm: str = "group",
        head: str = default_head,
        head_units: int = default_units,
        train_proposals: int = 2000,
        proposals: int = 300,
        head_samples: int = 128,
        max_detections: int = 100,
        train_from: str | None = None,
        inputs: str = DEFAULT_INPUTS,
    ) -> FasterRCNN:
        return assemble(
            name,
            resnet_parts(name.removeprefix("faster_rcnn_"), norm, head, head_units),
            classes,
            short=short,
            long=long,
            anchor_sizes=anchor_sizes,
            anchor_ratios=anchor_ratios,
            rpn_channels=rpn_channels,
            train_proposals=train_proposals,
            proposals=proposals,
            head_samples=head_samples,
            max_detections=max_detections,
            train_from=train_from,
            inputs=inputs,
        )

    where = "conv5 as the head" if default_head == "conv5" else "two dense layers as the head"
    summary = f"Faster R-CNN on {name.removeprefix('faster_rcnn_')}, {where}"
    _register(builder, name, summary, params, "Ren 2015; He, Zhang, Ren, Sun 2016")


def _register(builder, name: str, summary: str, params: int, paper: str) -> None:
    builder.__name__ = builder.__qualname__ = name
    builder.__doc__ = f"{summary}; see :func:`zoo.detectors.models.assemble` for the options."
    register(
        task="detection",
        paper=paper,
        summary=summary,
        params=params,
        input="RGB 0-255, any size",
        preprocessing=Preprocessing().describe(),
        source="arXiv:1506.01497; constants of its Python release, py-faster-rcnn",
        weights=shipped_weights(name),
    )(builder)
    globals()[name] = builder


_plain("faster_rcnn_alexnet", alexnet_parts, 256, "Faster R-CNN on AlexNet", 57_902_368)
_plain("faster_rcnn_vgg16", lambda units: vgg_parts("vgg16", units), 512, "Faster R-CNN on VGG-16", 137_078_240)
_plain("faster_rcnn_vgg19", lambda units: vgg_parts("vgg19", units), 512, "Faster R-CNN on VGG-19", 142_387_936)
_residual("faster_rcnn_resnet18", 10_732_448, "fc", 512)
_residual("faster_rcnn_resnet50", 28_496_544)
_residual("faster_rcnn_resnet101", 47_514_784)
_residual("faster_rcnn_resnet152", 63_181_472)
