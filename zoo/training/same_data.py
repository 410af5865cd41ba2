"""Whether a training that goes on sees the data it was started with."""

from __future__ import annotations

import hashlib

from zoo.datasets.class_records import ClassificationDataset
from zoo.datasets.records import DetectionDataset


def data_digest(data: DetectionDataset | ClassificationDataset) -> str:
    """What tells a data set from others, wherever it lies: counts, and a hash of all names, sizes, boxes and classes.

    Pictures are not read. Of composed ones, whose objects take long to tell, names have to do.

    >>> from zoo.datasets.digits import digit_scenes
    >>> data_digest(digit_scenes("train", 4)) == data_digest(digit_scenes("test", 4))
    False
    """
    digest = hashlib.sha256(repr(data.classes).encode())
    if isinstance(data, ClassificationDataset):
        digest.update(repr(data.image_ids).encode() + data.labels.tobytes())
        return f"{len(data)} pictures ({digest.hexdigest()[:10]})"
    if data.objects is None:
        return f"{len(data)} pictures of {data.name} from {data.sample(0).image_id} on"
    for sample in data.samples:
        digest.update(f"{sample.image_id}\n{sample.size}\n".encode())
        for part in (sample.boxes, sample.classes, sample.difficult, sample.crowd):
            digest.update(part.tobytes())
    return f"{len(data)} pictures, {data.objects} objects ({digest.hexdigest()[:10]})"
