"""The registered Faster R-CNNs: one builder a backbone."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from zoo.backbones.alexnet import alexnet_parts
from zoo.backbones.alexnet_one_tower import one_tower_parts
from zoo.backbones.parts import DetectorParts
from zoo.backbones.resnet import resnet_parts
from zoo.backbones.vgg import vgg_parts
from zoo.backbones.vgg_m import vgg_m_parts
from zoo.detectors.faster_rcnn import FasterRCNN
from zoo.detectors.freezing import freeze_layers
from zoo.detectors.registering import prepared_by, register_detector
from zoo.detectors.voc_classes import VOC_CLASSES
from zoo.heads.low_rank import with_ranks


def assemble(
    name: str,
    parts: DetectorParts,
    classes: Sequence[str] | None,
    *,
    short: int = 600,
    long: int = 1000,
    anchor_sizes: Sequence[float] = (128, 256, 512),
    anchor_ratios: Sequence[float] = (0.5, 1, 2),
    rpn_channels: int = 512,
    train_proposals: int = 2000,
    proposals: int = 300,
    head_samples: int = 128,
    max_detections: int = 100,
    train_from: str | None = None,
    inputs: str = "chainer_imagenet",
    rounding: str = "nearest",
    convention: str = "continuous",
    rank_by: str = "softmax",
    min_size_in: str = "prepared",
    edge_cells: bool = False,
    ranks: Mapping[str, int] | None = None,
) -> FasterRCNN:
    """A Faster R-CNN from a backbone's parts; every registered builder has these options, and its backbone's.

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
        rounding: of prepared sizes, see :class:`zoo.detectors.preprocessing.Preprocessing`: ``"floor"`` as ChainerCV,
            ``"factor"`` as py-faster-rcnn.
        convention: of boxes within the model, see :class:`zoo.detectors.faster_rcnn.FasterRCNN`: ``"caffe"`` as
            py-faster-rcnn.
        rank_by: what proposals are ranked by; ``"logit"`` as ChainerCV.
        min_size_in: pixels that the least size of proposals is measured in; ``"original"`` as both.
        edge_cells: whether anchors centred beyond the right and bottom border propose; they do in both.
        ranks: of dense layers whose kernel is a product of two thin ones, such as ``{"fc6": 1024, "fc7": 256}``
            (Girshick 2015, section 3.1); :func:`zoo.compress` makes such a model of a trained one.
    """
    if train_from is not None:
        freeze_layers(parts.extractor, train_from, "the extractor")
    return FasterRCNN(
        parts.extractor,
        with_ranks(parts.body, ranks or {}),
        VOC_CLASSES if classes is None else classes,
        prepared_by(inputs, short, long, rounding),
        stride=parts.stride,
        pool_size=parts.pool_size,
        anchor_sizes=anchor_sizes,
        anchor_ratios=anchor_ratios,
        rpn_channels=rpn_channels,
        train_proposals=(6 * train_proposals, train_proposals),
        test_proposals=(6000, proposals),
        # Boxes smaller than a cell of the feature map at 600 pixels; small images have smaller ones.
        proposal_min_size=min(16.0, min(anchor_sizes) / 4),
        min_size_in=min_size_in,
        rank_by=rank_by,
        edge_cells=edge_cells,
        head_samples=head_samples,
        max_detections=max_detections,
        convention=convention,
        name=name,
    )


def _register(
    backbone: Callable[..., DetectorParts],
    name: str,
    summary: str,
    params: int,
    paper: str = "Ren, He, Girshick, Sun 2015",
    **defaults: object,
) -> None:
    """Register a detector; see :func:`zoo.detectors.registering.register_detector` for the arguments."""
    source = "arXiv:1506.01497; constants of its Python release, py-faster-rcnn"
    globals()[name] = register_detector(
        assemble, backbone, name, summary, params, paper=paper, source=source, defaults=defaults
    )


def _residual(backbone: str, params: int, **defaults: object) -> None:
    """Register the detector on a ResNet."""
    where = "two dense layers as the head" if defaults.get("head") == "fc" else "conv5 as the head"
    _register(
        partial(resnet_parts, backbone),
        f"faster_rcnn_{backbone}",
        f"Faster R-CNN on {backbone}, {where}",
        params,
        "Ren 2015; He, Zhang, Ren, Sun 2016",
        **defaults,
    )


_register(
    partial(alexnet_parts, "alexnet"), "faster_rcnn_alexnet", "Faster R-CNN on AlexNet", 57_902_368, rpn_channels=256
)
_register(
    partial(alexnet_parts, "caffenet"),
    "faster_rcnn_caffenet",
    "Faster R-CNN on CaffeNet",
    57_902_368,
    rpn_channels=256,
    lrn="caffe",
)
_register(
    one_tower_parts, "faster_rcnn_alexnet_one_tower", "Faster R-CNN on one-tower AlexNet", 58_037_984, rpn_channels=256
)
_register(vgg_m_parts, "faster_rcnn_vgg_cnn_m_1024", "Faster R-CNN on VGG_CNN_M_1024", 88_720_672)
_register(partial(vgg_parts, "vgg11"), "faster_rcnn_vgg11", "Faster R-CNN on VGG-11", 131_584_032)
_register(partial(vgg_parts, "vgg13"), "faster_rcnn_vgg13", "Faster R-CNN on VGG-13", 131_768_544)
_register(partial(vgg_parts, "vgg16"), "faster_rcnn_vgg16", "Faster R-CNN on VGG-16", 137_078_240)
_register(partial(vgg_parts, "vgg19"), "faster_rcnn_vgg19", "Faster R-CNN on VGG-19", 142_387_936)
_residual("resnet18", 10_732_448, head="fc", head_units=512)
_residual("resnet34", 16_122_656, head="fc", head_units=512)
_residual("resnet50", 28_496_544)
_residual("resnet101", 47_514_784)
_residual("resnet152", 63_181_472)
