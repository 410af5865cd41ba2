"""``zoo train`` and ``zoo eval`` on class folders: recipes, crops, whole pictures, ensembles."""

import argparse
import json

import keras
import numpy as np
import pytest
from PIL import Image

import zoo
from zoo import registry
from zoo.backbones.cifar_resnet import cifar_network
from zoo.cli.classes import class_train_and_val
from zoo.cli.evaluate_classes import _member, _tester
from zoo.cli.main import main
from zoo.datasets.class_sources import load_classes
from zoo.datasets.class_views import Shifts, TenCrop
from zoo.training import fit
from zoo.training.classify import average_scores, evaluate_classifier
from zoo.training.dense_test import evaluate_dense
from zoo.weights_io import save_weights_file

CLASSES = ("cat", "dog")


@pytest.fixture(scope="module", autouse=True)
def tiny():
    """A network of eight layers for pictures of 32 pixels is registered."""

    def resnet8(classes=None):
        model = cifar_network("resnet8", 8, classes, True)
        kernel = model.get_layer("predictions").kernel
        kernel.assign(kernel * 0.02)  # or a random network would be sure of all that it says
        return model

    with pytest.MonkeyPatch.context() as patch:
        zoo.list_models()  # finds the others first
        patch.setattr(registry, "_models", dict(registry._models))
        registry.register(task="classification", paper="He 2016", summary="Tiny.")(resnet8)

        def resnet14(classes=None):
            return cifar_network("resnet14", 14, classes, True)

        registry.register(task="classification", paper="He 2016", summary="Small.")(resnet14)
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two class folders of fifteen pictures of 40 x 50."""
    root = tmp_path_factory.mktemp("data") / "photos"
    rng = np.random.default_rng(0)
    for number in range(30):
        path = root / CLASSES[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Two networks with random weights."""
    paths = []
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        model = zoo.get("resnet8", classes=CLASSES)
        paths.append(tmp_path_factory.mktemp("weights") / f"{seed}.weights.h5")
        save_weights_file(model, paths[-1], meta=model.zoo_meta)
    return paths


def command(capsys, *words):
    status = main([str(word) for word in words])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def measured(capsys, tmp_path, photos, *words):
    """What ``zoo eval --json`` writes."""
    path = tmp_path / "scores.json"
    status, out, err = command(capsys, "eval", "--data", photos, "--json", path, *words)
    assert status == 0, err
    return json.loads(path.read_text()), out


def test_ten_crops(capsys, tmp_path, photos, weights):
    record, out = measured(capsys, tmp_path, photos, "--weights", weights[0], "--views", "ten-crop", "--short", 36)
    expected = evaluate_classifier(zoo.load(weights[0]), load_classes(photos), views=TenCrop(32, 36))
    assert record["loss"] == pytest.approx(expected.loss, rel=1e-5)
    assert (record["views"], record["short"], record["images"]) == ("ten-crop", 36, 30)
    assert "ten crops, short side 36" in out


def test_shifts_are_filled_as_in_training(capsys, tmp_path, photos, weights):
    record, out = measured(capsys, tmp_path, photos, "--weights", weights[0], "--views", "shifts")
    views = Shifts(32, by=1, fill=(125, 123, 114))
    expected = evaluate_classifier(zoo.load(weights[0]), load_classes(photos), views=views)
    assert record["loss"] == pytest.approx(expected.loss, rel=1e-5)
    assert record["views"] == "shifts"
    assert "18 shifted and mirrored views" in out


def test_whole_pictures(capsys, tmp_path, photos, weights):
    words = ("--weights", weights[0], "--views", "dense", "--scales", 32, 48)
    record, out = measured(capsys, tmp_path, photos, *words)
    expected = evaluate_dense(zoo.load(weights[0]), load_classes(photos), (32, 48))
    assert record["loss"] == pytest.approx(expected.loss, rel=1e-5)
    assert "short side 32, 48, mirrored too" in out
    plain, _ = measured(capsys, tmp_path, photos, *words, "--no-mirror")
    assert plain["loss"] != pytest.approx(record["loss"], rel=1e-5)


def test_an_ensemble(capsys, tmp_path, photos, weights):
    record, out = measured(capsys, tmp_path, photos, "--weights", weights[0], "--ensemble", weights[1])
    data = load_classes(photos)
    members = [evaluate_classifier(zoo.load(path), data) for path in weights]
    assert record["loss"] == pytest.approx(average_scores(members, data.labels).loss, rel=1e-5)
    assert [member["top1_error"] for member in record["members"]] == [member.top1_error for member in members]
    assert out.count("resnet8 (") == 4


def test_members_may_be_of_different_networks(capsys, tmp_path, photos, weights, monkeypatch):
    deeper = zoo.get("resnet14", classes=CLASSES)
    save_weights_file(deeper, tmp_path / "deeper.weights.h5", meta=deeper.zoo_meta)
    words = ("--model", "resnet8", "--weights", weights[0], "--ensemble", tmp_path / "deeper.weights.h5", weights[1])
    record, _ = measured(capsys, tmp_path, photos, *words)
    assert [member["model"].split()[0] for member in record["members"]] == ["resnet8", "resnet14", "resnet8"]
    asked = []
    monkeypatch.setattr(zoo, "get", lambda name, weights: asked.append((name, weights)))
    _member(argparse.Namespace(model="resnet8", option=[]), "resnet14:imagenet")
    assert asked == [("resnet14", "imagenet")]


