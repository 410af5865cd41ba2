"""One file out of a ``.tgz`` or ``.zip`` archive that somebody else made; nothing else is ever written.

The member is named exactly, and its bytes go to a path of our choice, so that no name inside the archive can
lead anywhere. An archive that tries (absolute paths, ``..``) is refused all the same, and so are members that
are links or devices, names that occur twice, and archives that unpack to far more than they weigh.
"""

from __future__ import annotations

import gzip
import re
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import IO

from zoo.weights_error import WeightsError

# Weights are noise and hardly shrink; what unpacks to twenty times its size is a trap.
_EXPANSION = 20
_ALWAYS_FINE = 64 << 20  # bytes; small archives may shrink well
_PIECE = 1 << 20
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    NotImplementedError,  # a compression that zipfile does not know
    RuntimeError,  # encrypted
)


def extract_member(archive: Path, member: str, target: Path) -> None:
    """Write the file ``member`` of ``archive``, a ``.zip``, ``.tgz``, ``.tar.gz`` or ``.tar``, to ``target``.

    Errors are ``WeightsError`` and name the archive; ``target`` may then hold a part, so let it be a temporary path.

    >>> extract_member(Path("models.tgz"), "models/vgg16.caffemodel", Path("aside"))  # doctest: +SKIP
    """
    limit = max(_ALWAYS_FINE, _EXPANSION * archive.stat().st_size)
    read = _from_zip if zipfile.is_zipfile(archive) else _from_tar
    try:
        with open(target, "wb") as file:
            read(archive, member, file, limit)
    except _DAMAGED as error:
        raise WeightsError(f"{archive} cannot be unpacked ({error}); delete it, and it is fetched again") from error


def _from_zip(archive: Path, member: str, target: IO[bytes], limit: int) -> None:
    with zipfile.ZipFile(archive) as opened:
        entries = opened.infolist()
        for entry in entries:
            _check_name(archive, entry.orig_filename)
        found = [entry for entry in entries if entry.filename == member]
        _check_one(archive, member, len(found), [entry.filename for entry in entries])
        entry = found[0]
        mode = entry.external_attr >> 16
        if entry.is_dir() or (mode & 0o170000) not in (0, 0o100000):
            raise WeightsError(f"{archive}: {member!r} is no ordinary file in it, but a link or a folder; refused")
        _check_size(archive, member, entry.file_size, limit)
        with opened.open(entry) as source:
            # zipfile hands out at most the declared size, and compares the CRC-32 at the end.
            _copy(source, target, entry.file_size, f"{archive}: {member!r}")


def _from_tar(archive: Path, member: str, target: IO[bytes], limit: int) -> None:
    names, found = [], 0
    with open(archive, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    # Read as a stream, once from beginning to end, because gzip cannot go back. The caller gives the target its
    # final name only after all names were seen, and the check sum at the end of the gzip stream.
    with gzip.open(archive) if packed else open(archive, "rb") as raw, tarfile.open(fileobj=raw, mode="r|") as opened:
        total = 0
        for entry in opened:
            _check_name(archive, entry.name)
            names.append(entry.name)
            total += entry.size
            _check_size(archive, entry.name, total, limit)
            if entry.name != member:
                continue
            found += 1
            if not entry.isreg():
                raise WeightsError(f"{archive}: {member!r} is no ordinary file in it, but a link or a folder; refused")
            if found == 1:
                _copy(opened.extractfile(entry), target, entry.size, f"{archive}: {member!r}")
        while piece := raw.read(_PIECE):
            total += len(piece)
            _check_size(archive, "its end", total, limit)
    _check_one(archive, member, found, names)


def _check_name(archive: Path, name: str) -> None:
    """Refuse names that lead out of a folder, as Unix or Windows read them."""
    parts = re.split(r"[/\\]", name)
    if name.startswith(("/", "\\")) or ".." in parts or re.match(r"[A-Za-z]:", name) or "\0" in name:
        raise WeightsError(f"{archive} holds a file named {name!r}, which leads out of its folder; it is not trusted")


def _check_size(archive: Path, name: str, size: int, limit: int) -> None:
    if size > limit:
        raise WeightsError(f"{archive} unpacks to {size:,} bytes or more at {name!r}, over {limit:,}; it is refused")


def _check_one(archive: Path, member: str, count: int, names: list[str]) -> None:
    if count == 1:
        return
    if count:
        raise WeightsError(f"{archive} holds {count} files named {member!r}; it is not trusted")
    shown = ", ".join(sorted(names)[:10]) + (", ..." if len(names) > 10 else "")
    raise WeightsError(f"{archive} holds no {member!r}; it holds {shown or 'nothing'}")


def _copy(source: IO[bytes], target: IO[bytes], size: int, what: str) -> None:
    """Copy ``size`` bytes, no more and no less."""
    copied = 0
    while piece := source.read(_PIECE):
        copied += len(piece)
        if copied > size:
            raise WeightsError(f"{what} is longer than the {size:,} bytes that it declares; it is refused")
        target.write(piece)
    if copied != size:
        raise WeightsError(f"{what} ends after {copied:,} of {size:,} bytes; delete the archive, and fetch it again")
