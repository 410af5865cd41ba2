"""Published weights as data: where they are, how they are checked, what they want and what they are said to reach.

The figures are their publishers'; none was measured here. Nothing is fetched before a model asks for it.
"""

from __future__ import annotations

from zoo.convert.detectors import CaffeFasterRCNN, ChainerFasterRCNN
from zoo.convert.fast_caffe import CaffeFastRCNN
from zoo.detectors.voc_classes import VOC_CLASSES
from zoo.imagenet import imagenet_classes
from zoo.weights_entry import WeightsEntry

_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"
_CHAINERCV = "https://chainercv-models.preferred.jp"
# Where the ONNX model zoo has been since GitHub stopped serving its large files.
_ONNX = "https://huggingface.co/onnxmodelzoo/legacy_models/resolve/main/validated/vision/classification"
_CC_BY = "CC BY 4.0 (the weights of the VGG authors)"
_HE = "MIT (He's release)"
# What Fast R-CNN's release was trained from.
_STARTS = {
    "caffenet": "BVLC's weights, for unrestricted use",
    "vgg_cnn_m_1024": "weights of Chatfield 2014, whose own terms hold",
    "vgg16": _CC_BY,
}
_VALIDATION = "of ILSVRC 2012's validation images, one crop"


def published_weights(model: str) -> tuple[WeightsEntry, ...]:
    """Entries of all published weights of ``model``; the first is what it is best known with.

    >>> [entry.name for entry in published_weights("vgg16")]
    ['imagenet', 'imagenet-caffe']
    """
    return tuple(_entries().get(model, ()))


def _entries() -> dict[str, list[WeightsEntry]]:
    return {
        "alexnet": [_onnx("alexnet", "bvlcalexnet-12", 243_863_787, _ALEXNET_SHA, "54.80% and 78.23%")],
        "caffenet": [_onnx("caffenet", "caffenet-12", 243_863_798, _CAFFENET_SHA, "56.27% and 79.52%")],
        "vgg16": [
            _keras("vgg16", "vgg16", "64373286793e3c8b2b4e3219cbf3544b", "28.7%", _CC_BY, _KERAS_VGG),
            _chainer(
                "imagenet-caffe",
                "vgg16_imagenet_converted_2017_07_18.npz",
                f"top-1 error 29.0% {_VALIDATION}; 27.1% with ten",
                _CC_BY,
                {"inputs": "chainer_imagenet"},
                "RGB 0-255, minus (123.68, 116.779, 103.939); short side 256, the middle 224 x 224",
                "the VGG authors' Caffe release, converted by ChainerCV",
            ),
        ],
        "vgg19": [_keras("vgg19", "vgg19", "cbe5617147190e668d6c5d5026f83318", "28.7%", _CC_BY, _KERAS_VGG)],
        "resnet50": _resnets("resnet50", "2cb95161c43110f7111970584f804107", "25.1%", "24.8%"),
        "resnet101": _resnets("resnet101", "f1aeb4b969a6efcfb50fad2f0c20cfc5", "23.6%", "23.6%"),
        "resnet152": _resnets("resnet152", "100835be76be38e30d865e96f2aaae62", "23.4%", "23.2%"),
        "faster_rcnn_vgg16": [
            _chainer_detector("voc07", "2018_06_01", "c4411beaaff934b5c17e8ce8b74b0aa2", "VOC 2007 trainval", "70.6"),
            _chainer_detector(
                "voc0712", "2017_07_21", "b2268f7612817ac71011807a901ef506", "VOC 2007 and 2012 trainval", "74.7"
            ),
            _py_detector(),
        ],
        "fast_rcnn_caffenet": [_fast_detector("fast_rcnn_caffenet", "caffenet", "57.1")],
        "fast_rcnn_vgg_m": [_fast_detector("fast_rcnn_vgg_m", "vgg_cnn_m_1024", "59.2")],
        "fast_rcnn_vgg16": [_fast_detector("fast_rcnn_vgg16", "vgg16", "66.9")],
    }


_ALEXNET_SHA = "6b0da9510f27f234ee96a85dc3809dd210150fdefad87f6850f9788513216945"
_CAFFENET_SHA = "ea563e5c47d1f58e1717cf1a2d8bf288b8adc07af0ad228b622096cd243aeecb"
_KERAS_VGG = {"inputs": "caffe"}
_KERAS_RESNET = {"inputs": "caffe", "epsilon": 1.001e-5, "pool": "padded", "stride_in": "1x1"}
_CHAINER_RESNET = {"inputs": "chainer_resnet", "epsilon": 2e-5, "pool": "covering", "stride_in": "1x1"}


def _resnets(model: str, md5: str, keras_error: str, chainer_error: str) -> list[WeightsEntry]:
    return [
        _keras(model, "resnet", md5, keras_error, _HE, _KERAS_RESNET),
        _chainer(
            "imagenet-he",
            f"{model}_imagenet_converted_2018_03_07.npz",
            f"top-1 error {chainer_error} {_VALIDATION}",
            _HE,
            _CHAINER_RESNET,
            "RGB 0-255, minus (123.15163084, 115.90288257, 103.0626238); short side 256, the middle 224 x 224",
            "He's Caffe release, converted by ChainerCV",
        ),
    ]


