"""A small alternating training, and a small joint one; run by ``test_alternating.py``, which kills them.

Arguments: ``alternating`` or ``joint``, the folder to train in, and seconds to take over each picture.
"""

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from tiny import tiny_detector

from zoo.datasets.records import DetectionDataset, Sample
from zoo.training.alternating import train_alternating
from zoo.training.fit import train
from zoo.training.four_steps import FourSteps
from zoo.training.recipe import Recipe


class Squares(DetectionDataset):
    """Grey noise with a dark square (a) or a bright one (b) in each picture."""

    def __init__(self, count: int = 6, delay: float = 0.0) -> None:
        corners = np.random.default_rng(4).integers(4, 30, (count, 2))
        boxes = [[x, y, x + 24, y + 24] for x, y in corners]
        samples = [Sample(f"s{i}", None, (64, 80), [box], [i % 2], [0], [0]) for i, box in enumerate(boxes)]
        super().__init__("squares", ("a", "b"), samples)
        self.delay = delay

    def load(self, index: int) -> tuple[np.ndarray, Sample]:
        time.sleep(self.delay)
        sample = self.sample(index)
        image = np.random.default_rng(index).integers(100, 140, (64, 80, 3)).astype(np.uint8)
        x1, y1, x2, y2 = (int(side) for side in sample.boxes[0])
        image[y1:y2, x1:x2] = (20, 235)[int(sample.classes[0])]
        return image, sample


def recipe(**changes: object) -> Recipe:
    """Everything that has state."""
    settings = {"learning_rate": 0.01, "warmup_steps": 0, "bias_rate": 2.0, "momentum": 0.8, "drops": (0.75,)}
    return Recipe(**{**settings, **changes})


def plan(**changes: object) -> FourSteps:
    """An epoch and a half of each step, so that a checkpoint lies behind the second half."""
    return FourSteps(**{"rpn": recipe(), "fast": recipe(), "rpn_steps": 9, "fast_steps": 5, **changes})


def alternating(out: Path, seed: int = 0, delay: float = 0.0, **options: object) -> object:
    """Train by turns; ``seed`` is of the model that is given, which matters at the first start alone."""
    options = {"resume": True, "tensorboard": False, "verbose": 0, "plan": plan(), "say": _quiet} | options
    return train_alternating(tiny_detector(seed=seed), Squares(delay=delay), out=out, **options)


def joint(out: Path, seed: int = 0, delay: float = 0.0, **options: object) -> object:
    """Train RPN and head together, with all that a recipe has."""
    every = recipe(ema=0.9, clipnorm=5.0, accumulate=2, train_from="conv2")
    options = {"resume": True, "tensorboard": False, "verbose": 0, "keep": "last", "steps": 20} | options
    model = tiny_detector(seed=seed)
    train(model, Squares(delay=delay), out=out, batch_size=2, recipe=every, **options)
    return model


def _quiet(text: str) -> None:
    """Say nothing."""


if __name__ == "__main__":
    {"alternating": alternating, "joint": joint}[sys.argv[1]](Path(sys.argv[2]), delay=float(sys.argv[3]))
