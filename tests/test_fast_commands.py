"""Fast R-CNN from the command line: proposals by a method or from a file, for training, measuring and detecting."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from alternating_run import Squares
from tiny import tiny_detector, tiny_fast

import zoo
from zoo import registry
from zoo.cli.main import main
from zoo.cli.proposal_options import chosen_method
from zoo.datasets import load
from zoo.datasets.pipeline import Batches
from zoo.datasets.proposals import Computed
from zoo.datasets.proposals_choice import First, source_name
from zoo.datasets.proposals_dense import DenseBoxes
from zoo.datasets.proposals_files import save_npz
from zoo.datasets.proposals_selective import SelectiveSearch
from zoo.distribute.replicas import Replicas
from zoo.training.checkpoint import Checkpoint
from zoo.weights_io import load_weights_file, weight_names

DATA = ("--data", "digits:4", "--val-split", "test")
# Compiled, a Fast R-CNN is trained in test_fast_training.py and test_fast_rcnn_learns.py.
pytestmark = pytest.mark.usefixtures("eagerly_all")


def small_fast(classes=None):
    return tiny_fast(classes or ("a", "b"), proposals=60)


def small_faster(classes=None):
    return tiny_detector(classes or ("a", "b"))


@pytest.fixture(autouse=True)
def models(monkeypatch):
    monkeypatch.setattr(registry, "_models", {})
    monkeypatch.setattr(registry, "_discover", lambda: None)
    for builder in (small_fast, small_faster):
        registry.register(task="detection", paper="", summary="", params=1)(builder)


def train(out, *more, status=0):
    own = ("--model", "small_fast", "--steps", 4, "--lr", 0.01, "--warmup", 0, "--no-tensorboard", "--quiet")
    assert main(["train", *DATA, *map(str, own), "--out", str(out), *map(str, more)]) == status


@pytest.fixture(scope="module")
def run(tmp_path_factory, eagerly_all):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_models", {})
        patch.setattr(registry, "_discover", lambda: None)
        registry.register(task="detection", paper="", summary="", params=1)(small_fast)
        out = tmp_path_factory.mktemp("runs") / "whole"
        train(out, "--proposals", "dense", "--most-proposals", 40)
    return out


def trained(run):
    model = small_fast(load("digits:4").classes)
    load_weights_file(model, run / "model.weights.h5")
    return model


def test_statistics_are_those_of_the_training_pictures(run):
    data, model = load("digits:4", "train"), small_fast(load("digits:4").classes)
    model.measure_targets(Batches(data, proposals=Computed(DenseBoxes()), most_proposals=40).numpy_batches())
    found = trained(run)
    np.testing.assert_allclose(found.box_deviations, model.box_deviations, rtol=1e-5)
    np.testing.assert_allclose(found.box_means, model.box_means, atol=1e-6)


def test_evaluation_takes_what_the_training_has_kept(run, tmp_path, capsys):
    options = ("--data", "digits:4", "--split", "test", "--weights", run, "--proposals", "dense", "--score", 0)
    arguments = (*options, "--sweep-proposals", 40, 5, "--json", tmp_path / "s.json")
    assert main(["eval", *map(str, arguments)]) == 0
    # The four pictures of validation are those of this evaluation.
    assert f"{run / 'proposals' / 'dense-'}" in (shown := capsys.readouterr().out)
    assert "0 pictures computed now" in shown
    record = json.loads((tmp_path / "s.json").read_text())
    assert record["most_proposals"] == 40
    assert [each["proposals"] for each in record["sweep"]] == [5, 40]
    model, data = trained(run), load("digits:4", "test")
    for each in record["sweep"]:
        images = [data.image(index) for index in range(4)]
        boxes = [DenseBoxes()(image)[: each["proposals"]] for image in images]
        found = model.detect(images, proposals=boxes, score_threshold=0.0)
        assert each["map"] == pytest.approx(_map(found, data))
        source = First(Computed(DenseBoxes()), each["proposals"])
        assert zoo.evaluate(model, data, proposals=source, score_threshold=0.0).result.map == each["map"]
    assert record["map"] == record["sweep"][-1]["map"]


def _map(found, data):
    from zoo.datasets.voc_metrics import evaluate_voc

    return evaluate_voc([(one.boxes, one.scores, one.classes) for one in found], data).map


def test_a_broken_off_training_goes_on_as_if_it_had_not_been(run, tmp_path, monkeypatch, capsys):
    out, ended = tmp_path / "broken", Checkpoint.on_epoch_end
    shutil.copytree(run / "proposals", out / "proposals")

    def broken_off(self, epoch, logs=None):
        ended(self, epoch, logs)
        raise ValueError("no more power")

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "on_epoch_end", broken_off)
        train(out, "--proposals", "dense", "--most-proposals", 40, status=2)
    train(out, "--resume", "--proposals", "dense", "--most-proposals", 30, status=2)
    assert "first 40' then" in capsys.readouterr().err
    train(out, "--resume")
    assert "As at the start: --val-split" not in (shown := capsys.readouterr().out)  # that is given
    assert "As at the start: --proposals dense --most-proposals 40" in shown
    for got, wanted in zip(trained(out).get_weights(), trained(run).get_weights(), strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert "Statistics" not in shown


def test_detect_computes_proposals(run, tmp_path, capsys):
    options = ("--weights", run, "--out", tmp_path, "--score", 0, "--json", tmp_path / "d.json", "--no-pictures")
    asked = ("--proposals", "dense", "--most-proposals", 20)
    assert main(["detect", "digits:3", *map(str, options), *map(str, asked)]) == 0
    image = load("digits:4", "test").image(3)
    wanted = trained(run).detect(image, proposals=DenseBoxes(most=20), score_threshold=0.0)
    (record,) = json.loads((tmp_path / "d.json").read_text())
    assert len(wanted) > 0
    assert record["detections"] == wanted.to_dict()["detections"]
    # By default as `detect` of the model does.
    assert chosen_method(None, 60) == SelectiveSearch("fast", most=60)


def changed(before, after):
    """Names of the weights that are not the same bit for bit."""
    before, after = weight_names(before), weight_names(after)
    return {name for name in before if not np.array_equal(np.asarray(before[name]), np.asarray(after[name]))}


def test_table_6s_stages_from_the_command_line(tmp_path, capsys):
    loc, counted = {"head/loc/kernel", "head/loc/bias"}, {"sampling_step", "box_means", "box_deviations"}
    both = ("--proposals", "dense", "--most-proposals", 40, "--val-split", "none")
    train(tmp_path / "class", *both, "--stage", "class")
    first = trained(tmp_path / "class")
    found = changed(small_fast(load("digits:4").classes), first)
    assert {"conv1/kernel", "head/score/kernel", *counted} <= found
    assert not loc & found
    train(tmp_path / "box", *both, "--stage", "box", "--init-from", tmp_path / "class")
    assert changed(first, trained(tmp_path / "box")) == {*loc, "sampling_step"}
    capsys.readouterr()
    train(tmp_path / "box", "--val-split", "none", "--resume")
    assert "As at the start: --proposals dense --most-proposals 40 --stage box" in capsys.readouterr().out
    train(tmp_path / "box", "--val-split", "none", "--resume", "--stage", "joint", status=2)
    assert "stage 'box' then, 'joint' now" in capsys.readouterr().err
    for more, text in (
        (("--stage", "rpn"), "stage must be one of 'joint', 'class', 'box', got 'rpn'"),
        (("--model", "small_faster", "--stage", "box"), "stage must be one of 'joint', 'rpn', got 'box'"),
        (("--model", "small_faster", "--alternating", 2, 1, "--stage", "rpn"), "--stage: not with --alternating"),
    ):
        train(tmp_path / "x", "--steps", 1, *more, status=2)
        assert text in " ".join(capsys.readouterr().err.split())


def test_a_run_is_measured_and_compressed_on_its_own_proposals(run, tmp_path, capsys, monkeypatch):
    looked_at = []

    def evaluate(model, data, *, proposals, **more):
        looked_at.append((source_name(proposals), len(proposals.boxes(data.sample(0), data.image(0)))))
        return SimpleNamespace(result=SimpleNamespace(map=0.25))

    def stopped(*arguments, **more):
        evaluate(*arguments, proposals=more["proposals"])
        raise ValueError("far enough")

    monkeypatch.setattr("zoo.training.evaluate.evaluate", stopped)
    monkeypatch.setattr(zoo, "evaluate", evaluate)
    where = ("--data", "digits:4", "--split", "test")
    assert main(["eval", *where, "--weights", str(run)]) == 2
    assert f"Proposals as in the training of {run}: dense" in capsys.readouterr().out
    small = ["compress", str(run), str(tmp_path / "small.keras"), "--rank", "fc=40", "--repeats", "0"]
    assert main([*small, *where, "--json", str(tmp_path / "c.json")]) == 0
    assert "0 pictures computed now" in capsys.readouterr().out
    assert json.loads((tmp_path / "c.json").read_text())["proposals"] == "dense"
    assert main([*small, *where, "--most-proposals", "7"]) == 0
    dense = source_name(Computed(DenseBoxes()))
    # The measurement, and both models of each compression.
    assert [(name.partition(",")[0], count) for name, count in looked_at] == [(dense, 60)] * 3 + [(dense, 7)] * 2
    capsys.readouterr()
    assert main([*small, "--proposals", "dense"]) == 2
    assert "--proposals and --most-proposals are for --data; give that too" in capsys.readouterr().err


def test_a_picture_without_proposals_is_named_before_the_training(tmp_path, capsys):
    train_data, val_data = load("digits:4", "train"), load("digits:4", "test")
    boxes = {sample.image_id: (sample.boxes, None) for sample in [*train_data.samples, *val_data.samples[:3]]}
    last = val_data.samples[3].image_id
    train(tmp_path / "out", "--proposals", save_npz(tmp_path / "p.npz", boxes), status=2)
    shown = capsys.readouterr().err
    assert f"1 of 4 pictures have no proposals that can be read ({last})" in shown
    assert not (tmp_path / "out" / "history.csv").exists()


def test_what_cannot_be_is_told(tmp_path, capsys):
    for more, text in (
        (("--model", "small_faster", "--proposals", "dense"), "--proposals: tiny does not look at proposals of others"),
        (("--proposals", "dens"), "no such file of proposals, nor a folder of `zoo proposals`; methods are selective"),
        (("--most-proposals", 61), "tiny_fast looks at 60 at the most; build it with --option proposals=61"),
        (("--most-proposals", 0), "--most-proposals 0: give a number from 1 on"),
    ):
        train(tmp_path / "out", *more, status=2)
        assert text in " ".join(capsys.readouterr().err.split())
    data, source = Squares(4), Computed(DenseBoxes())
    with pytest.raises(ValueError, match="tiny does not look at proposals"):
        zoo.train(small_faster(), Batches(data, proposals=source), out=tmp_path / "out", epochs=1)
    with pytest.raises(ValueError, match="does not look at proposals"):
        zoo.evaluate(small_faster(), data, proposals=source)


def test_what_cannot_be_is_told_before_proposals_are_made(run, tmp_path, capsys, monkeypatch):
    """Which takes hours for a data set."""
    monkeypatch.setattr("zoo.cli.train.chosen_proposals", lambda *args: pytest.fail("too late"))
    train(run, "--proposals", "dense", status=2)
    assert "holds a training already (checkpoint.weights.h5)" in capsys.readouterr().err
    monkeypatch.setattr(Replicas, "check", lambda *args: (_ for _ in ()).throw(ValueError("cannot be shared")))
    train(tmp_path / "new", "--proposals", "dense", status=2)
    assert "cannot be shared" in capsys.readouterr().err


def test_without_proposals_the_default_is_told(tmp_path, capsys, monkeypatch):
    from zoo.datasets import proposals_choice

    monkeypatch.setattr(proposals_choice, "DEFAULT_METHOD", "dense")
    train(tmp_path / "out", "--steps", 1)
    assert "without --proposals they are dense's" in (shown := capsys.readouterr().out)
    assert "8 pictures computed now" in shown
    assert len(list((tmp_path / "out" / "proposals").glob("dense-*/??/*.npz"))) == 8
