"""The registered Fast R-CNNs: one builder a backbone; ``fast_rcnn_vgg_m`` is on VGG_CNN_M_1024."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from zoo.backbones.alexnet import alexnet_parts
from zoo.backbones.alexnet_one_tower import one_tower_parts
from zoo.backbones.parts import DetectorParts
from zoo.backbones.resnet import resnet_parts
from zoo.backbones.vgg import vgg_parts
from zoo.backbones.vgg_m import vgg_m_parts
from zoo.detectors.fast_rcnn import FastRCNN
from zoo.detectors.freezing import freeze_layers
from zoo.detectors.registering import prepared_by, register_detector
from zoo.detectors.voc_classes import VOC_CLASSES
from zoo.heads.low_rank import with_ranks


def assemble(
    name: str,
    parts: DetectorParts,
    classes: Sequence[str] | None,
    *,
    short: int | Sequence[int] = 600,
    long: int = 1000,
    proposals: int = 2000,
    head_samples: int = 64,
    background_from: float = 0.1,
    box_weight: float = 1.0,
    bbox: str = "multi",
    refine: bool = True,
    scoring: str = "softmax",
    use_difficult: bool = False,
    max_detections: int = 100,
    train_from: str | None = None,
    inputs: str = "chainer_imagenet",
    rounding: str = "nearest",
    convention: str = "continuous",
    ranks: Mapping[str, int] | None = None,
) -> FastRCNN:
    """A Fast R-CNN from a backbone's parts; every registered builder has these options, and its backbone's.

    Args:
        name: of the model.
        parts: extractor and body.
        classes: names; PASCAL VOC's twenty by default.
        short: images are resized to this short side; of several, such as ``(480, 576, 688, 864, 1200)`` with
            ``long=2000``, an image pyramid is made, in which each RoI goes to the scale nearest 224 x 224 (table 7).
        long: the long side is at most this.
        proposals: of an image, at the most, at test (figure 3).
        head_samples: RoIs an image in training; 128 in a batch of two images.
        background_from: least overlap of background RoIs with an object.
        box_weight: lambda, the weight of the box loss.
        bbox: ``"multi"``, boxes are regressed, which is learnt with the classification; or ``"none"``.
        refine: whether boxes are regressed at test (table 6).
        scoring: ``"svm"`` for the margins of support vector machines in place of the softmax (table 8), which
            :func:`zoo.training.svm.train_svms` makes of a trained model.
        use_difficult: train on objects marked difficult.
        max_detections: D.
        train_from: name of the first layer that is trained; earlier ones are frozen (section 4.5: ``"conv3_1"`` for
            VGG-16 from ImageNet weights, ``"conv2"`` for smaller networks). ``None`` trains all.
        inputs: channel order, mean and scale of the backbone's weights, one of
            :data:`zoo.backbones.inputs.INPUTS`.
        rounding: of prepared sizes, see :class:`zoo.detectors.preprocessing.Preprocessing`: ``"factor"`` as the
            releases.
        convention: of boxes within the model, see :class:`zoo.detectors.fast_rcnn.FastRCNN`: ``"fast-rcnn"`` as the
            paper's release, ``"caffe"`` as py-faster-rcnn.
        ranks: of dense layers whose kernel is a product of two thin ones (section 3.1); :func:`zoo.compress` makes
            such a model of a trained one.
    """
    if train_from is not None:
        freeze_layers(parts.extractor, train_from, "the extractor")
    scales = () if isinstance(short, int) else tuple(short)
    return FastRCNN(
        parts.extractor,
        with_ranks(parts.body, ranks or {}),
        VOC_CLASSES if classes is None else classes,
        prepared_by(inputs, scales[0] if scales else short, long, rounding),
        scales=scales if len(scales) > 1 else (),
        stride=parts.stride,
        pool_size=parts.pool_size,
        proposals=proposals,
        head_samples=head_samples,
        background_from=background_from,
        box_weight=box_weight,
        bbox=bbox,
        refine=refine,
        scoring=scoring,
        use_difficult=use_difficult,
        max_detections=max_detections,
        convention=convention,
        name=name,
    )


def _register(
    backbone: Callable[..., DetectorParts],
    name: str,
    summary: str,
    params: int,
    paper: str = "Girshick 2015",
    base: str = "",
    **defaults: object,
) -> None:
    """Register a detector; see :func:`zoo.detectors.registering.register_detector` for the arguments."""
    source = "arXiv:1504.08083; constants of its release, fast-rcnn"
    globals()[name] = register_detector(
        assemble, backbone, name, summary, params, paper=paper, source=source, defaults=defaults, base=base
    )


def _residual(backbone: str, params: int, **defaults: object) -> None:
    """Register the detector on a ResNet."""
    where = "two dense layers as the head" if defaults.get("head") == "fc" else "conv5 as the head"
    _register(
        partial(resnet_parts, backbone),
        f"fast_rcnn_{backbone}",
        f"Fast R-CNN on {backbone}, {where}",
        params,
        "Girshick 2015; He, Zhang, Ren, Sun 2016",
        **defaults,
    )


_register(partial(alexnet_parts, "alexnet"), "fast_rcnn_alexnet", "Fast R-CNN on AlexNet", 57_298_570)
_register(
    partial(alexnet_parts, "caffenet"), "fast_rcnn_caffenet", "Fast R-CNN on CaffeNet ('S')", 57_298_570, lrn="caffe"
)
_register(one_tower_parts, "fast_rcnn_alexnet_one_tower", "Fast R-CNN on one-tower AlexNet", 57_434_186)
_register(vgg_m_parts, "fast_rcnn_vgg_m", "Fast R-CNN on VGG_CNN_M_1024 ('M')", 86_333_322, base="vgg_cnn_m_1024")
_register(partial(vgg_parts, "vgg11"), "fast_rcnn_vgg11", "Fast R-CNN on VGG-11", 129_196_682)
_register(partial(vgg_parts, "vgg13"), "fast_rcnn_vgg13", "Fast R-CNN on VGG-13", 129_381_194)
_register(partial(vgg_parts, "vgg16"), "fast_rcnn_vgg16", "Fast R-CNN on VGG-16 ('L')", 134_690_890)
_register(partial(vgg_parts, "vgg19"), "fast_rcnn_vgg19", "Fast R-CNN on VGG-19", 140_000_586)
_residual("resnet18", 9_524_746, head="fc", head_units=512)
_residual("resnet34", 14_914_954, head="fc", head_units=512)
_residual("resnet50", 23_749_898)
_residual("resnet101", 42_768_138)
_residual("resnet152", 58_434_826)
