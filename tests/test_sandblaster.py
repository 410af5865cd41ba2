"""Sandblaster: units handed out and counted once, whatever the workers do; a training as one worker has it."""

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from marked import mixed
from sandblaster_problem import colour_net, flat_weights, problem
from scipy.optimize import minimize
from test_train_classifier import data as colours
from tiny import tiny_detector

from zoo.datasets.pipeline import Batches
from zoo.distribute.cluster import WorkerLostError
from zoo.distribute.sandblaster import PAYS, BatchUnits, drive, train_sandblaster, where
from zoo.distribute.sandblaster_model import Draw, Objective, local_workers
from zoo.distribute.sandblaster_pool import Pool, UnitSums
from zoo.distribute.sandblaster_run import fit_sandblaster
from zoo.distribute.sandblaster_units import Units
from zoo.training.history import read_csv
from zoo.weights_io import load_weights_file


@pytest.fixture(autouse=True)
def in_time():
    """What waits for a result that never comes fails, and does not hang."""

    def too_long(number, frame):
        raise AssertionError("took more than five minutes")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, 300)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_free_worker_gets_a_copy_of_what_takes_too_long_and_one_result_counts():
    now = [0.0]
    units, counted = Units(3, patience=2.0, clock=lambda: now[0]), []
    assert [units.take("slow"), units.take("quick")] == [0, 1]
    now[0] = 1.0
    assert units.finish("quick", 1, lambda: counted.append(1))
    assert units.take("quick") == 2
    now[0] = 3.0
    assert units.finish("quick", 2, lambda: counted.append(2))
    # Usual are 1.5 s, so that after 3 s a copy is due, and only one.
    assert units.take("quick") == 0
    assert units.backups == 1
    assert units.finish("quick", 0, lambda: counted.append(0))
    assert not units.finish("slow", 0, lambda: counted.append(0))
    assert (sorted(counted), units.over, units.take("slow")) == ([0, 1, 2], True, None)


def test_a_late_copy_does_not_count_while_the_pass_goes_on():
    now = [0.0]
    units, counted = Units(3, patience=2.0, clock=lambda: now[0]), []
    assert [units.take(name) for name in ("slow", "quick", "other")] == [0, 1, 2]
    now[0] = 1.0
    assert units.finish("quick", 1, lambda: counted.append(1))
    now[0] = 4.0
    assert units.take("quick") == 0
    assert units.finish("quick", 0, lambda: counted.append(0))
    assert not units.finish("slow", 0, lambda: counted.append(0))
    assert not units.over
    assert units.finish("other", 2, lambda: counted.append(2))
    assert (counted, units.over, units.left) == ([1, 0, 2], True, 0)


def test_nobody_copies_before_its_time_or_his_own():
    now = [0.0]
    units = Units(2, patience=2.0, usual=1.0, clock=lambda: now[0])
    assert [units.take("a"), units.take("b")] == [0, 1]
    now[0] = 1.9
    assert units._slowest("c") == (0, pytest.approx(0.1))
    assert units._slowest("a")[0] == 1
    now[0] = 9.0
    assert units.take("c") == 0
    assert units._slowest("d")[0] == 1
    units.lose("b")
    assert units.take("d") == 1
    units.lose("a")
    units.lose("c")
    assert units.take("e") == 0
    with pytest.raises(ValueError, match="at least 1 each"):
        Units(0)


def numbers(point, unit):
    """Sums that tell exactly which units were counted."""
    return UnitSums(2.0**unit, [np.full(2, unit, np.float32) * point], [np.ones(1)], 1)


