"""Trainings as the papers describe them, by name."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.training.fit import Recipe


@dataclass(frozen=True)
class NamedRecipe:
    """A paper's training.

    Attributes:
        recipe: learning rate and the like.
        batch_size: pictures a step.
        steps: length; a shorter training keeps the shares at which the learning rate falls.
        source: where the paper says so.
    """

    recipe: Recipe
    batch_size: int
    steps: int
    source: str


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
}


def named_recipe(name: str) -> NamedRecipe:
    """The recipe of that name.

    >>> named_recipe("cifar10").steps
    64000
    """
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; there are {', '.join(RECIPES)}")
    return RECIPES[name]
