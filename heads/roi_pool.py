"""RoI max pooling as a Keras layer: exact, without a custom kernel and without a loop over RoIs."""

import math

import keras
from keras import ops

from zoo.heads.roi_argmax import argmax_cells, pooled_with_gradient
from zoo.heads.roi_bins import roi_bins
from zoo.heads.window_max import bin_windows, levels_for, window_tables


@keras.saving.register_keras_serializable("zoo")
class RoIMaxPool(keras.layers.Layer):
    """Max-pool every RoI's window of a feature map into ``size`` x ``size`` bins (Girshick 2015, section 2.1).

    Equal, bit for bit, to Caffe's layer (and torchvision's ``roi_pool``, ONNX Runtime's ``MaxRoiPool``): see
    :func:`zoo.heads.roi_bins.roi_bins`. An empty bin gives 0. The gradient goes to the first largest cell of a bin
    in row order.

    Args:
        size: bins a side, 7 for VGG16 and 6 for AlexNet.
        stride: pixels of the prepared image that a feature-map cell spans.
        max_cells: the longest side a feature map can have. Sizes the look-up tables; a larger map is an error
            where its shape is known.
        clipped: the caller promises that RoIs lie inside the map (proposals do). Bins are then short, and the
            tables small. Without the promise RoIs may lie anywhere.

    Call:
        ``features (B, Hf, Wf, C)`` and ``rois (B, R, 4)`` in pixels of the prepared image give
        ``(B, R, size, size, C)``. An RoI looks at the map of its own row, or, where maps of several scales were put
        together (:func:`zoo.heads.pyramid.stack_maps`), at that which ``image (B, R)`` int32 says, of which
        ``extent (B, R, 2)`` int32 are the rows and columns that are real.

    Example:
        >>> import numpy as np
        >>> pool = RoIMaxPool(size=7, stride=16)
        >>> pool(np.random.rand(1, 38, 50, 512), np.array([[[0.0, 0, 799, 599]]])).shape
        (1, 1, 7, 7, 512)
    """

    def __init__(
        self,
        size: int = 7,
        stride: int = 16,
        max_cells: int = 128,
        clipped: bool = False,
        name: str | None = None,
        dtype=None,
        trainable: bool = True,
    ):
        # A mixed-precision policy must not round the boxes: 16 bits cannot tell pixel 513 from 514.
        super().__init__(name=name, dtype=dtype, trainable=trainable, autocast=False)
        if size < 1 or stride < 1 or max_cells < 1:
            raise ValueError(f"size, stride and max_cells must be at least 1, got {size}, {stride} and {max_cells}")
        self.size, self.stride = size, stride
        self.max_cells, self.clipped = max_cells, clipped

    def _levels(self, cells: int | None) -> int:
        cells = self.max_cells if cells is None else cells
        # An RoI inside the map spans at most one cell more than the map; a bin's edges are rounded outwards.
        longest = math.ceil((cells + 1) / self.size) + 1 if self.clipped else cells
        return levels_for(min(longest, cells))

    def call(self, features, rois, image=None, extent=None, training=None):
        """Pool; ``training`` chooses the way that is quicker when a gradient follows. The numbers are the same.

        On backends other than TensorFlow only ``training=True`` sends the gradient of equal cells to the first;
        otherwise they share it.
        """
        for side in features.shape[1:3]:
            if side is not None and side > self.max_cells:
                raise ValueError(
                    f"the feature map is {features.shape[1]} x {features.shape[2]} cells, more than "
                    f"max_cells={self.max_cells}; build RoIMaxPool with a larger max_cells"
                )
        batch, rows, columns = ops.shape(features)[:3]
        (own, count), channels = ops.shape(rois)[:2], features.shape[-1]
        flat = ops.reshape(ops.cast(rois, "float32"), (-1, 4))
        if image is None:
            image = ops.repeat(ops.arange(batch, dtype="int32"), count)
        image, real = ops.reshape(image, (-1,)), (rows, columns)
        if extent is not None:
            real = ops.reshape(extent[..., 0], (-1, 1)), ops.reshape(extent[..., 1], (-1, 1))
        bins = roi_bins(flat, *real, self.size, self.stride)
        levels = (self._levels(features.shape[1]), self._levels(features.shape[2]))
        windows, empty = bin_windows(bins, image, (batch, rows, columns), *levels)
        if keras.backend.backend() == "tensorflow":
            pooled = pooled_with_gradient(features, windows, empty, levels, bool(training))
        elif training:
            # Plain gathering at the argmax: its gradient scatters to that cell and nowhere else.
            cell = argmax_cells(ops.stop_gradient(features), windows, levels)
            place = cell * channels + ops.arange(channels, dtype="int32")
            pooled = ops.take(ops.reshape(features, (-1,)), place)
        else:
            table = window_tables(features, *levels)
            a, b, c, d = (ops.take(table, w, axis=0) for w in windows)
            pooled = ops.maximum(ops.maximum(a, b), ops.maximum(c, d))
        pooled = ops.where(empty[..., None], ops.zeros((), pooled.dtype), pooled)
        return ops.reshape(pooled, (own, count, self.size, self.size, channels))

    def compute_output_shape(self, features_shape, rois_shape, image_shape=None, extent_shape=None):
        """``(B, R, size, size, C)``."""
        return (rois_shape[0], rois_shape[1], self.size, self.size, features_shape[-1])

    def get_config(self):
        """Arguments of ``__init__``."""
        return {
            **super().get_config(),
            "size": self.size,
            "stride": self.stride,
            "max_cells": self.max_cells,
            "clipped": self.clipped,
        }
