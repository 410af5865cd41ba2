"""One pass over the data in small units of work, handed out as workers come free (Dean 2012, section 4.2)."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass


@dataclass
class _Copy:
    worker: Hashable
    began: float


class Units:
    """Who computes what in a pass; safe to be used by many threads.

    Faster workers take more units. When none is left that nobody works on, a free worker takes a copy of the one that
    takes longest, if it takes longer than usual; the result that comes first counts, the others do not.

    Args:
        count: units, numbered from 0.
        copies: workers on the same unit at the same time, at most; 1 for no backup copies.
        patience: a unit is copied when it has taken so many times what units take on average.
        usual: seconds that a unit takes on average, from an earlier pass; None if that is not known.
        clock: seconds.

    Example:
        >>> units = Units(2)
        >>> units.take("a"), units.take("b")
        (0, 1)
        >>> units.finish("a", 0), units.finish("b", 1), units.take("a") is None, units.over
        (True, True, True, True)
    """

    def __init__(
        self,
        count: int,
        copies: int = 2,
        patience: float = 1.5,
        usual: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is handed out yet."""
        if count < 1 or copies < 1 or patience < 0:
            raise ValueError(f"count={count}, copies={copies}: at least 1 each; patience={patience}: at least 0")
        self.count, self.copies, self.patience, self._clock = count, copies, patience, clock
        self.backups = 0  # copies handed out besides the first
        self._waiting = deque(range(count))
        self._running: dict[int, list[_Copy]] = {}
        self._times: list[float] = [] if usual is None else [usual]
        self.left = count  # units without a result
        self._given_up = False
        self._changed = threading.Condition()

    @property
    def over(self) -> bool:
        """Whether each unit has its result, or the pass was given up."""
        return self.left <= 0 or self._given_up

    @property
    def usual(self) -> float | None:
        """Seconds that a unit takes on average; None while that is not known."""
        return sum(self._times) / len(self._times) if self._times else None

    def take(self, worker: Hashable) -> int | None:
        """A unit for a free worker, as soon as there is one; None when the pass is over."""
        with self._changed:
            while not self.over:
                if self._waiting:
                    unit = self._waiting.popleft()
                else:
                    unit, wait = self._slowest(worker)
                    if unit is None or wait > 0:
                        self._changed.wait(wait)
                        continue
                    self.backups += 1
                self._running.setdefault(unit, []).append(_Copy(worker, self._clock()))
                return unit
            return None

    def finish(self, worker: Hashable, unit: int, count: Callable[[], None] = lambda: None) -> bool:
        """Whether this is the unit's first result, and the pass not yet over; then ``count`` is called, alone."""
        with self._changed:
            if self.over or unit not in self._running:
                return False
            count()
            now = self._clock()
            # The first copy's: a backup has begun late, and a mean of such would soon call everything slow.
            self._times.append(now - self._running.pop(unit)[0].began)
            self.left -= 1
            self._changed.notify_all()
            return True

    def lose(self, worker: Hashable) -> None:
        """Take back what a worker that is gone had; others get it first."""
        with self._changed:
            for unit, copies in list(self._running.items()):
                copies[:] = [each for each in copies if each.worker != worker]
                if not copies:
                    del self._running[unit]
                    self._waiting.appendleft(unit)
            self._changed.notify_all()

    def give_up(self) -> None:
        """Nobody needs the rest."""
        with self._changed:
            self._given_up = True
            self._changed.notify_all()

    def wait(self) -> None:
        """Until the pass is over."""
        with self._changed:
            while not self.over:
                self._changed.wait()

    def _slowest(self, worker: Hashable) -> tuple[int | None, float | None]:
        """The unit that has run longest, of those that may be copied, and the seconds until it may be."""
        usual, now = self.usual, self._clock()
        if usual is None:
            return None, None
        ages = [
            (now - copies[0].began, unit)
            for unit, copies in self._running.items()
            if len(copies) < self.copies and all(each.worker != worker for each in copies)
        ]
        if not ages:
            return None, None
        age, unit = max(ages, key=lambda each: each[0])
        return unit, self.patience * usual - age
