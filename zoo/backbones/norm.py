"""Normalisation and padding layers that the backbones share."""

import keras
from keras import layers, ops

NORMS = ("batch", "frozen", "group")
# As keras.applications has it; Caffe and torch 1e-5, Chainer 2e-5.
BATCH_EPSILON = 1.001e-5


@keras.saving.register_keras_serializable("zoo")
class GroupNorm(keras.layers.Layer):
    """Group normalisation (Wu and He 2018), by per-channel sums.

    The same function as ``keras.layers.GroupNormalization``, which reshapes every feature map to five dimensions
    and takes several passes over it; here one multiplication and one addition touch the full map, which on a CPU
    makes a training step of a ResNet a fifth shorter.

    The statistics are those of the whole map, as in Keras' layer: in a batch of pictures of different sizes what pads
    the smaller ones counts, too. ``detect`` puts pictures of one size together; training, and ``predict`` on such a
    batch, take what comes.

    Args:
        groups: the channels are split into so many; must divide them.
        epsilon: added to the variance.

    Call:
        ``(B, Hf, Wf, C)`` to the same shape.
    """

    def __init__(
        self, groups: int = 32, epsilon: float = 1e-5, name: str | None = None, dtype=None, trainable: bool = True
    ):
        super().__init__(name=name, dtype=dtype, trainable=trainable)
        self.groups, self.epsilon = groups, epsilon

    def build(self, input_shape):
        """Create gamma (ones) and beta (zeros), one number a channel."""
        channels = input_shape[-1]
        if channels % self.groups:
            raise ValueError(f"{channels} channels cannot be split into {self.groups} groups")
        self.gamma = self.add_weight(shape=(channels,), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(channels,), initializer="zeros", name="beta")

    def call(self, inputs):
        """Normalise each image's groups to zero mean and unit variance, then scale and shift."""
        channels = inputs.shape[-1]
        size = channels // self.groups
        values = ops.cast(inputs, "float32")
        # Two sums a channel, then everything small: (B, C) and (B, groups). Each over rows, then over columns: one sum
        # of a hundred thousand squares is off by 3e-6 in TensorFlow, always downwards, and in a flat picture the
        # variance, a small difference of large means, by many times that.
        mean = ops.mean(ops.mean(values, axis=2), axis=1)
        square = ops.mean(ops.mean(ops.square(values), axis=2), axis=1)

        def by_group(x):
            return ops.mean(ops.reshape(x, (-1, self.groups, size)), axis=2, keepdims=True)

        centre = by_group(mean)
        variance = ops.maximum(by_group(square) - ops.square(centre), 0.0)
        scale = ops.reshape(ops.cast(self.gamma, "float32"), (self.groups, size))
        scale = scale * ops.rsqrt(variance + self.epsilon)
        shift = ops.reshape(ops.cast(self.beta, "float32"), (self.groups, size)) - centre * scale
        scale, shift = (ops.reshape(x, (-1, 1, 1, channels)) for x in (scale, shift))
        return ops.cast(values * scale + shift, inputs.dtype)

    def compute_output_shape(self, input_shape):
        """Unchanged."""
        return input_shape

    def get_config(self):
        """Arguments of ``__init__``."""
        return {**super().get_config(), "groups": self.groups, "epsilon": self.epsilon}


def normalise(x, kind: str, name: str, epsilon: float = BATCH_EPSILON):
    """Apply the normalisation ``kind`` to a Keras tensor.

    ``batch``: batch normalisation; ``frozen``: its statistics and scales stay as loaded, as He 2016 fine-tunes
    detectors; ``group``: group normalisation, for training from scratch with few images a batch. ``epsilon`` is batch
    normalisation's: weights want the one they were trained with.
    """
    if kind == "group":
        return GroupNorm(name=name)(x)
    if kind in ("batch", "frozen"):
        layer = layers.BatchNormalization(epsilon=epsilon, name=name)
        layer.trainable = kind == "batch"
        return layer(x)
    raise ValueError(f"unknown normalisation {kind!r}; there are {', '.join(NORMS)}")


