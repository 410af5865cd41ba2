"""Training classifiers: the loop, resuming, validation, and the commands."""

import json
import zipfile

import cv2
import keras
import numpy as np
import pytest

import zoo
from zoo.backbones.cifar_resnet import cifar_network
from zoo.cli.classes import class_batches
from zoo.cli.main import main
from zoo.datasets.class_batches import ClassBatches, CropFlip
from zoo.datasets.class_records import ClassificationDataset
from zoo.training.history import read_csv
from zoo.training.recipes import RECIPES, named_recipe
from zoo.training.schedule import WarmupDecay
from zoo.training.tasks import as_batches

CLASSES = ("blue", "green", "red")


def pictures(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise around a colour that tells the class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = rng.integers(0, 120, (count, 32, 32, 3))
    images[np.arange(count), :, :, 2 - labels] += 100
    return images.astype(np.uint8), labels


def data(count: int = 24, seed: int = 0) -> ClassificationDataset:
    images, labels = pictures(count, seed)
    return ClassificationDataset("colours", CLASSES, labels, [f"{i}.png" for i in range(count)], images.__getitem__)


def small(seed: int = 0):
    keras.utils.set_random_seed(seed)
    return cifar_network("resnet8", 8, len(CLASSES), True)


def train(out, epochs=2, **changes):
    model = small()
    settings = {"recipe": zoo.Recipe(learning_rate=0.05), "tensorboard": False, "verbose": 0}
    zoo.train(model, data(), data(9, 1), out=out, epochs=epochs, batch_size=8, **{**settings, **changes})
    return model


def test_learns_and_keeps_the_best(tmp_path):
    train(tmp_path, epochs=5)
    rows = read_csv(tmp_path / "history.csv")
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    best = min(row["val_top1_error"] for row in rows)
    assert json.loads((tmp_path / "model.json").read_text())["scores"]["val_top1_error"] == pytest.approx(best)
    assert best < 0.4
    assert {"top1_error", "val_loss", "learning_rate"} <= set(rows[0])
    # Three classes have no top five.
    assert "top5_error" not in rows[0]


def test_a_step_is_traced_once(tmp_path):
    """Keras would make the optimizer's state in the first step, which TensorFlow would then trace again."""
    model, traced = small(), []
    step = model.train_step
    vars(model)["train_step"] = lambda batch: traced.append(batch) or step(batch)
    zoo.train(model, data(), out=tmp_path, steps=2, batch_size=8, tensorboard=False, verbose=0)
    assert len(traced) == 1


def test_resumed_training_ends_with_the_same_weights(tmp_path):
    through = train(tmp_path / "through", epochs=3, keep="last")

    class Stop(Exception):
        pass

    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise Stop

    from zoo.training import fit

    original = fit.StopOnNan
    try:
        fit.StopOnNan = lambda batches: Kill()
        with pytest.raises(Stop):
            train(tmp_path / "broken", epochs=3, keep="last")
    finally:
        fit.StopOnNan = original
    other = ClassBatches(data(), 8, CropFlip(32, 2))
    with pytest.raises(ValueError, match=r"augmentation 'CropFlip\(size=32, pad=4.* then, 'CropFlip\(size=32, pad=2"):
        zoo.train(small(), other, out=tmp_path / "broken", epochs=3, resume=True, recipe=zoo.Recipe(0.05))
    resumed = train(tmp_path / "broken", epochs=3, keep="last", resume=True)
    for ours, theirs in zip(resumed.weights, through.weights, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-5, err_msg=ours.path)


def test_validation_errors_are_those_of_the_model(tmp_path):
    model = train(tmp_path, epochs=1, keep="last")
    images, labels = pictures(9, 1)
    guesses = model.predict(images, verbose=0).argmax(axis=1)
    assert read_csv(tmp_path / "history.csv")[-1]["val_top1_error"] == pytest.approx(np.mean(guesses != labels))


def test_classes_and_kinds_must_agree(tmp_path):
    wrong = cifar_network("resnet8", 8, 5, True)
    with pytest.raises(ValueError, match="the model has 5 classes, colours has 3"):
        zoo.train(wrong, data(), out=tmp_path, epochs=1)
    with pytest.raises(ValueError, match="has boxes, but resnet8 is a classifier"):
        zoo.train(small(), zoo.datasets.load("digits:4", "train"), out=tmp_path, epochs=1)


def test_batches_are_augmented_alike_whatever_the_workers():
    first, second = (ClassBatches(data(), 8, CropFlip(32, 4), seed=3, workers=workers) for workers in (1, 4))
    for (a, la), (b, lb) in zip(first.dataset(2, repeat=False), second.numpy_batches(2), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(la, lb)


def test_pictures_are_padded_alike_in_the_library_and_on_the_command_line():
    library = as_batches(small(), data(), 8, seed=1)
    command = class_batches(32, data(), 8, seed=1, workers=1)
    assert library.augment == command.augment == CropFlip(32, 4, (125, 123, 114), True)
    np.testing.assert_array_equal(library.batch(0, 0)[0], command.batch(0, 0)[0])


def test_schedule_drops_where_the_paper_says():
    named = named_recipe("cifar10")
    rate = WarmupDecay(named.recipe.learning_rate, named.steps, 0, "step", named.recipe.drops)
    rates = [float(rate(step)) for step in (0, 31_999, 32_000, 47_999, 48_000, 63_999)]
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rtol=1e-5)
    with pytest.raises(ValueError, match="rising shares"):
        WarmupDecay(0.1, 10, 0, "step", (0.7, 0.5))
    with pytest.raises(ValueError, match=f"there are {next(iter(RECIPES))}"):
        named_recipe("cifar")


def test_commands(tmp_path, capsys):
    archive = tmp_path / "colours.zip"
    images, labels = pictures(30)
    with zipfile.ZipFile(archive, "w") as target:
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            split = "train" if i < 24 else "test"
            encoded = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
            target.writestr(f"colours/{split}/{CLASSES[label]}/{i}.png", encoded)
    out = tmp_path / "run"
    words = [
        "train",
        "--data",
        str(archive),
        "--model",
        "resnet20",
        "--recipe",
        "cifar10",
        "--batch",
        "8",
        "--epochs",
        "1",
    ]
    assert main([*words, "--out", str(out), "--val-split", "test", "--no-tensorboard", "--quiet"]) == 0
    assert main(["eval", "--data", str(archive), "--weights", str(out), "--json", str(tmp_path / "s.json")]) == 0
    printed = capsys.readouterr().out
    assert "Top-1 error" in printed
    assert "24 pictures to train, 6 to validate" in printed
    scores = json.loads((tmp_path / "s.json").read_text())
    assert (scores["images"], scores["split"]) == (6, "test")
    assert np.sum(scores["confusion"]) == 6
    row = read_csv(out / "history.csv")[-1]
    assert row["learning_rate"] == pytest.approx(0.001)  # the recipe's, at the end of its last step
    assert scores["top1_error"] == pytest.approx(row["val_top1_error"])
    assert zoo.load(out).zoo_meta.classes == CLASSES
