"""Random choice of anchors and RoIs that depends on the image and the step, and on nothing else.

A seed generator would draw the same numbers on every replica and others for another batch composition. A hash of
(image, step, element) gives each image the same sample on one device, on several, and after a resume.
"""

from keras import ops


def _mix(x):
    """The finaliser of MurmurHash3, on int32 tensors with shifts made logical; a bijection that avalanches."""

    def shift(value, by):
        return ops.bitwise_and(ops.right_shift(value, by), (1 << (32 - by)) - 1)

    x = ops.bitwise_xor(x, shift(x, 16)) * -2048144789
    x = ops.bitwise_xor(x, shift(x, 13)) * -1028477387
    return ops.bitwise_xor(x, shift(x, 16))


def uniform(image_id, step, count, salt: int):
    """Uniform numbers for ``count`` elements of each image.

    Args:
        image_id: ``(B,)`` int32.
        step: scalar int32, the training step.
        count: elements an image, an int or a scalar tensor.
        salt: distinguishes independent draws of one step.

    Returns:
        ``(B, count)`` float32 in [0, 1).
    """
    key = _mix(ops.cast(image_id, "int32") + _mix(ops.cast(step, "int32") + _mix(ops.full((), salt, "int32"))))
    bits = _mix(key[:, None] + _mix(ops.arange(count, dtype="int32") + 1)[None])
    # 24 bits: as many as float32 holds exactly.
    return ops.cast(ops.bitwise_and(bits, 0xFFFFFF), "float32") / float(1 << 24)