def test_slow_hanging_and_dying_workers_change_nothing():
    hangs = threading.Event()

    def hanging(point, unit):
        hangs.wait(60)
        return numbers(point, unit)

    def dying(point, unit):
        raise OSError("gone")

    def steady(point, unit):
        time.sleep(0.003)
        return numbers(point, unit)

    workers = {"a": steady, "b": steady, "dies": dying, "hangs": hanging}
    with Pool(workers, units=30) as pool:
        began = time.monotonic()
        first = pool.run(np.ones(2))
        assert time.monotonic() - began < 20
        assert first.loss == (2**30 - 1) / 30
        assert first.gradient.tolist() == [14.5, 14.5]
        assert first.backups >= 1
        assert (first.state, first.lost, pool.alive) == ([1.0], 1, ["a", "b", "hangs"])
        # Let go in the middle of the next pass, what it brings is of the one before.
        pool.add("dies", steady)
        threading.Timer(0.01, hangs.set).start()
        second = pool.run(np.full(2, 3.0))
        assert second.loss == first.loss
        assert (second.gradient.tolist(), second.lost) == ([43.5, 43.5], 0)
        assert "OSError" not in repr(pool.reports["dies"])
        assert sum(report.counted for report in pool.reports.values()) == 60


def test_without_workers_a_pass_ends_in_an_error():
    def dying(point, unit):
        if unit:
            raise OSError("disk of no use")
        return numbers(point, unit)

    with Pool({"a": dying, "b": dying}, units=4) as pool:
        for _ in range(2):
            with pytest.raises(WorkerLostError, match=r"all workers .*OSError: disk of no use.*resume"):
                pool.run(np.ones(2))


def test_the_objective_is_kerass_own_loss_and_its_gradient():
    model, data = problem(units=1)
    model.layers[2].rate = 0.0
    objective = Objective(model)
    workers, prepare = local_workers(objective, data, 1)
    x = objective.vector()
    with Pool(workers, 1, prepare) as pool:
        found = pool.run(x)
        # Central differences of what Keras says the loss is, in training.
        for place in (0, 17, 40, len(x) - 1):
            ends = []
            for change in (1e-2, -1e-2):
                moved = x.copy()
                moved[place] += change
                objective.assign(moved)
                ends.append(float(model.compute_loss(None, data[0][1], model(data[0][0], training=True), None)))
            assert found.gradient[place] == pytest.approx((ends[0] - ends[1]) / 2e-2, abs=2e-3)
        np.testing.assert_array_equal(pool.run(x).gradient, found.gradient)
    with pytest.raises(ValueError, match="compile it with a loss"):
        Objective(keras.Sequential([keras.Input((2,)), layers.Dense(1)]))


def test_convex_training_meets_scipys_optimum():
    rng = np.random.default_rng(1)
    images, labels = rng.normal(size=(60, 4)).astype("float32"), rng.integers(0, 2, 60)
    keras.utils.set_random_seed(2)
    dense = layers.Dense(1, "sigmoid", kernel_regularizer=keras.regularizers.L2(0.05))
    model = keras.Sequential([keras.Input((4,)), dense])
    model.compile(loss="binary_crossentropy")
    units = [(images[at : at + 25], labels[at : at + 25, None]) for at in (0, 25, 50)]
    rows = train_sandblaster(model, units, iterations=100, workers=2)

    def loss(flat):
        logits = images @ flat[:4] + flat[4]
        return np.mean(np.logaddexp(0, logits) - labels * logits) + 0.05 * flat[:4] @ flat[:4]

    theirs = minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-9})
    assert rows[-1].loss == pytest.approx(theirs.fun, abs=1e-6)
    np.testing.assert_allclose(flat_weights(model), theirs.x, atol=1e-5)


