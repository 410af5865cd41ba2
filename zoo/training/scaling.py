"""A learning rate for larger batches."""

from __future__ import annotations

from dataclasses import replace

from zoo.training.recipe import Recipe

WARMUP_EPOCHS = 5  # Goyal 2017, section 2.2


def scale_rate(recipe: Recipe, batch_size: int, given_for: int, steps_per_epoch: int) -> Recipe:
    """The recipe for batches of ``batch_size`` pictures, whose learning rate is given for those of ``given_for``.

    The rate grows with the batch, and is warmed up for five epochs (Goyal et al. 2017, arXiv:1706.02677, sections 2.1
    and 2.2); ``replace(recipe, warmup_steps=...)`` afterwards for another warm-up.

    >>> scale_rate(Recipe(learning_rate=0.1), batch_size=1024, given_for=256, steps_per_epoch=1251).learning_rate
    0.4
    """
    if given_for < 1:
        raise ValueError(f"the learning rate is given for batches of at least 1 picture, not {given_for}")
    return replace(
        recipe,
        learning_rate=recipe.learning_rate * batch_size / given_for,
        warmup_steps=WARMUP_EPOCHS * steps_per_epoch,
    )
