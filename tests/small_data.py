"""Small data sets made on the spot: pictures with something to see, and pictures that nothing should read."""

import importlib.util
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from zoo.datasets.records import DetectionDataset, Sample

needs_yaml = pytest.mark.skipif(
    importlib.util.find_spec("yaml") is None, reason="PyYAML is not installed: data.yaml cannot be read"
)
YOLO = pytest.param("yolo", marks=needs_yaml)


def picture(path, size=(30, 40), seed=0, **options):
    """A picture of random blocks, (height, width); every seed another one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BILINEAR).save(path, **options)
    return path


def giant(path, side=20_000):
    """A PNG file of a few bytes whose header says side x side pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    return path


def same(first, second, tolerance=0.01):
    """Whether two data sets have the same pictures (by file name), sizes, boxes and class names."""
    a, b = ({sample.path.stem: sample for sample in data.samples} for data in (first, second))
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].size == b[name].size, name
        np.testing.assert_allclose(a[name].boxes, b[name].boxes, atol=tolerance, err_msg=name)
        labels = [
            [data.classes[label] for label in each.classes] for data, each in ((first, a[name]), (second, b[name]))
        ]
        assert labels[0] == labels[1], name


def sample_set(count=6, flags=True):
    """Pictures in memory with boxes of fractions of pixels, some difficult, some crowds, one picture empty."""

    class InMemory(DetectionDataset):
        def load(self, index):
            sample = self.sample(index)
            return np.random.default_rng(index).integers(0, 256, (*sample.size, 3)).astype(np.uint8), sample

    rng = np.random.default_rng(5)
    samples = []
    for number in range(count):
        size = (int(rng.integers(40, 90)), int(rng.integers(40, 90)))
        boxes = 0 if number == 2 else 7
        corners = rng.uniform(0, 0.9, (boxes, 2)) * [size[1], size[0]]
        sides = rng.uniform(0.02, 1, (boxes, 2)) * ([size[1], size[0]] - corners - 1.1) + 1.05
        marks = [rng.random(boxes) < 0.3 if flags else np.zeros(boxes, bool) for _ in range(2)]
        labels = rng.integers(0, 3, boxes)
        samples.append(Sample(f"p{number}", None, size, np.hstack([corners, corners + sides]), labels, *marks))
    return InMemory("memory", ("cat", "dog, big", "yes"), samples)
