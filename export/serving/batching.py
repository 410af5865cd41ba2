"""Images of concurrent requests run together: those of one size, so that none is padded.

An image therefore gives what it gives alone, whatever it shares a batch with.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Results = dict[str, np.ndarray]


class RunError(RuntimeError):
    """The model itself failed on an image."""


class Watcher(Protocol):
    """Who wants to know of batches; :class:`zoo.export.serving.metrics.Metrics` does."""

    def batch_done(self, images: int, seconds: float) -> None:
        """A batch of so many images took so long."""

    def batch_failed(self, error: Exception) -> None:
        """The model failed on a batch."""


@dataclass(frozen=True, eq=False)
class _Job:
    image: np.ndarray
    boxes: np.ndarray | None
    answer: asyncio.Future
    arrived: float

    @property
    def shape(self) -> tuple[int, ...]:
        """Those of one shape run together."""
        return (*self.image.shape, 0 if self.boxes is None else len(self.boxes))


class Batcher:
    """Collects images and runs them in batches, one batch at a time, in a thread of its own.

    While a batch runs, others collect; so under load batches fill by themselves, and ``max_delay`` matters only
    when the model would otherwise be idle.

    Args:
        run: images ``(B, H, W, 3)``, or a dict of ``images`` and ``proposals (B, P, 4)``, to results, each with the
            batch axis first.
        max_batch: most images in a batch.
        max_delay: seconds that an image waits for others of its size.
        watcher: is told of every batch.
        max_boxes: most proposals in a batch of more than one image.
    """

    def __init__(
        self,
        run: Callable[[np.ndarray | Mapping[str, np.ndarray]], Mapping[str, np.ndarray]],
        max_batch: int,
        max_delay: float,
        watcher: Watcher | None = None,
        max_boxes: int = 2000,
    ) -> None:
        self._run, self._max_batch, self._max_delay, self._watcher = run, max_batch, max_delay, watcher
        self._max_boxes = max_boxes
        self._waiting: list[_Job] = []
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._task: asyncio.Task | None = None

    @property
    def waiting(self) -> int:
        """Images that have not begun to run."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether images are being taken."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Begin; call it inside the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def stop(self) -> None:
        """Let the batch that runs finish, and end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown(wait=True)

    def submit(self, image: np.ndarray, boxes: np.ndarray | None = None) -> asyncio.Future[Results]:
        """The results of ``image (H, W, 3)``, without the batch axis, once it has run.

        ``boxes (P, 4)``: its proposals, for a model that looks at such; images of one P run together.
        Cancel the future to drop an image that still waits. It raises ``RunError`` where the model fails.
        """
        job = _Job(image, boxes, asyncio.get_running_loop().create_future(), time.monotonic())
        self._waiting.append(job)
        self._arrived.set()
        return job.answer

    async def _work(self) -> None:
        while True:
            group, delay = self._next()
            if group:
                self._waiting = [job for job in self._waiting if job not in group]
                await self._finish(group)
                continue
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), delay)

    def _next(self) -> tuple[list[_Job], float | None]:
        """The batch to run now; or none, and after how many seconds to look again."""
        self._waiting = [job for job in self._waiting if not job.answer.done()]
        if not self._waiting:
            return [], None
        groups: dict[tuple[int, ...], list[_Job]] = {}
        for job in self._waiting:
            groups.setdefault(job.shape, []).append(job)
        # The image that has waited longest decides when its time has come, or else one size would wait for ever
        # behind another that always has a full batch.
        oldest = groups[self._waiting[0].shape]
        left = self._waiting[0].arrived + self._max_delay - time.monotonic()
        full = [group for group in groups.values() if len(group) >= self._most(group)]
        if left <= 0:
            return oldest[: self._most(oldest)], None
        return (full[0][: self._most(full[0])], None) if full else ([], left)

    def _most(self, group: list[_Job]) -> int:
        """How many of a group may run together."""
        boxes = group[0].boxes
        return self._max_batch if boxes is None else max(1, min(self._max_batch, self._max_boxes // len(boxes)))

    async def _finish(self, group: list[_Job]) -> None:
        try:
            results = await self._run_in_thread(group)
        except Exception as error:  # whatever the runtime raises
            if self._watcher:
                self._watcher.batch_failed(error)
            if len(group) > 1:
                # One image must not spoil the others' answers.
                for job in group:
                    await self._finish([job])
            elif not group[0].answer.done():
                group[0].answer.set_exception(RunError(str(error)))
            return
        for job, found in zip(group, results, strict=True):
            if not job.answer.done():
                job.answer.set_result(found)

    async def _run_in_thread(self, group: list[_Job]) -> list[Results]:
        def work() -> list[Results]:
            begin = time.perf_counter()
            given = np.stack([job.image for job in group])
            if group[0].boxes is not None:
                given = {"images": given, "proposals": np.stack([job.boxes for job in group])}
            found = self._run(given)
            # Copies: a view would keep the whole batch.
            rows = [{name: np.array(value[i]) for name, value in found.items()} for i in range(len(group))]
            if self._watcher:
                self._watcher.batch_done(len(group), time.perf_counter() - begin)
            return rows

        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
