"""Files of other libraries as names, shapes and arrays: one module a format, and :func:`open_arrays` for any."""

from __future__ import annotations

import zipfile
from pathlib import Path

import h5py

from zoo.convert.layout import ArrayFile
from zoo.convert.readers.caffemodel import read_caffemodel
from zoo.convert.readers.keras_h5 import is_keras_h5, read_keras_h5
from zoo.convert.readers.npz import read_npz
from zoo.convert.readers.onnx_file import read_onnx
from zoo.convert.readers.pth import read_pth
from zoo.file_checks import text_kind
from zoo.weights_error import WeightsError

FORMATS = (
    "Keras .h5 (legacy weights), NumPy .npz (Chainer), PyTorch .pth (a state dictionary), .onnx, Caffe .caffemodel"
)
_HDF5 = b"\x89HDF\r\n\x1a\n"


def open_arrays(path: str | Path) -> ArrayFile:
    """The arrays of a weights file of any known format; what it is is told by its first bytes, not by its name.

    Raises:
        WeightsError: no such file, or none of the known formats, or a damaged one.

    >>> with open_arrays("vgg16_imagenet_converted_2017_07_18.npz") as file:    # doctest: +SKIP
    ...     file["conv1_1/conv/W"].shape
    (64, 3, 3, 3)
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path} does not exist, or is no file; give the path of a weights file: {FORMATS}")
    with open(path, "rb") as file:
        head = file.read(2048)
    if not head:
        raise WeightsError(f"{path} is empty; fetch it again")
    if head.startswith(_HDF5):
        return read_keras_h5(path)
    if head.startswith(b"PK\x03\x04"):
        return read_pth(path) if _is_pth(path) else read_npz(path)
    if head.startswith(b"\x80") and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return read_pth(path)
    # Messages of protocol buffers begin with no mark.
    if path.suffix == ".onnx":
        return read_onnx(path)
    if path.suffix == ".caffemodel":
        return read_caffemodel(path)
    kind = text_kind(head) or ("a packed archive; unpack it" if head[:2] == b"\x1f\x8b" else "of no known format")
    raise WeightsError(f"{path} is {kind}; known: {FORMATS}")


def is_foreign(path: str | Path) -> bool:
    """Whether ``path`` is a file that :func:`open_arrays` should read: neither ours, nor a Keras 3 file."""
    path = Path(path)
    if not path.is_file() or path.suffix == ".keras":
        return False
    with open(path, "rb") as file:
        head = file.read(8)
    if head != _HDF5:
        return path.suffix != ".h5"
    try:
        with h5py.File(path, "r") as file:
            return is_keras_h5(file)
    except OSError:
        return False


def _is_pth(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return False
