"""Sizes of many pictures, from their headers, several at a time."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from zoo.datasets.images import ImageError, image_size
from zoo.datasets.notes import Reading

_AT_ONCE = 8  # the time goes into waiting for the disk


def read_sizes(known: Mapping[Path, tuple[int, int] | None], reading: Reading) -> dict[Path, tuple[int, int]]:
    """(height, width) of each picture; where it is None, read from the file.

    A picture that cannot be read raises its error, or is noted and missing in the result.
    """

    def look(path: Path) -> tuple[int, int] | ImageError:
        try:
            return known[path] or image_size(path)
        except ImageError as error:
            return error

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = dict(zip(known, pool.map(look, known), strict=True))
    sizes = {}
    for path, size in found.items():
        if not isinstance(size, ImageError):
            sizes[path] = size
        elif reading.on_error == "raise":
            raise size
        else:
            reading.error("unreadable-picture", path, size.problem, image_id=path.stem)
    return sizes