def test_any_workers_train_as_one_does(tmp_path):
    model, data = problem()
    before = flat_weights(model)
    rows = train_sandblaster(model, data, iterations=6, workers=1)
    alone = flat_weights(model)
    assert rows[-1].loss < rows[0].loss - 0.1
    assert [row.iteration for row in rows] == list(range(7))
    assert rows[-1].passes >= 7
    moving = model.layers[1].moving_mean
    assert np.abs(moving).max() > 0

    other, _ = problem()
    np.testing.assert_array_equal(flat_weights(other), before)
    objective = Objective(other)
    workers, prepare = local_workers(objective, data, 4)
    calls = iter(range(10**6))

    def mortal(point, unit, work=workers["thread 0"]):
        if next(calls) == 8:  # in the middle of the second pass, whoever it is
            raise OSError("killed")
        return work(point, unit)

    def slow(point, unit):
        time.sleep(0.05)
        return mortal(point, unit)

    with Pool({**dict.fromkeys(workers, mortal), "thread 1": slow}, len(data), prepare) as pool:
        many = drive(objective, pool, iterations=6)
        assert len(pool.alive) == 3
    assert sum(row.lost for row in many) == 1
    np.testing.assert_allclose(flat_weights(other), alone, atol=1e-6)

    # Broken off after three iterations, and gone on with by another model object.
    file = tmp_path / "sandblaster.npz"
    train_sandblaster(problem()[0], data, iterations=3, checkpoint=file)
    third, _ = problem(seed=9)
    third.layers[2].seed_generator.state.assign(other.layers[2].seed_generator.state)
    seen = []
    again = train_sandblaster(third, data, iterations=6, checkpoint=file, resume=True, report=seen.append)
    assert ([row.iteration for row in again], seen) == ([3, 4, 5, 6], again)
    assert again[-1].passes == rows[-1].passes
    np.testing.assert_allclose(flat_weights(third), alone, atol=1e-6)
    with pytest.raises(ValueError, match=r"other settings: units 6 then, 5 now"):
        train_sandblaster(third, data[:5], iterations=6, checkpoint=file, resume=True)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"sandblaster.npz is no checkpoint of Sandblaster"):
        train_sandblaster(third, data, iterations=6, checkpoint=file, resume=True)


@pytest.fixture(scope="module")
def detecting():
    """A detector's objective, and a pool that computes it by two threads."""
    model = tiny_detector(("a", "b", "c"))
    model.compile()
    data = BatchUnits(Batches(mixed(4), 2, drop_remainder=False, pad_multiple=128))
    objective = Objective(model)
    workers, prepare = local_workers(objective, data, 2)
    with Pool(workers, len(data), prepare) as pool:
        yield objective, pool


def test_a_detectors_loss_is_a_function_of_its_parameters(detecting):
    """What was drawn is held: twice the same, and the gradient is that of the loss along the line."""
    objective, pool = detecting
    assert objective.draws
    x = objective.vector()
    first = pool.run(x, Draw(3))
    assert first.kept[0]["proposals"].shape == (2, 50, 4)
    held = Draw(3, first.kept)
    for _ in range(2):
        again = pool.run(x, held)
        assert again.loss == pytest.approx(first.loss, rel=1e-6)
        np.testing.assert_allclose(again.gradient, first.gradient, atol=1e-6)
        assert not any(again.kept.values())
    direction = -first.gradient / np.linalg.norm(first.gradient)
    for place in (0.0, 0.5):
        here = pool.run(x + place * direction, held)
        ends = [pool.run(x + (place + step) * direction, held).loss for step in (2e-2, -2e-2)]
        assert here.gradient @ direction == pytest.approx((ends[0] - ends[1]) / 4e-2, rel=0.02)
    # Half a unit on, the proposals would be others, and so the loss; and so it would with other samples.
    assert abs(pool.run(x + 0.5 * direction, Draw(3)).loss - here.loss) > 1e-3
    assert abs(pool.run(x, Draw(4, first.kept)).loss - first.loss) > 1e-4
    assert int(objective.model.sampling_step) == 0


