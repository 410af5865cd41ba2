"""Killed at any step and taken up again, the batches are those of an unbroken run; memory stays where it is."""

import random
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from marked import TALL, WIDE, Marked
from pipeline_run import all_batches, digest

from zoo.datasets.pipeline import Batches

SCRIPT = Path(__file__).with_name("pipeline_run.py")


def whole_lines(log):
    """Digests written so far; the last line may be half of one."""
    return [line for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")] if log.exists() else []


def run_until_killed(log, first, how, steps, wait):
    """Start at batch ``first``; kill without warning some time after ``steps`` more were written."""
    process = subprocess.Popen([sys.executable, str(SCRIPT), str(log), str(first), how])
    try:
        deadline = time.monotonic() + 300
        while len(whole_lines(log)) < first + steps:
            assert process.poll() is None, "the run ended by itself"
            assert time.monotonic() < deadline, "the run is stuck"
            time.sleep(0.002)
        time.sleep(wait)
    finally:
        process.kill()
        process.wait()
    lines = whole_lines(log)
    log.write_text("".join(lines))
    return len(lines)


@pytest.mark.parametrize(("how", "kills"), [("numpy", 3), ("tensorflow", 2)])
def test_killed_and_resumed_equals_unbroken(tmp_path, how, kills):
    log, done, rng = tmp_path / "digests", 0, random.Random()
    stops = []
    for _ in range(kills):
        done = run_until_killed(log, done, how, rng.randint(1, 15), rng.uniform(0, 0.05))
        stops.append(done)
    batches = all_batches()
    expected = [digest(batches.batch(*divmod(number, len(batches)))) for number in range(done)]
    assert log.read_text().split() == expected, f"killed after {stops}"
    assert len(set(expected)) == len(expected)


def test_twenty_epochs_take_no_more_memory_than_three():
    data = Marked([WIDE, TALL] * 20)
    options = {"crop": 0.5, "expand": 2.0, "short": (48, 80), "rotate90": True, "cache": True}
    batches = Batches(data, 4, **options)
    held = []
    tracemalloc.start()
    try:
        for epoch in range(20):
            for x, _ in batches.numpy_batches(epoch):
                assert x["images"].dtype == np.uint8
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    # NumPy keeps some hundred kilobytes of small blocks. A leak of one batch an epoch would be 16 x 40 kB and more.
    assert held[-1] - held[3] < 250_000, held
