"""Recipes for detectors: the papers' schedules, biases, freezing, accumulation; resuming with all of them."""

from types import SimpleNamespace

import fakes
import keras
import numpy as np
import pytest
from tiny import tiny_detector

import zoo
from zoo.backbones.alexnet import alexnet_parts
from zoo.backbones.vgg import vgg_parts
from zoo.backbones.vgg_m import vgg_m_parts
from zoo.cli.main import main
from zoo.datasets.pipeline import Batches
from zoo.datasets.records import DetectionDataset, Sample
from zoo.training.averaging import averaged_weights
from zoo.training.checkpoint import read_progress
from zoo.training.fit import Recipe, train
from zoo.training.freeze import freeze_before, paper_start
from zoo.training.optimizer import BiasRateSGD, make_optimizer
from zoo.training.recipes import RECIPES, named_recipe, recipes_for
from zoo.training.schedule import WarmupDecay
from zoo.weights_io import weight_names


class Squares(DetectionDataset):
    """Grey pictures with a bright or a dark square; breaks after some pictures if asked to."""

    def __init__(self, count=6, breaks_after=None):
        rng = np.random.default_rng(4)
        corners = rng.integers(4, 30, (count, 2))
        boxes = [[x, y, x + 24, y + 24] for x, y in corners]
        samples = [Sample(f"s{i}", None, (64, 80), [box], [i % 2], [0], [0]) for i, box in enumerate(boxes)]
        super().__init__("squares", ("a", "b"), samples)
        self.left = breaks_after

    def load(self, index):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise OSError("the disk is gone")
        sample = self.sample(index)
        image = np.random.default_rng(index).integers(100, 140, (64, 80, 3)).astype(np.uint8)
        x1, y1, x2, y2 = (int(side) for side in sample.boxes[0])
        image[y1:y2, x1:x2] = (20, 235)[int(sample.classes[0])]
        return image, sample


def arrays(model):
    return {name: np.asarray(v).copy() for name, v in weight_names(model).items()}


def fit(model, out, data=None, **options):
    options = {"epochs": 2, "verbose": 0, "tensorboard": False, "keep": "last", "batch_size": 2} | options
    return train(model, data or Squares(), out=out, **options)


# Iterations of the papers and their releases at which the rate is still .001, and first is .0001 and .00001.
@pytest.mark.parametrize(
    ("name", "pictures", "iterations", "drops", "models"),
    [
        ("voc07-joint", 2, 70_000, (50_000,), "faster_rcnn_vgg16"),
        ("voc0712-joint", 2, 110_000, (80_000,), "faster_rcnn_vgg16"),
        ("fast-voc07", 2, 40_000, (30_000,), "fast_rcnn_vgg16"),
        ("fast-voc0712", 2, 60_000, (30_000,), "fast_rcnn_caffenet"),
        ("fast-voc0712++", 2, 100_000, (40_000, 80_000), "fast_rcnn_vgg16"),
    ],
)
def test_recipes_are_the_papers(name, pictures, iterations, drops, models):
    named = named_recipe(name)
    recipe = named.recipe
    assert (recipe.learning_rate, recipe.momentum, recipe.weight_decay) == (0.001, 0.9, 5e-4)
    assert (recipe.bias_rate, recipe.train_from, recipe.warmup_steps) == (2.0, "paper", 0)
    assert named.batch_size * recipe.accumulate == pictures
    assert named.steps == iterations * recipe.accumulate
    schedule = WarmupDecay(recipe.learning_rate, named.steps, 0, recipe.schedule, recipe.drops)
    for number, drop in enumerate(drops):
        # What an iteration's last batch sees, at which the weights are stepped.
        before, after = (float(schedule((k + 1) * recipe.accumulate - 1)) for k in (drop - 1, drop))
        assert before == pytest.approx(0.001 / 10**number)
        assert after == pytest.approx(0.0001 / 10**number)
    assert float(schedule(named.steps - 1)) == pytest.approx(0.001 / 10 ** len(drops))
    assert name in recipes_for(models, "detection")
    assert name not in recipes_for("resnet50", "classification")
    assert not named.suits("retinanet", "detection")
    text = named.describe(name)
    for part in (name, f"{named.steps:,} steps (batches)", "bias_rate=2.0", named.source[:40]):
        assert part in text


