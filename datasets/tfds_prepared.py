"""Finds and opens what tensorflow-datasets has prepared."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.datasets.notes import AnnotationError

if TYPE_CHECKING:
    import tensorflow_datasets as tfds


def data_folder() -> Path:
    """Where tensorflow-datasets keeps what it prepared: ``TFDS_DATA_DIR`` or ``~/tensorflow_datasets``."""
    return Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()


def find_prepared(name: str) -> Path:
    """The folder of a prepared set's newest version, with its dataset_info.json.

    Of a set that has configurations, and is named without one, the only one there is.

    Raises:
        AnnotationError: there is none, and the message says what to place where; or there are several configurations.
    """
    given, _, version = name.partition(":")
    path = Path(given).expanduser()
    if not (given.startswith(("/", "./", "../", "~")) or path.is_absolute()):
        if not re.fullmatch(r"\w+(/[\w.-]+)?", given) or not re.fullmatch(r"[\w.]*", version):
            raise AnnotationError(f"tfds:{name}: give NAME, NAME/CONFIG or NAME/CONFIG:VERSION, as in tfds:voc/2007")
        path = data_folder() / given
    found = _versions(path, version) or _only_configuration(name, path, version)
    if not found:
        where = path / (version or "VERSION")
        raise AnnotationError(
            f"tfds:{name}: no prepared data in {where}. Put the folder there that tensorflow-datasets has written "
            f"elsewhere (dataset_info.json, features.json and the record files), set TFDS_DATA_DIR to the folder "
            f"that holds {given}, or, with a network: zoo data get tfds:{name}"
        )
    return max(found, key=_version)


def open_prepared(folder: Path) -> "tfds.core.DatasetBuilder":
    """Its builder, with the description of what it holds.

    Raises:
        AnnotationError: tensorflow-datasets is not installed, or cannot open it.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise AnnotationError(
            f"{folder}: reading it needs tensorflow-datasets: pip install tensorflow-datasets"
        ) from error
    try:
        return tfds.builder_from_directory(folder)
    except Exception as error:  # it raises whatever its many parsers do
        raise AnnotationError(f"{folder}: tensorflow-datasets cannot open it ({error})") from error


def _versions(path: Path, version: str) -> list[Path]:
    if version:
        return [path / version] if _is_prepared(path / version) else []
    return [path] if _is_prepared(path) else [each for each in path.glob("*") if _is_prepared(each)]


def _only_configuration(name: str, path: Path, version: str) -> list[Path]:
    """The versions of a set's configuration where none is named: as voc/2007 is one of voc."""
    found = {each.name: versions for each in sorted(path.glob("*")) if (versions := _versions(each, version))}
    if len(found) > 1:
        given, colon, _ = name.partition(":")
        ways = " or ".join(f"tfds:{given.rstrip('/')}/{config}{colon}{version}" for config in found)
        raise AnnotationError(f"tfds:{name}: several configurations of it are prepared in {path}; say which: {ways}")
    return next(iter(found.values()), [])


def _is_prepared(folder: Path) -> bool:
    return (folder / "dataset_info.json").is_file()


def _version(folder: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", folder.name))
