"""The box head: a body shared by all RoIs, then class scores and per-class box deltas (Girshick 2015, figure 1)."""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("zoo")
class BoxHead(keras.layers.Layer):
    """Class logits and box deltas from pooled features.

    Args:
        body: a Keras model from ``(N, size, size, C)`` to ``(N, F)``: fc6 and fc7, or a ResNet's conv5.
        classes: K, without the background.
        boxes: whether there is a regression of boxes; without it all deltas are 0.

    Call:
        ``pooled (B, R, size, size, C)`` gives ``logits (B, R, K + 1)`` and ``deltas (B, R, K + 1, 4)``, float32.
    """

    def __init__(
        self,
        body: keras.Model,
        classes: int,
        boxes: bool = True,
        name: str | None = None,
        dtype=None,
        trainable: bool = True,
    ):
        super().__init__(name=name, dtype=dtype, trainable=trainable)
        self.body, self.classes, self.boxes = body, classes, bool(boxes)
        # Deviations .01 and .001 and zero biases: Girshick 2015, section 2.3.
        self.score = layers.Dense(
            classes + 1,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            name="score",
            dtype=dtype,
        )
        self.loc = None
        if self.boxes:
            self.loc = layers.Dense(
                4 * (classes + 1),
                kernel_initializer=keras.initializers.RandomNormal(stddev=0.001),
                name="loc",
                dtype=dtype,
            )

    def build(self, input_shape):
        """Build the new layers for the body's output."""
        width = self.body.output_shape[-1]
        self.score.build((None, width))
        if self.loc is not None:
            self.loc.build((None, width))

    def call(self, pooled, training=None):
        """Run the body on all RoIs of all images at once."""
        batch, count = ops.shape(pooled)[0], ops.shape(pooled)[1]
        vectors = self.body(ops.reshape(pooled, (-1, *pooled.shape[2:])), training=training)
        logits = ops.reshape(self.score(vectors), (batch, count, self.classes + 1))
        shape = (batch, count, self.classes + 1, 4)
        deltas = ops.zeros(shape) if self.loc is None else ops.reshape(self.loc(vectors), shape)
        return ops.cast(logits, "float32"), ops.cast(deltas, "float32")

    def compute_output_shape(self, input_shape):
        """``(B, R, K + 1)`` and ``(B, R, K + 1, 4)``."""
        lead = tuple(input_shape[:2])
        return (*lead, self.classes + 1), (*lead, self.classes + 1, 4)

    def get_config(self):
        """Arguments of ``__init__``, the body serialised."""
        body = keras.saving.serialize_keras_object(self.body)
        return {**super().get_config(), "body": body, "classes": self.classes, "boxes": self.boxes}

    @classmethod
    def from_config(cls, config):
        """Rebuild with the body deserialised."""
        return cls(**{**config, "body": keras.saving.deserialize_keras_object(config["body"])})
