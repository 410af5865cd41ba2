"""Training: schedule, callbacks, checkpoints and ``train`` on a small detector that obeys the contract."""

import csv
import itertools
import json
import types
from dataclasses import replace

import fakes
import keras
import numpy as np
import pytest
from PIL import Image

import zoo
from zoo.cli.train import _precision
from zoo.datasets.pipeline import Batches
from zoo.datasets.records import DetectionDataset, Sample
from zoo.training.averaging import averaged_weights
from zoo.training.checkpoint import read_progress
from zoo.training.curves import draw_curves
from zoo.training.evaluate import evaluate
from zoo.training.fit import Recipe, train
from zoo.training.history import HistoryLog, read_csv, write_csv
from zoo.training.limits import TimeBudget
from zoo.training.schedule import WarmupDecay
from zoo.training.stop_on_nan import NanLossError, StopOnNan

RECIPE = Recipe(learning_rate=0.05, schedule="cosine", warmup_steps=2)


class Scenes(DetectionDataset):
    """Noise; the fake detector's one box is right in every image that has an object."""

    def __init__(self, count=10, breaks_after=None, classes=fakes.CLASSES):
        box = [8, 6, 24, 18]
        samples = [
            Sample(f"scene{i}", None, (24, 32), [box] * (i % 3), [0] * (i % 3), [0] * (i % 3), [0] * (i % 3))
            for i in range(count)
        ]
        super().__init__("scenes", classes, samples)
        self.left = breaks_after

    def load(self, index):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise OSError("the disk is gone")
        sample = self.sample(index)
        return np.random.default_rng(index).integers(0, 255, (*sample.size, 3), np.uint8), sample


def new_model(seed=0):
    keras.utils.set_random_seed(seed)
    return fakes.build()


def weights(model):
    return [np.asarray(variable).copy() for variable in model.weights]


def fit(model, out, data=None, val=None, **kwargs):
    kwargs = {"epochs": 4, "recipe": RECIPE, "verbose": 0, "tensorboard": False} | kwargs
    return train(model, data or Scenes(), val, out=out, **kwargs)


def test_schedule_follows_its_definition():
    step = WarmupDecay(0.1, total_steps=100, warmup_steps=4, shape="step")
    rates = [float(step(k)) for k in (0, 1, 4, 69, 70, 99)]
    np.testing.assert_allclose(rates, [0.02, 0.04, 0.1, 0.1, 0.01, 0.01], rtol=1e-5)
    cosine = WarmupDecay(1.0, total_steps=100, shape="cosine")
    np.testing.assert_allclose([float(cosine(k)) for k in (0, 50, 100, 200)], [1, 0.505, 0.01, 0.01], atol=1e-5)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(step))
    assert copy.get_config() == step.get_config()
    with pytest.raises(ValueError, match=r"linear.*cosine"):
        WarmupDecay(0.1, 10, shape="linear")


def test_a_run_leaves_everything_in_its_folder(tmp_path):
    model = new_model()
    history = fit(model, tmp_path, val=Scenes(4), tensorboard=True, command="zoo train --this")
    rows = read_csv(tmp_path / "history.csv")
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert [row["loss"] for row in rows] == pytest.approx(history.history["loss"])
    assert {"val_loss", "val_map", "learning_rate", "seconds"} <= rows[0].keys()
    assert rows[0]["learning_rate"] > rows[3]["learning_rate"]
    meta = json.loads((tmp_path / "model.json").read_text())
    assert meta["classes"] == ["circle", "square"]
    assert meta["command"] == "zoo train --this"
    assert meta["scores"]["val_map"] == max(row["val_map"] for row in rows)
    assert list((tmp_path / "tensorboard").rglob("events*"))
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.width > picture.height > 200
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith(".")]  # nothing half-written left


def test_a_broken_training_goes_on_as_if_nothing_had_happened(tmp_path):
    recipe = Recipe(learning_rate=0.05, schedule="cosine", ema=0.9, clipnorm=1.0)
    whole = new_model()
    fit(whole, tmp_path / "whole", val=Scenes(4), recipe=recipe, keep="last")

    with pytest.raises(OSError, match=r"the disk is gone"):  # as it was raised, not as TensorFlow wraps it
        fit(new_model(), tmp_path / "parts", Scenes(breaks_after=24), Scenes(4), recipe=recipe, keep="last")
    done = read_progress(tmp_path / "parts" / "checkpoint.weights.h5").epoch
    assert 1 <= done < 4

    resumed = new_model(seed=99)  # weights and random state come from the checkpoint, not from here
    fit(resumed, tmp_path / "parts", val=Scenes(4), recipe=recipe, keep="last", resume=True)
    for one, other in zip(weights(whole), weights(resumed), strict=True):
        np.testing.assert_array_equal(one, other)
    rows, others = (read_csv(tmp_path / name / "history.csv") for name in ("whole", "parts"))
    for row, other in zip(rows, others, strict=True):
        assert {**row, "seconds": 0} == {**other, "seconds": 0}


