"""Sandblaster: the loss as a function of the parameters, and a training as one worker has it."""

import json
import time

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
from zoo.distribute.sandblaster import BatchUnits, drive, train_sandblaster
from zoo.distribute.sandblaster_model import Draw, Objective, local_workers
from zoo.distribute.sandblaster_pool import Pool
from zoo.distribute.sandblaster_run import fit_sandblaster
from zoo.training.history import read_csv
from zoo.weights_io import load_weights_file

pytestmark = pytest.mark.usefixtures("in_time")


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
