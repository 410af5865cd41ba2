"""4-step alternating training: what each step changes, shared convolutions bit for bit, breaks in every step."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import alternating_run
import numpy as np
import pytest
from alternating_run import Squares, plan, recipe
from alternating_run import alternating as run
from tiny import tiny_detector

import zoo
from zoo import registry
from zoo.cli.main import main
from zoo.training.alternating import train_alternating
from zoo.training.four_steps import FOUR_STEPS, STEPS, FourSteps
from zoo.training.schedule import WarmupDecay
from zoo.weights_io import open_weights, read_meta, weight_names

SCRIPT = Path(alternating_run.__file__)


def stored(path):
    with open_weights(path) as file:
        return {name: np.array(file[name]) for name in file}


def parts(arrays):
    """Names of the shared convolutions, the RPN, the head."""
    shared = {name for name in arrays if name.startswith("conv")}
    rpn = {name for name in arrays if name.startswith("rpn/")}
    return shared, rpn, {name for name in arrays if name.startswith(("head/", "fc/"))}


def equal(one, other, names):
    return all(np.array_equal(one[name], other[name]) for name in names)


def moved(one, other, names):
    """All of them differ."""
    return all(not np.array_equal(one[name], other[name]) for name in names)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An unbroken training: its folder, the model, and what was said."""
    out, said = tmp_path_factory.mktemp("whole"), []
    model = run(out, val_data=Squares(2), say=said.append, command="zoo train --alternating")
    return out, model, said


def test_each_step_trains_its_part_and_nothing_else(whole):
    out, _, _ = whole
    start = stored(out / "start.weights.h5")
    one, two, three, four = (stored(out / step / "model.weights.h5") for step in STEPS)
    shared, rpn, head = parts(start)
    assert len(shared) == 8
    assert len(rpn) == len(head) == 6
    # 1: RPN and convolutions from the start; the head is not touched.
    assert moved(start, one, shared | rpn)
    assert equal(start, one, head)
    # 2: from the start again, not from step 1.
    assert moved(start, two, shared | head)
    assert moved(one, two, shared)
    # 3: the RPN from the start, on the convolutions of step 2.
    assert equal(two, three, shared)
    assert moved(start, three, rpn)
    assert moved(one, three, rpn)
    assert equal(start, three, head)
    # 4: the head from step 2, on the same convolutions.
    assert equal(two, four, shared)
    assert moved(two, four, head)


def test_the_model_is_put_together_of_the_last_steps(whole):
    out, model, said = whole
    _, two, three, four = (stored(out / step / "model.weights.h5") for step in STEPS)
    final = {name: np.asarray(v) for name, v in weight_names(model).items()}
    shared, rpn, head = parts(final)
    assert equal(final, two, shared)
    assert equal(final, three, rpn)
    regression = {"head/loc/kernel", "head/loc/bias"}
    assert equal(final, four, head - regression)
    # The regression means the same by other statistics: times deviation plus mean, class by class.
    x = np.random.default_rng(0).standard_normal((5, 48)).astype("float32")
    theirs = (x @ four["head/loc/kernel"] + four["head/loc/bias"]).reshape(5, 3, 4)[:, 1:]
    ours = (x @ final["head/loc/kernel"] + final["head/loc/bias"]).reshape(5, 3, 4)[:, 1:]
    expected = theirs * four["box_deviations"] + four["box_means"]
    np.testing.assert_allclose(ours * [0.1, 0.1, 0.2, 0.2], expected, atol=1e-5)
    assert not np.allclose(four["box_deviations"], [0.1, 0.1, 0.2, 0.2])
    meta = json.loads((out / "model.json").read_text())
    assert meta["command"] == "zoo train --alternating"
    assert 0 <= meta["scores"]["val_map"] <= 1
    assert equal(final, stored(out / "model.weights.h5"), final)
    assert [line.split(":")[0] for line in said if "batches" in line] == [f"Step {step}" for step in STEPS]


def test_proposals_stay_on_disk(whole):
    out, _, _ = whole
    folders = sorted(path for path in (out / "proposals").iterdir() if path.is_dir())
    assert len(folders) == 2  # of steps 1 and 3
    for folder in folders:
        assert json.loads((folder / "method.json").read_text())["settings"]["most"] == 50
        files = list(folder.glob("??/*.npz"))
        assert len(files) == len(Squares())
        boxes = np.load(files[0])["boxes"]
        assert 0 < len(boxes) <= 50


def kill_when(out, path, wait):
    """Train in a process of its own, and kill it some time after a file has appeared."""
    process = subprocess.Popen([sys.executable, str(SCRIPT), "alternating", str(out), "0.05"])
    try:
        deadline = time.monotonic() + 300
        while not path.exists():
            assert process.poll() is None, "the training ended by itself"
            assert time.monotonic() < deadline, "the training is stuck"
            time.sleep(0.01)
        time.sleep(wait)
    finally:
        process.kill()
        process.wait()


