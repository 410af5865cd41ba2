"""What different releases of weights were trained on: channel order, mean and scale of the input, by name."""

from dataclasses import dataclass
from typing import Literal

from zoo.backbones.norm import InputNormalisation


@dataclass(frozen=True)
class InputConvention:
    """How RGB images of 0-255 become a network's input: reordered, minus ``mean``, divided by ``std``.

    Attributes:
        mean: three numbers in the order of ``order``, in levels of 0-255.
        std: three numbers likewise.
        order: ``"rgb"`` or ``"bgr"``.
        source: whose weights want it.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    order: Literal["rgb", "bgr"] = "rgb"
    source: str = ""

    def describe(self) -> str:
        """One line for people.

        >>> INPUTS["bvlc"].describe()
        'BGR 0-255, minus (104.0, 117.0, 123.0)'
        """
        steps = [f"{self.order.upper()} 0-255"]
        if any(self.mean):
            steps.append(f"minus {self.mean}")
        if any(each != 1 for each in self.std):
            steps.append(f"divided by {self.std}")
        return ", ".join(steps)


# A mean in RGB order subtracted from a BGR image goes unnoticed and costs some per cent: each is written out as its
# release has it.
INPUTS: dict[str, InputConvention] = {
    "caffe": InputConvention(
        (103.939, 116.779, 123.68),
        order="bgr",
        source="the VGG authors' Caffe release; keras.applications' VGG and ResNet",
    ),
    "chainer": InputConvention(
        (122.7717, 115.9465, 102.9801),
        source="ChainerCV's Faster R-CNN, and its VGG-16 under it",
    ),
    "chainer_imagenet": InputConvention(
        (123.68, 116.779, 103.939),
        source="ChainerCV's VGG-16 classifier",
    ),
    "chainer_resnet": InputConvention(
        (123.15163084, 115.90288257, 103.0626238),
        source="ChainerCV's ResNet classifiers: the same colour as caffe_resnet",
    ),
    "caffe_resnet": InputConvention(
        (103.0626238, 115.90288257, 123.15163084),
        order="bgr",
        source="the Caffe release of He 2016: the colour of its mean image",
    ),
    "py": InputConvention(
        (102.9801, 115.9465, 122.7717),
        order="bgr",
        source="Fast R-CNN and py-faster-rcnn, PIXEL_MEANS",
    ),
    "torch": InputConvention(
        (255 * 0.485, 255 * 0.456, 255 * 0.406),
        (255 * 0.229, 255 * 0.224, 255 * 0.225),
        source="torchvision; the ONNX model zoo's VGG and ResNet",
    ),
    "bvlc": InputConvention(
        (104.0, 117.0, 123.0),
        order="bgr",
        source="BVLC's AlexNet and CaffeNet: the colour of ImageNet's mean image",
    ),
    "raw": InputConvention((0.0, 0.0, 0.0), source="RGB 0-255 as it comes"),
}


def input_convention(name: str) -> InputConvention:
    """The convention ``name``.

    Raises:
        ValueError: there is none; the message lists all.

    Example:
        >>> input_convention("py").mean
        (102.9801, 115.9465, 122.7717)
    """
    if not isinstance(name, str) or name not in INPUTS:
        raise ValueError(f"unknown input convention {name!r}; there are {', '.join(map(repr, INPUTS))}")
    return INPUTS[name]


def normalised(images, inputs: str):
    """Apply the convention ``inputs`` to a Keras tensor of RGB images, 0-255."""
    convention = input_convention(inputs)
    layer = InputNormalisation(convention.mean, convention.std, convention.order, name="normalise")
    return layer(images)


# What a classifier says of its preprocessing before it has weights.
CLASSIFIER_PREPROCESSING = f"{INPUTS['caffe'].describe()}, inside the model; option inputs= for other releases"
