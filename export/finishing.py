"""From a written artifact to one that stands in its place: checked, reported, and moved there as a whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Exported:
    """A finished export.

    Attributes:
        path: the artifact: a file, or a SavedModel's version folder.
        report: what :func:`zoo.export.check_parity` found, as it stands in ``report_path``.
        report_path: the JSON file.
    """

    path: Path
    report: dict[str, Any]
    report_path: Path


@contextmanager
def work_folder(target: str | Path) -> Iterator[Path]:
    """An empty folder on the same disk as ``target``, gone when the block ends.

    >>> import tempfile
    >>> with work_folder(Path(tempfile.mkdtemp()) / "model.onnx") as folder:
    ...     folder.is_dir(), folder.name.endswith("-model.onnx")
    (True, True)
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    # A name that TensorFlow Serving, which looks for numbers, takes for no version.
    folder = target.with_name(f".{os.getpid()}-{target.name}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def move_folder(source: Path, target: Path) -> None:
    """Put the folder ``source`` in the place of ``target``, which may exist.

    A folder that exists cannot be replaced in one step: it is moved away first, and back again if that fails.
    """
    old = target.with_name(f".{os.getpid()}-old-{target.name}")
    if target.exists():
        os.rename(target, old)
    try:
        os.rename(source, target)
    except OSError:
        if old.exists():
            os.rename(old, target)
        raise
    if old.is_dir() and not old.is_symlink():
        shutil.rmtree(old)
    else:
        old.unlink(missing_ok=True)


def report_path(artifact: str | Path) -> Path:
    """Where the parity report of an artifact is: inside a SavedModel's ``assets.extra``, beside a file.

    >>> report_path("out/model.onnx").name
    'model.onnx.parity.json'
    """
    artifact = Path(artifact)
    if artifact.is_dir():
        return artifact / "assets.extra" / "parity.json"
    return artifact.with_name(artifact.name + ".parity.json")
