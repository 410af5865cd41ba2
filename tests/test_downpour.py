"""Downpour: what the servers make of what is pushed, against NumPy; workers apart; checkpoints."""

import json
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import keras
import numpy as np
import pytest
from sandblaster_problem import colour_net
from test_train_classifier import data as colours

from zoo import Recipe
from zoo.datasets.class_batches import ClassBatches, CropFlip
from zoo.distribute.downpour import steps_in, train_downpour
from zoo.distribute.downpour_data import ReadAhead, names_of, numbered, unit_of
from zoo.distribute.downpour_rules import Rule
from zoo.distribute.downpour_run import fit_downpour, length_of, rows_between, rows_until
from zoo.training.history import write_csv


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    """What came of it in a process of its own: TensorFlow joins a cluster for good."""
    done = subprocess.run(
        [sys.executable, Path(__file__).parent / "downpour_cluster.py", tmp_path_factory.mktemp("downpour")],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_workers_and_servers_do_what_the_paper_says(found):
    for setting in ("sgd 1 1", "adagrad 2 2", "adagrad 1 4", "sgd 4 2", "schedule", "decay, clipping, biases"):
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


def test_each_push_is_told(found):
    assert found["pushed"]["steps"] == 48
    assert found["pushed"]["examples"] == 48 * 8
    assert found["pushed"]["workers"] == ["worker 0", "worker 1"]
    assert min(found["seconds"]["fetch"] + found["seconds"]["push"]) > 0
    assert min(found["seconds"]["compute"]) >= 0
    assert max(map(sum, found["seconds"].values())) < 60


def test_large_layers_are_spread_over_the_servers(found):
    assert found["wide"] == [[[48, 64], [48, 64]], [[32], [32]], [[32, 64], [32, 64]]]
    half = 4 * (48 * 64 + 32 + 32 * 64)
    assert found["bytes"] == {"ps 0": half, "ps 1": half}
    # 3 x 5 numbers and 3: the kernel in pieces, the bias whole.
    assert found["told"] == [{"ps 0": 4 * (9 + 3), "ps 1": 4 * 6}, 7]


def test_batches_come_as_their_own_epochs_have_them(found):
    assert sorted(found["asked"]) == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2], [2, 0]]


def test_a_faster_rcnn_learns(found):
    losses = found["detector"]
    assert len(losses) == 6
    assert losses[-1] < 0.7 * losses[0]


def test_a_training_leaves_its_folder_and_goes_on(found):
    fit = found["fit"]
    assert [line.split(":")[0] for line in fit["lines"] if line.startswith("epoch")] == [
        "epoch 1/1",
        "epoch 2/3",
        "epoch 3/3",
    ]
    assert any("3 of 9 steps are done; what came after them is lost" in line for line in fit["lines"])
    assert fit["steps"] == [6, 9]
    assert fit["loaded"] == 0
    files = {"downpour.npz", "history.csv", "curves.png", "summary.json", "model.weights.h5", "model.json"}
    assert files <= set(fit["files"])
    assert fit["log"][0].startswith("epoch,seconds,learning_rate,loss,")
    assert [line.split(",")[0] for line in fit["log"][1:]] == ["1", "2", "3"]
    assert {"staleness", "val_top1_error"} <= set(fit["log"][0].split(","))
    assert "holds a training already (downpour.npz); resume it" in fit["again"]
    assert "n_push 1 then, 2 now" in fit["changed"]


def test_the_command_trains_on_servers(found):
    status, text, written = found["commands"]["parameter_server"]
    assert (status, written) == (0, True), text
    assert "Parameters: 0.0 MB on ps 0, 0.0 MB on ps 1" in text
    # Three batches an epoch, and all of them at a time.
    assert "epoch 1/2: loss" in text
    assert "epoch 2/2: loss" in text
    status, text, written = found["commands"]["sandblaster"]
    assert (status, written) == (0, True), text
    assert "2 pictures are left out, which do not fill a unit of 4" in text
    assert "at iteration 0: loss" in text
    assert "iteration 1: loss" in text
    for _, text, _ in found["commands"].values():
        assert "model.weights.h5" in text


