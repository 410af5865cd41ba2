"""``zoo svm``: from a run to weights that are measured like any others."""

import json

import numpy as np
import pytest
from tiny import tiny_detector, tiny_fast

import zoo
from zoo import registry
from zoo.cli.main import main
from zoo.datasets import load
from zoo.datasets.proposals import Computed
from zoo.datasets.proposals_choice import First
from zoo.datasets.proposals_dense import DenseBoxes
from zoo.training.ridge_boxes import fit_boxes
from zoo.training.svm import train_svms
from zoo.training.svm_class import SVMSettings
from zoo.weights_io import WeightsMeta, read_meta, save_weights_file

DATA = ("--data", "digits:4")


@pytest.fixture(autouse=True)
def models(monkeypatch):
    monkeypatch.setattr(registry, "_models", {})
    monkeypatch.setattr(registry, "_discover", lambda: None)

    def small_fast(classes=None, *, scoring="softmax", bbox="multi", refine=True):
        return tiny_fast(classes or ("a", "b"), proposals=100, scoring=scoring, bbox=bbox, refine=refine)

    def small_faster(classes=None):
        return tiny_detector(classes or ("a", "b"))

    for builder in (small_fast, small_faster):
        registry.register(task="detection", paper="", summary="", params=1)(builder)


@pytest.fixture
def run(tmp_path):
    model = zoo.get("small_fast", classes=load("digits:4").classes)
    save_weights_file(model, tmp_path / "run" / "model.weights.h5", meta=model.zoo_meta)
    return tmp_path / "run"


def test_machines_and_boxes_are_those_of_the_functions(run, tmp_path, capsys):
    out = tmp_path / "out"
    options = ("--weights", run, "--out", out, "--proposals", "dense", "--most-proposals", 100, "--limit", 1)
    more = ("--fit", "svms", "boxes", "--cost", 0.01, "--passes", 2, "--penalty", 5)
    assert main(["svm", *DATA, *map(str, (*options, *more))]) == 0
    assert f"Weights: {out / 'model.weights.h5'}" in capsys.readouterr().out
    meta = read_meta(out / "model.weights.h5")
    assert meta.options == {"scoring": "svm", "bbox": "multi", "refine": True}
    assert meta.command.startswith("zoo svm --data digits:4")
    found = zoo.load(out)

    data, source = load("digits:4", "train").subset(range(1)), First(Computed(DenseBoxes()), 100)
    settings = SVMSettings(cost=0.01, passes=2)
    wanted = train_svms(zoo.load(run), data, source, settings=settings, mirrored=False)
    wanted = fit_boxes(wanted, data, source, penalty=5, mirrored=False)
    for got, each in zip(found.get_weights(), wanted.get_weights(), strict=True):
        np.testing.assert_allclose(got, each, atol=1e-5)

    arguments = (
        "--weights",
        out,
        "--split",
        "test",
        "--proposals",
        "dense",
        "--limit",
        1,
        "--json",
        tmp_path / "s.json",
    )
    assert main(["eval", *DATA, *map(str, arguments)]) == 0
    assert json.loads((tmp_path / "s.json").read_text())["images"] == 1


def test_what_cannot_be_is_told(run, tmp_path, capsys):
    faster = zoo.get("small_faster", classes=load("digits:4").classes)
    save_weights_file(faster, tmp_path / "faster.weights.h5", meta=faster.zoo_meta)
    nameless = tmp_path / "nameless.keras"
    model = zoo.load(run)
    model.zoo_meta = WeightsMeta()
    model.save(nameless)
    for more, says in (
        ((), "give --weights"),
        (("--weights", run, "--limit", 0), "--limit 0"),
        (("--weights", run, "--cost", 0), "cost=0: give positive numbers"),
        (("--weights", tmp_path / "faster.weights.h5"), "a Fast R-CNN, an SPPnet or an R-CNN does"),
        (("--weights", nameless, "--proposals", "dense", "--limit", 1), "does not tell which registered model it is"),
        (("--weights", run, "--classes", "x,y"), "x"),
    ):
        assert main(["svm", *DATA, "--out", str(tmp_path / "out"), *map(str, more)]) == 2
        assert says in " ".join(capsys.readouterr().err.split()), more
    assert not (tmp_path / "out" / "model.weights.h5").exists()
