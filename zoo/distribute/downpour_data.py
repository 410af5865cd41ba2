"""Downpour's mini-batches by their number, read ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

Example = tuple[Any, Any]


def numbered(data: Any, seed: int = 0) -> Callable[[int], Example]:
    """What gives the mini-batch that comes as the ``number``-th.

    Args:
        data: `zoo.datasets.pipeline.Batches` or `ClassBatches`, which have an order, crops and flips of their own for
            each epoch; or a sequence of ``(x, y)``, taken in a new order each epoch.
        seed: of a sequence's order.

    >>> numbered([("a", 0), ("b", 1)])(7) in (("a", 0), ("b", 1))
    True
    """
    if hasattr(data, "batch") and hasattr(data, "steps_per_epoch"):
        return lambda number: data.batch(*divmod(number, data.steps_per_epoch))
    return lambda number: data[unit_of(number, len(data), seed)]


def names_of(data: Any, numbers: range) -> str:
    """The pictures of some mini-batches, for messages; empty if the data do not tell."""
    if not hasattr(data, "image_ids"):
        return ""
    return ", ".join(name for number in numbers for name in data.image_ids(*divmod(number, data.steps_per_epoch)))


def unit_of(number: int, count: int, seed: int) -> int:
    """Which of ``count`` mini-batches comes as the ``number``-th."""
    epoch, place = divmod(number, count)
    return int(np.random.default_rng((seed, epoch)).permutation(count)[place])


class ReadAhead:
    """Reads mini-batches in order, some of them before they are asked for.

    Args:
        read: from a number to a mini-batch; called by threads.
        first: the number to begin with.
        end: the number after the last.
        threads: that read.
        ahead: mini-batches in memory, at most.

    Example:
        >>> with ReadAhead(lambda number: (number, number), first=3, end=5) as batches:
        ...     batches.take(), batches.take()
        ((3, 3), (4, 4))
    """

    def __init__(self, read: Callable[[int], Example], first: int, end: int, threads: int = 1, ahead: int = 4) -> None:
        """Starts to read."""
        self._read, self._next, self._end, self._ahead = read, first, end, max(1, ahead)
        self._threads = ThreadPoolExecutor(max(1, threads), thread_name_prefix="downpour reads")
        self._waiting: deque[Future] = deque()
        self._fill()

    def __enter__(self) -> ReadAhead:
        """Use it in ``with``."""
        return self

    def __exit__(self, *error: object) -> None:
        """Reads no more."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def take(self) -> Example:
        """The next mini-batch; an error that reading it raised is raised here."""
        found = self._waiting.popleft()
        self._fill()
        return found.result()

    def _fill(self) -> None:
        while self._next < self._end and len(self._waiting) < self._ahead:
            self._waiting.append(self._threads.submit(self._read, self._next))
            self._next += 1
