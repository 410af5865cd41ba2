"""PyTorch's state dictionaries (``.pth``), read without PyTorch and without running what is pickled in them.

Such a file is a pickle that rebuilds tensors from storages, raw blocks of numbers. Since PyTorch 1.6 it is a zip
archive (``data.pkl`` and a member per storage), before that several pickles in a row and the storages behind them. A
pickle may name any function of any module to be called; here it gets a few harmless stand-ins, and any other name is an
error. Even so a pickle can set attributes of what it has made, so everything is checked after it has ended.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from zoo.convert.damage import DAMAGE, naming
from zoo.convert.layout import ArrayFile
from zoo.convert.readers.archive import open_zip, read_member
from zoo.weights_error import WeightsError

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # how files of before PyTorch 1.6 begin
_MOST_PICKLE = 64 << 20  # bytes; the names and shapes of the largest networks take less than one of them
_TYPES = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "BFloat16Storage": "bf16",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "b1",
}


@dataclass(frozen=True)
class _Storage:
    kind: str  # NumPy type code, or "bf16"
    key: str
    count: int

    @property
    def bytes(self) -> int:
        return self.count * (2 if self.kind == "bf16" else np.dtype(self.kind).itemsize)


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Dict(dict):
    """Stands for ``OrderedDict``; a class of our own, so that a pickle may hang attributes on it."""


def read_pth(path: str | Path) -> ArrayFile:
    """The tensors of a state dictionary by name; of a checkpoint, those of its ``state_dict``.

    Raises:
        WeightsError: the file is damaged, holds something else, or its pickle names a function that is none of those
            that state dictionaries need; nothing of it has been run.

    >>> file = read_pth("resnet50-0676ba61.pth")    # doctest: +SKIP
    >>> file.shapes["layer1.0.conv1.weight"]        # doctest: +SKIP
    (64, 64, 1, 1)
    """
    path = Path(path)
    with naming(path), open(path, "rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    return _read_zip(path) if zipped else _read_legacy(path)


def _read_zip(path: Path) -> ArrayFile:
    archive = open_zip(path)
    with naming(path, archive.close):
        members = {info.filename: info.file_size for info in archive.infolist()}
        pickles = [name for name in members if name.endswith("/data.pkl") or name == "data.pkl"]
        if len(pickles) != 1:
            raise WeightsError(f"{path} is a zip archive without one data.pkl: no file of PyTorch's")
        folder = pickles[0].removesuffix("data.pkl")
        if members[pickles[0]] > _MOST_PICKLE:
            raise ValueError(f"its pickle has {members[pickles[0]]} bytes")
        order = read_member(archive, folder + "byteorder") if folder + "byteorder" in members else b"little"
        tensors = _tensors(_load(path, io.BytesIO(read_member(archive, pickles[0]))), path)
        for name, tensor in tensors.items():
            size = members.get(f"{folder}data/{tensor.storage.key}")
            if size != tensor.storage.bytes:
                raise ValueError(f"the numbers of {name!r} take {tensor.storage.bytes} bytes, the file has {size}")

    def raw(storage: _Storage) -> bytes:
        return read_member(archive, f"{folder}data/{storage.key}")

    return _file(path, tensors, raw, order.decode("ascii", "replace").strip(), archive.close)


def _read_legacy(path: Path) -> ArrayFile:
    file = open(path, "rb")  # noqa: SIM115 - stays open until the arrays have been read
    with naming(path, file.close):
        if _load(path, file) != _MAGIC:
            raise WeightsError(f"{path} is no file of PyTorch's: give a state dictionary written by torch.save")
        version, system = _load(path, file), _load(path, file)
        if version != _PROTOCOL or not isinstance(system, dict):
            raise ValueError(f"unknown version {version!r}")
        order = "little" if system.get("little_endian", True) else "big"
        tensors = _tensors(_load(path, file), path)
        keys = _load(path, file)
        storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
        if not isinstance(keys, list) or not storages.keys() <= set(keys):
            raise ValueError("its list of storages does not fit its tensors")
        starts: dict[str, int] = {}
        end = path.stat().st_size
        for key in keys:
            if key not in storages:
                raise WeightsError(f"{path} holds storage {key!r}, which no tensor uses; it is damaged")
            (count,) = struct.unpack("<q" if order == "little" else ">q", file.read(8))
            starts[key] = file.tell()
            if count != storages[key].count or starts[key] + storages[key].bytes > end:
                raise ValueError(f"storage {key} should hold {storages[key].count} numbers")
            file.seek(storages[key].bytes, io.SEEK_CUR)

    def raw(storage: _Storage) -> bytes:
        file.seek(starts[storage.key])
        data = file.read(storage.bytes)
        if len(data) != storage.bytes:
            raise EOFError(f"storage {storage.key} ends early")
        return data

    return _file(path, tensors, raw, order, file.close)


def _file(
    path: Path,
    tensors: Mapping[str, _Tensor],
    raw: Callable[[_Storage], bytes],
    order: str,
    close: Callable[[], None],
) -> ArrayFile:
    if order not in ("little", "big"):
        raise WeightsError(f"{path} has the byte order {order!r}; known are 'little' and 'big'")

    def read(name: str) -> np.ndarray:
        with naming(path):
            tensor = tensors[name]
            flat = _numbers(raw(tensor.storage), tensor.storage.kind, order)
            step = flat.itemsize
            strides = tuple(step * stride for stride in tensor.strides)
            view = np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides, writeable=False)
            return view if tensor.shape else view.copy()

    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    return ArrayFile(path, shapes, read, "PyTorch state dictionary (.pth)", close)


def _numbers(data: bytes, kind: str, order: str) -> np.ndarray:
    mark = "<" if order == "little" else ">"
    if kind == "bf16":
        # A bfloat16 is the upper half of a float32.
        return (np.frombuffer(data, mark + "u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, mark + kind)


def _tensors(content: Any, path: Path) -> dict[str, _Tensor]:
    """The named tensors of what was pickled: a state dictionary, or a checkpoint that has one."""
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise WeightsError(
            f"{path} holds a {type(content).__name__.strip('_')}, not a dictionary of tensors; "
            "save model.state_dict() with torch.save"
        )
    strange = [str(name) for name, value in content.items() if not isinstance(value, _Tensor)]
    if strange:
        raise WeightsError(f"{path} is no state dictionary: {', '.join(strange[:8])} are no tensors")
    try:
        return {str(name): _checked(str(name), tensor) for name, tensor in content.items()}
    except (TypeError, AttributeError) as error:  # attributes that the pickle has set
        raise WeightsError(f"{path} holds tensors that are none ({error}); do not use it") from error


def _checked(name: str, tensor: _Tensor) -> _Tensor:
    """A copy of ``tensor``, which has to lie inside its storage."""
    storage = tensor.storage
    if not isinstance(storage, _Storage) or storage.kind not in _TYPES.values() or not isinstance(storage.key, str):
        raise ValueError(f"{name} has no storage")
    shape, strides = tuple(tensor.shape), tuple(tensor.strides)
    numbers = (storage.count, tensor.offset, *shape, *strides)
    if len(shape) != len(strides) or any(type(n) is not int or n < 0 for n in numbers):
        raise ValueError(f"{name} has the shape {shape} with strides {strides}")
    last = tensor.offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if 0 not in shape and last >= storage.count:
        raise ValueError(f"{name} of shape {shape} reaches beyond its {storage.count} numbers")
    return _Tensor(_Storage(storage.kind, storage.key, storage.count), tensor.offset, shape, strides)


def _load(path: Path, file: IO[bytes]) -> Any:
    try:
        return _Unpickler(file, path).load()
    except WeightsError:
        raise
    except (pickle.UnpicklingError, AttributeError, TypeError, RecursionError, *DAMAGE) as error:
        raise WeightsError(f"{path} is damaged, or no file of PyTorch's ({error}); fetch it again") from error


class _Unpickler(pickle.Unpickler):
    """Gives a pickle nothing but harmless stand-ins, made anew for every file."""

    def __init__(self, file: IO[bytes], path: Path):
        super().__init__(file, encoding="utf-8")
        self._path = path
        self._known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): lambda *items: _Dict(*items),
            ("torch._utils", "_rebuild_tensor_v2"): lambda *parts: _Tensor(*parts[:4]),
            ("torch._utils", "_rebuild_tensor"): lambda *parts: _Tensor(*parts),
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
            ("torch", "Size"): lambda shape: tuple(shape),
        }

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of a global name; called before anything of that name can run."""
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        if (module, name) not in self._known:
            raise WeightsError(
                f"{self._path} asks for {module}.{name} to be called, which no state dictionary needs: it may have "
                "been made to do harm, and nothing of it was run. Save model.state_dict() alone, not a whole model; if "
                "you did not make this file, do not load it with other tools either"
            )
        return self._known[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """A storage: ``("storage", type, key, device, count)``, in old files with a view's description at the end."""
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage" or pid[5:] not in ((), (None,)):
            raise ValueError(f"unknown storage {pid!r}"[:200])
        return _Storage(pid[1], pid[2], pid[4])
