"""The server's addresses."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zoo.export.serving import open_inference, tf_serving
from zoo.export.serving.limits import Limits
from zoo.export.serving.metrics import CONTENT_TYPE, Metrics
from zoo.export.serving.page import Page
from zoo.export.serving.predictions import GONE, Predictions
from zoo.export.serving.refused import Refused
from zoo.export.serving.served import Served


def build_app(served: Served, limits: Limits | None = None) -> Starlette:
    """The server as an ASGI application.

    Args:
        served: see :meth:`Served.prepare`.
        limits: by default :class:`Limits`'.

    Example:
        >>> app = build_app(Served.prepare(zoo.export.open_artifact("digits.onnx")))    # doctest: +SKIP
    """
    limits = limits or Limits()
    metrics = Metrics()
    predictions = Predictions(served, limits, metrics)
    page = Page(served)

    def check(request: Request) -> None:
        name, version = request.path_params.get("name"), request.path_params.get("version")
        if name not in (None, served.name):
            raise Refused(404, f"no model {name[:80]!r} here; this server has {served.name!r}")
        if version not in (None, served.version):
            raise Refused(404, f"no version {version[:80]!r} of {served.name!r} here; there is {served.version!r}")

    def told(tell: Callable[[], Any]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            check(request)
            return JSONResponse(tell())

        return answer

    def ready(found: dict[str, Any]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            check(request)
            alive = predictions.batcher.alive
            return JSONResponse({**found, "ready": alive}, 200 if alive else 503)

        return answer

    async def tf_predict(request: Request) -> Response:
        check(request)
        return await predictions.answer(
            request, lambda body: tf_serving.parse(body, served, predictions.wanted, limits.max_images)
        )

    async def infer(request: Request) -> Response:
        check(request)
        return await predictions.answer(
            request, lambda body: open_inference.parse(body, served, predictions.wanted, limits.max_images)
        )

    async def tell_metrics(_: Request) -> Response:
        return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def show_page(_: Request) -> Response:
        return Response(page.html, media_type="text/html", headers=page.headers)

    routes = [
        Route("/", show_page),
        Route("/metrics", tell_metrics),
        Route("/v2", told(open_inference.server_metadata)),
        Route("/v2/health/live", told(lambda: {"live": True})),
        Route("/v2/health/ready", ready({"live": True})),
    ]
    for version in ("", "/versions/{version}"):
        v1, v2 = f"/v1/models/{{name}}{version}", f"/v2/models/{{name}}{version}"
        routes += [
            Route(f"{v1}:predict", tf_predict, methods=["POST"]),
            Route(f"{v1}/metadata", told(lambda: tf_serving.metadata(served))),
            Route(v1, told(lambda: tf_serving.status(served))),
            Route(f"{v2}/infer", infer, methods=["POST"]),
            Route(f"{v2}/ready", ready({"name": served.name})),
            Route(v2, told(lambda: open_inference.model_metadata(served))),
        ]
    handlers = {Refused: _refuse, HTTPException: _other, Exception: _fail}
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=predictions.running)
    app.add_middleware(_Watch, metrics=metrics)
    return app


async def _refuse(_: Request, error: Refused) -> Response:
    return JSONResponse({"error": error.sentence}, error.status, error.headers)


async def _other(request: Request, error: HTTPException) -> Response:
    words = {404: f"there is nothing at {request.url.path[:200]}", 405: f"{request.method} is not possible here"}
    return JSONResponse({"error": words.get(error.status_code, str(error.detail))}, error.status_code, error.headers)


async def _fail(_: Request, error: Exception) -> Response:
    """A mistake of this server: its log has the traceback, the client a sentence."""
    return JSONResponse({"error": "the server made a mistake; its log says which"}, 500)


class _Watch:
    """Counts every request and how it ended."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin, status = time.perf_counter(), GONE

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-content-type-options", b"nosniff")]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except Exception:
            status = 500  # answered further out
            raise
        finally:
            apis = {"/v1": "tensorflow_serving", "/v2": "open_inference"}
            self.metrics.answered(apis.get(scope["path"][:3], "other"), status, time.perf_counter() - begin)
