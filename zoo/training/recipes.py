"""Trainings as the papers describe them, by name."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.training.fit import Recipe

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
            `zoo.datasets.class_augment`.
    """

    recipe: Recipe
    batch_size: int
    source: str
    steps: int | None = None
    epochs: int | None = None
    augmentation: str = "crop-flip"

    @property
    def length(self) -> dict[str, int]:
        """The length as `zoo.train` takes it."""
        return {"epochs": self.epochs} if self.steps is None else {"steps": self.steps}


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
}


def named_recipe(name: str) -> NamedRecipe:
    """The recipe of that name.

    >>> named_recipe("cifar10").steps
    64000
    """
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; there are {', '.join(RECIPES)}")
    return RECIPES[name]