@pytest.mark.parametrize("accumulate", [1, 3])
def test_steps_against_numpy(accumulate):
    """Seven batches of made-up gradients: momentum, clipping, decay, biases, accumulation and the average."""
    rng = np.random.default_rng(0)
    shapes = {"kernel": (3, 4), "bias": (4,), "gamma": (4,)}
    start = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    gradients = [{name: rng.standard_normal(shape) * 3 for name, shape in shapes.items()} for _ in range(7)]
    recipe = Recipe(0.1, weight_decay=0.02, clipnorm=2.0, ema=0.8, bias_rate=2.0, accumulate=accumulate)
    rates = WarmupDecay(0.1, 7, 2, "step", (0.5,))

    variables = [keras.Variable(start[name].astype("float32"), name=name) for name in shapes]
    model = type("Model", (), {"trainable_variables": variables})()
    optimizer = make_optimizer(model, recipe, rates)
    optimizer.build(variables)
    for batch in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(batch[name], "float32") for name in shapes], variables)

    weights, speed = dict(start), {name: np.zeros(shape) for name, shape in shapes.items()}
    average, moves = dict(start), 0.8 ** (1 / accumulate)
    collected: list = []
    for k, batch in enumerate(gradients):
        collected.append(batch)
        if len(collected) == accumulate:
            mean = {name: sum(one[name] for one in collected) / accumulate for name in shapes}
            norm = np.sqrt(sum((g**2).sum() for g in mean.values()))
            rate = 0.1 * min(1, (k + 1) / 3) * (0.1 if k / 7 >= 0.5 else 1.0)
            for name in shapes:
                g = mean[name] * min(1, 2.0 / norm)
                if name == "kernel":
                    weights[name] = weights[name] * (1 - rate * 0.02 / (1 - 0.9))
                speed[name] = 0.9 * speed[name] - rate * (2 if name == "bias" else 1) * g
                weights[name] = weights[name] + speed[name]
            collected = []
        for name in shapes:  # it starts with the weights after the first step
            part = moves if k >= accumulate else 0.0
            average[name] = part * average[name] + (1 - part) * weights[name]
    assert int(np.asarray(optimizer.iterations)) == 7 // accumulate
    for variable, name in zip(variables, shapes, strict=True):
        np.testing.assert_allclose(np.asarray(variable), weights[name], rtol=2e-4, atol=1e-5, err_msg=name)
    optimizer.finalize_variable_values(variables)
    for variable, name in zip(variables, shapes, strict=True):
        np.testing.assert_allclose(np.asarray(variable), average[name], rtol=2e-4, atol=1e-5, err_msg=name)


def test_an_average_forgets_by_steps_of_the_weights():
    """It moves by ``ema`` from one step of the weights to the next, whatever is accumulated."""
    variable = keras.Variable(np.zeros(1, "float32"), name="w")
    model = type("Model", (), {"trainable_variables": [variable]})()
    optimizer = make_optimizer(model, Recipe(1.0, momentum=0.0, weight_decay=0, ema=0.5, accumulate=4), 1.0)
    optimizer.build([variable])
    for _ in range(8):  # two steps, to -1 and to -2
        optimizer.apply([keras.ops.ones(1)], [variable])
    for _ in range(3):  # the third step would be that of the next batch
        optimizer.apply([keras.ops.zeros(1)], [variable])
    assert float(np.asarray(variable)[0]) == -2
    with averaged_weights(type("Model", (), {"trainable_weights": [variable], "optimizer": optimizer})()):
        assert float(np.asarray(variable)[0]) == pytest.approx(0.5 * -1 + 0.5 * -2)
    assert float(np.asarray(variable)[0]) == -2


def test_the_optimiser_is_saved_with_its_settings():
    optimizer = BiasRateSGD(0.1, bias_rate=2.0, momentum=0.8, gradient_accumulation_steps=2, use_ema=True)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert copy.get_config() == optimizer.get_config()
    assert (copy.bias_rate, copy.gradient_accumulation_steps) == (2.0, 2)


def test_settings_that_cannot_be_are_refused():
    for wrong in ({"momentum": 1.0}, {"ema": 1.5}, {"accumulate": 0}, {"accumulate": 1.5}, {"bias_rate": -1}):
        with pytest.raises(ValueError, match=rf"{next(iter(wrong))}="):
            Recipe(**wrong)


@pytest.mark.parametrize(
    ("extractor", "start", "frozen"),
    [
        (vgg_parts("vgg16", head_units=4).extractor, "conv3_1", ("conv1_1", "conv1_2", "conv2_1", "conv2_2")),
        (vgg_m_parts(head_units=(4, 4)).extractor, "conv2", ("conv1",)),
        (alexnet_parts("caffenet", head_units=4).extractor, "conv2", ("conv1",)),
    ],
    ids=["L", "M", "S"],
)
def test_the_paper_trains_from(extractor, start, frozen):
    # Girshick 2015, section 4.5.
    assert paper_start(extractor) == start
    assert freeze_before(extractor, "paper") == frozen
    trained = {variable.path.split("/")[0] for variable in extractor.trainable_variables}
    weighted = {layer.name for layer in extractor.layers if layer.weights}
    assert trained == weighted - set(frozen)


def test_a_stage_stands_for_its_first_layer():
    assert freeze_before(vgg_parts("vgg11", head_units=4).extractor, "conv3") == ("conv1_1", "conv2_1")
    halves = alexnet_parts("alexnet", head_units=4).extractor
    # conv2 is the name of what puts the halves together; both halves are trained.
    assert "conv2" in [layer.name for layer in halves.layers]
    assert freeze_before(halves, "conv2") == ("conv1",)
    with pytest.raises(ValueError, match=r"train_from='conv9' is no layer of tiny; it has conv1, conv2, conv3, conv4"):
        freeze_before(tiny_detector(), "conv9")
    assert paper_start(zoo.get("resnet18", include_top=False)) is None
    assert freeze_before(zoo.get("resnet18", include_top=False), "paper") == ()


