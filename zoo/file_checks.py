"""Is a file what it should be? Size, hashes, what it holds at a glance, and the stamp that spares a second look.

Hashing half a gigabyte at every load is slow, so a file that was found good gets a small stamp beside it
(``net.npz`` -> ``net.npz.checked``): its size, its time of change and its hashes. While size and time are
those of the stamp the file is trusted; otherwise it is hashed again. What a stamp cannot see is a disk that
returns other bytes than were written; delete the stamp to have the file hashed again.
"""

from __future__ import annotations

import codecs
import contextlib
import functools
import hashlib
import json
import re
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

from zoo.files import save_json

_HEAD = 2048  # bytes looked at to tell what a file is
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1f\x7f]")  # bytes that no text holds
_TITLES = {"sha256": "SHA-256", "md5": "MD5"}


@dataclass(frozen=True)
class Expected:
    """What is known of a file before it is there; ``None`` for what is not.

    >>> print(Expected(size=12, md5="c4411beaaff934b5c17e8ce8b74b0aa2"))
    12 bytes, MD5 c4411beaaff934b5c17e8ce8b74b0aa2
    """

    size: int | None = None
    sha256: str | None = None
    md5: str | None = None

    @property
    def hashes(self) -> dict[str, str]:
        """The known hashes, hex digits by algorithm."""
        return {name: value for name, value in (("sha256", self.sha256), ("md5", self.md5)) if value}

    def __str__(self) -> str:
        """For messages: what a person needs to know who fetches the file by hand."""
        size = "size unknown" if self.size is None else f"{self.size:,} bytes"
        hashes = ", ".join(f"{_TITLES[name]} {value}" for name, value in self.hashes.items())
        return f"{size}, {hashes or 'no hash known'}"


def hashes_of(path: Path, algorithms: tuple[str, ...]) -> dict[str, str]:
    """Hex digests of a file by algorithm, ``"sha256"`` or ``"md5"``; the file is read once for each."""
    found = {}
    for name in algorithms:
        with open(path, "rb") as file:
            # MD5 here guards against accidents where a publisher gives nothing better; some systems allow
            # it only when told that it is not for security.
            digest = hashlib.file_digest(file, functools.partial(hashlib.new, name, usedforsecurity=False))
            found[name] = digest.hexdigest()
    return found


class Unfit(Exception):
    """A file is not what it should be; the message says in what, and needs the file's name before it."""


def check(path: Path, expected: Expected) -> dict[str, str]:
    """Hashes of a file, by algorithm, if it is as expected; else ``Unfit``.

    Size first, then every known hash. Where none is known the file's own structure has to do (the check sums
    inside a zip archive such as ``.npz``, the length that HDF5 keeps), and the SHA-256 that an earlier stamp tells.
    """
    with open(path, "rb") as file:
        kind = text_kind(file.read(_HEAD))
    aside = f"; it is {kind}" if kind else ""
    size = path.stat().st_size
    if expected.size is not None and size != expected.size:
        raise Unfit(f"it has {size:,} bytes, not {expected.size:,}{aside}")
    if not size:
        raise Unfit("it is empty")
    hashes = hashes_of(path, tuple(expected.hashes) or ("sha256",))
    for name, value in expected.hashes.items():
        if hashes[name] != value:
            raise Unfit(f"it has {_TITLES[name]} {hashes[name]}, not {value}{aside}")
    if not expected.hashes:
        if kind:
            raise Unfit(f"it is {kind}")
        _check_structure(path)
        earlier = read_stamp(path)
        if earlier and earlier["hashes"].get("sha256") != hashes["sha256"]:
            raise Unfit(
                f"it is not the file that was found good on {earlier.get('checked')} (if that is as it "
                f"should be, delete {stamp_path(path).name})"
            )
    return hashes


def text_kind(head: bytes) -> str:
    """What a file that begins with ``head`` is, if it is text; no weights are. Empty for binary data.

    >>> text_kind(b"<!DOCTYPE html><title>Sign in</title>")
    "an HTML page titled 'Sign in'"
    >>> text_kind(bytes([0x89]) + b"HDF")
    ''
    """
    start = head.decode("latin-1").lstrip("\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(("<!doctype html", "<html", "<head", "<body", "<script")):
        text = head.decode("utf-8", "replace")
        title = re.search(r"<title[^>]*>\s*(.*?)\s*</title>", text, re.IGNORECASE | re.DOTALL)
        return "an HTML page" + (f" titled {title[1][:80]!r}" if title else "")
    if start.startswith("version https://git-lfs"):
        return "a Git LFS pointer, not the file that it stands for"
    if not head or _CONTROL.search(head):
        return ""
    try:
        # Incremental, so that a character cut at the end of the head is no error.
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return ""
    return f"text that begins {text[:40]!r}"


def stamp_path(path: Path) -> Path:
    """Where the stamp of ``path`` is."""
    return path.with_name(path.name + ".checked")


def write_stamp(path: Path, hashes: dict[str, str]) -> None:
    """Note that ``path`` is good as it is now. Where that cannot be written it is hashed again next time."""
    state = path.stat()
    stamp = {
        "size": state.st_size,
        "mtime_ns": state.st_mtime_ns,
        "hashes": hashes,
        "checked": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    with contextlib.suppress(OSError):
        save_json(stamp, stamp_path(path))


def read_stamp(path: Path) -> dict[str, object]:
    """The stamp of ``path``; empty if it has none, or none that can be read."""
    try:
        stamp = json.loads(stamp_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) and isinstance(stamp.get("hashes"), dict) else {}


def is_stamped(path: Path, expected: Expected) -> bool:
    """Whether ``path`` is there, unchanged since its stamp, and the stamp tells of the expected hashes."""
    stamp = read_stamp(path)
    try:
        state = path.stat()
    except OSError:
        return False
    return (
        bool(stamp)
        and (stamp.get("size"), stamp.get("mtime_ns")) == (state.st_size, state.st_mtime_ns)
        and expected.size in (None, state.st_size)
        and all(stamp["hashes"].get(name) == value for name, value in expected.hashes.items())
    )


def _check_structure(path: Path) -> None:
    """``Unfit`` if a file's own structure tells against it; formats that are not known here pass."""
    with open(path, "rb") as file:
        head = file.read(8)
    if path.suffix in (".npz", ".zip") or head[:4] == b"PK\x03\x04":
        try:
            with zipfile.ZipFile(path) as archive:
                bad = archive.testzip()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
            raise Unfit(f"it is no whole zip archive ({error})") from error
        if bad:
            raise Unfit(f"its member {bad!r} is damaged (CRC-32)")
    elif path.suffix in (".h5", ".hdf5") or head == b"\x89HDF\r\n\x1a\n":
        import h5py  # not needed for most files

        try:
            h5py.File(path, "r").close()
        except OSError as error:
            raise Unfit(f"it is no whole HDF5 file ({error})") from error
