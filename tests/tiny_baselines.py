"""The tiny detector's networks as an SPPnet and as an R-CNN, and pictures for them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf
from tiny import STRIDE, tiny_fast

from zoo.detectors.fast_rcnn import FastRCNN
from zoo.detectors.rcnn import RCNN
from zoo.detectors.sppnet import SPPNet, pyramid_body
from zoo.detectors.warping import Warping

LEVELS = (4, 2, 1)


def tiny_spp(classes: Sequence[str] = ("a", "b"), seed: int = 0, **options: object) -> SPPNet:
    """Convolutions fixed, a pyramid of 21 bins, one hidden layer of 48."""
    model = tiny_fast(classes, seed)
    for layer in model.extractor.layers:
        layer.trainable = False
    own = {"head_samples": 16, "max_detections": 20, "name": "tiny_spp", **options}
    body = pyramid_body(model.head.body, LEVELS)
    return SPPNet(model.extractor, body, classes, model.preprocessing, stride=STRIDE, pool_size=LEVELS, **own)


def tiny_rcnn(classes: Sequence[str] = ("a", "b"), seed: int = 0, at_once: int = 34, **options: object) -> RCNN:
    """Crops of 64 pixels, 4 of them context."""
    model = tiny_fast(classes, seed)
    warping = Warping(64, 4, at_once, std=(60.0, 60.0, 60.0), name="preprocessing")
    own = {"head_samples": 16, "max_detections": 20, "bbox": "none", "background_from": 0.0, "name": "tiny_rcnn"}
    return RCNN(model.extractor, model.head.body, classes, warping, stride=STRIDE, pool_size=4, **{**own, **options})


@contextmanager
def uncompiled() -> Iterator[None]:
    """Compiling takes longer than the few pictures that a test shows a tiny model."""
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def decisive(model: FastRCNN) -> FastRCNN:
    """The model with last layers that tell RoIs apart."""
    rng = np.random.default_rng(2)
    for layer in (model.head.score, model.head.loc):
        if layer is not None:
            layer.kernel.assign(rng.normal(0, 0.7, layer.kernel.shape))
    return model


def trained(model: FastRCNN, x: dict, y: dict, steps: int = 2) -> dict[str, float]:
    """By how much each weight moves in a training."""
    before = {weight.path: np.asarray(weight).copy() for weight in model.weights}
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), run_eagerly=True)
    model.fit(x, y, batch_size=2, epochs=steps, verbose=0)
    return {weight.path: float(abs(np.asarray(weight) - before[weight.path]).max()) for weight in model.weights}
