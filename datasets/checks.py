"""Checks that all readers of data sets share: boxes, class names, file names, text files."""

import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from zoo.datasets.notes import AnnotationError, Reading

# Pixels. Formats that write two decimals, or fractions of the picture, miss its border by so much.
_ROUNDING = 0.02


def tidy_box(
    box: Sequence[float], size: tuple[int, int], least: float = 0.0
) -> tuple[tuple[float, ...] | None, str, str]:
    """A box as it may be used: inside its picture and with an area.

    Args:
        box: (x1, y1, x2, y2), finite, in continuous pixels.
        size: (height, width) of the picture.
        least: a side no longer than this has no length; 1 where a file counts pixels inclusively and says
            the same number twice.

    Returns:
        The box or None; the kind of what was wrong and a sentence on it, or twice "".

    >>> tidy_box((-5, 2, 8, 9), (30, 40))
    ((0.0, 2.0, 8.0, 9.0), 'clipped', 'reaches beyond its 40x30 picture; clipped')
    """
    x1, y1, x2, y2 = (float(value) for value in box)
    height, width = size
    if min(x2 - x1, y2 - y1) < least:
        return None, "swapped", "has its corners swapped, so no area; dropped"
    if min(x2 - x1, y2 - y1) <= least or np.float32(x1) >= np.float32(x2) or np.float32(y1) >= np.float32(y2):
        return None, "zero-area", "has no area; dropped"
    if x1 >= width - _ROUNDING or y1 >= height - _ROUNDING or x2 <= _ROUNDING or y2 <= _ROUNDING:
        return None, "outside", f"lies outside its {width}x{height} picture; dropped"
    inside = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    excess = max(abs(a - b) for a, b in zip(inside, (x1, y1, x2, y2), strict=True))
    if excess <= _ROUNDING:
        return inside, "", ""
    return inside, "clipped", f"reaches beyond its {width}x{height} picture; clipped"


def four_numbers(values: object) -> tuple[float, ...] | None:
    """Four finite numbers (or texts of such), or None if the values are anything else."""
    if not isinstance(values, Sequence) or len(values) != 4 or any(isinstance(value, bool) for value in values):
        return None
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def checked_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """Class names as given by a person: no name twice, no background."""
    names = (classes,) if isinstance(classes, str) else tuple(classes)
    if len(set(names)) != len(names):
        raise ValueError(f"classes holds a name twice: {', '.join(names)}")
    if "__background__" in names:
        raise ValueError("classes holds '__background__'; leave it out, background is added where it is needed")
    return names


def unknown_class(name: object, classes: Sequence[str]) -> str:
    """The sentence on a class that is not in the list."""
    return f"has the unknown class {name!r}; known: {', '.join(classes) or 'none'}"


def relative_name(name: str, root: Path) -> PurePosixPath | None:
    """A file name out of an annotation, relative to ``root``; None if it leads out of it.

    Backslashes count as slashes. An absolute path is taken only if it lies in ``root``.

    >>> relative_name("sub/a.jpg", Path("/data")), relative_name("../a.jpg", Path("/data"))
    (PurePosixPath('sub/a.jpg'), None)
    """
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() and ".." not in parts.parts:
        base = PurePosixPath(Path(os.path.abspath(root)).as_posix())
        parts = parts.relative_to(base) if parts.is_relative_to(base) else parts
    if parts.is_absolute() or ".." in parts.parts or re.match(r"[A-Za-z]:", name) or "\0" in name:
        return None
    return parts


def name_key(name: str) -> str:
    """Names that a person reads as the same, whatever wrote them: bytes in Latin-1, accents in two parts."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        name = os.fsencode(name).decode("latin-1")
    return unicodedata.normalize("NFC", name)


def read_text(file: Path, reading: Reading) -> str:
    """A text file in UTF-8 (a byte order mark is dropped), or else in Latin-1, which is noted.

    Raises:
        AnnotationError: there is no such file, or it holds NUL bytes and so is no text.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise AnnotationError(f"{file}: cannot be read ({error.strerror or error})") from error
    if b"\0" in data:
        raise AnnotationError(f"{file}: is not a text file (it holds NUL bytes)")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        reading.note("encoding", file, "is not UTF-8; read as Latin-1", line=line)
        return data.decode("latin-1")


def unique_ids(names: Iterable[PurePosixPath]) -> list[str]:
    """A short name for each of several files: the stem, longer where stems would be the same.

    >>> unique_ids([PurePosixPath("x/a.jpg"), PurePosixPath("x/b.jpg"), PurePosixPath("y/b.jpg")])
    ['a', 'x/b', 'y/b']
    """
    paths = list(names)
    choices = [[path.stem, str(path.with_suffix("")), str(path)] for path in paths]
    level = [0] * len(paths)
    for step in (1, 2):
        counts = Counter(choice[at] for choice, at in zip(choices, level, strict=True))
        level = [step if counts[choice[at]] > 1 else at for choice, at in zip(choices, level, strict=True)]
    return [choice[at] for choice, at in zip(choices, level, strict=True)]
