"""Looks at every picture of a data set: can it be read, is it what its name and its annotation say?"""

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from zoo.datasets.doctor_parts import Part
from zoo.datasets.findings import Finding
from zoo.datasets.images import IMAGE_SUFFIXES, ImageError, read_image

THUMB = 32  # side of the gray picture by which near duplicates are found
_ORIENTATION = 0x0112
_STARTS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe"),
    "PNG": (".png",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "WebP": (".webp",),
}


@dataclass(frozen=True, eq=False)
class Picture:
    """What was seen of one picture.

    Attributes:
        split, index: where it is in the data set.
        image_id: its name there.
        path: its file, None where it is composed or comes out of a record file.
        digest: hash of the file's bytes, or of the pixels where there is no file.
        thumb: (32, 32) uint8 gray.
        size: (height, width) of the pixels as stored.
    """

    split: str
    index: int
    image_id: str
    path: Path | None
    digest: bytes
    thumb: np.ndarray
    size: tuple[int, int]


def look_at_all(
    parts: Sequence[Part], progress: Callable[[int], object] = lambda count: None, workers: int | None = None
) -> tuple[list[Picture], list[Finding]]:
    """Read all pictures of all parts, several at a time; a file that is in several parts is read once.

    Args:
        parts: the parts of the data set.
        progress: called with 1 for every picture.
        workers: threads; the decoders leave Python's lock. None is one per processor.

    Returns:
        Those that can be read, and what is wrong with them and with the others.
    """
    jobs: dict[object, list[tuple[Part, int]]] = {}
    for part in parts:
        for index in range(len(part.data)):
            path = part.data.sample(index).path
            jobs.setdefault(path if path is not None else (part.split, index), []).append((part, index))

    def work(places: list[tuple[Part, int]]) -> tuple[list[Picture], list[Finding]]:
        try:
            return _look(places)
        finally:
            progress(len(places))

    pictures: list[Picture] = []
    findings: list[Finding] = []
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        for seen, found in pool.map(work, jobs.values()):
            pictures += seen
            findings += found
    return pictures, findings


def without_annotation(parts: Sequence[Part], findings: Iterable[Finding]) -> list[Finding]:
    """Picture files that lie beside annotated ones, and that neither a part nor an earlier finding mentions."""
    known = {part.data.sample(index).path for part in parts for index in range(len(part.data))} - {None}
    mentioned = {finding.file for finding in findings}
    # A picture whose annotation could not be used is not without one.
    names = {finding.image_id.rpartition("/")[2] for finding in findings if finding.image_id}
    found = []
    for folder in sorted({path.parent for path in known}):
        for path in sorted(folder.iterdir()):
            new = path not in known and path not in mentioned and path.stem not in names
            if new and path.suffix.lower() in IMAGE_SUFFIXES:
                found.append(Finding("no-annotation", f"{path}: no annotation mentions this picture", path))
    return found


def _look(places: list[tuple[Part, int]]) -> tuple[list[Picture], list[Finding]]:
    """One file; its places are the parts it is in."""
    part, index = places[0]
    sample = part.data.sample(index)
    about = {"file": sample.path, "split": part.split, "image_id": sample.image_id}
    try:
        if sample.path is None:
            pixels = part.data.image(index)
            digest = hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()
            thumb, size, kind, orientation = _thumb(Image.fromarray(pixels)), pixels.shape[:2], None, 1
        else:
            data = sample.path.read_bytes()
            digest = hashlib.blake2b(data, digest_size=16).digest()
            thumb, size, orientation = _decode(data, str(sample.path))
            kind = _kind(data)
    except ImageError as error:
        return [], [Finding("unreadable-picture", str(error), **about)]
    except OSError as error:
        text = f"{sample.path}: cannot be read ({error.strerror or error})"
        return [], [Finding("unreadable-picture", text, **about)]
    found = []
    if kind and sample.path.suffix.lower() not in _SUFFIXES[kind]:
        text = f"{sample.path}: is a {kind} picture, its suffix is {sample.path.suffix}"
        found.append(Finding("mislabelled", text, **about))
    found += _compare_sizes(sample.path, sample.size, size, orientation, about)
    return [
        Picture(each.split, at, each.data.sample(at).image_id, sample.path, digest, thumb, size) for each, at in places
    ], found


def _compare_sizes(
    path: Path | None, annotated: tuple[int, int], stored: tuple[int, int], orientation: int, about: dict
) -> list[Finding]:
    upright = stored[::-1] if orientation >= 5 else stored
    shown = f"{annotated[1]}x{annotated[0]}"
    if annotated not in (stored, upright):
        text = f"{path}: the picture is {upright[1]}x{upright[0]} (width x height), its annotation says {shown}"
        return [Finding("wrong-size", text, **about)]
    if orientation > 1 and annotated != upright:
        text = f"{path}: is stored on its side (EXIF {orientation}) and annotated so, {shown}; it is read as stored"
        return [Finding("turned", text, **about)]
    if orientation > 1:
        text = f"{path}: is turned or mirrored when read (EXIF {orientation}); its boxes are taken as of the turned one"
        return [Finding("turned", text, **about)]
    return []


def _decode(data: bytes, name: str) -> tuple[np.ndarray, tuple[int, int], int]:
    """Small gray picture, (height, width) as stored, EXIF orientation.

    A JPEG is decoded to an eighth of its size, which reads every byte of it all the same.
    """
    if data.startswith(b"\xff\xd8"):
        try:
            with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
                size = picture.size[::-1]
                picture.draft("L", (2 * THUMB, 2 * THUMB))
                picture.load()
                return _thumb(picture), size, _orientation(picture)
        except Exception:  # said better by read_image, or read by it after all
            pass
    pixels = read_image(data, name, exif=False)
    orientation = 1
    if not data.startswith((b"II*\0", b"MM\0*")):  # Pillow turns a TIFF upright itself
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP", "GIF", "BMP")) as picture:
            orientation = _orientation(picture)
    return _thumb(Image.fromarray(pixels)), pixels.shape[:2], orientation


def _orientation(picture: Image.Image) -> int:
    try:
        value = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # a damaged block says nothing
        return 1
    return value if value in range(1, 9) else 1


def _thumb(picture: Image.Image) -> np.ndarray:
    small = picture.convert("L").resize((THUMB, THUMB), Image.Resampling.BOX)
    return np.asarray(small)


def _kind(data: bytes) -> str | None:
    """The format that the first bytes tell."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    return next((kind for start, kind in _STARTS.items() if data.startswith(start)), None)
