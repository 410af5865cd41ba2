"""The registered R-CNNs: one builder a backbone."""

from collections.abc import Mapping, Sequence

from zoo.backbones.inputs import input_convention
from zoo.backbones.parts import DetectorParts
from zoo.detectors.baseline_backbones import BACKBONES
from zoo.detectors.freezing import freeze_layers
from zoo.detectors.rcnn import RCNN
from zoo.detectors.registering import register_detector
from zoo.detectors.voc_classes import VOC_CLASSES
from zoo.detectors.warping import Warping
from zoo.heads.low_rank import with_ranks


def assemble(
    name: str,
    parts: DetectorParts,
    classes: Sequence[str] | None,
    *,
    side: int = 224,
    context: int = 16,
    at_once: int = 32,
    proposals: int = 2000,
    head_samples: int = 64,
    background_from: float = 0.0,
    box_weight: float = 1.0,
    bbox: str = "none",
    refine: bool = True,
    scoring: str = "softmax",
    use_difficult: bool = False,
    max_detections: int = 100,
    train_from: str | None = None,
    inputs: str = "chainer_imagenet",
    convention: str = "continuous",
    ranks: Mapping[str, int] | None = None,
) -> RCNN:
    """An R-CNN from a backbone's parts; every registered builder has these options, and its backbone's.

    Options that are not listed are those of :func:`zoo.detectors.fast_models.assemble`.

    Args:
        name: of the model.
        parts: extractor and body.
        classes: names; PASCAL VOC's twenty by default.
        side: of the crops, in pixels; that of the classifier's pictures.
        context: pixels of surroundings in a crop, on each side (appendix A: p = 16).
        at_once: crops that are computed at a time at test.
        head_samples: crops an image in training.
        background_from: least overlap of background crops with an object: none (section 2.3).
        bbox: ``"none"``: boxes are regressed after the training, by :func:`zoo.training.ridge_boxes.fit_boxes`;
            ``"multi"``, which that makes, trains them with the classes as a Fast R-CNN does.
    """
    if train_from is not None:
        freeze_layers(parts.extractor, train_from, "the extractor")
    colours = input_convention(inputs)
    return RCNN(
        parts.extractor,
        with_ranks(parts.body, ranks or {}),
        VOC_CLASSES if classes is None else classes,
        Warping(side, context, at_once, colours.mean, colours.std, colours.order, name="preprocessing"),
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


_PARAMS = {
    "alexnet": 56_954_262,
    "caffenet": 56_954_262,
    "alexnet_one_tower": 57_089_878,
    "vgg_m": 86_247_062,
    "vgg11": 128_852_374,
    "vgg13": 129_036_886,
    "vgg16": 134_346_582,
    "vgg19": 139_656_278,
    "resnet18": 9_481_494,
    "resnet34": 14_871_702,
    "resnet50": 23_577_622,
    "resnet101": 42_595_862,
    "resnet152": 58_262_550,
}

for _backbone in BACKBONES:
    _name = f"rcnn_{_backbone.name}"
    globals()[_name] = register_detector(
        assemble,
        _backbone.parts,
        _name,
        f"R-CNN on {_backbone.title}: the network on a warped crop of each proposal",
        _PARAMS[_backbone.name],
        paper="Girshick, Donahue, Darrell, Malik 2014",
        source="arXiv:1311.2524, appendices A and C; its release, rcnn",
        defaults={**_backbone.defaults, "side": _backbone.side},
        base=_backbone.base,
        preprocessing=Warping(_backbone.side).describe(),
    )
