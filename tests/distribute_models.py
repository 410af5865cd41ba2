"""What the tests of distributed training train: a detector that samples, and a classifier with batch normalisation."""

from pathlib import Path

import keras
import numpy as np
from keras import layers
from marked import mixed
from test_train_classifier import data as colours
from tiny import tiny_detector

import zoo
from zoo.backbones.batch_norm import BatchNorm
from zoo.training.history import read_csv


def detector():
    """Model, training data and validation data, which do not fill a batch: some replicas get nothing of it."""
    return tiny_detector(("a", "b", "c")), mixed(63), mixed(5)


def classifier():
    """The same for a classifier of four layers."""
    keras.utils.set_random_seed(0)
    images = keras.Input((32, 32, 3))
    x = layers.Rescaling(1 / 64, -2.0)(images)
    for width in (8, 16):
        x = layers.Conv2D(width, 3, 2, use_bias=False)(x)
        x = layers.ReLU()(BatchNorm(momentum=0.9)(x))
    x = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(images, x, name="four_layers"), colours(56), colours(5, seed=1)


MODELS = {"classifier": classifier, "detector": detector}


def trained(kind: str, strategy, folder: Path, validate: bool = True, **changes) -> list[np.ndarray]:
    """The weights after twenty steps; clipping bites in all of them, and the last of three epochs is not whole."""
    with strategy.scope():
        model, data, val = MODELS[kind]()
    zoo.train(
        model,
        data,
        val if validate else None,
        out=folder,
        recipe=zoo.Recipe(
            learning_rate=0.02, warmup_steps=2, schedule="constant", clipnorm=0.2, ema=0.9, bias_rate=2.0
        ),
        **{"steps": 20, "batch_size": 8, "val_every": 2, "keep": "last", "tensorboard": False, "verbose": 0, **changes},
    )
    return [np.asarray(each) for each in model.weights]


def difference(weights: list[np.ndarray], folder: Path, kept: Path) -> dict[str, float]:
    """The largest difference of ``folder`` to ``kept``: of the weights and of each column of its logs."""
    with np.load(kept / "weights.npz") as file:
        pairs = list(zip(weights, file.values(), strict=True))
    found = {"weights": max(float(np.abs(ours - theirs).max()) for ours, theirs in pairs)}
    for ours, theirs in zip(read_csv(folder / "history.csv"), read_csv(kept / "history.csv"), strict=True):
        assert ours.keys() <= theirs.keys()
        for name in ours.keys() - {"seconds"}:
            found[name] = max(found.get(name, 0.0), abs(ours[name] - theirs[name]))
    return found
