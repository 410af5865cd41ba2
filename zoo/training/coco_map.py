"""COCO's figures during training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zoo.datasets.coco_metrics import FIGURES
from zoo.datasets.records import DetectionDataset
from zoo.training.epoch_measure import EpochMeasure
from zoo.training.evaluate import evaluate
from zoo.weights_io import WeightsMeta

_SIZES = {"s": "_small", "m": "_medium", "l": "_large"}


def log_name(figure: str) -> str:
    """A figure's name in the logs, which tells it from VOC's.

    >>> log_name("AP"), log_name("AP50"), log_name("ARs")
    ('val_coco_map', 'val_coco_map50', 'val_coco_recall_small')
    """
    kind = {"AP": "map", "AR": "recall"}[figure[:2]]
    return f"val_coco_{kind}{_SIZES.get(figure[2:], figure[2:])}"


class CocoMap(EpochMeasure):
    """Adds ``val_coco_map``, ``val_coco_map50`` and ``val_coco_map75`` to the logs, or other figures of COCO.

    Args:
        dataset: validation images.
        every: measure after this many epochs.
        batch_size: images at once.
        best_path: where the weights with the highest first figure go; ``None`` to keep none.
        meta: metadata to store with them.
        best: the highest first figure of an earlier part of a resumed training.
        figures: which of `zoo.datasets.coco_metrics.FIGURES`; the first decides which weights are best.

    Example:
        >>> model.fit(batches, epochs=10, callbacks=[CocoMap(val_data, every=2)])    # doctest: +SKIP
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        every: int = 1,
        batch_size: int = 4,
        best_path: str | Path | None = None,
        meta: WeightsMeta | None = None,
        best: float = -1.0,
        figures: Sequence[str] = ("AP", "AP50", "AP75"),
    ) -> None:
        """See the class."""
        super().__init__(dataset, every, batch_size, best_path, meta, best)
        unknown = [name for name in figures if name not in FIGURES]
        if unknown or not figures:
            raise ValueError(f"figures={figures!r}; choose one or more of {', '.join(FIGURES)}")
        self.figures = tuple(figures)

    def measure(self) -> dict[str, float]:
        """The chosen figures of the validation images."""
        measured = evaluate(
            self.model, self.dataset, metric="coco", batch_size=self.batch_size, proposals=self.proposals
        )
        return {log_name(name): measured.result.figures[name] for name in self.figures}
