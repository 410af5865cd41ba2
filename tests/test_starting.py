"""What ``zoo train`` starts with: other weights, or the checkpoint of a training that was broken off."""

import argparse
from dataclasses import replace
from pathlib import Path

import fakes
import keras
import numpy as np
import pytest

import zoo
from zoo import registry
from zoo.cli.main import main
from zoo.cli.remembered import OPTIONS
from zoo.cli.starting import Start, check_train_from, tell_frozen
from zoo.distribute.replicas import Replicas
from zoo.training.fit import Recipe, train
from zoo.weights_error import WeightsError
from zoo.weights_io import read_meta, save_weights_file, weight_names


@pytest.fixture(autouse=True)
def fake(monkeypatch, tmp_path):
    """Two fake detectors, and an empty working folder."""
    monkeypatch.setattr(registry, "_models", {})
    monkeypatch.setattr(registry, "_discover", lambda: None)

    def fake_net(classes=None, *, width=4, colours="rgb"):
        return fakes.build(classes, width=width)

    def other_net(classes=None, *, width=4):
        return fakes.build(classes, width=width)

    for builder in (fake_net, other_net):
        registry.register(task="detection", paper="Nobody 2000", summary="A fake.", params=12)(builder)
    monkeypatch.chdir(tmp_path)


def command(capsys, *arguments):
    quiet = ("--quiet", "--no-tensorboard", "--val-split", "none", "--data", "digits:6")
    status = main(["train", *map(str, (*arguments, *quiet))])
    return status, capsys.readouterr()


def arrays(path):
    return {name: np.asarray(v).copy() for name, v in weight_names(zoo.load(path)).items()}


def test_other_weights_are_where_a_training_starts(tmp_path, capsys):
    classes = zoo.datasets.load("digits:6", "train").classes
    keras.utils.set_random_seed(7)
    model = zoo.get("fake_net", classes=classes, width=6)
    save_weights_file(model, tmp_path / "run" / "model.weights.h5", meta=model.zoo_meta)
    # Neither the model nor its width is named: they are those of the run.
    status, shown = command(capsys, "--init-from", "run", "--out", "new", "--steps", 1, "--lr", 1e-9)
    assert status == 0, shown.err
    before, after = arrays("run"), arrays("new")
    assert read_meta("new/model.weights.h5").options == {"width": 6}
    for name in before:
        if "moving" not in name:
            np.testing.assert_allclose(after[name], before[name], atol=1e-6, err_msg=name)
    status, shown = command(capsys, "--init-from", "run", "--weights", "run", "--out", "x")
    assert (status, "give one of them" in shown.err) == (2, True)
    status, shown = command(capsys, "--init-from", "run", "--model", "other_net", "--out", "x")
    assert (status, "holds weights of fake_net, not of other_net" in shown.err) == (2, True)


def test_a_resumed_training_needs_no_options_and_ignores_the_start(tmp_path, capsys):
    classes = zoo.datasets.load("digits:6", "train").classes
    model = zoo.get("fake_net", classes=classes, width=5)
    start = save_weights_file(model, tmp_path / "start.weights.h5", meta=model.zoo_meta)
    settings = ("--lr", 0.05, "--accumulate", 2, "--bias-rate", 2, "--ema", 0.9, "--schedule", "constant")
    first = ("--init-from", start, *settings)
    assert command(capsys, *first, "--out", "whole", "--epochs", 4)[0] == 0
    assert command(capsys, *first, "--out", "parts", "--epochs", 2)[0] == 0
    for weights in ((), ("--init-from", start)):
        status, shown = command(capsys, *settings, *weights, "--out", "parts", "--epochs", 4, "--resume")
        assert status == 0, shown.err
        assert ("was for the start" in shown.out) == bool(weights)
    whole, parts = arrays("whole"), arrays("parts")
    for name in whole:
        np.testing.assert_array_equal(whole[name], parts[name], err_msg=name)
    assert read_meta("parts/model.weights.h5").options == {"width": 5}
    status, shown = command(capsys, *settings, "--model", "other_net", "--out", "parts", "--resume")
    assert (status, "is of fake_net; resume that" in shown.err) == (2, True)
    status, shown = command(capsys, *settings, "--option", "width=9", "--out", "parts", "--resume")
    assert (status, "width=9 contradicts the weights" in shown.err) == (2, True)
    # One that changes no shape, and was left at its default.
    status, shown = command(capsys, *settings, "--option", "colours=bgr", "--out", "parts", "--epochs", 5, "--resume")
    assert (status, "other options of fake_net: colours 'rgb' then, 'bgr' now" in shown.err) == (2, True), shown.err