def test_killed_and_resumed_equals_unbroken(whole, tmp_path):
    """Without warning, in step 2 or 3; ``benchmarks/killed_training.py`` does so in every step and more often."""
    out, _, _ = whole
    folder = tmp_path / random.choice(STEPS[1:3])
    kill_when(tmp_path, folder / "checkpoint.weights.h5", random.uniform(0, 0.1))
    assert not (tmp_path / "model.weights.h5").exists()
    said = []
    run(tmp_path, seed=8, say=said.append)  # the start is the one of the first process
    assert said[0] == "Step 1-rpn: done before"
    for name in (*STEPS, "."):
        expected, found = (stored(folder / name / "model.weights.h5") for folder in (out, tmp_path))
        assert expected.keys() == found.keys()
        for key in expected:
            np.testing.assert_array_equal(expected[key], found[key], err_msg=f"{name}/{key}")
    # Each process finds the proposals of the one before: they are kept under a hash of the model as it was built.
    assert len([path for path in (tmp_path / "proposals").iterdir() if path.is_dir()]) == 2


def test_what_does_not_fit_is_told(whole):
    out, _, _ = whole
    for options, message in (
        ({"resume": False}, r"holds an alternating training already"),
        ({"plan": plan(rpn_steps=10)}, r"plan.rpn_steps 9 then, 10 now"),
        ({"plan": plan(fast=recipe(momentum=0.5))}, r"plan.fast.momentum 0.8 then, 0.5 now"),
        ({"steps": (0, 5)}, r"give some of 1, 2, 3 and 4"),
    ):
        with pytest.raises(ValueError, match=message):
            run(out, **options)


def test_steps_come_one_after_the_other(tmp_path):
    with pytest.raises(ValueError, match=r"step 3-rpn needs what 1-rpn leaves in"):
        run(tmp_path, steps=(3,))
    with pytest.raises(ValueError, match=r"is no Faster R-CNN"):
        train_alternating(zoo.get("resnet20", classes=2), Squares(), out=tmp_path / "x")
    with pytest.raises(ValueError, match=r"rpn_steps=0; give at least 1"):
        FourSteps(rpn_steps=0)


def test_the_command(tmp_path, monkeypatch, capsys, eagerly):
    """One step now, the others in a later call that names neither model nor weights."""
    monkeypatch.setattr(registry, "_models", {})
    monkeypatch.setattr(registry, "_discover", lambda: None)

    def tiny_net(classes=None, *, colours="rgb"):
        return tiny_detector(classes)

    registry.register(task="detection", paper="Nobody 2000", summary="Tiny.", params=12)(tiny_net)
    steps = ("--alternating", "2", "1", "--lr", ".01", "--out", str(tmp_path), "--data", "digits:4")
    common = ("train", *steps, "--quiet", "--no-tensorboard", "--val-split", "none")
    assert main([*common, "--model", "tiny_net", "--option", "colours='bgr'", "--only", "1"]) == 0
    assert not (tmp_path / "model.weights.h5").exists()
    assert main([*common, "--model", "tiny_net"]) == 2
    assert "holds an alternating training already" in capsys.readouterr().err
    assert main([*common, "--resume", "--only", "2", "3", "4"]) == 0
    assert "Weights:" in capsys.readouterr().out
    model = zoo.load(tmp_path)
    assert model.zoo_meta.options == {"colours": "bgr"}
    assert read_meta(tmp_path / "model.weights.h5").command.startswith("zoo train --alternating 2 1")
    assert stored(tmp_path / "1-rpn" / "checkpoint.weights.h5")


def test_the_papers_plan():
    """Ren 2015, section 3.2 and its release: 80k and 40k steps, lr .001, a tenth of it from 60k and from 30k on."""
    plan = FOUR_STEPS["voc07-alternating"]
    assert [plan.length(step) for step in (1, 2, 3, 4)] == [80_000, 40_000, 80_000, 40_000]
    assert [plan.batch_size(step) for step in (1, 2, 3, 4)] == [1, 2, 1, 2]
    for step, drop in ((1, 60_000), (2, 30_000), (3, 60_000), (4, 30_000)):
        own = plan.recipe(step)
        rate = WarmupDecay(own.learning_rate, plan.length(step), 0, own.schedule, own.drops)
        np.testing.assert_allclose([float(rate(k)) for k in (0, drop - 1, drop)], [1e-3, 1e-3, 1e-4], rtol=1e-5)
        assert (own.momentum, own.weight_decay, own.bias_rate, own.warmup_steps) == (0.9, 5e-4, 2.0, 0)
    assert [plan.recipe(step).train_from for step in (1, 2, 3, 4)] == ["paper", "paper", None, None]
    assert len({plan.recipe(step).seed for step in (1, 2, 3, 4)}) == 4
