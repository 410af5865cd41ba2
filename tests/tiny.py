"""Real detectors, small enough to build, train and save in a test in seconds, on any Keras backend."""

from collections.abc import Mapping, Sequence

import keras
from keras import layers

from zoo.detectors.fast_rcnn import FastRCNN
from zoo.detectors.faster_rcnn import FasterRCNN
from zoo.detectors.preprocessing import Preprocessing
from zoo.heads.low_rank import with_ranks

STRIDE = 16


def tiny_detector(classes: Sequence[str] = ("a", "b"), seed: int = 0) -> FasterRCNN:
    """Four strided convolutions and a dense layer: stride 16, about 50,000 parameters, fixed by ``seed``.

    Images are resized to a short side of 64 (long side at most 96); anchors are 16 and 32 pixels wide.
    """
    extractor, body = _parts(seed)
    return FasterRCNN(
        extractor,
        body,
        classes,
        Preprocessing(64, 96, std=(60.0, 60.0, 60.0), name="preprocessing"),
        stride=STRIDE,
        pool_size=4,
        anchor_sizes=(16, 32),
        rpn_channels=32,
        rpn_samples=64,
        train_proposals=(300, 50),
        test_proposals=(300, 20),
        proposal_min_size=4.0,
        head_samples=16,
        max_detections=20,
        name="tiny",
    )


def tiny_fast(
    classes: Sequence[str] = ("a", "b"), seed: int = 0, rounding: str = "nearest", long: int = 96, **options: object
) -> FastRCNN:
    """The same networks as a Fast R-CNN, with options of its own."""
    extractor, body = _parts(seed)
    own = {"head_samples": 16, "max_detections": 20, "name": "tiny_fast", **options}
    preprocessing = Preprocessing(64, long, std=(60.0, 60.0, 60.0), rounding=rounding, name="preprocessing")
    return FastRCNN(extractor, body, classes, preprocessing, stride=STRIDE, pool_size=4, **own)


def tiny_net(classes: Sequence[str] | None = None, *, ranks: Mapping[str, int] | None = None) -> FasterRCNN:
    """A builder to register: the tiny detector with the option of compressed layers that the real ones have."""
    model = tiny_detector(classes or ("a", "b"))
    if not ranks:
        return model
    body = keras.saving.serialize_keras_object(with_ranks(model.head.body, ranks))
    return type(model).from_config({**model.get_config(), "body": body})


def colour_net(classes: Sequence[str] | None = None) -> keras.Model:
    """A builder to register: a classifier of two classes by the mean colour, 8 parameters."""
    x = keras.Input((None, None, 3))
    return keras.Model(x, layers.Dense(2, name="fc")(layers.GlobalAveragePooling2D()(x)))


def _parts(seed: int) -> tuple[keras.Model, keras.Model]:
    """Extractor and body."""
    keras.utils.set_random_seed(seed)
    images = keras.Input((None, None, 3), name="prepared")
    x = images
    for i, width in enumerate((12, 16, 24, 32)):
        x = layers.Conv2D(width, 3, 2, padding="same", activation="relu", name=f"conv{i + 1}")(x)
    extractor = keras.Model(images, x, name="extractor")
    pooled = keras.Input((4, 4, 32), name="pooled")
    x = layers.Dense(48, activation="relu", name="fc")(layers.Flatten(name="flatten")(pooled))
    return extractor, keras.Model(pooled, x, name="body")


def under_conventions(
    model: FasterRCNN,
    rounding: str = "factor",
    convention: str = "caffe",
    rank_by: str = "logit",
    min_size_in: str = "original",
    edge_cells: bool = True,
    **more: object,
) -> FasterRCNN:
    """The same detector, weights and all, under other conventions; by default under as many as can be at once."""
    own = {"convention": convention, "rank_by": rank_by, "min_size_in": min_size_in, "edge_cells": edge_cells}
    config = {**model.get_config(), **own, **more}
    config["preprocessing"]["config"]["rounding"] = rounding
    other = FasterRCNN.from_config(config)
    other.set_weights(model.get_weights())
    return other
