"""Settings of Faster R-CNN's 4-step alternating training (Ren 2015, section 3.2)."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from zoo.training.kinds import BY_TURNS
from zoo.training.recipe import Recipe

# What each step trains, and the names of their folders.
STEPS = ("1-rpn", "2-fast", "3-rpn", "4-fast")
# Files of the whole: the weights that steps 1 and 2 start from, and what must not change when it goes on.
START, SETTINGS = "start.weights.h5", BY_TURNS


def _caffe() -> Recipe:
    """SGD of Girshick 2015 (section 2.3); lr /10 after three quarters: at 60k of 80k and at 30k of 40k."""
    return Recipe(
        learning_rate=0.001,
        momentum=0.9,
        weight_decay=5e-4,
        warmup_steps=0,
        drops=(0.75,),
        bias_rate=2.0,
        train_from="paper",
    )


@dataclass(frozen=True)
class FourSteps:
    """How the four steps are trained; the defaults are py-faster-rcnn's for VOC 2007.

    Attributes:
        rpn: steps 1 and 3. ``train_from`` counts in steps 1 and 2 only: later the convolutions are frozen as a whole.
        fast: steps 2 and 4.
        rpn_steps: batches of step 1, and of step 3.
        fast_steps: batches of step 2, and of step 4.
        rpn_batch: pictures in a batch of steps 1 and 3.
        fast_batch: pictures in a batch of steps 2 and 4; the model's ``head_samples`` RoIs are shared out among them.
        background_from: least overlap of background in steps 2 and 4; 0 in py-faster-rcnn, .1 in Girshick 2015.
        source: where the numbers are from.

    Example:
        >>> FourSteps(rpn_steps=800, fast_steps=400).rpn.drops
        (0.75,)
    """

    rpn: Recipe = field(default_factory=_caffe)
    fast: Recipe = field(default_factory=_caffe)
    rpn_steps: int = 80_000
    fast_steps: int = 40_000
    rpn_batch: int = 1
    fast_batch: int = 2
    background_from: float = 0.0
    source: str = "Ren 2015, section 3.2; py-faster-rcnn's faster_rcnn_alt_opt: 80k, 40k, 80k and 40k steps"

    def __post_init__(self) -> None:
        """Refuse lengths and sizes that are none."""
        for name in ("rpn_steps", "fast_steps", "rpn_batch", "fast_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; give at least 1")

    def recipe(self, step: int) -> Recipe:
        """The settings of step 1 to 4: seeds differ, and in steps 3 and 4 no part of the convolutions is trained."""
        own = self.rpn if step % 2 else self.fast
        return replace(own, seed=own.seed + step - 1, train_from=own.train_from if step <= 2 else None)

    def length(self, step: int) -> int:
        """Batches of a step."""
        return self.rpn_steps if step % 2 else self.fast_steps

    def batch_size(self, step: int) -> int:
        """Pictures in a batch of a step."""
        return self.rpn_batch if step % 2 else self.fast_batch

    def describe(self, name: str) -> str:
        """A page of text for people; ``name``: what it is called."""
        facts = {
            "For": "detection, faster_rcnn_*",
            "Source": self.source,
            "Length": f"{self.rpn_steps:,} steps (batches) of {self.rpn_batch} for each RPN, {self.fast_steps:,} of "
            f"{self.fast_batch} for each Fast R-CNN",
            "RPN": _listed(self.rpn),
            "Fast R-CNN": f"{_listed(self.fast)}, background_from={self.background_from}",
        }
        lines = [name, "=" * len(name)]
        for label, text in facts.items():
            lines += textwrap.wrap(text, 110, initial_indent=f"{label}:".ljust(15), subsequent_indent=" " * 15)
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def _listed(recipe: Recipe) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in asdict(recipe).items() if key != "seed")


FOUR_STEPS = {"voc07-alternating": FourSteps()}
