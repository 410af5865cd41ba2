"""Finds the pictures and labels inside TFRecord files, so that any picture can be read by itself.

A TFRecord file is a row of records without a table: length (8 bytes, little endian), a check sum (4), the record, and
a check sum (4); see TensorFlow's ``lib/io/record_writer.h``. Those of tensorflow-datasets are ``tf.train.Example``
messages. Only the heads of their fields are read here (Protocol Buffers, "Encoding") and pictures are stepped over: of
ImageNet's 150 GB that touches a twentieth.
"""

import mmap
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from zoo.datasets.notes import AnnotationError

# Protocol Buffers' wire types, and the numbers of the fields on the way to a value.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FEATURES = _FEATURE = _KEY = _BYTES_LIST = _VALUES = 1
_VALUE, _INT64_LIST = 2, 3
PICTURE = np.dtype([("start", "<i8"), ("size", "<i8"), ("label", "<i8")])


def index_file(path: str | Path, image: str = "image", label: str = "label") -> np.ndarray:
    """Where the encoded pictures of a TFRecord file begin, how long they are, and their labels.

    Args:
        path: the file.
        image: name of the feature that is a picture's encoded bytes.
        label: name of the feature that is one whole number.

    Returns:
        A structured array (N,) with the fields ``start`` and ``size``, in bytes, and ``label``.

    Raises:
        AnnotationError: the file cannot be read, is cut short or damaged, or its records have no such features; the
            message names it.
    """
    names = image.encode(), label.encode()
    return np.array(_each(path, lambda data, start, end: _picture(data, start, end, *names)), PICTURE)


def tfrecord_places(path: str | Path) -> list[tuple[int, int]]:
    """Where the records of a TFRecord file begin, and how long they are; raises as `index_file` does."""
    return _each(path, lambda data, start, end: (start, end - start))


class _Damaged(Exception):
    pass


def _each(path: str | Path, find: Callable[[mmap.mmap, int, int], tuple[int, ...]]) -> list[tuple[int, ...]]:
    """What ``find`` finds in every record, of which it is given begin and end."""
    found: list[tuple[int, ...]] = []
    try:
        with open(path, "rb") as file:
            if not os.fstat(file.fileno()).st_size:
                return []
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                if hasattr(mmap, "MADV_RANDOM"):
                    data.madvise(mmap.MADV_RANDOM)  # or the system would read the pictures along with the heads
                for start, end in _records(data):
                    found.append(find(data, start, end))
    except (_Damaged, IndexError, struct.error) as error:
        raise AnnotationError(
            f"{path}: record {len(found)} is damaged or cut short ({error}); prepare the set again"
        ) from error
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error.strerror or error})") from error
    return found


def _records(data: mmap.mmap) -> Iterator[tuple[int, int]]:
    position = 0
    while position < len(data):
        (size,) = struct.unpack_from("<Q", data, position)
        start, end = position + 12, position + 12 + size
        position = end + 4
        if position > len(data):
            raise _Damaged(f"it is to end at byte {position:,} of {len(data):,}")
        yield start, end


def _picture(data: mmap.mmap, start: int, end: int, image: bytes, label: bytes) -> tuple[int, int, int]:
    place = number = None
    for features in _fields(data, start, end, _FEATURES):
        for entry in _fields(data, *features, _FEATURE):
            key = next(_fields(data, *entry, _KEY), (0, 0))
            name = data[slice(*key)]
            if name not in (image, label):
                continue
            for value in _fields(data, *entry, _VALUE):
                for values in _fields(data, *value, _BYTES_LIST if name == image else _INT64_LIST):
                    if name == image:
                        place = next(_fields(data, *values, _VALUES), None)
                    else:
                        number = _first_number(data, *values)
    if place is None or number is None:
        missing = image if place is None else label
        raise _Damaged(f"it has no feature {missing.decode()!r} of the right kind")
    return place[0], place[1] - place[0], number


def _fields(data: mmap.mmap, start: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Begin and end of the fields of one number in a message; the others are stepped over."""
    position = start
    while position < end:
        tag, position = _varint(data, position)
        kind = tag & 7
        if kind == _BYTES:
            size, position = _varint(data, position)
        elif kind == _VARINT:
            size = _varint(data, position)[1] - position
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise _Damaged(f"unknown kind of field {kind}")
        if position + size > end:
            raise _Damaged("a field is longer than what it is in")
        if tag >> 3 == wanted and kind == _BYTES:
            yield position, position + size
        position += size


def _first_number(data: mmap.mmap, start: int, end: int) -> int | None:
    """The first of an Int64List: packed, as all writers of today have it, or each behind a tag."""
    if start == end:
        return None
    packed = next(_fields(data, start, end, _VALUES), None)
    number, _ = _varint(data, start + 1 if packed is None else packed[0])
    return number - (1 << 64) if number >> 63 else number


def _varint(data: mmap.mmap, position: int) -> tuple[int, int]:
    """A whole number in base 128, lowest digits first, and the position behind it."""
    number = shift = 0
    while True:
        byte = data[position]
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, position
        shift += 7
        if shift > 63:
            raise _Damaged("a number is too long")
