"""EXIF orientation inside a TensorFlow graph: phones write pixels as the sensor lay, and a note how to turn them."""

from __future__ import annotations

import tensorflow as tf

# Where a JPEG's EXIF block may begin, being its first or second segment; and how much of a block is looked at.
_HEAD = 1 << 16
_IN_JPEG, _IN_PNG = b"Exif\x00\x00", b"eXIf"
_TAG = 0x0112
_ENTRY = 12  # bytes of a directory entry: tag, type, count, value


def jpeg_orientation(data: tf.Tensor) -> tf.Tensor:
    """The orientation 1 to 8 of a JPEG, scalar int32; 1 where there is none or the block is damaged."""
    # Cameras put the block within the first 64 KiB.
    return _orientation(_behind(tf.strings.substr(data, 0, _HEAD), _IN_JPEG))


def png_orientation(data: tf.Tensor) -> tf.Tensor:
    """The same of a PNG, whose block is a chunk of its own, before or behind the pixels (PNG 3, section 11.3.4.5)."""
    return _orientation(_behind(data, _IN_PNG))


def _behind(data: tf.Tensor, mark: bytes) -> tf.Tensor:
    """What follows the first ``mark`` in a scalar string; nothing if there is none."""
    parts = tf.strings.split(data, mark, maxsplit=1)
    return tf.cond(tf.size(parts) > 1, lambda: parts[1], lambda: tf.constant(b""))


def _orientation(block: tf.Tensor) -> tf.Tensor:
    """EXIF 2.3, section 4.5: the block is a TIFF file, of which the first directory is looked at."""
    block = tf.strings.substr(block, 0, _HEAD)
    # Bytes as numbers, and zeros behind them, so that every place that a damaged block names can be looked up.
    values = tf.concat([tf.cast(tf.io.decode_raw(block, tf.uint8), tf.int32), tf.zeros(_ENTRY, tf.int32)], axis=0)

    def at(place: tf.Tensor) -> tf.Tensor:
        return tf.gather(values, tf.clip_by_value(place, 0, tf.size(values) - 1))

    small_end = tf.reduce_all(values[:4] == tf.constant([*b"II*\x00"]))
    is_tiff = small_end | tf.reduce_all(values[:4] == tf.constant([*b"MM\x00*"]))

    def number(place: tf.Tensor, size: int) -> tf.Tensor:
        parts = [at(place + i) for i in range(size)]
        little = sum(part * 256**i for i, part in enumerate(parts))
        big = sum(part * 256 ** (size - 1 - i) for i, part in enumerate(parts))
        return tf.where(small_end, little, big)

    directory = number(tf.constant(4), 4)
    entries = directory + 2 + _ENTRY * tf.range(number(directory, 2))
    values_of_tag = tf.boolean_mask(number(entries + 8, 2), number(entries, 2) == _TAG)
    value = tf.concat([values_of_tag, [1]], axis=0)[0]
    return tf.where(is_tiff & (value >= 1) & (value <= 8), value, 1)


def upright(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Undo the orientation of ``(H, W, 3)`` (TIFF 6.0, tag 274)."""

    def any_of(*numbers: int) -> tf.Tensor:
        return tf.reduce_any(orientation == tf.constant(numbers))

    pixels = tf.cond(orientation >= 5, lambda: tf.transpose(pixels, (1, 0, 2)), lambda: pixels)
    pixels = tf.cond(any_of(2, 3, 6, 7), lambda: pixels[:, ::-1], lambda: pixels)
    return tf.cond(any_of(3, 4, 7, 8), lambda: pixels[::-1], lambda: pixels)
