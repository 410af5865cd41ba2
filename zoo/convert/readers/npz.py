"""NumPy's ``.npz``, in which Chainer keeps its weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from zoo.convert.damage import naming
from zoo.convert.layout import ArrayFile, Shape
from zoo.convert.readers.archive import open_zip
from zoo.weights_error import WeightsError

_PIECE = 1 << 20  # bytes read at a time, so that no second copy of an array is held


def read_npz(path: str | Path) -> ArrayFile:
    """The arrays of an ``.npz`` file; nothing is unpickled.

    Only the headers are read at first, so that opening half a gigabyte takes milliseconds.

    >>> file = read_npz("resnet50_imagenet_converted_2018_03_07.npz")    # doctest: +SKIP
    >>> file.shapes["conv1/conv/W"]                                      # doctest: +SKIP
    (64, 3, 7, 7)
    """
    path = Path(path)
    shapes: dict[str, Shape] = {}
    archive = open_zip(path)
    with naming(path, archive.close):
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if name == info.filename or name in shapes:
                raise WeightsError(f"{path}: the member {info.filename!r} does not belong into an .npz file")
            with archive.open(info) as file:
                shape, _, dtype = _header(file, path, name)
                rest = info.file_size - file.tell()
            # Before anything is allocated: a header may promise more than the file can hold.
            if math.prod(shape) * dtype.itemsize != rest:
                raise WeightsError(f"{path}: {name!r} claims the shape {shape} but holds {rest} bytes; it is damaged")
            shapes[name] = shape

    def read(name: str) -> np.ndarray:
        with naming(path), archive.open(name + ".npy") as file:
            shape, fortran, dtype = _header(file, path, name)
            flat = np.empty(math.prod(shape), dtype)
            view = memoryview(flat).cast("B") if flat.size else memoryview(b"")
            filled = 0
            while filled < len(view):
                count = file.readinto(view[filled : filled + _PIECE])
                if not count:
                    raise EOFError(f"{name} ends early")
                filled += count
            # With its last byte zipfile has compared the check sum.
            return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)

    return ArrayFile(path, shapes, read, "NumPy archive (.npz)", archive.close)


def _header(file: IO[bytes], path: Path, name: str) -> tuple[Shape, bool, np.dtype]:
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{name} has NPY version {version}")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.kind not in "fiub":
        raise WeightsError(
            f"{path}: {name!r} is of type {dtype}, not numbers; objects are not unpickled, since that can run code"
        )
    return tuple(int(n) for n in shape), fortran, dtype
