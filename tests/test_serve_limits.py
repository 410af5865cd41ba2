"""What the server does not take on, and how it stops."""

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from serve_fakes import Client, FakeArtifact, served, until

from zoo.export.serving.limits import Limits
from zoo.export.serving.refused import Refused
from zoo.export.serving.room import Room
from zoo.export.serving.server import listen, serve

SMALL = {"instances": [np.full((4, 4, 3), 9).tolist()]}


def connect(client):
    parts = urlsplit(client.address)
    return socket.create_connection((parts.hostname, parts.port), timeout=90)


def head(length, more=""):
    return f"POST /v1/models/fake-net:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{more}\r\n".encode()


def answered(connection):
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer.status, json.loads(answer.read())["error"], answer


def test_a_body_that_is_too_large():
    with served(FakeArtifact(), max_body=100_000) as client:
        fits = json.dumps(SMALL).ljust(100_000).encode()
        assert client.predict(None, data=fits).status_code == 200
        # Announced, of a length that nobody knows before, and far larger than what is still read of it.
        pieces = (b" " * 10_000 for _ in range(50))
        for data in (fits + b" ", pieces):
            answer = client.predict(None, data=data)
            assert answer.status_code == 413
            assert "larger than the 100,000 bytes" in answer.json()["error"]
            assert answer.headers["connection"] == "close"
        # A client that sends all before it listens hears it too.
        with connect(client) as connection:
            connection.sendall(head(30_000_000) + bytes(30_000_000))
            assert answered(connection)[0] == 413
        # One that asks before it sends is told at once.
        with connect(client) as connection:
            connection.sendall(head(10**12, "Expect: 100-continue\r\n"))
            status, sentence, _ = answered(connection)
            assert (status, "larger" in sentence) == (413, True)
        assert client.predict(SMALL).status_code == 200


def test_one_request_too_many_is_told_when_to_come_again():
    artifact = FakeArtifact()
    with served(artifact, max_requests=3, max_batch=1) as client, ThreadPoolExecutor(3) as pool:
        artifact.gate.clear()
        inside = [pool.submit(client.predict, SMALL) for _ in range(3)]
        until(lambda: client.metric("zoo_requests_in_progress") == 3)
        answer = client.predict(SMALL)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert "busy with 3 requests" in answer.json()["error"]
        # What is no prediction is answered all the same.
        assert client.get("v2/health/ready").status_code == 200
        artifact.gate.set()
        assert [each.result().status_code for each in inside] == [200] * 3
        assert client.predict(SMALL).status_code == 200


def test_a_request_that_takes_too_long():
    artifact = FakeArtifact()
    with served(artifact, timeout=0.3) as client:
        artifact.gate.clear()
        answer = client.predict(SMALL)
        assert answer.status_code == 504
        assert "0.3 s" in answer.json()["error"]
        artifact.gate.set()
        # Where the machine is busy, an answer may take as long again.
        until(lambda: client.predict(SMALL).status_code == 200)


def test_a_body_that_does_not_arrive():
    with served(FakeArtifact(), timeout=0.8, max_requests=1) as client:
        with connect(client) as connection:
            connection.sendall(head(1000) + b'{"instances"')
            status, sentence, _ = answered(connection)
            assert status == 408
            assert "not arrived within 0.8 s" in sentence
        # Hung up in the middle: its place is free again.
        with connect(client) as connection:
            connection.sendall(head(1000) + b'{"instances"')
            until(lambda: client.metric("zoo_requests_in_progress") == 1)
        until(lambda: client.metric("zoo_requests_in_progress") == 0)
        until(lambda: client.predict(SMALL).status_code == 200)


def test_requests_wait_until_there_is_room_for_their_pixels():
    async def scenario():
        room, order = Room(9, 100, lambda: 0.0), []

        async def hold(name, count, seconds):
            async with room.pixels(count):
                order.append(name)
                await asyncio.sleep(seconds)

        first = asyncio.create_task(hold("first", 70, 0.1))
        await asyncio.sleep(0)
        second = asyncio.create_task(hold("second", 60, 0))
        third = asyncio.create_task(hold("third", 20, 0))
        await asyncio.sleep(0.05)
        assert order == ["first", "third"]
        gone = asyncio.create_task(hold("gone", 90, 0))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(first, second, third)
        assert order == ["first", "third", "second"]
        await asyncio.wait_for(hold("all", 100, 0), 1)
        with pytest.raises(Refused, match="101 pixels together"):
            await hold("too much", 101, 0)

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_retry_after_tells_how_long_what_is_there_will_take():
    room = Room(1, 1, lambda: 7.2)
    with room.request(), pytest.raises(Refused) as refused, room.request():
        pass
    assert refused.value.headers == {"Retry-After": "8"}
    with room.request():
        pass


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"max_batch": 0}, "max_batch=0"),
        ({"max_delay": -1}, "max_delay=-1"),
        ({"timeout": float("inf")}, "timeout=inf"),
        ({"timeout": float("nan")}, "timeout=nan"),
        ({"max_pixels": 10**9}, "not decoded"),
        ({"room_pixels": 1000}, "never have room"),
    ],
)
def test_limits_that_make_no_sense(changed, words):
    with pytest.raises(ValueError, match=words):
        Limits(**changed)


def test_listening():
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port} .*in use"):
            serve(FakeArtifact(), port=port)
    with pytest.raises(ValueError, match="from 0 to 65535"):
        serve(FakeArtifact(), port=65536)
    with pytest.raises(ValueError, match=r"cannot listen on 192\.0\.2\.1"):
        serve(FakeArtifact(), host="192.0.2.1", port=0)
    with pytest.raises(ValueError, match="beginning with a letter"):
        serve(FakeArtifact(), name="../etc", port=0)


def refuses(client):
    """Whether connections are no longer taken."""
    try:
        connect(client).close()
    except OSError:
        return True
    return False


@pytest.fixture
def alone():
    """Starts servers in processes of their own, whose model takes so many seconds, and ends those that are left."""
    started = []

    def start(seconds):
        script = Path(__file__).with_name("serve_fakes.py")
        process = subprocess.Popen([sys.executable, str(script), str(seconds)], stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process, Client(process.stdout.readline().strip())

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_told_to_stop_it_finishes_what_is_in_flight(alone):
    process, client = alone(2)
    with ThreadPoolExecutor(3) as pool:
        inside = [pool.submit(client.predict, SMALL) for _ in range(3)]
        until(lambda: client.metric("zoo_requests_in_progress") == 3)
        os.kill(process.pid, signal.SIGTERM)
        until(lambda: refuses(client))
        assert [each.result().status_code for each in inside] == [200] * 3
    assert process.wait(90) == 0


def test_a_client_that_never_finishes_does_not_keep_it_from_stopping(alone):
    process, client = alone(0)
    with connect(client) as idle, connect(client) as begun:
        idle.sendall(b"GET /v2 HTTP/1.1\r\n")
        begun.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert begun.recv(12) == b"HTTP/1.1 200"
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(90) == 0


def test_killed_and_started_again_it_serves(alone):
    process, client = alone(9)
    with ThreadPoolExecutor(1) as pool:
        dying = pool.submit(client.predict, SMALL)
        until(lambda: client.metric("zoo_requests_in_progress") == 1)
        process.kill()
        assert process.wait(90) == -signal.SIGKILL
        with pytest.raises(OSError):
            dying.result()
    _, client = alone(0)
    assert client.predict(SMALL).status_code == 200
