"""JPEG and PNG bytes to pixels inside a TensorFlow graph; a bad image is a status, not an error of the whole batch."""

from __future__ import annotations

import tensorflow as tf

from zoo.export.orientation import jpeg_orientation, png_orientation, upright

OK, UNREADABLE, TOO_LARGE, OTHER_SIZE = 0, 1, 2, 3
# In the order of the numbers above.
MESSAGES = (
    "",
    "not a JPEG or PNG image that can be decoded: damaged, cut short, or of another kind",
    "an image of too many pixels; scale it down",
    "an image of another size than this model was exported for",
)
# A header may promise more than there is memory for: 100 megapixels are 300 MB, and four times that as floats.
MAX_PIXELS = 100_000_000

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"


def decode(data: tf.Tensor, max_pixels: int = MAX_PIXELS) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode one image as :func:`zoo.datasets.images.read_image` does.

    JPEGs as OpenCV and Pillow decode them; PNGs of 1 to 16 bits, gray, with a palette or transparent, on white; both
    turned upright as their EXIF block says.

    Args:
        data: scalar string, the file's bytes.
        max_pixels: images with more are not decoded.

    Returns:
        ``(pixels (H, W, 3) uint8, status () int32)``; where the status is not ``OK`` the pixels are a black one.
    """
    # An operator that fails stops its whole graph; a data set can leave out an element that fails.
    good = tf.data.Dataset.from_tensors(data).map(lambda each: _decode(each, max_pixels))
    black = tf.data.Dataset.from_tensors((tf.zeros((1, 1, 3), tf.uint8), tf.constant(UNREADABLE)))
    pixels, status = good.ignore_errors().concatenate(black).take(1).get_single_element()
    return tf.ensure_shape(pixels, (None, None, 3)), tf.ensure_shape(status, ())


def _decode(data: tf.Tensor, max_pixels: int) -> tuple[tf.Tensor, tf.Tensor]:
    """As :func:`decode`, but a bad image is an error."""
    is_png = tf.strings.substr(data, 0, len(_PNG)) == _PNG
    is_jpeg = tf.strings.substr(data, 0, len(_JPEG)) == _JPEG
    with tf.control_dependencies([tf.debugging.Assert(is_png | is_jpeg, ["neither PNG nor JPEG"])]):
        size = tf.cond(is_png, lambda: _png_size(data), lambda: tf.image.extract_jpeg_shape(data, tf.int64)[:2])
    small = tf.reduce_prod(size) <= max_pixels

    def pixels() -> tf.Tensor:
        return tf.cond(is_png, lambda: _png(data), lambda: _jpeg(data))

    return (
        tf.cond(small, pixels, lambda: tf.zeros((1, 1, 3), tf.uint8)),
        tf.where(small, OK, TOO_LARGE),
    )


def _png_size(data: tf.Tensor) -> tf.Tensor:
    """Width and height, four bytes each, stand behind the signature, a length and the word IHDR."""
    places = tf.reshape(tf.cast(tf.io.decode_raw(tf.strings.substr(data, 16, 8), tf.uint8), tf.int64), (2, 4))
    return tf.reduce_sum(places * tf.constant([1 << 24, 1 << 16, 1 << 8, 1], tf.int64), axis=1)


def _png(data: tf.Tensor) -> tf.Tensor:
    values = tf.io.decode_png(data, channels=4)
    # Where a picture has no opacity of its own TensorFlow adds the greatest number of its bits, of 4 bits 15.
    bits = tf.minimum(tf.cast(tf.io.decode_raw(tf.strings.substr(data, 24, 1), tf.uint8)[0], tf.int32), 8)
    greatest = tf.cast(tf.bitwise.left_shift(1, bits) - 1, tf.uint8)
    opaque = tf.reduce_all(values[..., 3] == greatest)
    pixels = tf.cond(opaque, lambda: values[..., :3], lambda: _on_white(values))
    return upright(pixels, png_orientation(data))


def _on_white(values: tf.Tensor) -> tf.Tensor:
    """Colour and opacity ``(H, W, 4)`` uint8 to colour on white; the greatest sum, 65152, fits 16 bits."""
    values = tf.cast(values, tf.uint16)
    colour, alpha = values[..., :3], values[..., 3:]
    return tf.cast((colour * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


def _jpeg(data: tf.Tensor) -> tf.Tensor:
    # The default is quicker, and up to ten levels off what everybody else decodes.
    pixels = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
    return upright(pixels, jpeg_orientation(data))
