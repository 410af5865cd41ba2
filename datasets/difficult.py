"""Objects marked difficult taken as ordinary ones: the other setting of Girshick 2015 (section 4.3, table 1)."""

from dataclasses import replace

import numpy as np

from zoo.datasets.records import DetectionDataset, Sample


class DifficultAsOrdinary(DetectionDataset):
    """Another data set in which no object is difficult; crowds stay what they are.

    Detectors do not train on difficult objects, and metrics neither count nor punish them. With this they do.
    """

    def __init__(self, parent: DetectionDataset) -> None:
        """Reads nothing."""
        self.parent = parent
        samples = [_ordinary(parent.sample(index)) for index in range(len(parent))]
        super().__init__(parent.name, parent.classes, samples, parent.notes, parent.category_ids)

    def load(self, index: int) -> tuple[np.ndarray, Sample]:
        """Picture and ground truth together, read once."""
        return self.parent.load(index)[0], self.sample(index)


def _ordinary(sample: Sample) -> Sample:
    return replace(sample, difficult=np.zeros(len(sample), bool)) if sample.difficult.any() else sample
