"""All known layouts, and which of them a file has."""

from __future__ import annotations

from zoo.convert.caffe import CaffePlain, CaffeResNet
from zoo.convert.chainercv import ChainerResNet, ChainerVGG
from zoo.convert.detectors import CaffeFasterRCNN, ChainerFasterRCNN
from zoo.convert.fast_caffe import CaffeFastRCNN
from zoo.convert.keras_applications import KerasResNet, KerasVGG
from zoo.convert.layout import ArrayFile, Layout
from zoo.convert.onnx_zoo import OnnxCaffe2, OnnxGluonResNet, OnnxGluonVGG
from zoo.convert.torchvision import TorchAlexNet, TorchResNet, TorchVGG
from zoo.weights_error import WeightsError

CLASSIFIERS: tuple[Layout, ...] = (
    KerasVGG(),
    KerasResNet(),
    ChainerVGG(),
    ChainerResNet(),
    TorchAlexNet(),
    TorchVGG(),
    TorchResNet(),
    OnnxCaffe2(),
    OnnxGluonVGG(),
    OnnxGluonResNet(),
    CaffePlain(),
    CaffeResNet(),
)
DETECTORS: tuple[Layout, ...] = (ChainerFasterRCNN(), CaffeFasterRCNN(), CaffeFastRCNN())
LAYOUTS: tuple[Layout, ...] = CLASSIFIERS + DETECTORS


def find_layout(file: ArrayFile) -> Layout:
    """The layout of an open file, told by the names of its arrays.

    Raises:
        WeightsError: none fits; the message lists some of the file's arrays and the known layouts.
    """
    fits = [layout for layout in LAYOUTS if layout.recognises(file.shapes)]
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise WeightsError(f"{file.path} could be {' or '.join(layout.about for layout in fits)}; please report it")
    names = ", ".join(list(file.shapes)[:5]) or "none"
    known = "; ".join(layout.about for layout in LAYOUTS)
    raise WeightsError(
        f"{file.path} ({file.format}, {len(file)} arrays: {names}, ...) has no known layout. Known: {known}"
    )
