"""The region proposal network's layers (Ren 2015, section 3.1)."""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("zoo")
class RPN(keras.layers.Layer):
    """A 3x3 convolution with ReLU, then one 1x1 convolution for objectness and one for box deltas.

    Args:
        anchors: k, anchors a cell.
        channels: of the 3x3 convolution; 512 for VGG16, 256 for ZF and AlexNet.

    Call:
        ``features (B, Hf, Wf, C)`` gives ``logits (B, A, 2)``, {background, foreground} of each anchor, and
        ``deltas (B, A, 4)``, both float32.
    """

    def __init__(self, anchors: int, channels: int = 512, name: str | None = None, dtype=None, trainable: bool = True):
        super().__init__(name=name, dtype=dtype, trainable=trainable)
        self.anchors, self.channels = anchors, channels

        def normal():
            # Gaussian of deviation .01 for all new layers (section 3.1.3); one object would repeat its numbers.
            return keras.initializers.RandomNormal(stddev=0.01)

        self.conv = layers.Conv2D(
            channels,
            3,
            padding="same",
            activation="relu",
            kernel_initializer=normal(),
            name="conv",
            dtype=dtype,
        )
        self.score = layers.Conv2D(2 * anchors, 1, kernel_initializer=normal(), name="score", dtype=dtype)
        self.loc = layers.Conv2D(4 * anchors, 1, kernel_initializer=normal(), name="loc", dtype=dtype)

    def build(self, input_shape):
        """Build the three convolutions for ``(B, Hf, Wf, C)``."""
        self.conv.build(input_shape)
        hidden = (*input_shape[:-1], self.channels)
        self.score.build(hidden)
        self.loc.build(hidden)

    def call(self, features):
        """Objectness logits and box deltas of every anchor, in the order of :func:`zoo.heads.anchors.grid`."""
        hidden = self.conv(features)
        batch = ops.shape(features)[0]
        logits = ops.reshape(self.score(hidden), (batch, -1, 2))
        deltas = ops.reshape(self.loc(hidden), (batch, -1, 4))
        return ops.cast(logits, "float32"), ops.cast(deltas, "float32")

    def compute_output_shape(self, input_shape):
        """``(B, A, 2)`` and ``(B, A, 4)``."""
        batch, rows, columns = input_shape[:3]
        count = None if rows is None or columns is None else rows * columns * self.anchors
        return (batch, count, 2), (batch, count, 4)

    def get_config(self):
        """Arguments of ``__init__``."""
        return {**super().get_config(), "anchors": self.anchors, "channels": self.channels}