@pytest.mark.parametrize(("views", "function"), [("ten-crop", "classify"), ("dense", "dense_test")])
def test_as_many_views_at_once_as_asked_for(photos, weights, monkeypatch, views, function):
    seen = []
    name = "evaluate_dense" if views == "dense" else "evaluate_classifier"
    monkeypatch.setattr(f"zoo.training.{function}.{name}", lambda *args, **options: seen.append(options))
    for batch in (None, 7):
        args = argparse.Namespace(views=views, scales=None, short=None, no_mirror=False, batch=batch)
        _tester(args, zoo.load(weights[0]))(None, None)
    assert [options.get("batch_size") for options in seen] == [None, 7]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scales", "64"], "--scales and --no-mirror belong to --views dense"),
        (["--no-mirror"], "--scales and --no-mirror belong to --views dense"),
        (["--views", "dense", "--short", "40"], "give --scales"),
        (["--views", "dense", "--scales", "20"], "resnet8 sees 32 pixels"),
        (["--views", "ten-crop", "--short", "20"], "less than the crop's size 32"),
        (["--ensemble", "nowhere.h5"], "nowhere.h5"),
    ],
)
def test_what_does_not_go_together(capsys, photos, weights, words, message):
    status, _, err = command(capsys, "eval", "--data", photos, "--weights", weights[0], *words)
    assert status == 2
    assert message in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--report", "r", "--difficult", "ordinary"], "--difficult, --report: for detectors only"),
        (["--metric", "coco", "--results", "r"], "--metric, --results: for detectors only"),
        (["--classes", "dog,cat"], "--classes dog, cat: the model's are cat, dog"),
    ],
)
def test_a_classifier_has_no_boxes(capsys, photos, weights, words, message):
    status, _, err = command(capsys, "eval", "--data", photos, "--weights", weights[0], *words)
    assert status == 2
    assert message in err


def test_a_class_list_numbers_the_folders(photos):
    train, val = class_train_and_val(str(photos), None, None, ("dog", "cat"))
    assert train.classes == val.classes == ("dog", "cat")
    assert [path.split("/")[0] for path in train.image_ids] == [train.classes[label] for label in train.labels]


def test_a_detector_has_no_views(capsys, tmp_path):
    status, _, err = command(capsys, "eval", "--data", "digits:2", "--weights", "digits", "--views", "ten-crop")
    assert status == 2
    assert "--views: for classifiers only" in err


def test_a_recipe_brings_its_augmentation(capsys, tmp_path, photos, monkeypatch):
    given = {}

    def caught(model, batches, val, **options):
        given.update(options, batches=batches, val=val)

    monkeypatch.setattr(fit, "train", caught)
    words = ("train", "--data", photos, "--model", "resnet8", "--out", tmp_path, "--batch", 4)
    status, out, err = command(capsys, *words, "--recipe", "imagenet-alexnet", "--seed", 3)
    assert status == 0, err
    augment = given["batches"].augment
    assert (augment.size, augment.short, augment.centre) == (32, (37, 37), True)
    assert augment.colours is not None
    assert given["epochs"] == 90
    assert "minutes" not in given
    assert given["recipe"].learning_rate == 0.01
    # Without splits every tenth picture is held out; each class has its share.
    assert (len(given["batches"].source), len(given["val"])) == (27, 3)
    assert not set(given["batches"].source.image_ids) & set(given["val"].image_ids)
    assert "every 10th picture is held out" in out

    status, *_ = command(
        capsys, *words, "--recipe", "imagenet-vgg", "--short", 40, 80, "--steps", 7, "--val-split", "none"
    )
    assert status == 0
    assert given["batches"].augment.short == (40, 80)
    assert (given["steps"], given["val"]) == (7, None)
    assert len(given["batches"].source) == 30

    status, *_ = command(capsys, *words, "--augmentation", "scale-crop", "--no-flip")
    assert status == 0
    assert given["batches"].augment.colours is None
    assert not given["batches"].augment.flip


@pytest.mark.parametrize(
    ("precision", "sets", "slow"),
    [
        ("mixed_bfloat16", {"avx2"}, True),
        ("mixed_bfloat16", {"avx2", "avx512f"}, False),
        ("mixed_float16", {"avx2", "avx512f"}, True),
        ("float32", {"avx2"}, False),
    ],
)
def test_a_precision_that_the_processor_is_slow_at_is_told(capsys, tmp_path, monkeypatch, precision, sets, slow):
    monkeypatch.setattr("zoo.processor.instruction_sets", lambda: sets)
    asked = ["--model", "resnet8", "--precision", precision, "--out", str(tmp_path / "run")]
    assert main(["train", "--data", str(tmp_path / "none"), *asked]) == 2
    assert ("slower than float32" in capsys.readouterr().err) == slow


def test_a_detector_takes_no_augmentation_of_classifiers(capsys, tmp_path):
    words = ("train", "--data", "digits:4", "--model", "faster_rcnn_alexnet", "--out", tmp_path)
    status, _, err = command(capsys, *words, "--augmentation", "vgg")
    assert status == 2
    assert "--augmentation: for classifiers only" in err


def test_trains_on_photographs_of_many_sizes(capsys, tmp_path, photos):
    words = ("--model", "resnet8", "--recipe", "imagenet-resnet", "--batch", 9, "--steps", 3, "--out", tmp_path)
    status, out, err = command(capsys, "train", "--data", photos, *words, "--no-tensorboard", "--quiet")
    assert status == 0, err
    assert "Pictures: resnet, short side 37 to 69, crops of 32" in out
    assert (tmp_path / "model.weights.h5").is_file()
