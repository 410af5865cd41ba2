"""A detector's own statistics of box deltas: measured on data, kept among its weights, undone at test."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from keras import ops

from zoo.detectors.deltas import DELTA_DEVIATIONS
from zoo.detectors.roi_detector import LAST_PIXEL
from zoo.heads.target_statistics import Example, rescaled, target_statistics

ONE = (1.0,) * len(DELTA_DEVIATIONS)


class NormalisedTargets:
    """For a :class:`zoo.detectors.roi_detector.RoIDetector` with a regression of boxes for each class.

    Weights ``box_means`` and ``box_deviations``, both ``(K, 4)``; until they are measured those of py-faster-rcnn.
    """

    def _add_statistics(self) -> None:
        shape = (len(self.classes), 4)
        self.box_means = self.add_weight(shape=shape, initializer="zeros", trainable=False, name="box_means")
        self.box_deviations = self.add_weight(
            shape=shape, initializer=_usual_deviations, trainable=False, name="box_deviations"
        )

    def measure_targets(self, batches: Iterable[tuple[Mapping, Mapping]], new: bool = True) -> None:
        """Take the statistics by which targets are normalised from data (Girshick 2015, section 2.3).

        Args:
            batches: ``(x, y)`` of arrays as ``fit`` takes them, once through the data; pictures are not looked at.
            new: as for :meth:`set_target_statistics`.

        Example:
            >>> model.measure_targets(batches.numpy_batches())    # doctest: +SKIP
        """
        found = target_statistics(
            (each for x, y in batches for each in self._examples(x, y)),
            len(self.classes),
            plus_one=self._inclusive,
            deltas_plus_one=self._deltas_inclusive,
        )
        self.set_target_statistics(*found, new=new)

    def set_target_statistics(self, means, deviations, new: bool = False) -> None:
        """Set the ``(K, 4)`` means and deviations of each class's deltas.

        Args:
            means: subtracted from the targets in training, added to the outputs at test.
            deviations: divided by, and multiplied by.
            new: the regression has not been trained. Otherwise its layer is rescaled, so that the model goes on
                predicting what it predicted.
        """
        if self.head.loc is None:
            raise ValueError("there is no regression of boxes whose targets could be normalised (bbox='none')")
        shape = (len(self.classes), 4)
        means, deviations = (np.asarray(each, np.float32) for each in (means, deviations))
        if means.shape != shape or deviations.shape != shape:
            raise ValueError(f"means and deviations are of shape {shape}, not {means.shape} and {deviations.shape}")
        if not (np.isfinite(means).all() and np.isfinite(deviations).all() and (deviations > 0).all()):
            raise ValueError("means have to be finite and deviations positive; does some box have no area?")
        if not new:
            before = [ops.convert_to_numpy(each) for each in (self.box_means, self.box_deviations)]
            layer = [ops.convert_to_numpy(each) for each in (self.head.loc.kernel, self.head.loc.bias)]
            kernel, bias = rescaled(*layer, before, (means, deviations))
            self.head.loc.kernel.assign(kernel)
            self.head.loc.bias.assign(bias)
        self.box_means.assign(means)
        self.box_deviations.assign(deviations)

    def _examples(self, x: Mapping, y: Mapping) -> Iterator[Example]:
        """Proposals, boxes and classes of each picture of a batch, in the model's convention."""
        proposals, boxes, labels = np.array(x["proposals"]), np.array(y["boxes"]), np.array(y["classes"])
        counts = np.array(x.get("num_proposals", [proposals.shape[1]] * len(boxes)))
        if not self.use_difficult and "difficult" in y:
            labels = np.where(np.array(y["difficult"], bool), -1, labels)
        last = LAST_PIXEL if self._inclusive else np.zeros(4, np.float32)
        for each, count, truth, label in zip(proposals, counts, boxes, labels, strict=True):
            yield each[:count] - last, truth - last, label


def _usual_deviations(shape, dtype=None):
    return ops.broadcast_to(ops.convert_to_tensor(DELTA_DEVIATIONS, dtype or "float32"), shape)
