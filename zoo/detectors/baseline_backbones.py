"""The backbones of the baselines that the Fast R-CNN paper compares with: those of the registered Fast R-CNNs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from zoo.backbones.alexnet import alexnet_parts
from zoo.backbones.alexnet_one_tower import one_tower_parts
from zoo.backbones.parts import DetectorParts
from zoo.backbones.resnet import resnet_parts
from zoo.backbones.vgg import vgg_parts
from zoo.backbones.vgg_m import vgg_m_parts


@dataclass(frozen=True)
class Backbone:
    """A backbone to register a detector on.

    Attributes:
        name: how detectors' names end.
        title: for people.
        parts: makes extractor and body.
        side: of the square pictures that it was trained on, in pixels.
        defaults: where an option's default is another one.
        base: the classifier, where the name does not tell.
    """

    name: str
    title: str
    parts: Callable[..., DetectorParts]
    side: int = 224
    defaults: Mapping[str, object] = field(default_factory=dict)
    base: str = ""


def _residual(name: str, **defaults: object) -> Backbone:
    title = f"ResNet-{name.removeprefix('resnet')}"
    return Backbone(name, title, partial(resnet_parts, name), defaults=defaults)


BACKBONES = (
    Backbone("alexnet", "AlexNet", partial(alexnet_parts, "alexnet"), side=227),
    Backbone("caffenet", "CaffeNet", partial(alexnet_parts, "caffenet"), side=227, defaults={"lrn": "caffe"}),
    Backbone("alexnet_one_tower", "one-tower AlexNet", one_tower_parts),
    Backbone("vgg_m", "VGG_CNN_M_1024", vgg_m_parts, base="vgg_cnn_m_1024"),
    Backbone("vgg11", "VGG-11", partial(vgg_parts, "vgg11")),
    Backbone("vgg13", "VGG-13", partial(vgg_parts, "vgg13")),
    Backbone("vgg16", "VGG-16", partial(vgg_parts, "vgg16")),
    Backbone("vgg19", "VGG-19", partial(vgg_parts, "vgg19")),
    _residual("resnet18", head="fc", head_units=512),
    _residual("resnet34", head="fc", head_units=512),
    _residual("resnet50"),
    _residual("resnet101"),
    _residual("resnet152"),
)
