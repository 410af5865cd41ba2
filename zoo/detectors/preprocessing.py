"""Resizing and normalising images inside the model (Girshick 2015, section 5.2: short side 600, long side 1000)."""

import keras
from keras import ops

from zoo.detectors.doubles import floored, rounded

ROUNDINGS = ("nearest", "floor", "factor")
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
        rounding: which whole size an image gets, and what boxes are multiplied by.
            ``"nearest"``: the nearest one, halves up; each axis by its own quotient of sizes.
            ``"floor"``: the next smaller one, as ChainerCV truncates; both axes by the quotient of widths, as there.
            ``"factor"``: the nearest one, halves to even; pixels and boxes by the wanted factor itself, as
            py-faster-rcnn resizes with OpenCV's ``fx`` and ``fy``.

    Call:
        ``images (B, H, W, 3)`` RGB 0-255 of any number type, zero-padded at the right and bottom, and ``sizes
        (B, 2)``, their true heights and widths (``None``: all of H x W), give ``(prepared (B, H', W', 3) float32,
        prepared sizes (B, 2) int32, ratio (B, 2) float32)``, ratio being prepared by original height and width:
        what boxes are multiplied by. ``wanted (B, 2)`` int32, if given, are the prepared sizes to use instead of
        the layer's own rule (in training at several scales); no side exceeds ``long``.
    """

    def __init__(
        self,
        short: int = 600,
        long: int = 1000,
        mean=(123.68, 116.779, 103.939),
        std=(1.0, 1.0, 1.0),
        order: str = "rgb",
        rounding: str = "nearest",
        name: str | None = None,
        dtype=None,
        trainable: bool = True,
    ):
        super().__init__(name=name, dtype=dtype, trainable=trainable, autocast=False)
        if not 0 < short <= long:
            raise ValueError(f"need 0 < short <= long, got short={short} and long={long}")
        if order not in ("rgb", "bgr"):
            raise ValueError(f"channel order must be 'rgb' or 'bgr', got {order!r}")
        if rounding not in ROUNDINGS:
            raise ValueError(f"rounding must be one of {', '.join(map(repr, ROUNDINGS))}, got {rounding!r}")
        self.short, self.long, self.order, self.rounding = int(short), int(long), order, rounding
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        self.built = True

    def prepared_size(self, height: int, width: int) -> tuple[int, int]:
        """The size an image of ``height`` x ``width`` is resized to."""
        small, large = min(height, width), max(height, width)
        if self.rounding != "nearest":
            # In double precision, as the references compute: ChainerCV makes 281 pixels 599 high, not 600.
            factor = self.short / small
            over = factor * large if self.rounding == "floor" else round(factor * large)
            if over > self.long:
                factor = self.long / large
            whole = int if self.rounding == "floor" else round
            return tuple(max(whole(each * factor), 1) for each in (height, width))
        # In whole numbers: 322 * (600 / 224) + .5 is 863 and comes out just below it in floats.
        target, side = (self.short, small) if self.short * large <= self.long * small else (self.long, large)
        return tuple(max((2 * target * each + side) // (2 * side), 1) for each in (height, width))

    def _prepared_sizes(self, sizes):
        if self.rounding != "nearest":
            by_short, by_long, over = self._choices(sizes)
            return ops.cast(ops.maximum(ops.where(over, by_long, by_short), 1), "float32")
        sizes = ops.cast(sizes, "float32")
        small, large = ops.min(sizes, axis=1), ops.max(sizes, axis=1)
        scale = ops.minimum(self.short / small, self.long / large)
        return ops.maximum(ops.floor(sizes * scale[:, None] + _HALF), 1.0)

    def _choices(self, sizes):
        """Sizes by the short side and by the long one, both ``(B, 2)``, and whether it is the latter, ``(B, 1)``."""
        sizes = ops.cast(sizes, "int32")
        small, large = ops.min(sizes, axis=1, keepdims=True), ops.max(sizes, axis=1, keepdims=True)
        whole = floored if self.rounding == "floor" else rounded
        over = self.short * large > self.long * small
        if self.rounding == "factor":
            over = rounded(large, small, self.short) > self.long
        return whole(sizes, small, self.short), whole(sizes, large, self.long), over

    def _ratio(self, sizes, new):
        """What boxes are multiplied by, ``(B, 2)`` for height and width."""
        whole, sizes = sizes, ops.cast(sizes, "float32")
        ratio = new / sizes
        if self.rounding == "nearest":
            return ratio
        one = ratio[:, 1:]
        if self.rounding == "factor":
            small, large = ops.min(sizes, axis=1, keepdims=True), ops.max(sizes, axis=1, keepdims=True)
            one = ops.where(self._choices(whole)[2], self.long / large, self.short / small)
        return ops.concatenate([one, one], axis=1)

    def call(self, images, sizes=None, wanted=None):
        """Prepare a batch."""
        batch, height, width = ops.shape(images)[:3]
        known = sizes is None and wanted is None and isinstance(height, int) and isinstance(width, int)
        if sizes is None:
            sizes = ops.stack([ops.full((batch,), height, "int32"), ops.full((batch,), width, "int32")], axis=1)
        if known:
            canvas = self.prepared_size(height, width)
            new = ops.cast(ops.stack([ops.full((batch,), side, "int32") for side in canvas], axis=1), "float32")
        else:
            new = self._prepared_sizes(sizes) if wanted is None else self._told(wanted)
            canvas = self._canvas(new)
        ratio = self._ratio(sizes, new) if wanted is None else new / ops.cast(sizes, "float32")
        images = ops.cast(images, "float32")
        if self.order == "bgr":
            images = images[..., ::-1]
        mean = ops.convert_to_tensor(self.mean, "float32")
        images = (images - mean) / ops.convert_to_tensor(self.std, "float32")
        # Pixels of the original that one of the prepared image spans.
        step = 1.0 / ratio if self.rounding == "factor" else ops.cast(sizes, "float32") / new
        images = _resize_rows(images, sizes[:, 0], new[:, 0], step[:, 0], canvas[0])
        images = ops.transpose(images, (0, 2, 1, 3))
        images = _resize_rows(images, sizes[:, 1], new[:, 1], step[:, 1], canvas[1])
        images = ops.transpose(images, (0, 2, 1, 3))
        return images, ops.cast(new, "int32"), ratio

    def _told(self, wanted):
        """Prepared sizes that were given, as floats; on TensorFlow an error if one is too large."""
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            # The tables of RoI pooling are made for ``long``: a larger map would go wrong unnoticed.
            says = f"prepared_sizes are larger than long={self.long}; build the model with a greater one"
            tf.debugging.assert_less_equal(ops.max(wanted), ops.cast(self.long, wanted.dtype), says)
        return ops.cast(wanted, "float32")

    def _canvas(self, new):
        """Height and width that hold all prepared images."""
        if keras.backend.backend() == "tensorflow":
            largest = ops.cast(ops.max(new, axis=0), "int32")
            return largest[0], largest[1]
        # Compilers with static shapes cannot wait for the sizes: the largest that any image can have.
        return self.long, self.long

    def compute_output_shape(self, images_shape, sizes_shape=None, wanted_shape=None):
        """Shapes of the three results; the canvas is known where the input's size is."""
        batch, height, width = images_shape[:3]
        canvas = (None, None)
        if sizes_shape is None and wanted_shape is None and height is not None and width is not None:
            canvas = self.prepared_size(height, width)
        return (batch, *canvas, 3), (batch, 2), (batch, 2)

    def describe(self) -> str:
        """One line for people."""
        return (
            f"{self.order.upper()} 0-255, minus {self.mean}, divided by {self.std}; "
            f"short side {self.short}, long side at most {self.long}, bilinear"
            + {"nearest": "", "floor": ", sizes rounded down", "factor": ", by the factor itself"}[self.rounding]
        )

    def get_config(self):
        """Arguments of ``__init__``."""
        own = {
            "short": self.short,
            "long": self.long,
            "mean": self.mean,
            "std": self.std,
            "order": self.order,
            "rounding": self.rounding,
        }
        return {**super().get_config(), **own}


def _resize_rows(images, old, new, step, rows):
    """Resize the second axis of ``(B, H, W, C)`` from ``old (B,)`` to ``new (B,)`` pixels on a canvas of ``rows``.

    ``step (B,)`` is about old / new: how far apart the places lie that are looked up.
    """
    batch, height, width, channels = ops.shape(images)
    old, new = ops.cast(old, "float32")[:, None], ops.cast(new, "float32")[:, None]
    place = ops.cast(ops.arange(rows), "float32")[None]
    source = ops.clip((place + 0.5) * step[:, None] - 0.5, 0.0, old - 1.0)
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
