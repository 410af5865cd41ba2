"""A data set whose pictures show where the boxes have to be; for the tests of the pipeline."""

import numpy as np

from zoo.datasets.records import DetectionDataset, Sample

WIDE, TALL = (20, 30), (28, 18)


class Marked(DetectionDataset):
    """Pictures with one white rectangle per box on black: the white tells where the box has to be."""

    def __init__(self, sizes, counts=None, seed=0):
        rng = np.random.default_rng(seed)
        samples = []
        for index, (height, width) in enumerate(sizes):
            count = 1 if counts is None else counts[index]
            corner = rng.integers(1, 5, (count, 2))
            boxes = np.concatenate([corner, corner + rng.integers(4, 9, (count, 2))], 1)
            labels, flags = np.arange(count) % 3, np.arange(count) == 1
            samples.append(Sample(f"m{index}", None, (height, width), boxes, labels, flags, np.arange(count) == 2))
        super().__init__("marked", ("a", "b", "c"), samples)
        self.reads = 0

    def load(self, index):
        self.reads += 1
        sample = self.sample(index)
        image = np.full((*sample.size, 3), 10, np.uint8)
        for x1, y1, x2, y2 in sample.boxes.astype(int):
            image[y1:y2, x1:x2] = 250
        return image, sample


def mixed(count=11):
    """Two thirds wide, one third tall."""
    return Marked([WIDE if index % 3 else TALL for index in range(count)])


def white_box(image):
    """The box around what is white."""
    rows, columns = np.nonzero(image[..., 0] > 128)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def same(one, other):
    """Two elements (x, y) are equal in every array."""
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(np.asarray(a[name]), np.asarray(b[name]), err_msg=name)


def rows(batches):
    """Every picture of one or more batches: (picture without padding, its boxes, classes, difficult, index)."""
    for x, y in batches:
        for row, (height, width) in enumerate(x["sizes"]):
            real = y["classes"][row] >= 0
            parts = (y[name][row][real] for name in ("boxes", "classes", "difficult"))
            yield x["images"][row, :height, :width], *parts, int(x["image_id"][row])
