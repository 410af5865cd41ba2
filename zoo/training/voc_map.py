"""Validation mAP during training as PASCAL VOC measures it."""

from __future__ import annotations

from zoo.training.epoch_measure import EpochMeasure
from zoo.training.evaluate import evaluate


class VocMap(EpochMeasure):
    """Adds ``val_map`` (VOC 2007, IoU .5) to the logs; see `EpochMeasure` for the arguments.

    Example:
        >>> model.fit(batches, epochs=10, callbacks=[VocMap(val_data)])    # doctest: +SKIP
    """

    def measure(self) -> dict[str, float]:
        """The mAP of the validation images."""
        measured = evaluate(self.model, self.dataset, batch_size=self.batch_size, proposals=self.proposals)
        return {"val_map": measured.result.map}
