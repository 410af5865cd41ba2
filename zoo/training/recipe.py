"""How weights are stepped: the settings of one training."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.training.schedule import DROPS, Shape


@dataclass(frozen=True)
class Recipe:
    """How the weights are stepped; the defaults are those of py-faster-rcnn except for the warm-up and the biases.

    Attributes:
        learning_rate: the highest; .001 with images of ~600x800 there, to be raised with the batch size.
        momentum: of SGD.
        weight_decay: Caffe's meaning, a pull inside the gradient. Keras's decay acts outside the momentum,
            so that it is given ``weight_decay / (1 - momentum)``: the same pull once the momentum has
            settled. Vectors (biases, batch-norm scales) are left out.
        warmup_steps: length of the linear warm-up; ``None`` for a twentieth of the training, at most 500
            steps.
        schedule: ``"step"``, ``"cosine"`` or ``"constant"``, see ``WarmupDecay``.
        drops: shares of the training after which ``"step"`` divides the learning rate by ten.
        clipnorm: limit of the norm of all gradients together; ``None`` for none.
        ema: momentum of an average of the weights, for example .998, used for validation and kept at the end;
            ``None`` for none.
        seed: of the data's order and augmentation.
        bias_rate: learning rate of biases, as a multiple; 2 in the papers' Caffe models (``lr_mult``).
        accumulate: batches whose gradients are averaged for one step of the weights (Caffe's ``iter_size``). Lengths,
            the warm-up and the schedule go on counting batches; gradients left over at the end are dropped.
        train_from: name of the first layer, or stage, that is trained; earlier ones are frozen. ``"paper"`` for what
            Girshick 2015 does with the network, see `zoo.training.freeze.paper_start`; ``None`` trains all.
    """

    learning_rate: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup_steps: int | None = None
    schedule: Shape = "step"
    drops: tuple[float, ...] = DROPS
    clipnorm: float | None = None
    ema: float | None = None
    seed: int = 0
    bias_rate: float = 1.0
    accumulate: int = 1
    train_from: str | None = None

    def __post_init__(self) -> None:
        """Refuse what would fail only after the data are read."""
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum={self.momentum}; give 0 to below 1")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema={self.ema}; give a momentum between 0 and 1, such as .998, or None")
        if self.accumulate < 1 or self.accumulate != int(self.accumulate):
            raise ValueError(f"accumulate={self.accumulate}; give a whole number of batches, at least 1")
        if self.bias_rate < 0:
            raise ValueError(f"bias_rate={self.bias_rate}; give 0 (biases stay) or a positive multiple")
