"""Small data sets made on the spot: pictures with something to see, and pictures that nothing should read."""

import importlib.util
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

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
