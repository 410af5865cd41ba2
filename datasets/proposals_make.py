"""Proposes boxes for all pictures of a data set, several at a time, and keeps them."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from pathlib import Path
from time import perf_counter

import numpy as np

from zoo.datasets.proposals import ProposalError, ProposalMethod
from zoo.datasets.proposals_cache import ProposalFolder, picture_key
from zoo.datasets.records import DetectionDataset


@dataclass(frozen=True, eq=False)
class Made(Sequence):
    """What `make_proposals` did; also the boxes (P, 4) of every picture, in the data set's order, read one at a time.

    Attributes:
        folder: where they are.
        keys: each picture's key.
        computed: how many were not there before.
        seconds: spent in the method, summed over threads.
    """

    folder: ProposalFolder
    keys: tuple[str, ...]
    computed: int
    seconds: float

    def __len__(self) -> int:
        """How many pictures there are."""
        return len(self.keys)

    def __getitem__(self, index: int) -> np.ndarray:
        """Boxes (P, 4) of picture ``index``."""
        return self.folder.read(self.keys[index])[0]


def make_proposals(
    data: DetectionDataset,
    method: ProposalMethod,
    folder: str | Path,
    *,
    workers: int | None = None,
    progress: Callable[[], None] | None = None,
) -> Made:
    """Propose boxes for every picture of a data set, and keep them; what is kept already is not computed again.

    Args:
        data: the pictures.
        method: see `zoo.datasets.proposals`.
        folder: see `ProposalFolder`.
        workers: threads, each with a picture of its own; as many as cores by default. OpenCV's methods let other
            threads run meanwhile, so that no processes are needed.
        progress: called once for each picture.

    Raises:
        ImageError: a picture cannot be read. What was done before is kept.
    """
    kept = ProposalFolder(folder, method)
    kept.describe(method)
    lock, begun = threading.Lock(), set()

    def make(index: int) -> tuple[str, float | None]:
        image, sample = data.load(index)
        key = picture_key(image)
        with lock:
            # The same picture may come twice.
            todo = key not in begun and key not in kept
            begun.add(key)
        if not todo:
            return key, None
        started = perf_counter()
        boxes, scores = method.scored(image)
        seconds = perf_counter() - started
        if np.shape(boxes)[1:] != (4,) or not np.isfinite(boxes).all():
            raise ProposalError(f"{method.name}: proposes no (P, 4) finite boxes for image {sample.image_id}")
        kept.write(key, boxes, scores)
        return key, seconds

    keys, times = [], []
    with ThreadPoolExecutor(workers or cpu_count()) as pool:
        for key, seconds in pool.map(make, range(len(data))):
            keys.append(key)
            times += [] if seconds is None else [seconds]
            if progress is not None:
                progress()
    return Made(kept, tuple(keys), len(times), sum(times))
