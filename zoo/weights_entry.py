"""What the registry knows about one set of weights, and where its file is."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from zoo.archives import extract_member
from zoo.cache import addresses, cache_folder, is_offline, locked, room_for
from zoo.file_checks import Expected, Unfit, check, hashes_of, is_stamped, read_stamp, stamp_path, write_stamp
from zoo.files import save_atomically
from zoo.weights_error import WeightsError

__all__ = ["PACKAGED", "WeightsEntry", "WeightsError", "cache_folder", "converted", "locate"]

PACKAGED = Path(__file__).resolve().parent / "weights"


@dataclass(frozen=True)
class WeightsEntry:
    """One set of weights of one model.

    Attributes:
        name: what a user writes in ``zoo.get(model, weights=name)``.
        file: file name inside the package's ``zoo/weights``, or in the download cache when ``url`` is given.
        sha256: hex digest of the file, or of the archive if ``member`` is given; ``None`` if nobody published it.
        size: bytes of the file, or of the archive if ``member`` is given; ``None`` if unknown.
        classes: class names in index order, background left out.
        options: builder options that these weights need, such as the anchor scales.
        url: where the file can be fetched (http or https); ``None`` for a file that ships with the package.
        licence: licence of the weights.
        source: who trained them, on what, by which command.
        published_score: the score that the source claims, with its metric; empty if none.
        measured_score: the score measured in this project, with the command that measured it.
        preprocessing: colour order, means and size that the weights expect, in words.
        md5: like ``sha256``, for publishers that give only this.
        layout: how arrays are named and laid out in the file; ``"zoo"`` is our own.
        member: exact name of the file inside the ``.tgz`` or ``.zip`` archive that ``url`` serves.

    Where neither hash is known, a download is checked by its size, by the check sums that its own format holds
    (zip, HDF5), and from then on by the SHA-256 that it had when it came.
    """

    name: str
    file: str
    sha256: str | None = None
    size: int | None = None
    classes: tuple[str, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)
    url: str | None = None
    licence: str = ""
    source: str = ""
    published_score: str = ""
    measured_score: str = ""
    preprocessing: str = ""
    md5: str | None = None
    layout: str = "zoo"
    member: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be fetched or checked, where the entry is written rather than where it is used."""
        for name in (self.file, self.download_name):
            if Path(name).name != name or name.startswith("."):
                raise ValueError(f"weights {self.name!r}: {name!r} is to be a plain file name")
        for title, digest, length in (("sha256", self.sha256, 64), ("md5", self.md5, 32)):
            if digest is not None and (len(digest) != length or set(digest) - set("0123456789abcdef")):
                raise ValueError(f"weights {self.name!r}: {title}={digest!r}; give {length} lower-case hex digits")
        if self.url is None and (self.member or not self.sha256):
            raise ValueError(f"weights {self.name!r}: a file of the package needs its sha256, and no member")
        if self.url is not None and not (self.url.startswith(("http://", "https://")) and self._served_name):
            raise ValueError(f"weights {self.name!r}: url={self.url!r} is to be http(s)://HOST/.../FILE")

    @property
    def _served_name(self) -> str:
        return unquote(urlsplit(self.url or "").path.rpartition("/")[2])

    @property
    def download_name(self) -> str:
        """Name in the cache, and on a mirror, of what ``url`` serves: ``file``, or the archive's own name."""
        return self.file if self.member is None else self._served_name

    @property
    def expected(self) -> Expected:
        """Size and hashes of what ``url`` serves."""
        return Expected(size=self.size, sha256=self.sha256, md5=self.md5)

    @property
    def title(self) -> str:
        """How messages call it."""
        return f"weights {self.name!r}"


def locate(entry: WeightsEntry) -> Path:
    """The checked original file of a weights entry, fetched first if it has a ``url`` and is not in the cache.

    A file that somebody put into the cache by hand is checked and taken. One that is not as registered is refused
    with ``WeightsError``, never deleted. Safe to call from many processes at once: one fetches, the others wait.

    >>> locate(zoo.info("faster_rcnn_vgg16").entry("voc07"))                       # doctest: +SKIP
    PosixPath('/home/me/.cache/zoo/faster_rcnn_vgg16_voc07_trained_2018_06_01.npz')
    """
    if entry.url is None:
        return _packaged(entry)
    if entry.member is None:
        return _downloaded(entry)
    return _unpacked(entry)


