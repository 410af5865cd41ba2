"""Sandblaster's vectors on parameter servers: as on the chief, whatever is killed."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sandblaster_problem import problem

from zoo.distribute.sandblaster import PAYS, train_sandblaster, where

pytestmark = pytest.mark.usefixtures("in_time")


@pytest.fixture(scope="module")
def cluster():
    """What a cluster of processes of its own found: TensorFlow joins one for good."""
    done = subprocess.run(
        [sys.executable, Path(__file__).parent / "sandblaster_cluster.py"], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_cluster_trains_as_one_worker_does(cluster):
    assert cluster["moved"] > 0.1
    assert (cluster["shards"], cluster["hosts"]) == (2, 1)
    for run, rows in {"chief": 6, "servers": 6, "resumed": 2, "crossed": 2, "killed": 6}.items():
        assert cluster[run]["rows"] == rows
        assert cluster[run]["losses"] < 1e-6, run
        assert cluster[run]["weights"] < 2e-6, run
    assert cluster["decay"] < 1e-6


def test_a_worker_killed_in_mid_pass_changes_nothing_on_the_servers(cluster):
    assert cluster["status"] == -signal.SIGKILL
    assert 1 <= cluster["killed"]["after"] < 6
    assert "worker 0" in cluster["killed"]["later"]


def test_no_vector_comes_to_the_chief(cluster):
    """By TCP's own count: one float64 vector at the very end, for the model, and less than half of one besides."""
    chief, servers = cluster["chief bytes"], cluster["servers bytes"]
    assert servers["passes"] >= 4
    vector = 8 * servers["parameters"]
    assert servers["bytes"] < 1.5 * vector
    # That the count sees them: there the gradient of each of the 6 units comes, in 32-bit numbers.
    assert chief["bytes"] > 6 * chief["passes"] * vector / 2


def test_vectors_on_servers_calculate_as_numpys_do(cluster):
    assert [device.split("/")[1:4] for device in cluster["devices"]] == [
        ["job:ps", "replica:0", f"task:{number}"] for number in range(2)
    ]
    assert cluster["operators"] < 1e-15
    assert max(cluster["numbers"]) < 1e-12
    assert cluster["assigned"] < 1e-6
    assert cluster["nan"]


def test_a_gradient_that_was_written_late_or_in_part_is_not_taken(cluster):
    error, other_refused = cluster["slot"]
    assert error < 1e-6
    assert other_refused
    late_refused, error_of_what_was_taken_before = cluster["late"]
    assert late_refused
    assert error_of_what_was_taken_before < 1e-6
    assert cluster["torn"]


def test_where_vectors_lie():
    assert where(PAYS // 40, units=10, hosts=2) == "servers"
    assert where(PAYS // 40, units=9, hosts=2) == where(PAYS, units=10, hosts=1) == "chief"
    model, data = problem(units=1)
    for vectors in ("servers", "here"):
        with pytest.raises(ValueError, match=rf"vectors='{vectors}'; give"):
            train_sandblaster(model, data, iterations=1, vectors=vectors)
    with pytest.raises(ValueError, match="save_every=0"):
        train_sandblaster(model, data, iterations=1, save_every=0)
