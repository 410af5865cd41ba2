"""EXIF orientation inside a TensorFlow graph: phones write pixels as the sensor lay, and a note how to turn them."""

from __future__ import annotations

import tensorflow as tf

# Where an EXIF block may begin; it is a JPEG's first or second segment.
_HEAD = 1 << 16
_MARK = b"Exif\x00\x00"
_TAG = 0x0112
_ENTRY = 12  # bytes of a directory entry: tag, type, count, value


def jpeg_orientation(data: tf.Tensor) -> tf.Tensor:
    """The orientation 1 to 8 of a JPEG, scalar int32; 1 where there is none or the block is damaged.

    EXIF 2.3, section 4.5: the block is a TIFF file, of which the first directory is looked at. Cameras put the block
    within the first 64 KiB.
    """
    head = tf.strings.substr(data, 0, _HEAD)
    # Bytes as numbers, and zeros behind them, so that every place that a damaged block names can be looked up.
    values = tf.concat([tf.cast(tf.io.decode_raw(head, tf.uint8), tf.int32), tf.zeros(_ENTRY, tf.int32)], axis=0)
    count = tf.size(values) - _ENTRY

    def at(place: tf.Tensor) -> tf.Tensor:
        return tf.gather(values, tf.clip_by_value(place, 0, count + _ENTRY - 1))

    starts = tf.range(tf.maximum(count - len(_MARK), 0))
    found = tf.reduce_all([at(starts + i) == byte for i, byte in enumerate(_MARK)], axis=0)
    places = tf.where(found)[:, 0]
    exists = tf.size(places) > 0
    base = tf.cast(tf.cond(exists, lambda: places[0], lambda: tf.constant(0, tf.int64)), tf.int32) + len(_MARK)
    small_end = at(base) == ord("I")

    def number(place: tf.Tensor, size: int) -> tf.Tensor:
        parts = [at(place + i) for i in range(size)]
        little = sum(part * 256**i for i, part in enumerate(parts))
        big = sum(part * 256 ** (size - 1 - i) for i, part in enumerate(parts))
        return tf.where(small_end, little, big)

    directory = base + number(base + 4, 4)
    entries = directory + 2 + _ENTRY * tf.range(number(directory, 2))
    values_of_tag = tf.boolean_mask(number(entries + 8, 2), number(entries, 2) == _TAG)
    value = tf.concat([values_of_tag, [1]], axis=0)[0]
    return tf.where(exists & (value >= 1) & (value <= 8), value, 1)


def upright(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Undo the orientation of ``(H, W, 3)`` (TIFF 6.0, tag 274)."""

    def any_of(*numbers: int) -> tf.Tensor:
        return tf.reduce_any(orientation == tf.constant(numbers))

    pixels = tf.cond(orientation >= 5, lambda: tf.transpose(pixels, (1, 0, 2)), lambda: pixels)
    pixels = tf.cond(any_of(2, 3, 6, 7), lambda: pixels[:, ::-1], lambda: pixels)
    return tf.cond(any_of(3, 4, 7, 8), lambda: pixels[::-1], lambda: pixels)