def converted(entry: WeightsEntry, make: Callable[[Path, Path], object], *, model: str = "", version: int = 1) -> Path:
    """The converted weights of an entry, a ``.weights.h5`` in the cache; made at the first call.

    Args:
        entry: what to convert.
        make: ``make(original, aside)`` reads the checked original file and writes the path ``aside``, whose name ends
            in ``.weights.h5``. Called once, under a lock; if it fails nothing is kept.
        model: name of the model that it is converted for.
        version: of the converter; raise it when ``make`` writes something else, and old files are not used any more.

    The name of the converted file holds the original's hash, layout, model, options and version, so that no change
    of these can hand out a stale file. One that was truncated or changed since it was made is made again.
    Once it is there, the original may be deleted if its hash is registered.

    >>> converted(entry, convert_file, model="vgg16", version=2)                    # doctest: +SKIP
    PosixPath('/home/me/.cache/zoo/converted/vgg16-imagenet-0f343b0931126a20.weights.h5')
    """
    known = entry.sha256 or entry.md5
    original = None if known else locate(entry)
    key = json.dumps(
        [known or _recorded(original), entry.member, entry.layout, model, dict(entry.options), version],
        sort_keys=True,
        default=str,
    )
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    stem = f"{model}-{entry.name}" if model else Path(entry.file).stem
    path = cache_folder() / "converted" / f"{stem}-{digest}.weights.h5"
    return _made(path, lambda: original or locate(entry), make, entry.title)


def _packaged(entry: WeightsEntry) -> Path:
    path = PACKAGED / entry.file
    try:
        check(path, entry.expected)
    except FileNotFoundError as error:
        raise WeightsError(f"{entry.title}: the packaged file {path} is missing; install the package again") from error
    except Unfit as error:
        raise WeightsError(f"{entry.title}: {path} is not as registered: {error}; install the package again") from error
    return path


def _downloaded(entry: WeightsEntry) -> Path:
    """What ``url`` serves, in the cache and checked."""
    path = cache_folder() / entry.download_name
    if is_stamped(path, entry.expected):
        return path
    if path.is_file() and not _writable(path.parent):
        # A shared, read-only cache: no lock, no stamp, but used all the same.
        _check_found(entry, path)
        return path
    with locked(path):
        if is_stamped(path, entry.expected):
            return path
        if path.is_file():
            write_stamp(path, _check_found(entry, path))
            return path
        stamp_path(path).unlink(missing_ok=True)
        if is_offline():
            raise WeightsError(
                f"{entry.title}: {path} is not there, and ZOO_OFFLINE forbids to fetch it. Fetch {entry.url} "
                f"({entry.expected}) by other means and put it there, or unset ZOO_OFFLINE"
            )
        from zoo.fetch import fetch  # takes long to import, and is seldom needed

        write_stamp(path, fetch(entry.title, addresses(path.name, entry.url), path, entry.expected))
    return path


def _unpacked(entry: WeightsEntry) -> Path:
    """The member of the archive that ``url`` serves, in a folder named by the archive's hash."""
    known = entry.sha256 or entry.md5
    archive = None if known else _downloaded(entry)
    path = cache_folder() / "unpacked" / (known or _recorded(archive))[:16] / entry.file
    return _made(
        path,
        lambda: archive or _downloaded(entry),
        lambda source, aside: extract_member(source, entry.member, aside),
        entry.title,
    )


def _made(path: Path, original: Callable[[], Path], make: Callable[[Path, Path], object], title: str) -> Path:
    """``path``, made from ``original()`` if it is not there or no longer what was made."""
    if is_stamped(path, Expected()):
        return path
    with locked(path):
        if is_stamped(path, Expected()) or _is_as_made(path):
            return path
        # What a process that was killed left behind; under the lock it can be nobody's at work.
        for left in path.parent.glob(f".*-{path.name}"):
            left.unlink()
        source = original()
        with room_for(title, path, source.stat().st_size), save_atomically(path) as aside:
            make(source, aside)
            hashes = hashes_of(aside, ("sha256",))
        write_stamp(path, hashes)
    return path


def _is_as_made(path: Path) -> bool:
    """Whether a file that was touched or copied still has the content that its stamp tells."""
    earlier = read_stamp(path).get("hashes")
    if not earlier or not path.is_file() or hashes_of(path, ("sha256",)) != earlier:
        return False
    write_stamp(path, earlier)
    return True


def _check_found(entry: WeightsEntry, path: Path) -> dict[str, str]:
    """Hashes of a file that is in the cache; ``WeightsError`` if it is not what is registered."""
    try:
        return check(path, entry.expected)
    except Unfit as error:
        raise WeightsError(
            f"{entry.title}: {path} is not as registered: {error}. It is damaged or another version; "
            "delete it, and it is fetched again"
        ) from error


def _recorded(path: Path) -> str:
    """SHA-256 of a file for which none is registered: the one that it had when it came."""
    return read_stamp(path).get("hashes", {}).get("sha256") or hashes_of(path, ("sha256",))["sha256"]


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK)
