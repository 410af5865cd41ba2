"""What the tests of Sandblaster train: small, with all that makes evaluations random."""

import keras
import numpy as np
from keras import layers


def problem(units=6, seed=0):
    """A network of two layers with all that makes evaluations random, and data in units of unequal sizes."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(6, activation="tanh", kernel_regularizer=keras.regularizers.L2(1e-2)),
            layers.BatchNormalization(),
            layers.Dropout(0.2, seed=3),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(loss="sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    sizes = [4 + unit for unit in range(units)]
    return model, [(rng.normal(size=(n, 5)).astype("float32"), rng.integers(0, 3, n)) for n in sizes]


def colour_net(seed=0):
    """A classifier that tells three colours by the mean of a picture of 32 x 32."""
    keras.utils.set_random_seed(seed)
    images = keras.Input((32, 32, 3))
    means = layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 64, -2.0)(images))
    return keras.Model(images, layers.Dense(3, activation="softmax", name="predictions")(means), name="colour_net")


def flat_weights(model):
    return np.concatenate([np.ravel(each) for each in model.get_weights()])