@keras.saving.register_keras_serializable("zoo")
class LocalResponseNorm(keras.layers.Layer):
    """Local response normalisation across channels (Krizhevsky 2012, section 3.3).

    ``b = a / (k + alpha * sum of a^2 over 2 * radius + 1 channels) ** beta``. The paper: k 2, alpha 1e-4, beta .75,
    five channels. Caffe divides alpha by the five and takes k 1: pass ``k=1, alpha=2e-5`` for its weights.
    """

    def __init__(
        self,
        radius: int = 2,
        k: float = 2.0,
        alpha: float = 1e-4,
        beta: float = 0.75,
        name: str | None = None,
        dtype=None,
        trainable: bool = True,
    ):
        super().__init__(name=name, dtype=dtype, trainable=trainable)
        self.radius, self.k, self.alpha, self.beta = radius, k, alpha, beta

    def call(self, inputs):
        """Normalise ``(B, Hf, Wf, C)``."""
        if keras.backend.backend() == "tensorflow" and inputs.dtype in ("float32", "float16", "bfloat16"):
            import tensorflow as tf

            return tf.nn.local_response_normalization(inputs, self.radius, self.k, self.alpha, self.beta)
        squares = ops.pad(ops.square(inputs), [(0, 0), (0, 0), (0, 0), (self.radius, self.radius)])
        channels = inputs.shape[-1]
        total = sum(squares[..., i : i + channels] for i in range(2 * self.radius + 1))
        return inputs / ops.power(self.k + self.alpha * total, self.beta)

    def compute_output_shape(self, input_shape):
        """Unchanged."""
        return input_shape

    def get_config(self):
        """Arguments of ``__init__``."""
        own = {"radius": self.radius, "k": self.k, "alpha": self.alpha, "beta": self.beta}
        return {**super().get_config(), **own}


# Krizhevsky 2012, section 3.3, and what Caffe makes of it: k 1 unless given, and alpha divided by the five channels.
LRN_CONSTANTS = {"paper": {"k": 2.0, "alpha": 1e-4}, "caffe": {"k": 1.0, "alpha": 2e-5}}


def local_response_norm(x, kind: str, name: str):
    """Apply :class:`LocalResponseNorm` with the constants ``kind``, ``"paper"`` or ``"caffe"``, to a Keras tensor."""
    if kind not in LRN_CONSTANTS:
        raise ValueError(f"unknown lrn={kind!r}; there are {', '.join(map(repr, LRN_CONSTANTS))}")
    return LocalResponseNorm(**LRN_CONSTANTS[kind], name=name)(x)


@keras.saving.register_keras_serializable("zoo")
class InputNormalisation(keras.layers.Layer):
    """Turn RGB images of 0-255 into what a backbone was trained on: channel order, mean, scale.

    Args:
        mean: three numbers in the order of ``order``, subtracted.
        std: three numbers, divided by.
        order: ``"rgb"`` or ``"bgr"``.
    """

    def __init__(
        self, mean, std=(1.0, 1.0, 1.0), order: str = "rgb", name: str | None = None, dtype=None, trainable: bool = True
    ):
        super().__init__(name=name, dtype=dtype, trainable=trainable, autocast=False)
        if order not in ("rgb", "bgr"):
            raise ValueError(f"channel order must be 'rgb' or 'bgr', got {order!r}")
        self.mean, self.std, self.order = tuple(map(float, mean)), tuple(map(float, std)), order

    def call(self, images):
        """Normalise ``(B, H, W, 3)``, RGB of 0-255, any number type."""
        images = ops.cast(images, "float32")
        if self.order == "bgr":
            images = images[..., ::-1]
        mean = ops.convert_to_tensor(self.mean, "float32")
        scale = ops.convert_to_tensor([1.0 / s for s in self.std], "float32")
        return ops.cast((images - mean) * scale, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        """Unchanged."""
        return input_shape

    def get_config(self):
        """Arguments of ``__init__``."""
        return {**super().get_config(), "mean": self.mean, "std": self.std, "order": self.order}


def pad(x, cells: int, name: str):
    """Zero padding on all four sides: unlike 'same', it does not depend on whether the size is even."""
    return layers.ZeroPadding2D(cells, name=name)(x)
