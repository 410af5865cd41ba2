"""From a request's bytes to a JSON object, neither larger nor deeper than allowed."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from zoo.export.serving.refused import Refused

if TYPE_CHECKING:
    from starlette.requests import Request

# Of a body that is too large so much is read and thrown away, so that a client that sends before it listens hears the
# answer; one that sends still more finds the connection closed.
_THROWN_AWAY = 64 * 2**20
# Possessive and with an optional end, so that no input is looked at twice.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)


async def read_body(request: Request, most: int) -> bytes:
    """The whole body.

    Raises:
        Refused: it has more than ``most`` bytes.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most:
        # A client that asked whether to send learns it from the answer.
        if request.headers.get("expect", "").lower() != "100-continue":
            await _throw_away(request)
        raise too_large(most)
    found = bytearray()
    stream = request.stream()
    async for piece in stream:
        found += piece
        if len(found) > most:
            found.clear()
            await _throw_away(request, stream)
            raise too_large(most)
    return bytes(found)


def too_large(most: int) -> Refused:
    """The answer to a body of more than ``most`` bytes."""
    # Closed, because what is left of the body would be taken for the next request.
    return Refused(
        413,
        f"the request is larger than the {most:,} bytes that this server takes; send smaller pictures, fewer, or "
        "JPEG rather than numbers",
        {"Connection": "close"},
    )


async def _throw_away(request: Request, stream: Any = None) -> None:
    left = _THROWN_AWAY
    async for piece in stream or request.stream():
        left -= len(piece)
        if left < 0:
            return


def parse_object(body: bytes, max_depth: int) -> dict[str, Any]:
    """The JSON object in ``body``.

    Raises:
        Refused: it is none, or nested deeper than ``max_depth``.

    >>> parse_object(b'{"instances": [1, 2]}', 2)
    {'instances': [1, 2]}
    """
    if not body:
        raise Refused(400, "the request has no body; send a JSON object")
    depth = json_depth(body)
    if depth > max_depth:
        raise Refused(400, f"the JSON is nested {depth:,} deep; {max_depth} is the most that this server reads")
    try:
        found = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise Refused(400, f"the body is no JSON: byte {error.start} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise Refused(400, f"the body is no JSON: {error}") from error
    except (ValueError, RecursionError) as error:  # a number of too many digits; nested in a way not counted
        raise Refused(400, f"the body is no JSON that this server reads: {error}") from error
    if not isinstance(found, dict):
        raise Refused(400, f"the body is a JSON {kind(found)}; send an object")
    return found


def json_depth(body: bytes) -> int:
    """How deep lists and objects are nested, counted before anything is parsed.

    >>> json_depth(b'{"a": [[1], "]["]}')
    3
    """
    marks = np.frombuffer(_STRING.sub(b"", body), np.uint8)
    steps = ((marks == ord("[")) | (marks == ord("{"))).astype(np.int8)
    steps -= (marks == ord("]")) | (marks == ord("}"))
    return int(np.cumsum(steps, dtype=np.int32).max(initial=0))


def kind(value: Any) -> str:
    """What JSON calls a value.

    >>> kind(None), kind(True), kind(1.5)
    ('null', 'boolean', 'number')
    """
    names = {type(None): "null", bool: "boolean", int: "number", float: "number", str: "string", list: "list"}
    return names.get(type(value), "object")


def only_numbers(value: Any) -> bool:
    """Whether nothing but numbers lies in nested lists; an array is what its type says.

    To be asked before NumPy makes an array of them: it gives each entry the room of the longest text among them.

    >>> only_numbers([[1, 2.5], [3]]), only_numbers([[1, "2.5"]]), only_numbers([True])
    (True, False, False)
    """
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "iuf"
    if not isinstance(value, list):
        return type(value) in (int, float)
    # All at once, which is much quicker than one by one.
    kinds = set(map(type, value))
    if not kinds <= {int, float, list}:
        return False
    return list not in kinds or all(only_numbers(each) for each in value)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
