"""The registered SPPnets: one builder a backbone."""

from collections.abc import Mapping, Sequence

from zoo.backbones.parts import DetectorParts
from zoo.detectors.baseline_backbones import BACKBONES
from zoo.detectors.freezing import freeze_layers
from zoo.detectors.registering import prepared_by, register_detector
from zoo.detectors.sppnet import SPPNet, pyramid_body
from zoo.detectors.voc_classes import VOC_CLASSES
from zoo.heads.low_rank import with_ranks


def assemble(
    name: str,
    parts: DetectorParts,
    classes: Sequence[str] | None,
    *,
    levels: Sequence[int] | None = None,
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
) -> SPPNet:
    """An SPPnet from a backbone's parts; every registered builder has these options, and its backbone's.

    Options that are not listed are those of :func:`zoo.detectors.fast_models.assemble`.

    Args:
        name: of the model.
        parts: extractor, and a body of dense layers.
        classes: names; PASCAL VOC's twenty by default.
        levels: bins a side of each level of the pyramid, the finest first; by default that of the backbone's RoI
            pooling (6 for AlexNet and its kind, 7 for VGG), then 3, 2 and 1.
        short: images are resized to this short side; or five, ``(480, 576, 688, 864, 1200)`` with ``long=2000``, as
            the paper's section 4.1 has it: each RoI goes to the scale nearest 224 x 224.
        train_from: name of the first convolution that is trained; ``None`` fixes all of them, as the paper does.
            (Girshick 2015, section 4.5, compares both.)
    """
    if train_from is None:
        for layer in parts.extractor.layers:
            layer.trainable = False
    else:
        freeze_layers(parts.extractor, train_from, "the extractor")
    levels = (parts.pool_size, 3, 2, 1) if levels is None else tuple(levels)
    scales = () if isinstance(short, int) else tuple(short)
    return SPPNet(
        parts.extractor,
        with_ranks(pyramid_body(parts.body, levels), ranks or {}),
        VOC_CLASSES if classes is None else classes,
        prepared_by(inputs, scales[0] if scales else short, long, rounding),
        scales=scales if len(scales) > 1 else (),
        stride=parts.stride,
        pool_size=levels,
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


_PARAMS = {
    "alexnet": 71_978_634,
    "caffenet": 71_978_634,
    "alexnet_one_tower": 72_114_250,
    "vgg_m": 115_693_450,
    "vgg11": 158_556_810,
    "vgg13": 158_741_322,
    "vgg16": 164_051_018,
    "vgg19": 169_360_714,
    "resnet18": 11_359_754,
    "resnet34": 16_749_962,
    "resnet50": 75_777_290,
    "resnet101": 94_795_530,
    "resnet152": 110_462_218,
}

for _backbone in BACKBONES:
    _head = {"head": "fc"} if _backbone.name.startswith("resnet") else {}
    _name = f"sppnet_{_backbone.name}"
    globals()[_name] = register_detector(
        assemble,
        _backbone.parts,
        _name,
        f"SPPnet on {_backbone.title}: a pyramid of bins, convolutions fixed",
        _PARAMS[_backbone.name],
        paper="He, Zhang, Ren, Sun 2014",
        source="arXiv:1406.4729, section 4; training as in arXiv:1504.08083",
        defaults={**_backbone.defaults, **_head},
        base=_backbone.base,
    )
