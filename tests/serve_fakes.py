"""A server in a thread or a process, and an artifact that needs no runtime and whose answers can be foretold."""

import asyncio
import contextlib
import json
import sys
import threading
import time
from pathlib import Path

import numpy as np
import requests
import uvicorn

from zoo.export.runners import Artifact
from zoo.export.serving.app import build_app
from zoo.export.serving.limits import Limits
from zoo.export.serving.served import Served
from zoo.export.serving.server import listen, serve

MOST = 3  # detections in the padded outputs


class FakeArtifact(Artifact):
    """Finds one box, that of the brightest pixel, in every image; its score is the mean of the red pixels.

    It notes the shape of every batch, takes ``seconds`` for each, waits for ``gate``, and fails on an image whose
    first pixel is (6, 6, 6).
    """

    format, runtime = "onnx", "none"

    def __init__(self, size=None, dtype="uint8", seconds=0.0, classes=("dark", "bright")):
        self.input = {"dtype": dtype, "shape": [None, *(size or (None, None)), 3]}
        self.names = list(classes)
        super().__init__(Path("fake.onnx"))
        self.seconds, self.batches = seconds, []
        self.gate = threading.Event()
        self.gate.set()

    def _read_metadata(self):
        fields = {"model": "fake net", "task": "detection", "classes": self.names, "input": self.input}
        return json.dumps({"zoo_export": 1, **fields})

    def _run(self, inputs):
        images = inputs["images"]
        self.gate.wait()
        self.batches.append(images.shape)
        time.sleep(self.seconds)
        if (images[:, 0, 0] == 6).all(axis=-1).any():
            raise RuntimeError("Traceback: a secret of the runtime")
        rows = [expected(image) for image in images]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def expected(image):
    """What the fake artifact finds in an image, with plain arithmetic."""
    grey = image.astype(np.float64).sum(axis=2)
    y, x = divmod(int(grey.argmax()), image.shape[1])
    boxes, scores = np.zeros((MOST, 4), np.float32), np.zeros(MOST, np.float32)
    boxes[0], scores[0] = (x, y, x + 1, y + 1), np.float32(image[..., 0].astype(np.float64).mean() / 255)
    classes = np.full(MOST, -1, np.int32)
    classes[0] = int(scores[0] >= 0.5)
    return {"boxes": boxes, "scores": scores, "classes": classes, "num_detections": np.array(1, np.int32)}


class Client:
    """Requests to a server at an address."""

    def __init__(self, address):
        self.address = address

    def get(self, path, **more):
        return requests.get(self.address + path, **{"timeout": 90, **more})

    def post(self, path, body=None, **more):
        more = more if body is None else {"json": body, **more}
        return requests.post(self.address + path, **{"timeout": 90, **more})

    def predict(self, body, **more):
        return self.post("v1/models/fake-net:predict", body, **more)

    def infer(self, body, **more):
        return self.post("v2/models/fake-net/infer", body, **more)

    def metric(self, name):
        lines = self.get("metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


@contextlib.contextmanager
def served(artifact, propose=None, **limits):
    """A client of a server that runs in a thread."""
    app = build_app(Served.prepare(artifact, propose=propose), Limits(**limits))
    if hasattr(artifact, "batches"):
        artifact.batches.clear()
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=5))
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        thread.start()
        host, port = listener.getsockname()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.005)
            yield Client(f"http://{host}:{port}/")
        finally:
            if hasattr(artifact, "gate"):
                artifact.gate.set()
            server.should_exit = True
            thread.join()


def until(condition, seconds=90.0):
    """Wait for something that another thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def alone(seconds):
    """The server alone in a process, which prints its address, with a model that takes so long once it is warm."""
    artifact = FakeArtifact()

    def ready(address):
        artifact.seconds = seconds
        print(address, flush=True)

    serve(artifact, port=0, ready=ready)


if __name__ == "__main__":
    alone(float(sys.argv[1]))