def test_resuming_needs_the_same_settings_and_starting_an_empty_folder(tmp_path):
    fit(new_model(), tmp_path, epochs=1)
    with pytest.raises(ValueError, match=r"learning_rate 0.05 then, 0.5 now"):
        fit(new_model(), tmp_path, resume=True, recipe=Recipe(0.5, schedule="cosine", warmup_steps=2))
    with pytest.raises(ValueError, match=r"batch_size 2 then, 3 now"):
        fit(new_model(), tmp_path, resume=True, batch_size=3)
    with pytest.raises(ValueError, match=r"flip True then, False now"):
        fit(new_model(), tmp_path, Batches(Scenes(), 2, flip=False), resume=True)
    with pytest.raises(ValueError, match=r"scale_jitter None then, \(0.5, 2.0\) now"):
        fit(new_model(), tmp_path, Batches(Scenes(), 2, scale_jitter=(0.5, 2.0)), resume=True)
    hard = Scenes()
    hard.samples = [replace(sample, difficult=np.ones(len(sample), bool)) for sample in hard.samples]
    with pytest.raises(ValueError, match=r"objects 9 then, 0 now"):  # as with --difficult
        fit(new_model(), tmp_path, hard, resume=True)
    with pytest.raises(ValueError, match=r"holds a training already"):
        fit(new_model(), tmp_path)


def test_a_finished_training_is_not_continued_by_accident(tmp_path):
    model = new_model()
    fit(model, tmp_path, epochs=2)
    again = new_model(5)
    fit(again, tmp_path, epochs=2, resume=True)
    for one, other in zip(weights(model), weights(again), strict=True):
        np.testing.assert_array_equal(one, other)
    fit(again, tmp_path, epochs=3, resume=True)
    assert len(read_csv(tmp_path / "history.csv")) == 3


def test_length_is_given_once(tmp_path):
    for lengths, message in (
        ({"epochs": None}, "none"),
        ({"steps": 3}, "epochs, steps"),
        ({"epochs": 0}, "epochs=0"),
    ):
        with pytest.raises(ValueError, match=message):
            fit(new_model(), tmp_path, **lengths)
    model = new_model()
    fit(model, tmp_path, epochs=None, steps=7)  # an epoch has five
    assert int(np.asarray(model.optimizer.iterations)) == 7


def test_minutes_end_a_training_and_bring_the_rate_down(tmp_path, monkeypatch):
    ticks = itertools.count()  # the clock is looked at twice a step, and moves on a second each time
    monkeypatch.setattr("zoo.training.limits.time", types.SimpleNamespace(monotonic=lambda: next(ticks)))
    model = new_model()
    fit(model, tmp_path, epochs=None, minutes=1)
    assert 20 < int(np.asarray(model.optimizer.iterations)) < 31
    assert read_csv(tmp_path / "history.csv")[-1]["learning_rate"] < 0.001  # a cosine at its end, from .05


def test_time_budget_counts_what_was_used_before():
    class Model:
        stop_training = False
        optimizer = type("Optimizer", (), {"learning_rate": 0.0})()

    schedule = WarmupDecay(1.0, 100, shape="step")
    for before, rate, stop in ((0, 1.0, False), (45, 0.1, False), (61, 0.1, True)):
        model, budget = Model(), TimeBudget(1.0, schedule, 10, elapsed=before)
        budget.set_model(model)
        budget.on_train_begin()
        budget.on_epoch_begin(3)
        budget.on_train_batch_begin(0)
        budget.on_train_batch_end(0)
        assert model.optimizer.learning_rate == pytest.approx(rate)
        assert model.stop_training is stop


