"""Concurrent images run together, and none is changed by its company."""

import asyncio
import base64
import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from serve_fakes import FakeArtifact, expected, served, until

from zoo.export.serving.batching import Batcher, RunError


def pixels(height, width, seed):
    return np.random.default_rng(seed).integers(10, 256, (height, width, 3), dtype=np.uint8)


def body(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return {"instances": [{"b64": base64.b64encode(file.getvalue()).decode()}]}


def same(found, image):
    for name, value in expected(image).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, err_msg=name)


def run(scenario, artifact, max_batch=4, max_delay=0.02, watcher=None):
    """Run ``await scenario(batcher)`` in an event loop of its own."""

    async def inside():
        batcher = Batcher(artifact.predict_on_batch, max_batch, max_delay, watcher)
        batcher.start()
        try:
            return await asyncio.wait_for(scenario(batcher), 90)
        finally:
            await batcher.stop()

    return asyncio.run(inside())


def test_sizes_do_not_mix_and_batches_are_not_larger_than_allowed():
    artifact = FakeArtifact()
    images = [pixels(8 + i % 3, 9, i) for i in range(20)]

    async def scenario(batcher):
        return await asyncio.gather(*(batcher.submit(image) for image in images))

    for found, image in zip(run(scenario, artifact), images, strict=True):
        same(found, image)
    assert sum(shape[0] for shape in artifact.batches) == 20
    assert max(shape[0] for shape in artifact.batches) == 4
    # Seven, seven and six of a size, four at most: no batch more than needed.
    assert len(artifact.batches) == 6


def test_an_image_waits_for_others_no_longer_than_the_delay():
    artifact = FakeArtifact()

    async def scenario(batcher):
        begin = time.monotonic()
        first = batcher.submit(pixels(5, 5, 0))
        await asyncio.sleep(0.05)
        second = batcher.submit(pixels(5, 5, 1))
        await first
        waited = time.monotonic() - begin
        await second
        return waited

    assert 0.5 <= run(scenario, artifact, max_delay=0.5) < 10
    assert artifact.batches == [(2, 5, 5, 3)]
    artifact.batches.clear()
    run(scenario, artifact, max_delay=0)
    assert artifact.batches == [(1, 5, 5, 3), (1, 5, 5, 3)]


def test_a_full_batch_does_not_wait():
    async def scenario(batcher):
        begin = time.monotonic()
        await asyncio.gather(*(batcher.submit(pixels(5, 5, i)) for i in range(4)))
        return time.monotonic() - begin

    assert run(scenario, FakeArtifact(), max_delay=60) < 30


def test_a_rare_size_is_not_overtaken_for_ever():
    """While full batches of another size keep arriving, an image whose time has come runs next."""
    artifact = FakeArtifact(seconds=0.01)

    async def scenario(batcher):
        rare = batcher.submit(pixels(3, 3, 0))
        others = []
        while not rare.done():
            others += [batcher.submit(pixels(5, 5, i)) for i in range(8)]
            await asyncio.sleep(0.01)
            assert len(others) < 2000
        for other in others:
            other.cancel()

    run(scenario, artifact, max_delay=0.05)
    assert [shape[1] for shape in artifact.batches].index(3) < 25


def test_one_image_that_fails_does_not_spoil_the_others():
    artifact, failures = FakeArtifact(), []

    class Watcher:
        def batch_done(self, images, seconds):
            pass

        def batch_failed(self, error):
            failures.append(str(error))

    images = [pixels(6, 6, 1), np.full((6, 6, 3), 6, np.uint8), pixels(6, 6, 2)]

    async def scenario(batcher):
        return await asyncio.gather(*(batcher.submit(image) for image in images), return_exceptions=True)

    first, second, third = run(scenario, artifact, watcher=Watcher())
    same(first, images[0])
    same(third, images[2])
    assert isinstance(second, RunError)
    assert len(failures) == 2  # together, then alone


def test_images_that_nobody_waits_for_do_not_run():
    artifact = FakeArtifact()
    artifact.gate.clear()

    async def scenario(batcher):
        first = batcher.submit(pixels(5, 5, 0))
        await asyncio.sleep(0.05)
        dropped = [batcher.submit(pixels(7, 7, i)) for i in range(3)]
        last = batcher.submit(pixels(9, 9, 0))
        for job in dropped:
            job.cancel()
        artifact.gate.set()
        await asyncio.gather(first, last)

    run(scenario, artifact)
    assert [shape[1] for shape in artifact.batches] == [5, 9]


def test_results_do_not_hold_their_batch():
    async def scenario(batcher):
        return await asyncio.gather(*(batcher.submit(pixels(5, 5, i)) for i in range(4)))

    for found in run(scenario, FakeArtifact()):
        assert all(value.base is None for value in found.values())


@pytest.mark.parametrize("max_batch", [1, 8])
def test_concurrent_requests_each_get_their_own_answer(max_batch):
    artifact = FakeArtifact(seconds=0.01)
    images = [pixels(6 + i % 2, 8, i) for i in range(40)]
    with served(artifact, max_batch=max_batch) as client, ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda image: client.predict(body(image)), images))
    assert {answer.status_code for answer in answers} == {200}
    for answer, image in zip(answers, images, strict=True):
        same(answer.json()["predictions"][0], image)
    largest = max(shape[0] for shape in artifact.batches)
    assert largest == 1 if max_batch == 1 else largest > 1


def test_a_client_that_hangs_up_is_not_computed_for():
    artifact = FakeArtifact()
    with served(artifact) as client:
        artifact.gate.clear()
        running = threading.Thread(target=lambda: client.predict(body(pixels(5, 5, 0))))
        running.start()
        until(lambda: client.metric("zoo_requests_in_progress") == 1)
        time.sleep(0.1)
        with pytest.raises(OSError):
            client.post("v1/models/fake-net:predict", body(pixels(7, 7, 0)), timeout=(5, 0.3))
        until(lambda: client.metric('zoo_requests_total{api="tensorflow_serving",status="499"}') == 1)
        assert client.metric("zoo_requests_in_progress") == 1
        artifact.gate.set()
        running.join()
        assert client.metric("zoo_images_waiting") == 0
    assert [shape[1] for shape in artifact.batches] == [5]
