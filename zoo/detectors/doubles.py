"""Whole sizes as double-precision arithmetic gives them, in 32-bit operations that every backend and export has.

ChainerCV makes ``int(side * (600 / small))`` of a side, py-faster-rcnn rounds the same product. Where it is a whole
number (or a half, for the latter), the quotient's own rounding decides: 281 * (600 / 281) is 599.9999999999999. Graphs
seldom have doubles: JAX not unless asked, TFLite not at all. Here the product is computed in whole numbers, and a
table of the quotients' errors tells on which side of it the doubles come out.
"""

from fractions import Fraction
from functools import lru_cache

import numpy as np
from keras import ops

_LONGEST = 8192  # sides beyond are taken as if doubles were exact; they may come out a pixel longer


@lru_cache(maxsize=16)
def quotient_errors(target: int) -> np.ndarray:
    """How far the double ``target / side`` lies above the quotient, in units of 2 ** -53 of it: ``(8193,)`` float32."""
    exact = [(Fraction(target / side) * side / target - 1) * 2**53 for side in range(1, _LONGEST + 1)]
    return np.array([0, *map(float, exact)], np.float32)


def _products(sides, side, target: int):
    """``sides * target = whole * side + rest``, int32, and the quotient's error: ``(whole, rest, error)``."""
    product = sides * target
    error = ops.take(ops.convert_to_tensor(quotient_errors(target)), ops.minimum(side, _LONGEST), axis=0)
    return product // side, product % side, ops.where(side > _LONGEST, 0.0, error)


def _falls(value, error):
    """-1, 0 or 1: whether the double of ``value * (1 + error * 2 ** -53)`` lies below, at or above ``value``.

    Doubles around ``value``, which itself is one, are 2 ** -52 of the power of two below it apart; the product comes
    out as another one if it lies more than half of that away. Below a power of two they are twice as dense.
    """
    powers = ops.convert_to_tensor(2.0 ** np.arange(24, dtype=np.float32))
    mantissa = value / ops.max(ops.where(value[..., None] >= powers, powers, 1.0), axis=-1)
    below = error * ops.where(mantissa == 1.0, 2.0, mantissa) < -1.0
    return ops.cast(error * mantissa > 1.0, "int32") - ops.cast(below, "int32")


def floored(sides, side, target: int):
    """``int(sides * (target / side))``, ``(B, n)`` int32.

    Args:
        sides: ``(B, n)`` int32.
        side: ``(B, 1)`` int32.
        target: a Python int.

    Example:
        >>> floored(np.array([[281, 400]]), np.array([[281]]), 600).numpy()
        array([[599, 854]], dtype=int32)
    """
    whole, rest, error = _products(sides, side, target)
    falls = _falls(ops.cast(whole, "float32"), error)
    return whole + ops.where(rest == 0, ops.minimum(falls, 0), 0)


def rounded(sides, side, target: int):
    """``round(sides * (target / side))``, halves to even, ``(B, n)`` int32; arguments as for :func:`floored`."""
    whole, rest, error = _products(sides, side, target)
    falls = _falls(ops.cast(whole, "float32") + 0.5, error)
    at_half = ops.where(falls == 0, whole % 2, ops.cast(falls > 0, "int32"))
    return whole + ops.where(2 * rest == side, at_half, ops.cast(2 * rest > side, "int32"))
