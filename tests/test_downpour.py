"""Downpour: what the servers make of what is pushed, against NumPy; workers apart; checkpoints."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from zoo.distribute.downpour import _unit, train_downpour
from zoo.distribute.downpour_rules import Rule


def test_workers_and_servers_do_what_the_paper_says(tmp_path):
    """In a process of its own: TensorFlow joins a cluster for good."""
    done = subprocess.run(
        [sys.executable, Path(__file__).parent / "downpour_cluster.py", tmp_path],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for setting in ("sgd 1 1", "adagrad 2 2", "adagrad 1 4", "sgd 4 2", "schedule"):
        assert found[setting] < 2e-6, setting
    assert found["moved"] > 0.1
    assert found["rows"] == [[4, 0], [8, 0]]
    assert found["resumed"] == [0, [8]]
    assert "is no checkpoint of Downpour" in found["damaged"]
    assert found["shards"] == [2, 1]
    # Two workers at once: every step is counted, and the loss falls.
    steps, losses, staleness = zip(*found["apart"], strict=True)
    assert steps == (12, 24, 36, 48)
    assert losses[-1] < 0.9 * losses[0]
    assert all(0 <= each < 12 for each in staleness)


def test_every_mini_batch_comes_once_an_epoch_in_another_order():
    epochs = [[_unit(7 * epoch + place, 7, seed=1) for place in range(7)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert epochs[0] != [_unit(place, 7, seed=2) for place in range(7)]


def test_settings_that_cannot_work_are_told():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    data = [(np.zeros((1, 2)), np.zeros((1, 1)))]
    with pytest.raises(ValueError, match="n_push=2, n_fetch=3; give numbers of which one is a multiple"):
        train_downpour(model, data, None, steps=1, n_push=2, n_fetch=3)
    with pytest.raises(ValueError, match="steps=0"):
        train_downpour(model, data, None, steps=0)
    with pytest.raises(ValueError, match="rule 'adam'; choose one of adagrad, sgd"):
        Rule("adam")
