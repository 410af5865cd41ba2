"""Runs the application until it is told to stop."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from zoo.export.errors import need
from zoo.export.runners import Artifact
from zoo.export.serving.limits import Limits

PORT = 8501  # TensorFlow Serving's for REST


def serve(
    artifact: Artifact,
    *,
    name: str | None = None,
    propose: Callable[[np.ndarray], np.ndarray] | None = None,
    host: str = "127.0.0.1",
    port: int = PORT,
    limits: Limits | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve ``artifact`` until SIGTERM or Ctrl+C, which let what has begun finish.

    Args:
        artifact: from :func:`zoo.export.open_artifact`.
        name: of the model in addresses; by default its own.
        propose: boxes for pictures that come without, for a Fast R-CNN; see :meth:`Served.prepare`.
        host: whose connections are taken; by default those of this machine alone. There is neither password nor
            encryption: put a proxy that has them in front of anything else.
        port: 0 for any that is free.
        limits: by default :class:`Limits`'.
        ready: called with the server's address when it takes requests.

    Raises:
        ValueError: the name or the address is no good, the port is taken, or the model finds its own proposals.
        ExportError: a package that serving needs is not installed.

    Example:
        >>> serve(zoo.export.open_artifact("digits.onnx"), ready=print)    # doctest: +SKIP
        http://127.0.0.1:8501/
    """
    limits = limits or Limits()
    uvicorn = packages()
    from zoo.export.serving.app import build_app
    from zoo.export.serving.served import Served

    # Before the model is warmed up: a port that is taken is noticed at once.
    with listen(host, port) as listener:
        app = build_app(Served.prepare(artifact, name, propose), limits)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            lifespan="on",
            timeout_graceful_shutdown=max(1, round(limits.timeout)),
        )
        with _good_end():
            _server_class(uvicorn, ready)(config).run(sockets=[listener])


def packages():
    """``uvicorn``, when all that serving needs is installed.

    Raises:
        ExportError: it is not.
    """
    for module in ("starlette", "prometheus_client", "uvicorn"):
        found = need(module, module.replace("_", "-"), "serving", extra="serve")
    return found


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        ValueError: it cannot.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"port {port}: give a number from 0 to 65535")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ValueError(
            f"cannot listen on {host}, port {port} ({error.strerror or error}); choose another with --port or --host"
        ) from error


def address(listener: socket.socket) -> str:
    """Where a browser finds it."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


@contextmanager
def _good_end() -> Iterator[None]:
    """SIGTERM ends uvicorn, which sends it to itself again when all is finished: that is no failure."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _server_class(uvicorn, ready: Callable[[str], None] | None):
    class Server(uvicorn.Server):
        """Tells when it takes requests."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if ready is not None and self.started:
                ready(address(sockets[0]))

    return Server
