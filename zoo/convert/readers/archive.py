"""Opening zip archives that strangers made: names that lead out of the archive and damaged members are refused."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath

from zoo.convert.damage import naming
from zoo.weights_error import WeightsError


def open_zip(path: Path) -> zipfile.ZipFile:
    """The archive ``path``, once the names of all its members are found to be harmless."""
    with naming(path):
        archive = zipfile.ZipFile(path)
        try:
            for info in archive.infolist():
                _refuse_unsafe(path, info)
        except BaseException:
            archive.close()
            raise
        return archive


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """All bytes of a member, its length and check sum compared with what the archive's directory says."""
    data = archive.read(name)
    if len(data) != archive.getinfo(name).file_size:
        raise ValueError(f"{name} has {len(data)} bytes, not {archive.getinfo(name).file_size}")
    return data


def _refuse_unsafe(path: Path, info: zipfile.ZipInfo) -> None:
    # The original name too: zipfile cuts names at a null byte.
    for name in (info.filename, info.orig_filename):
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if not name or name[0] in "/\\" or ".." in parts or "\0" in name or (parts and parts[0].endswith(":")):
            raise WeightsError(
                f"{path} has a member called {name!r}, a path that leads out of the archive: it was made to do harm, "
                "and nothing was read from it; fetch the file from its publisher"
            )
    if info.flag_bits & 1:
        raise WeightsError(f"{path}: the member {info.filename!r} is encrypted; weights files are not")
