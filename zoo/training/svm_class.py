"""One class's linear support vector machine, and its cache of hard negatives (Girshick 2014, section 2.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SVMSettings:
    """How the machines are trained; the defaults are those of R-CNN's release and of Fast R-CNN's ``train_svms``.

    Attributes:
        cost: C of liblinear's hinge loss.
        bias: the constant feature whose weight is the bias, so that it is hardly punished (liblinear's ``-B``).
        positive_weight: of the loss of positives.
        norm: mean length that vectors are scaled to.
        hard: negatives whose margin is above this join the cache.
        easy: after each training those below this leave it: -1.1 in Fast R-CNN's release, -1.2 in R-CNN's.
        retrain: a class is trained anew when more than so many negatives have joined.
        negative_overlap: negatives overlap all objects of the class by less than this (R-CNN: "0 is bad, .5 too").
        passes: over the pictures; "mAP stops increasing after only a single pass".
        seed: of liblinear's coordinate descent, and of the pictures that the mean length is measured on.
    """

    cost: float = 0.001
    bias: float = 10.0
    positive_weight: float = 2.0
    norm: float = 20.0
    hard: float = -1.0001
    easy: float = -1.1
    retrain: int = 2000
    negative_overlap: float = 0.3
    passes: int = 1
    seed: int = 3

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        positive = {name: getattr(self, name) for name in ("cost", "bias", "positive_weight", "norm")}
        wrong = [f"{name}={value:g}" for name, value in positive.items() if not value > 0]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: give positive numbers")
        if self.passes < 1 or self.retrain < 1:
            raise ValueError(f"passes={self.passes}, retrain={self.retrain}: give whole numbers from 1 on")
        if not 0 < self.negative_overlap <= 1:
            raise ValueError(f"negative_overlap={self.negative_overlap:g}; give an overlap above 0 and up to 1")


class ClassSVM:
    """A plane between the objects of a class and hard negatives, which are gathered picture by picture.

    Args:
        positives: (N, F) float32, vectors of the objects themselves, scaled.
        settings: how it is trained.

    Attributes:
        weights: (F,) float64; zero until there were more than ``settings.retrain`` negatives, as in the release.
        bias: of the plane.

    Example:
        >>> machine = ClassSVM(np.array([[2.0, 0.0]]), SVMSettings(cost=1.0))
        >>> machine.add(np.array([[-2.0, 0.0]]), [("street.jpg", 0)])
        False
        >>> machine.fit()
        >>> machine.margins(np.array([[2.0, 0.0], [-2.0, 0.0]])).round(2).tolist()
        [1.0, -1.0]
    """

    def __init__(self, positives: np.ndarray, settings: SVMSettings) -> None:
        self.settings, self.positives = settings, np.asarray(positives, np.float32)
        self.negatives = np.zeros((0, self.positives.shape[1]), np.float32)
        self.weights, self.bias = np.zeros(self.positives.shape[1]), 0.0
        self._keys: list[tuple] = []
        self._added = 0

    def margins(self, vectors: np.ndarray) -> np.ndarray:
        """Margins (P,) of scaled vectors (P, F): positive on the side of the class."""
        return vectors @ self.weights + self.bias

    def add(self, vectors: np.ndarray, keys: list[tuple]) -> bool:
        """Take those of some negatives that are hard into the cache, and train anew if many have come.

        Args:
            vectors: (P, F), scaled.
            keys: tells each vector from all others, so that further passes do not take it twice.

        Returns:
            Whether the plane is another one.
        """
        hard = np.flatnonzero(self.margins(vectors) > self.settings.hard)
        known = set(self._keys) if len(hard) else set()
        new = [i for i in hard.tolist() if keys[i] not in known]
        if not new:  # most pictures, once a plane is good: the cache need not be copied for nothing
            return False
        self.negatives = np.concatenate([self.negatives, vectors[new]])
        self._keys += [keys[i] for i in new]
        self._added += len(new)
        if self._added <= self.settings.retrain:
            return False
        self.fit()
        return True

    def fit(self) -> None:
        """Train on what there is, then drop the easy negatives. Nothing to do without positives or negatives."""
        from sklearn.svm import LinearSVC

        self._added = 0
        if not len(self.positives) or not len(self.negatives):
            return
        machine = LinearSVC(
            C=self.settings.cost,
            class_weight={1: self.settings.positive_weight, -1: 1.0},
            intercept_scaling=self.settings.bias,
            loss="hinge",
            dual=True,
            max_iter=10_000,
            random_state=self.settings.seed,
        )
        vectors = np.concatenate([self.positives, self.negatives])
        signs = np.repeat([1, -1], [len(self.positives), len(self.negatives)])
        machine.fit(vectors, signs)
        self.weights, self.bias = machine.coef_[0].astype(np.float64), float(machine.intercept_[0])
        kept = np.flatnonzero(self.margins(self.negatives) >= self.settings.easy)
        if len(kept):  # as in the release: a cache without hard ones stays as it is
            self.negatives, self._keys = self.negatives[kept], [self._keys[i] for i in kept]
