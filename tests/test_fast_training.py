"""Fast R-CNN through ``zoo train``: proposals for training and validation, statistics of box deltas."""

import keras
import numpy as np
import pytest
from alternating_run import Squares
from tiny import tiny_detector

import zoo
from zoo import registry
from zoo.cli import starting
from zoo.cli.main import main
from zoo.cli.starting import Start
from zoo.datasets.pipeline import Batches
from zoo.datasets.proposals_dense import DenseBoxes
from zoo.datasets.proposals_make import make_proposals
from zoo.detectors.fast_rcnn import FastRCNN
from zoo.training.history import read_csv
from zoo.training.recipe import Recipe
from zoo.weights_io import WeightsMeta


def fast(classes=None):
    """Fast R-CNN of the tiny detector's networks."""
    model = tiny_detector(classes or ("a", "b"))
    config = model.get_config()
    parts = {key: keras.saving.deserialize_keras_object(config[key]) for key in ("extractor", "body", "preprocessing")}
    keras.utils.set_random_seed(1)
    return FastRCNN(**parts, classes=model.classes, pool_size=4, head_samples=16, proposals=40, name="tiny_fast")


@pytest.fixture(scope="module")
def proposals(tmp_path_factory):
    data = Squares(6)
    return make_proposals(data, DenseBoxes(most=40), tmp_path_factory.mktemp("proposals"), workers=1).folder


def test_training_and_validation_look_at_proposals(tmp_path, proposals, monkeypatch):
    from zoo.datasets.proposals_selective import SelectiveSearch

    # Were proposals not handed on, the model would look for some itself.
    monkeypatch.setattr(SelectiveSearch, "__init__", lambda *a, **k: pytest.fail("proposals were not used"))
    model, data = fast(), Squares(6)
    batches = Batches(data, 2, proposals=proposals, most_proposals=40)
    measured = []
    monkeypatch.setattr(FastRCNN, "measure_targets", lambda self, batches, new: measured.append(new))
    for weights, new_layers in ((None, ()), ("x", ("head/loc",)), ("x", ())):
        model.zoo_meta = WeightsMeta("tiny_fast", new_layers=new_layers)
        starting.measure_targets(Start("tiny_fast", weights), model, batches)
    starting.measure_targets(Start("tiny_fast", "x", resumed=True), model, batches)
    assert measured == [True, True, False]
    zoo.train(model, batches, data.subset(range(2)), out=tmp_path, epochs=1, recipe=Recipe(0.001), tensorboard=False)
    (row,) = read_csv(tmp_path / "history.csv")
    assert {"val_loss", "val_map", "head_class", "head_box"} <= row.keys()
    assert np.isfinite(list(row.values())).all()


def test_a_fast_rcnn_without_proposals_is_told_so(tmp_path, monkeypatch, capsys):
    with pytest.raises(ValueError, match=r"tiny_fast looks at proposals that others make.*zoo proposals"):
        zoo.train(fast(), Squares(6), out=tmp_path, epochs=1)
    monkeypatch.setattr(registry, "_models", {})
    monkeypatch.setattr(registry, "_discover", lambda: None)
    registry.register(task="detection", paper="", summary="", params=1)(fast)
    options = ("--model", "fast", "--data", "digits:4", "--val-split", "none", "--out", str(tmp_path))
    assert main(["train", *options, "--proposals", str(tmp_path / "none")]) == 2
    assert "no such file of proposals" in capsys.readouterr().err