class Poisoned(fakes.FakeDetector):
    """Its loss is no number for any batch that holds a white image."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        white = keras.ops.any(keras.ops.min(x["images"], axis=(1, 2, 3)) == 255)
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        return loss * keras.ops.where(white, np.nan, 1.0)


class OneWhite(Scenes):
    def load(self, index):
        image, sample = super().load(index)
        return (np.full_like(image, 255) if index == 6 else image), sample


def test_a_nan_names_the_images_and_stops(tmp_path):
    data = OneWhite()
    batches = Batches(data, 2, seed=3)
    step = next(k for k, indices in enumerate(batches.plan(0)) if 6 in indices)
    names = ", ".join(batches.image_ids(0, step))
    with pytest.raises(NanLossError) as caught:
        fit(Poisoned(fakes.CLASSES), tmp_path, batches)
    assert f"step {step + 1}, whose images were {names}" in str(caught.value)
    assert "epoch 1" in str(caught.value)
    assert "scene6" in names


def test_a_metric_without_objects_may_be_nan():
    StopOnNan(batches=None).on_train_batch_end(0, {"loss": 1.0, "proposal_recall": float("nan")})


def test_best_weights_are_kept_and_restored(tmp_path, monkeypatch):
    scores = iter([0.2, 0.8, 0.5, 0.4])
    seen = []

    def fake_evaluate(model, dataset, **kwargs):
        seen.append(weights(model))
        return type("E", (), {"result": type("R", (), {"map": next(scores)})})

    monkeypatch.setattr("zoo.training.voc_map.evaluate", fake_evaluate)
    model = new_model()
    fit(model, tmp_path, val=Scenes(4))
    for one, other in zip(weights(model), seen[1], strict=True):
        np.testing.assert_array_equal(one, other)
    assert json.loads((tmp_path / "model.json").read_text())["scores"] == {"val_map": 0.8, "epoch": 2}


def test_map_is_measured_every_n_epochs_and_at_the_end(tmp_path):
    fit(new_model(), tmp_path, val=Scenes(4), epochs=4, val_every=3)
    assert ["val_map" in row for row in read_csv(tmp_path / "history.csv")] == [False, False, True, True]


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_averages_are_used_for_a_while_only(tmp_path, policy):
    """With float16 Keras puts the optimizer into one that scales the loss."""
    with _precision(policy):
        model = new_model()
        fit(model, tmp_path, epochs=2, recipe=Recipe(0.05, ema=0.5), keep="last")
    averaged = weights(model)  # fit ends with the averages
    for variable in model.trainable_weights:
        variable.assign(np.zeros(variable.shape, np.float32))
    with averaged_weights(model):
        for one, other in zip(averaged, weights(model), strict=True):
            np.testing.assert_array_equal(one, other)
    assert not any(np.asarray(variable).any() for variable in model.trainable_weights)


def test_weight_decay_pulls_kernels_as_in_caffe_and_leaves_vectors(tmp_path):
    class Still(fakes.FakeDetector):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return keras.ops.sum(y_pred) * 0.0

    model = Still(fakes.CLASSES)
    model.out.bias.assign([3.0])
    before = {v.path: np.asarray(v).copy() for v in model.trainable_weights}
    fit(model, tmp_path, epochs=None, steps=1, recipe=Recipe(0.1, weight_decay=0.02, warmup_steps=0))
    # With momentum .9 a pull of lr * decay * w inside the gradient moves w by ten times that in the long run.
    for variable in model.trainable_weights:
        factor = 1 - 0.1 * 0.02 / (1 - 0.9) if len(variable.shape) > 1 else 1
        np.testing.assert_allclose(np.asarray(variable), before[variable.path] * factor, rtol=1e-5)


def test_classes_must_agree_before_anything_starts(tmp_path):
    with pytest.raises(ValueError, match=r"circle, square.*square, circle"):
        fit(new_model(), tmp_path, Scenes(classes=("square", "circle")))
    assert not tmp_path.joinpath("history.csv").exists()


def test_evaluation_measures_the_detector_and_counts_all_images():
    data = Scenes(5)
    calls = []
    measured = evaluate(new_model(), data, progress=calls.append)
    # One box a picture: right in those with an object (scenes 1, 2, 4), and 2 of its 4 objects in doubles:
    # recall 3/4.
    assert measured.result.positives.tolist() == [4, 0]
    assert measured.result.recall[0][-1] == pytest.approx(3 / 4)
    assert len(measured.detections) == sum(calls) == 5
    assert measured.images_per_second > 0
    measured = evaluate(new_model(), data, score_threshold=0.9)  # the fake's score is .5
    assert measured.result.map == 0


def test_history_keeps_rows_of_unlike_columns(tmp_path):
    rows = [{"epoch": 1.0, "loss": 0.5}, {"epoch": 2.0, "loss": 0.25, "val_map": 0.125}]
    write_csv(rows, tmp_path / "h.csv")
    assert read_csv(tmp_path / "h.csv") == rows
    with open(tmp_path / "h.csv", newline="") as file:
        assert next(csv.reader(file)) == ["epoch", "loss", "val_map"]
    draw_curves([{"epoch": 1.0, "loss": float("nan")}], tmp_path / "nan.png")
    draw_curves([], tmp_path / "none.png")


def test_curves_are_drawn_every_ten_seconds_and_at_the_end(tmp_path, monkeypatch):
    now, drawn = [0.0], []
    monkeypatch.setattr("zoo.training.history.time", types.SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr("zoo.training.history.draw_curves", lambda rows, path: drawn.append(len(rows)))
    log = HistoryLog(tmp_path)
    log.set_model(types.SimpleNamespace(optimizer=types.SimpleNamespace(learning_rate=0.1)))
    for epoch in range(5):
        now[0] += 4
        log.on_epoch_end(epoch, {"loss": 0.5})
        assert len(read_csv(tmp_path / "history.csv")) == epoch + 1
    assert drawn == [3]
    log.on_train_end()
    log.on_train_end()
    assert drawn == [3, 5]


def test_a_checkpoint_is_also_a_weights_file(tmp_path, monkeypatch):
    from zoo import registry

    monkeypatch.setattr(registry, "_models", {})
    monkeypatch.setattr(registry, "_discover", lambda: None)
    registry.register(task="detection", paper="", summary="")(fakes.build)
    model = zoo.get("build", classes=fakes.CLASSES, width=6)
    fit(model, tmp_path, epochs=1)
    loaded = zoo.load(tmp_path / "checkpoint.weights.h5")
    assert loaded.width == 6
    for one, other in zip(weights(model), weights(loaded), strict=True):
        np.testing.assert_array_equal(one, other)
