"""What clients of `benchmarks/serve.py` do: good requests of all kinds, bad ones, and hanging up."""

import base64
import io
import json
import socket
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import numpy as np
import requests
from PIL import Image

NAME = "digits"
PREDICT, INFER = f"/v1/models/{NAME}:predict", f"/v2/models/{NAME}/infer"
# An answer is right if it is what the artifact alone gives for the picture, within what exports are held to.
BOX, SCORE = 0.5, 1e-3
TIMEOUT = 120


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture, its file, and what the artifact says of it alone."""

    pixels: np.ndarray
    file: bytes
    expected: dict[str, np.ndarray]

    def b64(self) -> str:
        """The file in base64."""
        return base64.b64encode(self.file).decode()


@dataclass(frozen=True)
class Request:
    """One request: what is sent, which status is proper, and the pictures whose answers to compare."""

    path: str
    body: bytes
    status: int = 200
    pictures: tuple[Picture, ...] = ()
    hang_up: float | None = None  # after this part of the body; 1: after all of it


@dataclass
class Outcome:
    """What came of many requests."""

    counts: Counter = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    took: float = 0.0


def encode(pixels: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def draw_request(rng: np.random.Generator, pictures: list[Picture], max_body: int) -> Request:
    """One of the mixture: 1% corrupt, 1% too large, 2% hang up, the others good."""
    dice = rng.random()
    if dice < 0.01:
        return corrupt(rng, pick(rng, pictures))
    if dice < 0.02:
        return oversize(rng, max_body)
    request = good(rng, pictures)
    if dice < 0.04:
        return Request(request.path, request.body, hang_up=float(rng.choice([0.0, 0.5, 1.0])))
    return request


def pick(rng: np.random.Generator, pictures: list[Picture]) -> Picture:
    return pictures[rng.integers(len(pictures))]


def good(rng: np.random.Generator, pictures: list[Picture]) -> Request:
    """Files or numbers, by either protocol; now and then three pictures of any sizes at once."""
    some = tuple(pick(rng, pictures) for _ in range(3 if rng.random() < 0.05 else 1))
    way = rng.random()
    if way < 0.5:
        return rows(some)
    if way < 0.95:
        tensor = {"name": "image_bytes", "shape": [len(some)], "datatype": "BYTES", "data": [x.b64() for x in some]}
    else:
        some = some[:1]
        shape = [1, *some[0].pixels.shape]
        tensor = {"name": "images", "shape": shape, "datatype": "UINT8", "data": some[0].pixels.ravel().tolist()}
    return Request(INFER, json.dumps({"inputs": [tensor]}).encode(), 200, some)


def rows(pictures: tuple[Picture, ...]) -> Request:
    body = {"instances": [{"b64": picture.b64()} for picture in pictures]}
    return Request(PREDICT, json.dumps(body).encode(), 200, pictures)


def corrupt(rng: np.random.Generator, picture: Picture) -> Request:
    """Cut short, no picture, no JSON, numbers that are none."""
    cut = base64.b64encode(picture.file[: len(picture.file) // 3]).decode()
    bodies = [
        json.dumps({"instances": [{"b64": cut}]}).encode(),
        json.dumps({"instances": [{"b64": base64.b64encode(rng.bytes(5000)).decode()}]}).encode(),
        b'{"instances": [{"b64": "' + picture.b64().encode(),
        json.dumps({"instances": [[[["a", "b", "c"]]]]}).encode(),
        b"[" * 50_000,
    ]
    return Request(PREDICT, bodies[rng.integers(len(bodies))], 400)


def oversize(rng: np.random.Generator, max_body: int) -> Request:
    """A body, or a picture's header, beyond what the server takes."""
    if rng.random() < 0.5:
        return Request(PREDICT, b" " * (max_body + 1), 413)
    file = bytearray(encode(np.zeros((1, 1, 3), np.uint8), "PNG"))
    file[16:24] = (20_000).to_bytes(4, "big") * 2  # width and height: 400 megapixels
    file[29:33] = zlib.crc32(file[12:29]).to_bytes(4, "big")
    return Request(PREDICT, json.dumps({"instances": [{"b64": base64.b64encode(file).decode()}]}).encode(), 413)


def run_load(
    address: str,
    make: Callable[[int], Request],
    count: int,
    clients: int,
    every: int = 0,
    call: Callable[[int], None] = print,
) -> Outcome:
    """Send requests 0 to ``count``, so many at a time; ``call`` is told how many are done after ``every`` of them."""
    outcome, lock, local = Outcome(), threading.Lock(), threading.local()

    def one(number: int) -> None:
        if not hasattr(local, "session"):
            local.session = requests.Session()
        request = make(number)
        begin = time.perf_counter()
        what, wrong = attempt(local.session, address, request)
        with lock:
            outcome.counts[what] += 1
            outcome.seconds.append(time.perf_counter() - begin)
            if wrong:
                outcome.wrong.append(wrong)
            done = sum(outcome.counts.values())
        if every and done % every == 0:
            call(done)

    begin = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(one, range(count)))
    outcome.took = time.perf_counter() - begin
    return outcome


def attempt(session: requests.Session, address: str, request: Request) -> tuple[str, str | None]:
    """What came of a request, in a word, and what was wrong with that."""
    if request.hang_up is not None:
        hang_up(address, request)
        return "hung up", None
    headers = {"Content-Type": "application/json"}
    try:
        answer = session.post(address.rstrip("/") + request.path, request.body, headers=headers, timeout=TIMEOUT)
        body = answer.json()
    except (OSError, ValueError) as error:
        return "no answer", f"{request.path}: {type(error).__name__}: {error}"
    if answer.status_code != request.status:
        return f"unexpected {answer.status_code}", f"{answer.status_code} in place of {request.status}: {body}"
    if request.status != 200:
        fine = set(body) == {"error"} and "Traceback" not in body["error"]
        return (f"refused {request.status}", None) if fine else ("refused badly", str(body)[:200])
    wrong = difference(body, request.pictures)
    return ("wrong", wrong) if wrong else ("right", None)


def hang_up(address: str, request: Request) -> None:
    """Send a part of the request, and close the connection without listening."""
    parts = urlsplit(address)
    head = f"POST {request.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(request.body)}\r\n\r\n"
    with socket.create_connection((parts.hostname, parts.port), timeout=TIMEOUT) as connection:
        connection.sendall(head.encode() + request.body[: int(len(request.body) * request.hang_up)])
        time.sleep(0.01)


def difference(body: dict, pictures: tuple[Picture, ...]) -> str | None:
    """How an answer differs from what the artifact alone says; ``None`` if it does not."""
    if "predictions" in body:
        found = body["predictions"]
    else:
        arrays = {each["name"]: np.reshape(each["data"], each["shape"]) for each in body["outputs"]}
        found = [{name: value[i] for name, value in arrays.items()} for i in range(len(pictures))]
    if len(found) != len(pictures):
        return f"{len(found)} answers for {len(pictures)} pictures"
    for row, picture in zip(found, pictures, strict=True):
        for name, expected in picture.expected.items():
            most = BOX if name == "boxes" else SCORE if name == "scores" else 0
            off = np.abs(np.asarray(row[name], float) - expected).max()
            if not off <= most:
                return f"{name} off by {off:g}"
    return None