def test_proposals_are_drawn_anew_now_and_then(detecting, tmp_path):
    objective, pool = detecting
    start, asked, run = objective.vector(), [], pool.run

    def asking(x, draw):
        asked.append((draw.number, draw.kept is None))
        return run(x, draw)

    pool.run = asking
    try:
        rows = drive(objective, pool, iterations=5, redraw=2, checkpoint=tmp_path / "state.npz")
        whole = objective.vector()
        assert [number for number, fresh in asked if fresh] == [0, 1, 2]
        assert [number for number, _ in asked] == sorted(number for number, _ in asked)
        assert rows[-1].loss < 0.9 * rows[0].loss
        assert rows[-1].passes == len(asked)
        # Broken off in the middle of the second draw: it is made once more where it was.
        objective.assign(start)
        drive(objective, pool, iterations=3, redraw=2, checkpoint=tmp_path / "half.npz")
        objective.assign(start)
        asked.clear()
        again = drive(objective, pool, iterations=5, redraw=2, checkpoint=tmp_path / "half.npz", resume=True)
        assert [number for number, fresh in asked if fresh] == [1, 2]
        assert [row.iteration for row in again] == [3, 4, 5]
        np.testing.assert_allclose(objective.vector(), whole, atol=2e-5)
    finally:
        pool.run = run
        objective.assign(start)
    with pytest.raises(ValueError, match="redraw 2 then, 3 now"):
        drive(objective, pool, iterations=5, redraw=3, checkpoint=tmp_path / "half.npz", resume=True)


def test_weight_decay_and_a_limit_of_passes():
    """Half of .5 times the squares of kernels, but not of biases and scales."""
    model, data = problem(units=2)
    kernels = [np.asarray(each).copy() for each in model.trainable_variables if len(each.shape) == 2]
    objective = Objective(model)
    workers, prepare = local_workers(objective, data, 1)
    with Pool(workers, 2, prepare) as pool:
        plain = drive(objective, pool, iterations=0)[0].loss
        gradient = pool.run(objective.vector()).gradient
        row = drive(objective, pool, iterations=0, weight_decay=0.5)[0]
        rows = drive(objective, pool, iterations=50, passes=4)
    assert len(kernels) == 2
    assert row.loss == pytest.approx(plain + 0.25 * sum(float((each**2).sum()) for each in kernels), abs=1e-5)
    model, _ = problem(units=2)
    pull = [np.asarray(each) * (len(each.shape) == 2) for each in model.trainable_variables]
    gradient = gradient + 0.5 * np.concatenate([np.ravel(each) for each in pull])
    assert row.gradient == pytest.approx(float(np.linalg.norm(gradient)), rel=1e-4)
    assert 4 <= rows[-1].passes < 4 + 25


def test_a_training_leaves_its_folder_and_goes_on(tmp_path):
    """As `zoo train --strategy sandblaster` does it, by threads in place of a cluster."""
    lines = []

    def fit(**changes):
        model = colour_net()
        options = {"out": tmp_path, "workers": 2, "batch_size": 8, "tensorboard": False, "say": lines.append}
        return model, fit_sandblaster(model, colours(20), colours(9, 1), **{**options, **changes})

    fit(iterations=1)
    kept, rows = fit(iterations=3, resume=True)
    assert [row.iteration for row in rows] == [1, 2, 3]
    assert lines[0] == "4 pictures are left out, which do not fill a unit of 8"
    told = [line.split(":")[0] for line in lines if line.startswith(("at iteration", "iteration"))]
    assert told == ["at iteration 0", "iteration 1/1", "at iteration 1", "iteration 2/3", "iteration 3/3"]
    assert any("1 iterations are done; what came after them is lost" in line for line in lines)
    log = read_csv(tmp_path / "history.csv")
    assert [row["epoch"] for row in log] == [1, 2, 3]
    assert {"loss", "passes", "gradient", "length", "val_top1_error"} <= set(log[-1])
    assert json.loads((tmp_path / "summary.json").read_text())["totals"]["iterations"] == 2  # of the second run
    loaded = colour_net(seed=5)
    load_weights_file(loaded, tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(flat_weights(loaded), flat_weights(kept))
    with pytest.raises(ValueError, match=r"holds a training already \(sandblaster.npz\)"):
        fit(iterations=3)
    with pytest.raises(ValueError, match="seed 0 then, 1 now"):
        fit(iterations=3, resume=True, seed=1)
    with pytest.raises(ValueError, match="give a length: passes or iterations"):
        fit()


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
