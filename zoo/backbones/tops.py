"""What AlexNet and VGG have above their convolutions: fc6 and fc7 with dropout, fc8, softmax."""

from collections.abc import Sequence

import keras
from keras import layers

from zoo.backbones.parts import DetectorParts, class_count


def gaussian(deviation: float) -> keras.initializers.Initializer:
    """A Gaussian initialiser; make one for every layer, since one object gives all its layers the same numbers."""
    return keras.initializers.RandomNormal(stddev=deviation)


def hidden_layers(x, units: tuple[int, int], deviation: float | None = None, bias: float = 0.0):
    """Flatten ``x``, then fc6 and fc7 of ``units``, each with ReLU and a dropout of a half.

    Kernels start from a Gaussian of ``deviation``, from He's initialisation without one; biases from ``bias``.
    """
    x = layers.Flatten(name="flatten")(x)
    for number, width in zip((6, 7), units, strict=True):
        x = layers.Dense(
            width,
            "relu",
            kernel_initializer="he_normal" if deviation is None else gaussian(deviation),
            bias_initializer=keras.initializers.Constant(bias),
            name=f"fc{number}",
        )(x)
        x = layers.Dropout(0.5, name=f"drop{number}")(x)
    return x


def classifier(images, x, classes: int | Sequence[str] | None, name: str) -> keras.Model:
    """The model from ``images`` to probabilities: fc8 and softmax on ``x``, the output of fc7."""
    x = layers.Dense(class_count(classes), kernel_initializer=gaussian(0.01), name="fc8")(x)
    return keras.Model(images, layers.Softmax(dtype="float32", name="prob")(x), name=name)


def dense_head(
    images, features, pool_size: int, units: tuple[int, int], deviation: float | None = None, bias: float = 0.0
) -> DetectorParts:
    """A detector's parts: the extractor from ``images`` to ``features``, and fc6 and fc7 on pooled features."""
    pooled = keras.Input((pool_size, pool_size, features.shape[-1]), name="pooled")
    body = keras.Model(pooled, hidden_layers(pooled, units, deviation, bias), name="body")
    return DetectorParts(keras.Model(images, features, name="extractor"), body, pool_size=pool_size)
