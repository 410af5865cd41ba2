"""Learning rates that warm up and then fall."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras
from keras import ops

Shape = Literal["step", "cosine", "constant"]
SHAPES = ("step", "cosine", "constant")

# Where the step falls: the joint training of Ren 2015 divides by 10 after 50k of 70k iterations; .7 is
# that, rounded.
DROPS = (0.7,)
STEP_FACTOR = 0.1
# A cosine ends here rather than at zero: the last steps still do something.
COSINE_END = 0.01


@keras.saving.register_keras_serializable(package="zoo")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to ``peak``, then divisions by ten, or half a cosine, over ``total_steps``.

    Args:
        peak: highest learning rate.
        total_steps: steps of the whole training.
        warmup_steps: step k < ``warmup_steps`` has the factor (k + 1) / (``warmup_steps`` + 1).
        shape: ``"step"``, ``"cosine"`` or ``"constant"``.
        drops: shares of the training after which ``"step"`` divides by ten.

    Example:
        >>> rate = WarmupDecay(0.01, total_steps=100, warmup_steps=9)
        >>> [round(float(rate(step)), 4) for step in (0, 9, 69, 70)]
        [0.001, 0.01, 0.01, 0.001]
    """

    def __init__(
        self,
        peak: float,
        total_steps: int,
        warmup_steps: int = 0,
        shape: Shape = "step",
        drops: Sequence[float] = DROPS,
    ) -> None:
        """Refuse what is no schedule."""
        super().__init__()
        if shape not in SHAPES:
            raise ValueError(f"schedule {shape!r}; choose one of {', '.join(SHAPES)}")
        if peak <= 0 or total_steps < 1 or warmup_steps < 0:
            raise ValueError(f"peak={peak}, total_steps={total_steps}, warmup_steps={warmup_steps}: not a schedule")
        if not all(0 < drop < 1 for drop in drops) or list(drops) != sorted(set(drops)):
            raise ValueError(f"drops={tuple(drops)}: give rising shares of the training between 0 and 1")
        self.peak, self.total_steps, self.warmup_steps, self.shape = peak, total_steps, warmup_steps, shape
        self.drops = tuple(float(drop) for drop in drops)

    def __call__(self, step: Any) -> Any:
        """The learning rate of ``step`` (counted from 0), a float32 scalar."""
        step = ops.cast(step, "float32")
        return self.at(step, step / self.total_steps)

    def at(self, step: Any, progress: Any) -> Any:
        """The learning rate of ``step`` when the share ``progress`` (0..1) of the training is over."""
        step, progress = ops.cast(step, "float32"), ops.cast(progress, "float32")
        warmup = ops.minimum(1.0, (step + 1.0) / (self.warmup_steps + 1.0))
        if self.shape == "step":
            passed = sum((ops.cast(progress >= drop, "float32") for drop in self.drops), ops.zeros_like(progress))
            decay = ops.power(STEP_FACTOR, passed)
        elif self.shape == "cosine":
            decay = COSINE_END + (1 - COSINE_END) * 0.5 * (1.0 + ops.cos(ops.minimum(progress, 1.0) * 3.14159265))
        else:
            decay = ops.ones_like(progress)
        return self.peak * warmup * decay

    def get_config(self) -> dict[str, Any]:
        """The arguments, so that a compiled model can be saved."""
        return {
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "shape": self.shape,
            "drops": self.drops,
        }
