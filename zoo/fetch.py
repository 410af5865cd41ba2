"""Fetching one file over HTTP: resumed, retried, checked, and renamed only when it is what it should be.

Proxies are those that ``requests`` finds: ``HTTP_PROXY``, ``HTTPS_PROXY``, ``NO_PROXY``. Redirects are followed, to
http and https only. What was fetched when a connection broke, or the process was killed, is kept, and the next call
asks for the rest (``Range``) if the file is still the same (``If-Range``).
"""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import requests
import urllib3

from zoo import __version__
from zoo.cache import MEND, room_for
from zoo.file_checks import Expected, Unfit, check, text_kind
from zoo.part_file import PartFile, drop_parts
from zoo.transfer_bar import TransferBar
from zoo.weights_error import WeightsError

# Seconds before the second, third, fourth ... try. Tries that brought at least _PROGRESS bytes do not count: a large
# file over a bad line may take many.
WAITS = (1.0, 2.0, 4.0)
_PROGRESS = 1 << 20
_TIMEOUT = (10, 60)  # seconds to connect, and between two pieces
_LONGEST_WAIT = 60.0  # seconds, whatever `Retry-After` asks for
_PIECE = 1 << 16
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)


class _Broken(Exception):
    """This try failed; another one may not."""

    def __init__(self, message: str, wait: float = 0.0):
        super().__init__(message)
        self.wait = wait


class _Unavailable(Exception):
    """This address does not give the file, now or ever."""


@dataclass(frozen=True)
class _Wanted:
    """What is fetched: how messages call it, what is known of it, and where else to keep it if its disk is full."""

    title: str
    expected: Expected
    mend: str


def fetch(title: str, addresses: Sequence[str], path: Path, expected: Expected, mend: str = MEND) -> dict[str, str]:
    """Fetch ``path`` from the first of ``addresses`` that has it as expected; gives its hashes by algorithm.

    The caller holds the lock of ``path``. ``WeightsError`` if no address gives it: it names each address, what
    happened there, and where to put the file by hand; ``mend`` begins its advice where a disk is full. Nothing is left
    then but what the next call can go on with.

    >>> fetch("weights", ["https://example.org/net.npz"], Path("net.npz"), Expected(size=9))  # doctest: +SKIP
    """
    wanted = _Wanted(title, expected, mend)
    problems = []
    for address in addresses:
        part = PartFile(path, address)
        try:
            with TransferBar(path.name) as bar:
                hashes = _fetch_from(address, part, wanted, bar)
        except _Unavailable as error:
            problems.append(f"{_shown(address)}: {error}")
            continue
        os.replace(part.path, path)
        drop_parts(path)
        return hashes
    raise WeightsError(
        f"{title}: {path.name} cannot be fetched. {'; '.join(problems)}. Fetch it by other means "
        f"({expected}) and put it at {path}: it is checked and taken from there. HTTP_PROXY and HTTPS_PROXY name a "
        "proxy, ZOO_MIRROR another address"
    )


def _fetch_from(address: str, part: PartFile, wanted: _Wanted, bar: TransferBar) -> dict[str, str]:
    """Complete and check the part; a resumed one that turns out wrong is fetched once more from its beginning."""
    while True:
        resumed = part.size > 0
        _complete(address, part, wanted, bar)
        try:
            return check(part.path, wanted.expected)
        except Unfit as error:
            part.drop()
            if not resumed:
                raise _Unavailable(f"what came is not as registered and was not kept: {error}") from error


def _complete(address: str, part: PartFile, wanted: _Wanted, bar: TransferBar) -> None:
    """Try until the part holds all bytes that the server has."""
    failures = 0
    while True:
        before = part.size
        try:
            return _try_once(address, part, wanted, bar)
        except _Broken as error:
            failures = 1 if part.size - before >= _PROGRESS else failures + 1
            if failures > len(WAITS):
                kept = f"; {part.size:,} bytes are kept, and the next call asks for the rest" if part.size else ""
                raise _Unavailable(f"{error}, after {failures} tries{kept}") from error
            wait = max(WAITS[failures - 1], min(error.wait, _LONGEST_WAIT))
            bar.say(f"{error}; trying again in {wait:.0f} s")
            time.sleep(wait)


