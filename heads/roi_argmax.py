"""Which cell each bin's maximum came from, and RoI pooling's gradient, which goes there (Girshick 2015, eq. 4)."""

import math

from keras import ops

from zoo.heads.window_max import window_tables


def argmax_cells(features, windows, levels):
    """Flat cell index, ``(b * Hf + row) * Wf + column``, of every bin's first maximum in row order.

    Works on any backend: tables of values and of the places they came from are grown side by side.

    Args:
        features: ``(B, Hf, Wf, C)``.
        windows: from :func:`zoo.heads.window_max.bin_windows`.
        levels: ``(row_levels, column_levels)``.

    Returns:
        int32 ``(N, size, size, C)``; meaningless where a bin is empty.
    """
    batch, rows, columns, channels = ops.shape(features)
    cell = ops.reshape(ops.arange(batch * rows * columns, dtype="int32"), (batch, rows, columns, 1))
    cell = ops.broadcast_to(cell, ops.shape(features))
    # Value and place ride side by side in the channel axis, so that one table function serves both. Places are
    # exact in float32 up to 2 ** 24 cells.
    both = ops.concatenate([ops.cast(features, "float32"), ops.cast(cell, "float32")], axis=-1)

    def better(a, b):
        value_a, cell_a = a[..., :channels], a[..., channels:]
        value_b, cell_b = b[..., :channels], b[..., channels:]
        take_b = (value_b > value_a) | ((value_b == value_a) & (cell_b < cell_a))
        return ops.where(ops.concatenate([take_b, take_b], axis=-1), b, a)

    table = window_tables(both, *levels, maximum=better)
    a, b, c, d = (ops.take(table, w, axis=0) for w in windows)
    return ops.cast(better(better(a, b), better(c, d))[..., channels:], "int32")


def pooled_with_gradient(features, windows, empty, levels, training: bool):
    """TensorFlow's way to pool: the bins' maxima, ``(N, size, size, C)``, with the gradient sent to the argmax once.

    Value and place are packed into one int64, whose order is that of the values and, among equals, of the earlier
    place: a single maximum finds both. The gradient then is one weighted count per cell, where differentiating the
    gathers would scatter four times into every table. In training the packed tables serve forwards and backwards;
    otherwise the forward pass looks at values alone.
    """
    import tensorflow as tf

    shape = tf.shape(features)
    channels = features.shape[3]
    numbers = tf.reduce_prod(shape)
    # Summed in so many parts, side by side; each by one thread, so that the sum's order, and with it the last bit
    # of the gradient, is the same in every run.
    parts = math.gcd(channels, 4)

    def packed_maximum(values):
        # Of a negative float the bits below the sign, negated: ordered as the floats are, and -0 equal to 0.
        # (Adding 0. does not do for the latter: the graph optimiser takes x + 0 for x.)
        bits = tf.bitcast(tf.cast(values, tf.float32), tf.int32)
        ordered = tf.where(bits < 0, tf.int32.min - bits, bits)
        place = tf.reshape(0x7FFFFFFF - tf.range(numbers), shape)
        keys = tf.bitwise.left_shift(tf.cast(ordered, tf.int64), tf.constant(32, tf.int64))
        keys += tf.cast(place, tf.int64)
        return four_way(window_tables(keys, *levels, maximum=tf.maximum))

    def four_way(table):
        a, b, c, d = (tf.gather(table, w) for w in windows)
        return tf.maximum(tf.maximum(a, b), tf.maximum(c, d))

    def unpack_value(keys):
        ordered = tf.cast(tf.bitwise.right_shift(keys, tf.constant(32, tf.int64)), tf.int32)
        bits = tf.where(ordered < 0, tf.int32.min - ordered, ordered)
        return tf.bitcast(bits, tf.float32)

    @tf.custom_gradient
    def pool(values):
        keys = packed_maximum(values) if training else None
        out = tf.cast(unpack_value(keys), values.dtype) if training else four_way(window_tables(values, *levels))

        def gradient(upstream):
            best = packed_maximum(values) if keys is None else keys
            # Casting to int32 keeps the low half.
            place = 0x7FFFFFFF - tf.cast(best, tf.int32)
            weight = tf.where(empty[..., None], 0.0, tf.cast(upstream, tf.float32))
            place, weight = (tf.split(tf.reshape(x, (parts, -1)), parts) for x in (place, weight))
            # A count with weights is a plain sum per place.
            sums = [
                tf.raw_ops.DenseBincount(input=p, size=numbers, weights=w, binary_output=False)
                for p, w in zip(place, weight, strict=True)
            ]
            return tf.cast(tf.reshape(tf.add_n(sums), shape), values.dtype)

        return out, gradient

    return pool(features)
