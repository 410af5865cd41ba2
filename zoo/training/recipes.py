"""Trainings as the papers describe them, by name."""

from __future__ import annotations

import fnmatch
import textwrap
from dataclasses import dataclass, fields
from typing import Literal

from zoo.training.recipe import Recipe

# Where a paper lowers the rate when validation gets no better, "three times", and does not say when that was: the
# quarters at which Krizhevsky 2014 (arXiv:1404.5997, section 5) lowers it.
_QUARTERS = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class NamedRecipe:
    """A paper's training; its length is in steps or in epochs, as the paper gives it.

    Attributes:
        recipe: learning rate and the like.
        batch_size: pictures a step.
        source: where the paper says so.
        steps: length; a shorter training keeps the shares at which the learning rate falls.
        epochs: length, if not in steps.
        augmentation: how pictures are changed: ``"crop-flip"`` (`zoo.datasets.class_batches.CropFlip`) or a name of
            `zoo.datasets.class_augment`; of a classifier's alone.
        task: what is trained.
        models: pattern of the models that it is meant for.
    """

    recipe: Recipe
    batch_size: int
    source: str
    steps: int | None = None
    epochs: int | None = None
    augmentation: str = "crop-flip"
    task: Literal["classification", "detection"] = "classification"
    models: str = "*"

    @property
    def length(self) -> dict[str, int]:
        """The length as `zoo.train` takes it."""
        return {"epochs": self.epochs} if self.steps is None else {"steps": self.steps}

    def suits(self, model: str, task: str) -> bool:
        """Whether it is meant for a model.

        >>> RECIPES["voc07-joint"].suits("faster_rcnn_vgg16", "detection")
        True
        """
        return task == self.task and fnmatch.fnmatchcase(model, self.models)

    def describe(self, name: str) -> str:
        """A page of text for people; ``name``: what it is called."""
        unit, length = next(iter(self.length.items()))
        settings = [(field.name, getattr(self.recipe, field.name)) for field in fields(Recipe)]
        facts = {
            "For": f"{self.task}, {self.models}",
            "Source": self.source,
            "Length": f"{length:,} {unit}" + (" (batches)" if unit == "steps" else ""),
            "Batch": str(self.batch_size),
            "Augmentation": self.augmentation if self.task == "classification" else "",
            "Settings": ", ".join(f"{key}={value!r}" for key, value in settings if key != "seed"),
        }
        lines = [name, "=" * len(name)]
        for label, text in facts.items():
            head = f"{label}:".ljust(15)
            lines += textwrap.wrap(text, 110, initial_indent=head, subsequent_indent=" " * 15) if text else []
        return "\n".join(lines)


def _voc(
    source: str, steps: int, drops: tuple[float, ...], models: str, batch_size: int = 2, accumulate: int = 1
) -> NamedRecipe:
    """SGD of Girshick 2015 (section 2.3), which Ren 2015 takes over: lr .001, momentum .9, decay 5e-4, biases x 2."""
    recipe = Recipe(
        learning_rate=0.001,
        momentum=0.9,
        weight_decay=5e-4,
        warmup_steps=0,
        drops=drops,
        bias_rate=2.0,
        accumulate=accumulate,
        train_from="paper",
    )
    return NamedRecipe(recipe, batch_size, source, steps=steps, task="detection", models=models)


RECIPES = {
    "cifar10": NamedRecipe(
        Recipe(learning_rate=0.1, weight_decay=1e-4, drops=(0.5, 0.75), warmup_steps=0),
        batch_size=128,
        steps=64_000,
        source="He 2016, section 4.2: lr .1, divided by 10 at 32k and 48k of 64k steps of 128 pictures, decay 1e-4",
    ),
    "cifar10-deep": NamedRecipe(
        Recipe(learning_rate=0.1, weight_decay=1e-4, drops=(0.5, 0.75), warmup_steps=400),
        batch_size=128,
        steps=64_000,
        source="He 2016, section 4.2 for 110 layers: a warm-up of about 400 steps (there at a constant .01)",
    ),
    "imagenet-alexnet": NamedRecipe(
        Recipe(learning_rate=0.01, weight_decay=5e-4, drops=_QUARTERS, warmup_steps=0),
        batch_size=128,
        epochs=90,
        augmentation="alexnet",
        source="Krizhevsky 2012, section 5: lr .01, lowered three times, 90 epochs of 128 pictures a step, decay 5e-4",
    ),
    "imagenet-vgg": NamedRecipe(
        Recipe(learning_rate=0.01, weight_decay=5e-4, drops=_QUARTERS, warmup_steps=0),
        batch_size=256,
        steps=370_000,
        augmentation="vgg",
        source="Simonyan 2015, section 3.1: lr .01, lowered three times, 370k steps (74 epochs) of 256, decay 5e-4",
    ),
    "imagenet-resnet": NamedRecipe(
        Recipe(learning_rate=0.1, weight_decay=1e-4, drops=_QUARTERS, warmup_steps=0),
        batch_size=256,
        steps=600_000,
        augmentation="resnet",
        source="He 2016, section 3.4: lr .1, lowered when the error stops falling, 600k steps of 256, decay 1e-4",
    ),
    "voc07-joint": _voc(
        "Ren 2015, joint training; py-faster-rcnn's faster_rcnn_end2end: 70k iterations of two accumulated pictures, "
        "lr /10 at 50k",
        steps=140_000,
        drops=(5 / 7,),
        models="faster_rcnn_*",
        batch_size=1,
        accumulate=2,
    ),
    "voc0712-joint": _voc(
        "tf-faster-rcnn's pascal_voc_0712, since the paper gives no length for 07+12: 110k iterations, lr /10 at 80k; "
        "pictures accumulated as for VOC 2007",
        steps=220_000,
        drops=(8 / 11,),
        models="faster_rcnn_*",
        batch_size=1,
        accumulate=2,
    ),
    "fast-voc07": _voc(
        "Girshick 2015, section 2.3: 30k iterations of two pictures, and 10k at lr /10",
        steps=40_000,
        drops=(0.75,),
        models="fast_rcnn_*",
    ),
    "fast-voc0712": _voc(
        "Girshick 2015, section 5.3: 60k iterations; the rate falls every 30k, as it does without the 07++12",
        steps=60_000,
        drops=(0.5,),
        models="fast_rcnn_*",
    ),
    "fast-voc0712++": _voc(
        "Girshick 2015, section 5.3, 07++12: 100k iterations, lr /10 every 40k",
        steps=100_000,
        drops=(0.4, 0.8),
        models="fast_rcnn_*",
    ),
}


def recipes_for(model: str, task: str) -> list[str]:
    """Names of the recipes that are meant for a model.

    >>> recipes_for("fast_rcnn_vgg16", "detection")
    ['fast-voc07', 'fast-voc0712', 'fast-voc0712++']
    """
    return [name for name, recipe in RECIPES.items() if recipe.suits(model, task)]


def named_recipe(name: str) -> NamedRecipe:
    """The recipe of that name.

    >>> named_recipe("cifar10").steps
    64000
    """
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; there are {', '.join(RECIPES)}")
    return RECIPES[name]
