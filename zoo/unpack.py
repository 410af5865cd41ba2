"""Unpacks archives that somebody else made into a folder of their own; nothing is ever written outside it."""

from __future__ import annotations

import gzip
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

# Pictures hardly shrink; what unpacks to twenty times its size is a trap.
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


class ArchiveError(ValueError):
    """An archive that is damaged or not to be trusted; the message names it and the member."""


def unpack(archive: Path, folder: Path, progress: Callable[[int], object] = lambda size: None) -> int:
    """Write all files of a ``.tar``, ``.tar.gz`` or ``.zip`` below ``folder``.

    Args:
        archive: the file.
        folder: made if it is not there. Something may be left in it if this fails, so let it be a temporary one.
        progress: called with the bytes of each file when it is written.

    Returns:
        How many files were written.

    Raises:
        ArchiveError: it is damaged, or holds a path that leads out of the folder, a link, a device, or far more
            than it weighs.

    >>> unpack(Path("VOCtest_06-Nov-2007.tar"), Path("aside"))  # doctest: +SKIP
    """
    limit = max(_ALWAYS_FINE, _EXPANSION * archive.stat().st_size)
    members = _zip_members if zipfile.is_zipfile(archive) else _tar_members
    count = total = 0
    try:
        for name, declared, source in members(archive):
            total += declared
            if total > limit:
                raise ArchiveError(f"{archive} unpacks to {total:,} bytes or more, over {limit:,}; it is refused")
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy(source, target, declared, f"{archive}: {name!r}")
            count += 1
            progress(declared)
    except _DAMAGED as error:
        raise ArchiveError(f"{archive} cannot be unpacked ({error}); delete it, and it is fetched again") from error
    return count


def _tar_members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with tarfile.open(archive) as opened:
        for member in opened:
            _check_name(archive, member.name)
            if member.isreg():
                yield member.name, member.size, opened.extractfile(member)
            elif not member.isdir():
                raise ArchiveError(f"{archive}: {member.name!r} in it is a link or a device; it is refused")


def _zip_members(archive: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            _check_name(archive, member.orig_filename)
            mode = (member.external_attr >> 16) & 0o170000
            if member.is_dir():
                continue
            if mode not in (0, 0o100000):
                raise ArchiveError(f"{archive}: {member.filename!r} in it is a link or a device; it is refused")
            with opened.open(member) as source:
                yield member.filename, member.file_size, source


def _check_name(archive: Path, name: str) -> None:
    """Refuse names that lead out of a folder, as Unix or Windows read them."""
    parts = re.split(r"[/\\]", name)
    if name.startswith(("/", "\\")) or ".." in parts or re.match(r"[A-Za-z]:", name) or "\0" in name:
        raise ArchiveError(f"{archive} holds a file named {name!r}, which leads out of its folder; it is refused")


def _copy(source: IO[bytes], target: Path, size: int, what: str) -> None:
    copied = 0
    with open(target, "wb") as file:
        while piece := source.read(_PIECE):
            copied += len(piece)
            if copied > size:
                raise ArchiveError(f"{what} is longer than the {size:,} bytes that it declares; it is refused")
            file.write(piece)
    if copied != size:
        raise ArchiveError(f"{what} ends after {copied:,} of {size:,} bytes; delete the archive, and fetch it again")
