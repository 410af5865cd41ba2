"""How much is in the server at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from math import ceil

from zoo.export.serving.refused import Refused


class Room:
    """Counts predictions, of which one too many is refused, and pixels, for which predictions wait.

    Args:
        max_requests: predictions at once.
        pixels: of all decoded pictures.
        busy_for: seconds until what is there is done, for ``Retry-After``.
    """

    def __init__(self, max_requests: int, pixels: int, busy_for: Callable[[], float]) -> None:
        self.requests = 0
        self._max_requests, self._pixels, self._busy_for = max_requests, pixels, busy_for
        self._left = pixels
        self._freed = asyncio.Condition()

    @contextmanager
    def request(self) -> Iterator[None]:
        """A place for a prediction.

        Raises:
            Refused: there is none.
        """
        if self.requests >= self._max_requests:
            seconds = max(1, ceil(self._busy_for()))
            raise Refused(
                503,
                f"the server is busy with {self.requests} requests, which is all that it takes at once; try again in "
                f"{seconds} s",
                {"Retry-After": str(seconds)},
            )
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    @asynccontextmanager
    async def pixels(self, count: int) -> AsyncIterator[None]:
        """Room for so many pixels, once there is.

        Raises:
            Refused: there will never be.
        """
        if count > self._pixels:
            raise Refused(
                413,
                f"the pictures of this request have {count:,} pixels together, more than the {self._pixels:,} that "
                "there is room for; send them in several requests",
            )
        async with self._freed:
            await self._freed.wait_for(lambda: self._left >= count)
            self._left -= count
        try:
            yield
        finally:
            # Without waiting for the lock: this has to happen even while the request is being cancelled.
            self._left += count
            asyncio.get_running_loop().create_task(self._wake())

    async def _wake(self) -> None:
        async with self._freed:
            self._freed.notify_all()
