"""Resizing and normalising images inside the model (Girshick 2015, section 5.2: short side 600, long side 1000)."""

import keras
from keras import ops

# Rounds halves up. An exact half may fall either way after float32's rounding: nudged, all backends agree.
_HALF = 0.5 + 1e-4


@keras.saving.register_keras_serializable("zoo")
class Preprocessing(keras.layers.Layer):
    """Resize every image so that its short side is ``short``, unless its long side would exceed ``long``.

    Bilinear, pixel centres at halves, without antialiasing: what OpenCV's ``INTER_LINEAR`` does, on which the
    published weights were trained. Then channel order, mean and scale. Padding stays exactly zero.

    Args:
        short: wanted short side, in pixels.
        long: greatest long side.
        mean: three numbers in the order of ``order``, subtracted.
        std: three numbers, divided by.
        order: ``"rgb"`` or ``"bgr"``.

    Call:
        ``images (B, H, W, 3)`` RGB 0-255 of any number type, zero-padded at the right and bottom, and ``sizes
        (B, 2)``, their true heights and widths (``None``: all of H x W), give ``(prepared (B, H', W', 3) float32,
        prepared sizes (B, 2) int32, ratio (B, 2) float32)``, ratio being prepared by original height and width.
    """

    def __init__(
        self,
        short: int = 600,
        long: int = 1000,
        mean=(123.68, 116.779, 103.939),
        std=(1.0, 1.0, 1.0),
        order: str = "rgb",
        name: str | None = None,
        dtype=None,
        trainable: bool = True,
    ):
        super().__init__(name=name, dtype=dtype, trainable=trainable, autocast=False)
        if not 0 < short <= long:
            raise ValueError(f"need 0 < short <= long, got short={short} and long={long}")
        if order not in ("rgb", "bgr"):
            raise ValueError(f"channel order must be 'rgb' or 'bgr', got {order!r}")
        self.short, self.long, self.order = int(short), int(long), order
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        self.built = True

    def prepared_size(self, height: int, width: int) -> tuple[int, int]:
        """The size an image of ``height`` x ``width`` is resized to."""
        small, large = min(height, width), max(height, width)
        # In whole numbers: 322 * (600 / 224) + .5 is 863 and comes out just below it in floats.
        target, side = (self.short, small) if self.short * large <= self.long * small else (self.long, large)
        return tuple(max((2 * target * each + side) // (2 * side), 1) for each in (height, width))

    def _prepared_sizes(self, sizes):
        sizes = ops.cast(sizes, "float32")
        small, large = ops.min(sizes, axis=1), ops.max(sizes, axis=1)
        scale = ops.minimum(self.short / small, self.long / large)
        return ops.maximum(ops.floor(sizes * scale[:, None] + _HALF), 1.0)

    def call(self, images, sizes=None):
        """Prepare a batch."""
        batch, height, width = ops.shape(images)[:3]
        known = sizes is None and isinstance(height, int) and isinstance(width, int)
        if sizes is None:
            sizes = ops.stack([ops.full((batch,), height, "int32"), ops.full((batch,), width, "int32")], axis=1)
        new = self._prepared_sizes(sizes)
        canvas = self.prepared_size(height, width) if known else self._canvas(new)
        images = ops.cast(images, "float32")
        if self.order == "bgr":
            images = images[..., ::-1]
        mean = ops.convert_to_tensor(self.mean, "float32")
        images = (images - mean) / ops.convert_to_tensor(self.std, "float32")
        images = _resize_rows(images, sizes[:, 0], new[:, 0], canvas[0])
        images = ops.transpose(images, (0, 2, 1, 3))
        images = _resize_rows(images, sizes[:, 1], new[:, 1], canvas[1])
        images = ops.transpose(images, (0, 2, 1, 3))
        return images, ops.cast(new, "int32"), new / ops.cast(sizes, "float32")

    def _canvas(self, new):
        """Height and width that hold all prepared images."""
        if keras.backend.backend() == "tensorflow":
            largest = ops.cast(ops.max(new, axis=0), "int32")
            return largest[0], largest[1]
        # Compilers with static shapes cannot wait for the sizes: the largest that any image can have.
        return self.long, self.long

    def compute_output_shape(self, images_shape, sizes_shape=None):
        """Shapes of the three results; the canvas is known where the input's size is."""
        batch, height, width = images_shape[:3]
        canvas = (None, None)
        if sizes_shape is None and height is not None and width is not None:
            canvas = self.prepared_size(height, width)
        return (batch, *canvas, 3), (batch, 2), (batch, 2)

    def describe(self) -> str:
        """One line for people."""
        return (
            f"{self.order.upper()} 0-255, minus {self.mean}, divided by {self.std}; "
            f"short side {self.short}, long side at most {self.long}, bilinear"
        )

    def get_config(self):
        """Arguments of ``__init__``."""
        own = {
            "short": self.short,
            "long": self.long,
            "mean": self.mean,
            "std": self.std,
            "order": self.order,
        }
        return {**super().get_config(), **own}


def _resize_rows(images, old, new, rows):
    """Resize the second axis of ``(B, H, W, C)`` from ``old (B,)`` to ``new (B,)`` pixels on a canvas of ``rows``."""
    batch, height, width, channels = ops.shape(images)
    old, new = ops.cast(old, "float32")[:, None], ops.cast(new, "float32")[:, None]
    place = ops.cast(ops.arange(rows), "float32")[None]
    source = ops.clip((place + 0.5) * (old / new) - 0.5, 0.0, old - 1.0)
    low = ops.floor(source)
    part = (source - low)[..., None, None]
    inside = ops.cast(place < new, "float32")[..., None, None]
    low = ops.cast(low, "int32")
    high = ops.minimum(low + 1, ops.cast(old, "int32") - 1)
    # Gathering whole rows of a flattened batch is one copy a row, on every backend.
    flat = ops.reshape(images, (batch * height, width, channels))
    first = (ops.arange(batch, dtype="int32") * height)[:, None]
    a, b = ops.take(flat, low + first, axis=0), ops.take(flat, high + first, axis=0)
    return (a * ((1.0 - part) * inside)) + b * (part * inside)
