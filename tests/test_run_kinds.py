"""A folder holds one training: none replaces the result of another, and a longer one goes on where a shorter ended."""

import types

import numpy as np
import pytest
from sandblaster_problem import colour_net, problem
from test_callbacks import Scenes, fit, new_model, weights
from test_train_classifier import data as colours
from tiny import tiny_detector

from zoo.distribute.sandblaster import train_sandblaster
from zoo.distribute.sandblaster_run import fit_sandblaster
from zoo.distribute.settings import check_settings
from zoo.training.alternating import train_alternating
from zoo.training.history import read_csv
from zoo.weights_io import WeightsMeta, read_meta, save_weights_file


@pytest.mark.parametrize("mark", ["alternating.json", "downpour.npz", "sandblaster.npz"])
@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_of_another_kind_is_refused(tmp_path, mark, resume):
    (tmp_path / mark).touch()
    with pytest.raises(ValueError, match=rf"holds a training of another kind, .*\({mark}\)"):
        fit(new_model(), tmp_path, epochs=1, resume=resume)
    assert [path.name for path in tmp_path.iterdir()] == [mark]


def test_the_others_refuse_a_folder_of_zoo_train(tmp_path):
    (tmp_path / "checkpoint.weights.h5").touch()
    for resume in (False, True):
        with pytest.raises(ValueError, match=r"another kind, one of `zoo train` \(checkpoint.weights.h5\)"):
            fit_sandblaster(colour_net(), colours(8), out=tmp_path, passes=1, batch_size=8, resume=resume)
        with pytest.raises(ValueError, match=r"another kind, one of `zoo train` \(checkpoint.weights.h5\)"):
            train_alternating(tiny_detector(Scenes().classes), Scenes(), out=tmp_path, resume=resume)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.weights.h5"]


def test_the_best_weights_of_another_training_are_not_this_ones(tmp_path):
    save_weights_file(new_model(seed=5), tmp_path / "best.weights.h5")
    model = new_model()
    fit(model, tmp_path, epochs=1)  # without validation there is no best
    best = weights(new_model(seed=5))
    assert all((one != other).any() for one, other in zip(weights(model)[:2], best[:2], strict=True))
    assert "loss" in read_meta(tmp_path / "model.weights.h5").scores


def test_more_steps_than_a_cut_off_epoch_are_all_done(tmp_path):
    """Epochs have five steps. After seven, eight are one more, and fourteen seven more."""
    fit(new_model(), tmp_path, epochs=None, steps=7)
    for steps, rows in ((7, 2), (8, 3), (14, 5)):
        model = new_model()
        fit(model, tmp_path, epochs=None, steps=steps, resume=True)
        assert int(np.asarray(model.optimizer.iterations)) == steps
        assert len(read_csv(tmp_path / "history.csv")) == rows
    fit(model := new_model(), tmp_path, epochs=4, resume=True)
    assert int(np.asarray(model.optimizer.iterations)) == 20


def test_a_training_whose_time_is_up_is_left_alone(tmp_path, monkeypatch):
    now = [0.0]

    def clock():
        now[0] += 5
        return now[0]

    monkeypatch.setattr("zoo.training.limits.time", types.SimpleNamespace(monotonic=clock))
    fit(model := new_model(), tmp_path, epochs=None, minutes=1)
    done, rows = weights(model), read_csv(tmp_path / "history.csv")
    fit(again := new_model(3), tmp_path, epochs=None, minutes=1, resume=True)
    for one, other in zip(done, weights(again), strict=True):
        np.testing.assert_array_equal(one, other)
    assert read_csv(tmp_path / "history.csv") == rows
    fit(again, tmp_path, epochs=None, minutes=2, resume=True)
    assert len(read_csv(tmp_path / "history.csv")) > len(rows)


def test_frozen_weights_are_in_sandblasters_checkpoint(tmp_path):
    """A resumed training's model may have been built anew, with other frozen weights."""

    def made(seed):
        model, data = problem(seed=seed)
        model.layers[0].trainable = False
        model.compile(loss="sparse_categorical_crossentropy")
        return model, data

    model, data = made(0)
    file = tmp_path / "sandblaster.npz"
    train_sandblaster(model, data, iterations=1, checkpoint=file)
    other, _ = made(9)
    assert (np.asarray(other.layers[0].kernel) != np.asarray(model.layers[0].kernel)).any()
    train_sandblaster(other, data, iterations=2, checkpoint=file, resume=True)
    np.testing.assert_array_equal(np.asarray(other.layers[0].kernel), np.asarray(model.layers[0].kernel))


def test_the_last_iteration_is_validated_though_it_ends_early(tmp_path, monkeypatch):
    """No length had told that it would be the last."""
    monkeypatch.setattr("zoo.distribute.sandblaster_run.train_sandblaster", ends_after(3))
    fit_sandblaster(
        colour_net(), colours(8), colours(6, 1), out=tmp_path, passes=99, batch_size=8, val_every=2, tensorboard=False
    )
    rows = read_csv(tmp_path / "history.csv")
    assert ["val_top1_error" in row for row in rows] == [False, True, True]
    assert read_meta(tmp_path / "best.weights.h5").scores["epoch"] in (2, 3)


def ends_after(iterations):
    def train(*args, **settings):
        return train_sandblaster(*args, **{**settings, "iterations": iterations})

    return train


def test_other_options_that_change_no_shape_are_refused(tmp_path):
    def run(**options):
        model = colour_net()
        model.zoo_meta = WeightsMeta("resnet20", (), options)
        fit_sandblaster(model, colours(8), out=tmp_path, iterations=1, batch_size=8, tensorboard=False, resume=True)

    run(norm="frozen")
    with pytest.raises(ValueError, match=r"options .*frozen.* then, .*other.* now"):
        run(norm="other")
    # Checkpoints of earlier versions do not say what they are of.
    check_settings({"seed": 0}, {"seed": 0, "model": "resnet20", "options": {}}, "old.npz")
    with pytest.raises(ValueError, match="units None then, 2 now"):
        check_settings({"seed": 0}, {"seed": 0, "units": 2}, "old.npz")
    run(norm="frozen")