def test_the_head_alone_is_trained_from_its_first_layer():
    # Girshick 2015, table 5.
    model = tiny_detector()
    assert freeze_before(model, "fc") == ("conv1", "conv2", "conv3", "conv4")
    trained = {variable.path.removeprefix("tiny/") for variable in model.trainable_variables}
    assert {"fc/kernel", "head/score/kernel", "head/loc/bias"} <= trained
    assert not any(name.startswith("conv") for name in trained), trained
    parts = vgg_parts("vgg11", head_units=4)
    model = SimpleNamespace(name="x", extractor=parts.extractor, head=SimpleNamespace(body=parts.body))
    assert freeze_before(model, "fc7")[-2:] == ("conv5_2", "fc6")
    assert not parts.extractor.trainable_variables


def test_frozen_layers_stay_bit_for_bit_and_the_others_learn(tmp_path):
    keras.utils.set_random_seed(0)
    model = fakes.FakeDetector(("a", "b"))
    before = arrays(model)
    fit(model, tmp_path, recipe=Recipe(0.1, train_from="norm", weight_decay=0.01), epochs=1)
    after = arrays(model)
    for name in before:
        same = np.array_equal(before[name], after[name])
        assert same == name.startswith("hidden/"), name
    with pytest.raises(ValueError, match=r"train_from 'norm' then, None now"):
        fit(fakes.FakeDetector(("a", "b")), tmp_path, recipe=Recipe(0.1, weight_decay=0.01), resume=True)


def test_a_broken_training_with_everything_goes_on_as_if_nothing_had_happened(tmp_path):
    """Epochs of three batches, two of which make a step: checkpoints fall into the middle of an accumulation."""
    recipe = Recipe(0.01, ema=0.9, clipnorm=5.0, bias_rate=2.0, accumulate=2, train_from="conv2", warmup_steps=3)
    whole = tiny_detector()
    fit(whole, tmp_path / "whole", recipe=recipe, epochs=4)
    with pytest.raises(OSError, match=r"the disk is gone"):
        fit(tiny_detector(), tmp_path / "parts", Squares(breaks_after=16), recipe=recipe, epochs=4)
    assert 1 <= read_progress(tmp_path / "parts" / "checkpoint.weights.h5").epoch < 4
    resumed = tiny_detector(seed=99)
    fit(resumed, tmp_path / "parts", recipe=recipe, epochs=4, resume=True)
    expected, found = arrays(whole), arrays(resumed)
    for name in expected:
        np.testing.assert_array_equal(expected[name], found[name], err_msg=name)
    assert int(np.asarray(resumed.optimizer.iterations)) == 6
    for one, other in zip(whole.optimizer.variables, resumed.optimizer.variables, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other), err_msg=one.path)
    for changed, message in (({"accumulate": 3}, "accumulate 2 then, 3 now"), ({"bias_rate": 1.0}, "bias_rate 2.0")):
        with pytest.raises(ValueError, match=message):
            fit(tiny_detector(), tmp_path / "parts", recipe=Recipe(**{**vars(recipe), **changed}), resume=True)


def test_accumulated_batches_are_one_large_batch(tmp_path):
    """Of a loss that is a mean over pictures, two batches of one are a batch of two."""

    class Mean(fakes.FakeDetector):
        def call(self, x, training=False):
            return super().call(x, training=False)  # no dropout, no statistics of the batch

    data = Squares()
    found = []
    for size, accumulate in ((2, 1), (1, 2)):
        keras.utils.set_random_seed(3)
        model = Mean(("a", "b"))
        recipe = Recipe(0.05, schedule="constant", warmup_steps=0, accumulate=accumulate)
        batches = Batches(data, size, shuffle=False, flip=False)
        train(model, batches, out=tmp_path / f"{size}", epochs=1, recipe=recipe, verbose=0, tensorboard=False)
        found.append(arrays(model))
    for name in found[0]:
        np.testing.assert_allclose(found[0][name], found[1][name], atol=1e-6, err_msg=name)


def test_info_tells_the_recipes(capsys):
    assert main(["info", "faster_rcnn_vgg16"]) == 0
    text = capsys.readouterr().out
    assert "voc07-joint" in text
    assert "voc07-alternating" in text
    assert "fast-voc07" not in text
    assert main(["info", "voc07-alternating"]) == 0
    text = capsys.readouterr().out
    assert "80,000 steps (batches) of 1 for each RPN, 40,000 of 2 for each Fast R-CNN" in text
    assert "drops=(0.75,)" in text
    assert main(["info", "fast-voc0712++"]) == 0
    text = capsys.readouterr().out
    assert "100,000 steps" in text
    assert "drops=(0.4, 0.8)" in text
    assert main(["info", "voc07-jiont"]) == 2
    assert "voc07-joint" in capsys.readouterr().err
    assert main(["info", "resnet20"]) == 0
    assert "cifar10" in capsys.readouterr().out


def test_every_recipe_describes_itself():
    for name, recipe in RECIPES.items():
        text = recipe.describe(name)
        assert max(map(len, text.splitlines())) <= 110
        assert recipe.task in text