def test_every_mini_batch_comes_once_an_epoch_in_another_order():
    epochs = [[unit_of(7 * epoch + place, 7, seed=1) for place in range(7)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert epochs[0] != [unit_of(place, 7, seed=2) for place in range(7)]


def test_rows_are_counted_as_they_were_written():
    """25 batches an epoch, two at a time: rows after 26, 50, 76 and 100, by hand; and five at a time after 25, 50."""
    for done, rows in ((26, 1), (50, 2), (76, 3), (100, 4)):
        assert rows_between(0, done, every=25, together=2) == rows
        assert rows_between(done, 100, every=25, together=2) == 4 - rows
    assert rows_between(25, 75, every=25, together=5) == 2
    # More at a time than an epoch has: 60 after the first row, 120 after the second.
    assert [rows_between(0, done, every=25, together=60) for done in (60, 120)] == [1, 2]
    assert rows_between(30, 30, every=25, together=2) == 0


def test_rows_of_a_lengthened_training_are_those_that_were_written(tmp_path):
    """Epochs of ten: 15 steps at first, then 30. After a kill at 20 there are three rows, at 10, 15 and 20."""
    rows = [{"epoch": number, "steps": steps} for number, steps in enumerate((10, 15, 20, 30), 1)]
    write_csv(rows, tmp_path / "history.csv")
    assert [rows_until(done, tmp_path, 10, 1) for done in (0, 15, 20, 30)] == [0, 2, 3, 4]
    write_csv([{"epoch": 1, "loss": 2.0}], tmp_path / "history.csv")  # without steps, as before
    assert rows_until(20, tmp_path, 10, 1) == 2


def test_how_often_to_push_is_looked_at_first(tmp_path):
    with pytest.raises(ValueError, match="n_push=0, n_fetch=0; give numbers"):
        fit_downpour(colour_net(), colours(8), strategy=None, out=tmp_path, steps=4, n_push=0, n_fetch=0)


def test_a_picture_is_cropped_otherwise_in_each_epoch():
    batches = ClassBatches(colours(8), 8, CropFlip(32, 4), seed=1)
    take = numbered(batches)
    seen = []
    for number in range(3):
        images, _ = take(number)
        np.testing.assert_array_equal(images, batches.batch(number, 0)[0])
        # In the order of the data set, so that only crops and flips differ.
        places = [batches.source.image_ids.index(name) for name in batches.image_ids(number, 0)]
        seen.append(images[np.argsort(places)])
    assert all((one != other).any(axis=(1, 2, 3)).all() for one, other in pairwise(seen))
    assert names_of(batches, range(1, 2)) == ", ".join(batches.image_ids(1, 0))
    assert names_of([1, 2], range(2)) == ""


def test_batches_are_read_ahead_in_order_and_errors_come_where_they_belong():
    running, most = set(), []
    gate = threading.Event()

    def read(number):
        running.add(number)
        most.append(len(running))
        gate.wait(10)
        if number == 5:
            raise OSError("5.jpg is damaged")
        return number, number

    with ReadAhead(read, 2, 20, threads=3, ahead=3) as batches:
        gate.set()
        assert [batches.take()[0] for _ in range(3)] == [2, 3, 4]
        with pytest.raises(OSError, match=r"5\.jpg"):
            batches.take()
    assert max(running) <= 5 + 3


def test_settings_that_cannot_work_are_told():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    data = [(np.zeros((1, 2)), np.zeros((1, 1)))]
    with pytest.raises(ValueError, match="n_push=2, n_fetch=3; give numbers of which one is a multiple"):
        train_downpour(model, data, None, steps=1, n_push=2, n_fetch=3)
    with pytest.raises(ValueError, match="steps=0"):
        train_downpour(model, data, None, steps=0)
    with pytest.raises(ValueError, match="rule 'adam'; choose one of adagrad, sgd"):
        Rule("adam")


def test_what_downpour_cannot_do_is_told(tmp_path):
    model, data = colour_net(), colours()
    common = {"strategy": None, "out": tmp_path, "epochs": 1}
    with pytest.raises(ValueError, match="the servers keep no average"):
        fit_downpour(model, data, recipe=Recipe(ema=0.9), **common)
    with pytest.raises(ValueError, match=r"give accumulate=1 .*n_push=4"):
        fit_downpour(model, data, recipe=Recipe(accumulate=4), **common)
    with pytest.raises(ValueError, match="give one of epochs and steps; given: epochs, steps"):
        fit_downpour(model, data, steps=3, batch_size=8, **common)
    with pytest.raises(ValueError, match="steps=0; give at least 1"):
        length_of({"epochs": None, "steps": 0}, 10)
    (tmp_path / "downpour.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"downpour\.npz is no checkpoint of Downpour"):
        steps_in(tmp_path / "downpour.npz")
