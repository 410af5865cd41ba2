"""Spatial pyramid pooling of RoIs: bins of several sizes at once (He 2014, sections 2.2 and 4.1)."""

import itertools
from collections.abc import Sequence

import keras
from keras import ops

from zoo.heads.roi_pool import RoIMaxPool


@keras.saving.register_keras_serializable("zoo")
class SpatialPyramidPool(keras.layers.Layer):
    """Max-pool every RoI's window of a feature map into grids of several sizes, one after the other.

    Each level is RoI pooling (:class:`zoo.heads.roi_pool.RoIMaxPool`), of which Girshick 2015 (section 2.1) says that
    it is "the special-case of the spatial pyramid pooling layer ... in which there is only one pyramid level", with
    the same sub-windows. Where a window begins and ends on the map follows his release too, not He 2014's appendix
    A, which leaves out cells whose centres lie outside and gives no cell to an RoI smaller than one.

    Args:
        levels: bins a side of each level, the finest first: the paper's 6, 3, 2 and 1 make 50 bins.
        stride: pixels of the prepared image that a feature-map cell spans.
        max_cells: the longest side a feature map can have.
        clipped: the caller promises that RoIs lie inside the map.

    Call:
        As :class:`zoo.heads.roi_pool.RoIMaxPool`, but the bins lie in one axis, level by level and row by row:
        ``(B, R, sum of levels ** 2, C)``.

    Example:
        >>> import numpy as np
        >>> pool = SpatialPyramidPool((6, 3, 2, 1))
        >>> pool(np.random.rand(1, 38, 50, 256), np.array([[[0.0, 0, 799, 599]]])).shape
        (1, 1, 50, 256)
    """

    def __init__(
        self,
        levels: Sequence[int] = (6, 3, 2, 1),
        stride: int = 16,
        max_cells: int = 128,
        clipped: bool = False,
        name: str | None = None,
        dtype=None,
        trainable: bool = True,
    ):
        super().__init__(name=name, dtype=dtype, trainable=trainable, autocast=False)
        self.levels = checked_levels(levels)
        self.stride, self.max_cells, self.clipped = stride, max_cells, clipped
        self.pools = [
            RoIMaxPool(side, stride, max_cells, clipped, name=f"level_{side}", dtype=dtype) for side in self.levels
        ]
        for pool in self.pools:
            pool.built = True

    def call(self, features, rois, image=None, extent=None, training=None):
        """Pool; arguments as of RoI pooling."""
        # Of the RoIs, not of what is reshaped: tf2onnx would take the latter for "as before", and merge two reshapings.
        (batch, count), parts = ops.shape(rois)[:2], []
        for pool in self.pools:
            found = pool(features, rois, image=image, extent=extent, training=training)
            parts.append(ops.reshape(found, (batch, count, pool.size**2, features.shape[-1])))
        return ops.concatenate(parts, axis=2)

    def compute_output_shape(self, features_shape, rois_shape, image_shape=None, extent_shape=None):
        """``(B, R, bins, C)``."""
        return (rois_shape[0], rois_shape[1], bins_of(self.levels), features_shape[-1])

    def get_config(self):
        """Arguments of ``__init__``."""
        own = {"levels": self.levels, "stride": self.stride, "max_cells": self.max_cells, "clipped": self.clipped}
        return {**super().get_config(), **own}


def checked_levels(levels: Sequence[int]) -> tuple[int, ...]:
    """The levels as a tuple; ``ValueError`` unless they are at least one number, falling, each from 1 on.

    >>> checked_levels([6, 3, 2, 1])
    (6, 3, 2, 1)
    """
    sides = tuple(int(side) for side in levels)
    if not sides or sides[-1] < 1 or any(b >= a for a, b in itertools.pairwise(sides)):
        raise ValueError(f"levels={tuple(levels)}: give the bins a side of each level, the finest first: (6, 3, 2, 1)")
    return sides


def bins_of(levels: Sequence[int]) -> int:
    """Bins of all levels together.

    >>> bins_of((6, 3, 2, 1))
    50
    """
    return sum(side * side for side in levels)