def test_options_that_change_no_shape_are_compared_too(tmp_path):
    data = zoo.datasets.load("digits:6", "train")
    options = {"out": tmp_path, "recipe": Recipe(0.01), "verbose": 0, "tensorboard": False}
    train(zoo.get("fake_net", classes=data.classes, colours="bgr"), data, epochs=1, **options)
    with pytest.raises(WeightsError, match=r"other options of fake_net: colours 'bgr' then, 'rgb' now"):
        train(zoo.get("fake_net", classes=data.classes), data, epochs=2, resume=True, **options)
    with pytest.raises(WeightsError, match=r"is of fake_net, not of other_net"):
        train(zoo.get("other_net", classes=data.classes), data, epochs=2, resume=True, **options)
    train(zoo.get("fake_net", classes=data.classes, colours="bgr", width=4), data, epochs=2, resume=True, **options)


def test_alternating_is_for_faster_rcnn_and_has_its_own_lengths(capsys):
    for arguments, message in (
        (("--alternating", 2, 1), "fake is no Faster R-CNN"),
        (("--recipe", "voc07-alternating", "--epochs", 3, "--batch", 2), "--epochs, --batch: not with --alternating"),
        (("--alternating", 2, 1, "--recipe", "voc07-joint"), "there are: voc07-alternating"),
        (("--alternating", 2, 0), "fast_steps=0; give at least 1"),
        (("--only", 2), "--only is for --alternating"),
        (("--alternating", 2, 1, "--strategy", "mirrored"), "--strategy: not with --alternating"),
    ):
        status, shown = command(capsys, "--model", "fake_net", "--out", "x", *arguments)
        assert (status, message in shown.err) == (2, True), shown.err


def test_another_kind_of_training_is_not_replaced(tmp_path, capsys):
    (tmp_path / "alternating.json").write_text("{}")
    model = zoo.get("fake_net", classes=zoo.datasets.load("digits:6", "train").classes)
    for name in ("start.weights.h5", "model.weights.h5"):
        save_weights_file(model, tmp_path / name, meta=model.zoo_meta)
    before = (tmp_path / "model.weights.h5").read_bytes()
    for words in (("--resume",), ("--model", "fake_net")):
        status, shown = command(capsys, *words, "--out", tmp_path, "--steps", 1)
        assert (status, "holds a training of another kind, an alternating one" in shown.err) == (2, True), shown.err
    assert (tmp_path / "model.weights.h5").read_bytes() == before


def test_only_the_first_worker_remembers(monkeypatch, capsys):
    for chief in (True, False):
        monkeypatch.setattr(Replicas, "is_chief", chief)
        assert command(capsys, "--model", "fake_net", "--out", str(chief), "--steps", 1)[0] == 0
        assert Path(str(chief), OPTIONS).is_file() == chief


def test_an_sppnets_convolutions_are_not_silently_left_fixed(tmp_path, capsys):
    for layer, hint in (("conv3_1", "train_from=conv3_1"), ("all", "train_from=LAYER")):
        status, shown = command(capsys, "--model", "sppnet_vgg16", "--out", "x", "--train-from", layer)
        assert (status, f"give --option {hint}" in shown.err) == (2, True), shown.err
    option = argparse.Namespace(train_from="conv4", option=[("train_from", "conv3_1")])
    dense = argparse.Namespace(train_from="fc6", option=[])
    # Weights tell how they were made.
    model = zoo.get("fake_net", classes=("a",))
    meta = replace(model.zoo_meta, model="sppnet_vgg16", options={"train_from": "conv3_1"})
    save_weights_file(model, tmp_path / "run" / "model.weights.h5", meta=meta)
    check_train_from(argparse.Namespace(train_from="conv4", option=[]), Start("sppnet_vgg16", tmp_path / "run"))
    for args in (option, dense):
        check_train_from(args, Start("sppnet_vgg16", None))


def test_what_is_frozen_is_told_only_if_anything_is(capsys):
    """The papers freeze nothing of a network that they do not have."""
    start = Start("fake_net", None)
    conv = [keras.layers.Conv2D(1, 1, name=name) for name in ("conv1", "conv2", "conv5")]
    for layers, told in (([keras.layers.Dense(1, name="stem")], False), (conv, True)):
        tell_frozen(start, "paper", keras.Sequential(layers))
        assert ("of what it freezes are random" in capsys.readouterr().err) == told


def test_recipes_of_others_are_refused_and_random_layers_not_frozen_silently(capsys):
    status, shown = command(capsys, "--model", "fake_net", "--out", "x", "--recipe", "cifar10")
    assert (status, "is for classification, models *; for fake_net there are: none" in shown.err) == (2, True)
    status, shown = command(capsys, "--model", "fake_net", "--out", "x", "--recipe", "voc07-joint")
    assert (status, "is for detection, models faster_rcnn_*" in shown.err) == (2, True)
    status, shown = command(capsys, "--model", "fake_net", "--out", "y", "--train-from", "norm", "--steps", 1)
    assert (status, "of what it freezes are random" in shown.err) == (0, True)
    status, shown = command(capsys, "--model", "fake_net", "--out", "z", "--train-from", "all", "--steps", 1)
    assert (status, shown.err) == (0, "")
