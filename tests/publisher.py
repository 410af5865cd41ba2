"""A publisher of weights on this machine, with all the faults of real ones; it can also play a proxy."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit


@dataclass
class Page:
    """What one address serves, and how.

    ``statuses``: answers to give before the real one, one a request. ``cuts``: for each of the next requests the number
    of bytes after which the connection is closed. ``hold``: bytes after which a request waits for ``released``.
    """

    body: bytes = b""
    kind: str = "application/octet-stream"
    etag: str | None = '"one"'
    ranges: bool = True
    if_range: bool = True  # whether If-Range is looked at
    length: bool = True  # whether Content-Length is sent
    redirect: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=list)
    retry_after: list[str] = field(default_factory=list)  # headers of these
    cuts: list[int] = field(default_factory=list)
    hold: int | None = None
    released: threading.Event = field(default_factory=threading.Event)


def empty_home(monkeypatch, tmp_path: Path) -> Path:
    """An empty cache for one test, without proxy, mirror, or waiting between tries."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "zoo_offline", "zoo_mirror"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("zoo.fetch.WAITS", (0.0, 0.0))
    return tmp_path / "home"


def kept(home: Path) -> list[str]:
    """Files in the cache, lock files aside."""
    files = [path for path in home.rglob("*") if path.is_file() and path.parent.name != ".locks"]
    return sorted(str(path.relative_to(home)) for path in files)


class Publisher:
    """``with Publisher({"/net.npz": body_or_page}) as publisher: publisher.url("/net.npz")``.

    ``seen`` lists the requests as (method, path, headers).
    """

    def __init__(self, pages: dict[str, bytes | Page]):
        self.pages = {path: Page(page) if isinstance(page, bytes) else page for path, page in pages.items()}
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        publisher = self

        class Handler(_Handler):
            owner = publisher

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Publisher:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        for page in self.pages.values():
            page.released.set()
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    def url(self, path: str) -> str:
        return self.address + path

    @property
    def ranges(self) -> list[str | None]:
        """The Range header of each request so far."""
        return [headers.get("Range") for _, _, headers in self.seen]


class _Handler(BaseHTTPRequestHandler):
    owner: Publisher

    def log_message(self, *arguments: object) -> None:
        pass

    def do_CONNECT(self) -> None:
        self.owner.seen.append(("CONNECT", self.path, dict(self.headers)))
        self.send_error(403)

    def do_GET(self) -> None:
        self.owner.seen.append(("GET", self.path, dict(self.headers)))
        page = self.owner.pages.get(urlsplit(self.path).path)  # a proxy is asked with the whole address
        if page is None:
            self.send_error(404)
        elif page.statuses:
            wait = {"Retry-After": page.retry_after.pop(0)} if page.retry_after else {}
            self._head(page, page.statuses.pop(0), {"Content-Length": "0", **wait})
        elif page.redirect:
            self._head(page, 302, {"Location": page.redirect, "Content-Length": "0"})
        else:
            self._serve(page)
        self.close_connection = True

    def _serve(self, page: Page) -> None:
        begin, status = 0, 200
        headers = {"Content-Type": page.kind, **page.headers}
        if page.etag:
            headers["ETag"] = page.etag
        if page.ranges:
            headers["Accept-Ranges"] = "bytes"
            wanted = self.headers.get("Range", "")
            if wanted and (not page.if_range or self.headers.get("If-Range") in (None, page.etag)):
                begin, status = int(wanted.removeprefix("bytes=").split("-")[0]), 206
                if begin >= len(page.body):
                    self._head(page, 416, {"Content-Range": f"bytes */{len(page.body)}", "Content-Length": "0"})
                    return
                headers["Content-Range"] = f"bytes {begin}-{len(page.body) - 1}/{len(page.body)}"
        body = page.body[begin:]
        if page.length:
            headers.setdefault("Content-Length", str(len(body)))
        self._head(page, status, headers)
        end = page.cuts.pop(0) if page.cuts else len(body)
        first = end if page.hold is None else min(page.hold, end)
        self.wfile.write(body[:first])
        self.wfile.flush()
        if first < end:
            page.released.wait(60)
            self.wfile.write(body[first:end])

    def _head(self, page: Page, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