def _try_once(address: str, part: PartFile, wanted: _Wanted, bar: TransferBar) -> None:
    """Ask for the rest of the file, and add to the part what comes."""
    expected = wanted.expected
    if part.size and not (part.validator or expected.hashes):
        part.drop()  # nothing could tell whether old and new bytes are of one file
    if part.size and part.size == part.total:
        return  # complete, but its check was cut short
    with _ask(address, part) as reply:
        pieces = _pieces(reply)
        if reply.status_code == 200:
            first = next(pieces, b"")
            _refuse_text(reply, first)  # before the part is emptied: 'sign in' is no reason to lose it
            pieces = itertools.chain((first,), pieces)
        total = _begin(reply, part)
        have = part.size
        try:
            if None not in (total, expected.size) and total != expected.size:
                raise _Unavailable(f"it serves {total:,} bytes, not {expected.size:,}")
            whole = expected.size if total is None else total
            bar.start(have, whole)
            needed = None if whole is None else whole - have
            with room_for(wanted.title, part.target, needed, wanted.mend), open(part.path, "ab") as file:
                for piece in pieces:
                    have += len(piece)
                    if whole is not None and have > whole:
                        raise _Unavailable(f"it sends more than the {whole:,} bytes of the file")
                    file.write(piece)
                    bar.at(have)
                file.flush()
                os.fsync(file.fileno())
            if whole is not None and have < whole:
                raise _Broken(f"it sent {have:,} of {whole:,} bytes")
        except _Broken:
            if not _does_ranges(reply):
                part.drop()  # the next try has to begin at the beginning anyway
            raise
        except (_Unavailable, WeightsError):
            part.drop()
            raise


def _ask(address: str, part: PartFile) -> requests.Response:
    """The server's answer, if it is one that brings bytes."""
    headers = {"Accept-Encoding": "identity", "User-Agent": f"zoo/{__version__}"}
    if part.size:
        headers["Range"] = f"bytes={part.size}-"
        if part.validator:
            headers["If-Range"] = part.validator
    try:
        reply = requests.get(address, headers=headers, stream=True, timeout=_TIMEOUT)
    except requests.exceptions.SSLError as error:
        raise _Unavailable(f"no safe connection ({_reason(error)})") from error
    except (requests.ConnectionError, requests.Timeout) as error:
        raise _Broken(f"no connection ({_reason(error)})") from error
    except requests.RequestException as error:
        raise _Unavailable(str(error)) from error
    if reply.status_code in (200, 206):
        return reply
    reply.close()
    if reply.status_code == 416:
        part.drop()
        raise _Broken("it does not have the rest of the file")
    answer = f"it answers {reply.status_code} {reply.reason}"
    if reply.status_code in _TRY_AGAIN:
        wait = reply.headers.get("Retry-After", "")
        raise _Broken(answer, float(wait) if wait.isdigit() else 0.0)
    raise _Unavailable(answer)


def _begin(reply: requests.Response, part: PartFile) -> int | None:
    """Bytes of the whole file, ``None`` if the server does not say; the part is emptied if this is no continuation."""
    # A weak ETag (W/...) stands for the meaning of a page, not for its bytes.
    etag = reply.headers.get("ETag", "")
    validator = etag if etag.startswith('"') else reply.headers.get("Last-Modified", "")
    if reply.status_code == 206:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", reply.headers.get("Content-Range", ""))
        total = int(span[2]) if span and span[2] != "*" else part.total
        # Some servers look at Range alone and not at If-Range; a good one need not repeat the validator.
        same = span and int(span[1]) == part.size and validator in ("", part.validator)
        if not same or total != (part.total or total):
            part.drop()
            raise _Broken("the file has changed since its first part came")
        return total
    length = reply.headers.get("Content-Length", "")
    total = int(length) if length.isdigit() else None
    part.begin(validator, total)
    return total


def _pieces(reply: requests.Response) -> Iterator[bytes]:
    """The body as it is sent: an archive that a server labels ``Content-Encoding: gzip`` is not unpacked."""
    try:
        while piece := reply.raw.read(_PIECE, decode_content=False):
            yield piece
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise _Broken(f"the connection broke ({_reason(error)})") from error


def _refuse_text(reply: requests.Response, first: bytes) -> None:
    """Neither weights nor archives are text; pages that say 'not found', 'sign in' or 'too many downloads' are."""
    kind = text_kind(first)
    if kind:
        label = reply.headers.get("Content-Type", "no content type")
        raise _Unavailable(f"not the file but {kind} came ({label}, from {_shown(reply.url)}); it was not kept")


def _does_ranges(reply: requests.Response) -> bool:
    return reply.status_code == 206 or reply.headers.get("Accept-Ranges", "").lower() == "bytes"


def _reason(error: Exception) -> str:
    """The innermost reason of an error of requests or urllib3, without the objects' addresses in memory."""
    inner = error.args[0] if error.args and isinstance(error.args[0], Exception) else error
    return str(getattr(inner, "reason", None) or inner).rsplit("): ", 1)[-1]


def _shown(address: str) -> str:
    """An address without the user name and password that may be in it."""
    return re.sub(r"(?<=://)[^/@]*@", "", address)
