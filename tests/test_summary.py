"""Where a training's time goes: what is measured inside a step, what workers tell, and the summary of both."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_train_classifier import data as colours

import zoo
from zoo.distribute.replicas import Replicas
from zoo.distribute.summary import SUMMARY, Summary, fit_summary
from zoo.distribute.summary_servers import Recorder, summarise
from zoo.distribute.timing import StepTimer, StepTimes
from zoo.distribute.timing_log import EpochTimes

SLEEP = 0.1


def slowly(value):
    """The same value, later, in a graph."""
    with tf.control_dependencies([value]):
        later = tf.numpy_function(lambda: time.sleep(SLEEP), [], [])
    with tf.control_dependencies([later]):
        return tf.identity(value)


class Slow(keras.layers.Layer):
    def call(self, x):
        return slowly(x)

    def compute_output_shape(self, shape):
        return shape


class Busy(keras.layers.Layer):
    """The same values after much computing, which a thread is not free during, as it is while one sleeps."""

    def call(self, x):
        square = tf.eye(800) + 0 * tf.reduce_sum(x)
        for _ in range(4):
            square = square @ square
        return x * square[0, 0]

    def compute_output_shape(self, shape):
        return shape


class SlowSum(keras.optimizers.SGD):
    def _all_reduce_sum_gradients(self, pairs):
        (first, variable), *rest = super()._all_reduce_sum_gradients(pairs)
        return [(slowly(first), variable), *rest]


def fitted(slow_data=False, layer=None, optimizer=None, steps=3):
    """Two epochs of a tiny model of which one part sleeps."""
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3)(inputs)
    model = keras.Model(inputs, x if layer is None else layer(x))
    model.compile(optimizer or keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    data = tf.data.Dataset.from_tensors((np.ones((2, 4), "float32"), np.ones((2, 3), "float32"))).repeat()
    if slow_data:
        options = tf.data.Options()  # none that reads ahead, while the step computes
        options.experimental_optimization.inject_prefetch = False
        data = data.map(lambda x, y: (slowly(x), y)).with_options(options)
    timer = StepTimer(examples=2)
    with timer.watch(model):
        model.fit(data, steps_per_epoch=steps, epochs=2, callbacks=[EpochTimes(timer)], verbose=0)
    assert "train_step" not in vars(model)
    assert "make_train_function" not in vars(model)
    assert "_all_reduce_sum_gradients" not in vars(model.optimizer)
    return timer.total


@pytest.mark.parametrize(
    ("part", "options"),
    [("input", {"slow_data": True}), ("compute", {"layer": Slow()}), ("exchange", {"optimizer": SlowSum(0.1)})],
)
def test_each_part_of_a_step_is_found_where_it_is(part, options):
    times = fitted(**options)
    assert (times.steps, times.traced, times.examples, times.inside) == (5, 1, 10, 5)
    found = times.milliseconds
    assert found[part] >= 1000 * SLEEP
    assert all(value < 800 * SLEEP for name, value in found.items() if name != part)
    assert sum(found.values()) == pytest.approx(1000 * times.seconds / times.steps)
    assert times.examples_per_second == pytest.approx(10 / times.seconds)


def test_accumulated_gradients_are_not_told_apart():
    times = fitted(optimizer=keras.optimizers.SGD(0.1, gradient_accumulation_steps=2))
    assert (times.steps, times.inside) == (5, 0)
    assert set(times.milliseconds.values()) == {None}


def test_deterministic_mode_has_no_clock_and_trains_all_the_same():
    from tensorflow.python.framework.config import disable_op_determinism

    tf.config.experimental.enable_op_determinism()
    try:
        times = fitted()
    finally:
        disable_op_determinism()
    assert (times.steps, times.inside) == (5, 0)


def test_training_leaves_a_summary_and_curves(tmp_path, capsys):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(3, "softmax")])
    zoo.train(model, colours(24), out=tmp_path, epochs=3, batch_size=8, verbose=2)
    told = json.loads((tmp_path / SUMMARY).read_text())
    assert told["strategy"] == "one device"
    assert (told["totals"]["steps"], told["totals"]["steps with tracing"], told["totals"]["examples"]) == (8, 1, 64)
    (row,) = told["workers"]
    assert {"input, ms", "compute, ms", "exchange, ms", "update, ms", "other, ms"} < row.keys()
    assert row["compute, ms"] > 0
    assert "one device: workers 1, replicas 1, steps 8" in capsys.readouterr().out
    points = scalars(tmp_path / "tensorboard" / "worker0")
    assert points["examples_per_second"].keys() == {1, 2, 3}
    assert points["step/compute_ms"].keys() == {1, 2, 3}


def scalars(folder):
    """Name -> step -> value of what TensorBoard would show."""
    found = {}
    for file in folder.glob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = float(tf.make_ndarray(value.tensor))
    return found


class Clock:
    """Seconds, set by hand."""

    now = 100.0

    def __call__(self):
        return self.now


def test_downpours_workers_are_added_up(tmp_path):
    clock = Clock()
    recorder = Recorder(tmp_path, every=5.0, clock=clock)
    recorder.waited(seconds=0.25)
    push = {"loss": 1.0, "fetch": 0.1, "push": 0.2}
    for at, worker, staleness, compute in (
        *((100, "worker 0", 0.0, 9.0), (102, "worker 1", 1.0, 1.0), (104, "worker 0", 3.0, 1.0)),
        *((106, "worker 0", 1.0, 2.0), (110, "worker 1", 1.0, 1.0)),
    ):
        clock.now = at
        recorder.pushed(worker=worker, steps=2, examples=16, staleness=staleness, compute=compute, **push)
    told = recorder.summary()
    assert (told.strategy, told.totals["mini-batches"], told.totals["examples"]) == ("downpour", 10, 80)
    # What came with the first result had begun before the clock.
    assert told.totals["examples/s"] == 64 / 10
    assert told.totals["staleness"] == pytest.approx(6 / 5)
    assert told.totals["coordinator waited for data, s"] == 0.25
    zero, one = told.workers
    assert (zero["worker"], zero["mini-batches"], one["mini-batches"]) == ("worker 0", 6, 4)
    assert (zero["staleness"], zero["most"]) == (pytest.approx(4 / 3), 3)
    assert zero["compute, ms"] == pytest.approx(2000)
    assert one["other, ms"] == pytest.approx(1000 * (10 - 2 * 1.3) / 4)
    # A point after 6 s, when worker 1 had done one round, and none since.
    points = scalars(tmp_path / "worker1")
    assert points["examples_per_second"] == {8: pytest.approx(16 / 6)}
    assert points["staleness"] == {8: 1}
    assert scalars(tmp_path / "worker0")["step/push_ms"] == {8: pytest.approx(100)}


def test_sandblasters_units_passes_and_line_searches_are_added_up(tmp_path):
    recorder = Recorder(tmp_path, clock=Clock())
    unit = {"examples": 4, "fetch": 0.5, "compute": 1.0, "seconds": 2.0}
    for number, evaluations in ((1, 1), (2, 3)):
        for _ in range(evaluations):
            recorder.unit_done(worker="worker 0", unit=0, counted=True, **unit)
            recorder.unit_done(worker="worker 1", unit=1, counted=True, **unit)
            recorder.unit_done(worker="worker 1", unit=0, counted=False, **unit)
            recorder.pass_done(seconds=5.0, loss=1.0, backups=1, lost=0)
        recorder.line_search(iteration=number, evaluations=evaluations, length=0.5, seconds=5.0 * evaluations)
    told = recorder.summary()
    expected = {"iterations": 2, "passes": 4, "passes a line search": 2, "most": 3, "examples": 32}
    assert {name: told.totals[name] for name in expected} == expected
    assert (told.totals["backup copies"], told.totals["examples/s"]) == (4, 32 / 20)
    zero, one = told.workers
    assert (one["units"], one["late"], zero["late"]) == (4, 4, 0)
    assert (one["compute, ms"], one["other, ms"], one["examples/s"]) == (1000, 500, 16 / 20)
    assert scalars(tmp_path / "coordinator")["line_search/evaluations"] == {1: 1, 2: 3}


def test_a_summary_reads_well_and_is_kept(tmp_path):
    rows = [
        {"worker": "0", "examples/s": 12.3456, "input, ms": None},
        {"worker": "1", "examples/s": 3, "input, ms": 2.0},
    ]
    made = Summary("mirrored", {"steps": 20, "seconds": 1234.56, "never": None}, rows, ["A note."])
    assert made.text().splitlines() == [
        "mirrored: steps 20, seconds 1235",
        "worker  examples/s  input, ms",
        "     0        12.3          -",
        "     1           3          2",
        "A note.",
    ]
    assert json.loads(made.save(tmp_path).read_text())["workers"][1] == {**rows[1]}


def test_workers_of_which_nothing_is_known():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    told = fit_summary(Replicas(model), StepTimes())
    assert told.workers[0]["examples/s"] is None
    assert "not known" in told.notes[1]
    assert Recorder().summary().totals["mini-batches"] == 0


def test_a_run_in_which_nothing_was_done_leaves_the_summary_of_the_one_before(tmp_path):
    (tmp_path / "summary.json").write_text("before")
    said = []
    summarise(Recorder(), tmp_path, said.append)
    assert ((tmp_path / "summary.json").read_text(), said) == ("before", [])


def test_one_thread_tells_waiting_from_computing_too():
    # TensorFlow takes what has no order between them in another one there.
    code = "from test_summary import *; found = fitted(layer=Busy()).milliseconds; print(json.dumps(found))"
    environment = os.environ | {"TF_NUM_INTEROP_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["compute"] > 10 * found["input"]