def _keras(model: str, folder: str, md5: str, error: str, licence: str, options: dict[str, object]) -> WeightsEntry:
    file = f"{model}_weights_tf_dim_ordering_tf_kernels.h5"
    return WeightsEntry(
        name="imagenet",
        file=file,
        url=f"{_KERAS}/{folder}/{file}",
        md5=md5,
        classes=imagenet_classes(),
        options=options,
        layout="keras_applications",
        licence=licence,
        source="keras.applications; md5 from its source",
        published_score=f"top-1 error {error} {_VALIDATION}",
        preprocessing="BGR 0-255, minus (103.939, 116.779, 123.68); short side 256, the middle 224 x 224",
    )


def _chainer(
    name: str,
    file: str,
    score: str,
    licence: str,
    options: dict[str, object],
    preprocessing: str,
    source: str,
) -> WeightsEntry:
    return WeightsEntry(
        name=name,
        file=file,
        url=f"{_CHAINERCV}/{file}",
        classes=imagenet_classes(),
        options=options,
        layout="chainercv",
        licence=licence,
        source=f"{source}; no hash was published: the archive's own check sums are compared",
        published_score=score,
        preprocessing=preprocessing,
    )


def _onnx(folder: str, stem: str, size: int, sha256: str, accuracy: str) -> WeightsEntry:
    return WeightsEntry(
        name="imagenet",
        file=f"{stem}.onnx",
        url=f"{_ONNX}/{folder}/model/{stem}.onnx",
        size=size,
        sha256=sha256,
        classes=imagenet_classes(),
        options={"inputs": "bvlc", "lrn": "caffe"},
        layout="onnx",
        licence="BSD-3-Clause (the ONNX model zoo); BVLC's weights are for unrestricted use",
        source="the ONNX model zoo, which has them from BVLC's Caffe release through Caffe2",
        published_score=f"top-1 and top-5 accuracy {accuracy} {_VALIDATION} of 224 x 224 (option side=224)",
        preprocessing="BGR 0-255, minus (104, 117, 123); short side 256, the middle 227 x 227",
    )


def _chainer_detector(name: str, date: str, md5: str, trained_on: str, score: str) -> WeightsEntry:
    file = f"faster_rcnn_vgg16_{name}_trained_{date}.npz"
    return WeightsEntry(
        name=name,
        file=file,
        url=f"{_CHAINERCV}/{file}",
        md5=md5,
        classes=VOC_CLASSES,
        options=ChainerFasterRCNN().options("faster_rcnn_vgg16", {}),
        layout="chainercv",
        licence=f"MIT (ChainerCV); it started from others: {_CC_BY}",
        source=f"ChainerCV, trained on {trained_on}; the md5 was recorded by a third party, not by the publisher",
        published_score=f"mAP {score} (VOC 2007 test, 11 points)",
        preprocessing="RGB 0-255, minus (122.7717, 115.9465, 102.9801); short side 600, long side at most 1000, sizes "
        "rounded down, bilinear",
    )


def _py_detector() -> WeightsEntry:
    return WeightsEntry(
        name="voc07-py",
        file="VGG16_faster_rcnn_final.caffemodel",
        # The last address that the release's script gave. Users report it dead (py-faster-rcnn issues 542, 640 and
        # 672): the message of a failed fetch says where to put the archive by hand.
        url="https://dl.dropboxusercontent.com/s/o6ii098bu51d139/faster_rcnn_models.tgz",
        member="faster_rcnn_models/VGG16_faster_rcnn_final.caffemodel",
        md5="ac116844f66aefe29587214272054668",
        classes=VOC_CLASSES,
        options=CaffeFasterRCNN().options("faster_rcnn_vgg16", {}),
        layout="caffe",
        licence=f"MIT (py-faster-rcnn); it started from others: {_CC_BY}",
        source="py-faster-rcnn's faster_rcnn_models.tgz (695 MB; its address is dead, so get it elsewhere and put it "
        "into the cache by hand: the md5 is the authors'); trained in four steps on VOC 2007 trainval",
        published_score="mAP 69.9 (VOC 2007 test, 11 points)",
        preprocessing="BGR 0-255, minus (102.9801, 115.9465, 122.7717); short side 600, long side at most 1000, by one "
        "factor, bilinear",
    )


def _fast_detector(model: str, network: str, score: str) -> WeightsEntry:
    file = f"{network}_fast_rcnn_iter_40000.caffemodel"
    return WeightsEntry(
        name="voc07",
        file=file,
        # The last address that the release's script gave; probably as dead as that of py-faster-rcnn's models.
        url="https://dl.dropboxusercontent.com/s/e3ugqq3lca4z8q6/fast_rcnn_models.tgz",
        member=f"fast_rcnn_models/{file}",
        md5="5f7dde9f5376e18c8e065338cc5df3f7",
        classes=VOC_CLASSES,
        options=CaffeFastRCNN().options(model, {}),
        layout="caffe",
        licence=f"MIT (fast-rcnn); it started from others: {_STARTS[network]}",
        source="fast-rcnn's fast_rcnn_models.tgz (0.96 GB; should its address be dead, get it elsewhere and put it "
        "into the cache by hand: the md5 is the author's); trained on VOC 2007 trainval with selective search",
        published_score=f"mAP {score} (VOC 2007 test, 11 points, selective search)",
        preprocessing="BGR 0-255, minus (102.9801, 115.9465, 122.7717); short side 600, long side at most 1000, by one "
        "factor, bilinear",
    )
