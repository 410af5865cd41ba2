"""A prediction's way through the server, the same for both protocols."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import numpy as np
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from zoo.export.serving.asked import Asked
from zoo.export.serving.batching import Batcher, Results, RunError
from zoo.export.serving.bodies import parse_object, read_body
from zoo.export.serving.limits import Limits
from zoo.export.serving.metrics import Metrics
from zoo.export.serving.pictures import Picture
from zoo.export.serving.proposals import filled_up
from zoo.export.serving.refused import Refused
from zoo.export.serving.room import Room
from zoo.export.serving.served import Served

GONE = 499  # what others log for a client that hung up; nobody receives it
_T = TypeVar("_T")


class _ClientGone(Exception):
    """Nobody waits for the answer."""


class Predictions:
    """Everything between a request's body and its answer that the two protocols share."""

    def __init__(self, served: Served, limits: Limits, metrics: Metrics) -> None:
        self.served, self.limits, self.metrics = served, limits, metrics
        self.wanted = served.wanted(limits)
        run = served.artifact.predict_on_batch
        self.batcher = Batcher(run, limits.max_batch, limits.max_delay, metrics, limits.batch_proposals)
        self.room = Room(limits.max_requests, limits.room_pixels, self._busy_for)
        # Few, so that only few bodies are taken apart at once, however many have arrived.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="pictures")
        # Of their own: a picture may take a second or more.
        self._proposing = ThreadPoolExecutor(max(os.cpu_count() or 1, 2), thread_name_prefix="proposals")
        metrics.gauge("zoo_requests_in_progress", "Predictions in the server.", lambda: self.room.requests)
        metrics.gauge("zoo_images_waiting", "Images that have not begun to run.", lambda: self.batcher.waiting)

    def _busy_for(self) -> float:
        return self.metrics.seconds_for(self.batcher.waiting)

    @asynccontextmanager
    async def running(self, _: Starlette) -> AsyncIterator[None]:
        """Between the server's start and its end."""
        self.batcher.start()
        try:
            yield
        finally:
            await self.batcher.stop()
            self._threads.shutdown(wait=True)
            self._proposing.shutdown(wait=True, cancel_futures=True)

    async def answer(self, request: Request, parse: Callable[[dict[str, Any]], Asked]) -> Response:
        """The answer to a prediction.

        Raises:
            Refused: it gets none.
        """
        with self.room.request():
            late = Refused(408, f"the request's body has not arrived within {self.limits.timeout:g} s")
            try:
                async with asyncio.timeout(self.limits.timeout):
                    body = await read_body(request, self.limits.max_body)
                    late = Refused(504, f"no answer within {self.limits.timeout:g} s; try again, with fewer images")
                    text = await _unless_gone(request, self._predict(body, parse))
            except TimeoutError as error:
                raise late from error
            except RunError as error:
                raise Refused(500, "the model failed on this image; the server's log says why") from error
            except (ClientDisconnect, _ClientGone):
                return Response(status_code=GONE)
            return Response(text, media_type="application/json")

    async def _predict(self, body: bytes, parse: Callable[[dict[str, Any]], Asked]) -> str:
        asked = await self._threaded(lambda: parse(parse_object(body, self.limits.max_depth)))
        good = [picture for picture in asked.pictures if not isinstance(picture, Refused)]
        async with self.room.pixels(sum(picture.pixels for picture in good)):
            results = await self._results(asked)
        return await self._threaded(lambda: json.dumps(asked.answer(results), allow_nan=False))

    async def _results(self, asked: Asked) -> list[Results | Refused]:
        def decode() -> list:
            found = []
            for picture in asked.pictures:
                try:
                    found.append(picture if isinstance(picture, Refused) else picture.decode())
                except Refused as refused:
                    if not asked.tolerant:
                        raise
                    found.append(refused)
            return found

        images = await self._threaded(decode)
        good = [i for i, image in enumerate(images) if not isinstance(image, Refused)]
        boxes = await asyncio.gather(*(self._boxes(asked.pictures[i], images[i]) for i in good))
        jobs = {i: self.batcher.submit(images[i], found) for i, found in zip(good, boxes, strict=True)}
        try:
            done = dict(zip(jobs, await asyncio.gather(*jobs.values()), strict=True))
        finally:
            for job in jobs.values():
                job.cancel()
        return [done.get(i, image) for i, image in enumerate(images)]

    async def _boxes(self, picture: Picture, image: np.ndarray) -> np.ndarray | None:
        """The proposals of a picture, filled up, for a model that looks at such."""
        if self.wanted.proposals is None:
            return None
        if picture.proposals is not None:
            return filled_up(picture.proposals, self.wanted.proposals)

        def propose() -> np.ndarray:
            begin = time.perf_counter()
            pixels = image if image.dtype == np.uint8 else np.rint(image).astype(np.uint8)
            found = self.served.propose(pixels)
            self.metrics.proposed(time.perf_counter() - begin)
            return filled_up(found, self.wanted.proposals)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._proposing, propose)
        except Exception as error:  # whatever the method raises
            self.metrics.proposing_failed(error)
            raise RunError(str(error)) from error

    async def _threaded(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


async def _unless_gone(request: Request, work: Awaitable[_T]) -> _T:
    """The result of ``work``, which is dropped when the client hangs up."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    both = job, hung_up = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not job.done():
            raise _ClientGone
        return job.result()
    finally:
        for each in both:
            each.cancel()
        await asyncio.gather(job, hung_up, return_exceptions=True)
