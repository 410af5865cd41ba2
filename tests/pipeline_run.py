"""Writes a digest of each batch until it is killed; run by ``test_pipeline_resume.py``.

Arguments: the file to write to, the number of the first batch, and ``numpy`` or ``tensorflow``.
"""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from marked import mixed

from zoo.datasets.pipeline import Batches


def all_batches() -> Batches:
    options = {"rotate90": True, "crop": 0.5, "expand": 2.0, "colour_jitter": 0.2, "short": (24, 40)}
    return Batches(mixed(), 2, seed=4, workers=3, **options)


def digest(element) -> str:
    """Of everything in a batch, names and shapes included."""
    found = hashlib.sha256()
    for half in element:
        for name in sorted(half):
            found.update(f"{name} {half[name].dtype} {half[name].shape}".encode())
            found.update(np.ascontiguousarray(half[name]).tobytes())
    return found.hexdigest()


def elements(batches: Batches, first: int, how: str) -> Iterator[tuple]:
    epoch, step = divmod(first, len(batches))
    if how == "tensorflow":
        yield from batches.dataset(start_epoch=epoch, start_step=step).as_numpy_iterator()
    while True:
        yield batches.batch(*divmod(first, len(batches)))
        first += 1


if __name__ == "__main__":
    with open(sys.argv[1], "a") as log:
        for element in elements(all_batches(), int(sys.argv[2]), sys.argv[3]):
            log.write(digest(element) + "\n")
            log.flush()
