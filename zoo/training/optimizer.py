"""Stochastic gradient descent as Caffe's solver configures it: biases learn faster, gradients are accumulated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from zoo.training.recipe import Recipe


@keras.saving.register_keras_serializable(package="zoo")
class BiasRateSGD(keras.optimizers.SGD):
    """SGD with momentum whose biases have a learning rate of their own (Caffe's ``lr_mult``; Girshick 2015, 2.3).

    Args:
        learning_rate: a number or a schedule; a schedule counts batches, accumulated or not.
        bias_rate: what it is multiplied by for biases: vectors called ``bias``, not those of normalisation.
        momentum: of the gradients.
        weight_decay: as in Keras: outside the momentum, and times the learning rate.
        global_clipnorm: limit of the norm of all (accumulated) gradients together.
        use_ema: keep an average of the weights,
        ema_momentum: by which it moves at each batch.
        gradient_accumulation_steps: batches whose gradients are averaged for one step (``iter_size``).
        name: of the optimiser.

    Example:
        >>> BiasRateSGD(0.001, bias_rate=2.0).get_config()["bias_rate"]
        2.0
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 0.001,
        *,
        bias_rate: float = 1.0,
        momentum: float = 0.9,
        weight_decay: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        gradient_accumulation_steps: int | None = None,
        name: str = "sgd",
    ) -> None:
        """See the class."""
        super().__init__(
            learning_rate,
            momentum=momentum,
            weight_decay=weight_decay,
            global_clipnorm=global_clipnorm,
            use_ema=use_ema,
            ema_momentum=ema_momentum,
            gradient_accumulation_steps=gradient_accumulation_steps,
            name=name,
        )
        self.bias_rate = float(bias_rate)
        self._biases: frozenset[int] = frozenset()

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Create the state for these variables, and remember which are biases."""
        super().build(variables)
        self._biases = frozenset(i for i, variable in enumerate(variables) if variable.name == "bias")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One step of one variable."""
        if self.bias_rate != 1 and self._get_variable_index(variable) in self._biases:
            learning_rate = learning_rate * self.bias_rate
        super().update_step(gradient, variable, learning_rate)

    def get_config(self) -> dict[str, Any]:
        """Arguments of ``__init__``."""
        config = super().get_config()
        own = ("learning_rate", "momentum", "weight_decay", "global_clipnorm", "use_ema", "ema_momentum")
        own = (*own, "gradient_accumulation_steps", "name")
        return {**{key: config[key] for key in own}, "bias_rate": self.bias_rate}


def make_optimizer(
    model: keras.Model, recipe: Recipe, learning_rate: float | keras.optimizers.schedules.LearningRateSchedule
) -> BiasRateSGD:
    """The optimiser of a recipe for a model; vectors (biases, scales of normalisation) are not decayed.

    >>> make_optimizer(model, Recipe(bias_rate=2.0, accumulate=2), 0.001)    # doctest: +SKIP
    """
    optimizer = BiasRateSGD(
        learning_rate,
        bias_rate=recipe.bias_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay / (1 - recipe.momentum) if recipe.weight_decay else None,
        global_clipnorm=recipe.clipnorm,
        use_ema=recipe.ema is not None,
        # Keras moves the average at every batch, also where the weights wait for more gradients.
        ema_momentum=0.99 if recipe.ema is None else recipe.ema ** (1 / recipe.accumulate),
        gradient_accumulation_steps=recipe.accumulate if recipe.accumulate > 1 else None,
    )
    vectors = [variable for variable in model.trainable_variables if len(variable.shape) < 2]
    optimizer.exclude_from_weight_decay(var_list=vectors)
    return optimizer
