"""Which cell each bin's maximum came from, and RoI pooling's gradient, which goes there (Girshick 2015, eq. 4)."""

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

    def packed_maximum(values):
        shape = tf.shape(values)
        # Of a negative float the bits below the sign, negated: ordered as the floats are, and -0 equal to 0.
        # (Adding 0. does not do for the latter: the graph optimiser takes x + 0 for x.)
        bits = tf.bitcast(tf.cast(values, tf.float32), tf.int32)
        ordered = tf.where(bits < 0, tf.int32.min - bits, bits)
        cells = shape[0] * shape[1] * shape[2]
        place = tf.reshape(0x7FFFFFFF - tf.range(cells), (shape[0], shape[1], shape[2], 1))
        keys = tf.bitwise.left_shift(tf.cast(ordered, tf.int64), tf.constant(32, tf.int64))
        keys += tf.cast(place, tf.int64)
        table = window_tables(keys, *levels, maximum=tf.maximum)
        return four_way(table)

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
            low = tf.bitwise.bitwise_and(best, tf.constant(0x7FFFFFFF, tf.int64))
            cell = 0x7FFFFFFF - tf.cast(low, tf.int32)
            shape = tf.shape(values)
            channels = shape[3]
            place = cell * channels + tf.range(channels)
            # Negative weights are dropped nowhere: a count with weights is a plain sum per place.
            weight = tf.where(empty[..., None], 0.0, tf.cast(upstream, tf.float32))
            total = tf.raw_ops.DenseBincount(
                input=tf.reshape(place, (-1,)),
                size=tf.reduce_prod(shape),
                weights=tf.reshape(weight, (-1,)),
                binary_output=False,
            )
            return tf.cast(tf.reshape(total, shape), values.dtype)

        return out, gradient

    return pool(features)
