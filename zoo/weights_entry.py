"""What the registry knows about one set of weights, and where its file is."""

from __future__ import annotations

import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zoo.files import save_atomically, sha256_of

PACKAGED = Path(__file__).resolve().parent / "weights"


class WeightsError(ValueError):
    """Weights that cannot be used; the message names the file and what to do."""


@dataclass(frozen=True)
class WeightsEntry:
    """One set of weights of one model.

    Attributes:
        name: what a user writes in ``zoo.get(model, weights=name)``.
        file: file name inside the package's ``zoo/weights``, or in the download cache when ``url`` is given.
        sha256: hex digest of the file; checked before every use.
        size: bytes.
        classes: class names in index order, background left out.
        options: builder options that these weights need, such as the anchor scales.
        url: where the file can be fetched; ``None`` for a file that ships with the package.
        licence: licence of the weights.
        source: who trained them, on what, by which command.
        published_score: the score that the source claims, with its metric; empty if none.
        measured_score: the score measured in this project, with the command that measured it.
        preprocessing: colour order, means and size that the weights expect, in words.
    """

    name: str
    file: str
    sha256: str
    size: int
    classes: tuple[str, ...]
    options: Mapping[str, object] = field(default_factory=dict)
    url: str | None = None
    licence: str = ""
    source: str = ""
    published_score: str = ""
    measured_score: str = ""
    preprocessing: str = ""


def cache_folder() -> Path:
    """Folder of downloaded weights: ``$ZOO_CACHE``, or ``~/.cache/zoo``."""
    return Path(os.environ.get("ZOO_CACHE") or Path.home() / ".cache" / "zoo")


def locate(entry: WeightsEntry) -> Path:
    """The checked file of a weights entry; downloaded first if it has a ``url`` and is not in the cache."""
    path = (PACKAGED if entry.url is None else cache_folder()) / entry.file
    if not path.is_file():
        if entry.url is None:
            raise WeightsError(
                f"weights {entry.name!r}: the packaged file {path} is missing; install the package again"
            )
        _download(entry, path)
    found = sha256_of(path)
    if found != entry.sha256:
        mend = "install the package again" if entry.url is None else "delete it, and it is downloaded again"
        raise WeightsError(
            f"weights {entry.name!r}: {path} has SHA-256 {found}, not {entry.sha256} as registered: "
            f"it is damaged or another version; {mend}"
        )
    return path


def _download(entry: WeightsEntry, path: Path) -> None:
    """Fetch ``entry.url`` to ``path``; a file with a wrong hash never gets that name."""
    try:
        with save_atomically(path) as aside:
            with urllib.request.urlopen(entry.url, timeout=60) as reply, open(aside, "wb") as file:
                shutil.copyfileobj(reply, file)
            found = sha256_of(aside)
            if found != entry.sha256:
                raise WeightsError(
                    f"weights {entry.name!r}: what {entry.url} serves has SHA-256 {found}, not "
                    f"{entry.sha256} as "
                    "registered; it was not kept. Report it, or give the path of a file that you trust"
                )
    except (urllib.error.URLError, OSError) as error:
        raise WeightsError(
            f"weights {entry.name!r}: {entry.url} cannot be fetched ({error}); fetch it by other means, "
            "check that its "
            f"SHA-256 is {entry.sha256}, and put it at {path}"
        ) from error
