"""Fast R-CNN through ``zoo train``: proposals for training and validation, statistics of box deltas."""

import keras
import numpy as np
import pytest
from alternating_run import Squares
from tiny import tiny_detector

import zoo
from zoo import registry
from zoo.cli.main import main
from zoo.datasets.pipeline import Batches
from zoo.datasets.proposals_dense import DenseBoxes
from zoo.datasets.proposals_make import make_proposals
from zoo.detectors.fast_rcnn import FastRCNN
from zoo.training.history import read_csv
from zoo.training.recipe import Recipe


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
    zoo.train(model, batches, data.subset(range(2)), out=tmp_path, epochs=1, recipe=Recipe(0.001), tensorboard=False)
    (row,) = read_csv(tmp_path / "history.csv")
    assert {"val_loss", "val_map", "head_class", "head_box"} <= row.keys()
    assert np.isfinite(list(row.values())).all()


def test_statistics_are_measured_once_and_a_trained_regression_keeps_its_meaning(tmp_path, proposals, monkeypatch):
    batches = Batches(Squares(6), 2, proposals=proposals, most_proposals=40)
    wanted, measured, whole = fast(), [], FastRCNN.measure_targets
    wanted.measure_targets(batches.numpy_batches())

    def noted(self, batches, new):
        measured.append(new)
        whole(self, batches, new)

    monkeypatch.setattr(FastRCNN, "measure_targets", noted)
    options = {"recipe": Recipe(1e-9), "tensorboard": False, "verbose": 0, "keep": "last"}
    model = fast()
    zoo.train(model, batches, out=tmp_path / "new", epochs=1, **options)
    np.testing.assert_array_equal(np.asarray(model.box_means), np.asarray(wanted.box_means))
    np.testing.assert_array_equal(np.asarray(model.box_deviations), np.asarray(wanted.box_deviations))
    monkeypatch.setattr(FastRCNN, "fit", lambda self, *a, **k: keras.callbacks.History())  # what follows ends before
    zoo.train(fast(), batches, out=tmp_path / "new", epochs=2, resume=True, **options)
    kept = fast()
    kept.set_target_statistics(np.full((2, 4), 0.5), np.full((2, 4), 0.25), new=True)
    zoo.train(kept, batches, out=tmp_path / "kept", epochs=1, targets="keep", **options)
    np.testing.assert_array_equal(np.asarray(kept.box_means), np.full((2, 4), 0.5))
    assert measured == [True]
    model.head.loc.bias.assign(np.linspace(0, 1, *model.head.loc.bias.shape))
    zoo.train(model, batches, out=tmp_path / "again", epochs=1, **options)
    assert measured == [True, False]
    with pytest.raises(ValueError, match=r"targets='no'; choose 'measure' or 'keep'"):
        zoo.train(model, batches, out=tmp_path / "x", epochs=1, targets="no")


def test_a_fast_rcnn_without_proposals_is_told_so(tmp_path, monkeypatch, capsys):
    with pytest.raises(ValueError, match=r"tiny_fast looks at proposals that others make.*zoo proposals"):
        zoo.train(fast(), Squares(6), out=tmp_path, epochs=1)
    monkeypatch.setattr(registry, "_models", {})
    monkeypatch.setattr(registry, "_discover", lambda: None)
    registry.register(task="detection", paper="", summary="", params=1)(fast)
    options = ("--model", "fast", "--data", "digits:4", "--val-split", "none", "--out", str(tmp_path))
    assert main(["train", *options, "--proposals", str(tmp_path / "none")]) == 2
    assert "no such file of proposals" in capsys.readouterr().err
