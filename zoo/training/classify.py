"""Measures a classifier: top-1 and top-5 error, confusion."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from zoo.datasets.class_records import ClassificationDataset
from zoo.datasets.class_views import CentreCrop

Views = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class ClassScores:
    """What came of it.

    Attributes:
        classes: class names.
        top1_error: share of pictures whose class is not the most probable one.
        top5_error: share of pictures whose class is not among the five most probable.
        loss: mean cross-entropy.
        confusion: (K, K) pictures by true (row) and most probable class (column).
        probabilities: (N, K) float32, the mean over the views of each picture.
        seconds: time inside the model.
    """

    classes: tuple[str, ...]
    top1_error: float
    top5_error: float
    loss: float
    confusion: np.ndarray
    probabilities: np.ndarray
    seconds: float

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON; probabilities left out."""
        right = np.diag(self.confusion) / np.maximum(self.confusion.sum(axis=1), 1)
        return {
            "top1_error": self.top1_error,
            "top5_error": self.top5_error,
            "loss": self.loss,
            "accuracy": dict(zip(self.classes, map(float, right), strict=True)),
            "confusion": self.confusion.tolist(),
        }


def score_probabilities(
    probabilities: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], seconds: float = 0.0
) -> ClassScores:
    """Errors of ``probabilities`` (N, K) against ``labels`` (N,).

    Equal probabilities count against the model: a picture is right if fewer than one (or five) other classes are
    at least as probable as its own.

    >>> score_probabilities(np.array([[0.2, 0.8], [0.6, 0.4]]), np.array([1, 1]), ("cat", "dog")).top1_error
    0.5
    """
    labels = np.asarray(labels)
    rows = np.arange(len(labels))
    own = probabilities[rows, labels]
    ahead = (probabilities >= own[:, None]).sum(axis=1) - 1
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (labels, probabilities.argmax(axis=1)), 1)
    return ClassScores(
        tuple(classes),
        float(np.mean(ahead >= 1)),
        float(np.mean(ahead >= 5)),
        float(-np.mean(np.log(np.maximum(own, 1e-12)))),
        confusion,
        probabilities,
        seconds,
    )


def evaluate_classifier(
    model: keras.Model,
    dataset: ClassificationDataset,
    *,
    views: Views | None = None,
    batch_size: int = 250,
    progress: Callable[[int], None] | None = None,
) -> ClassScores:
    """Test ``model`` on ``dataset``.

    Args:
        model: from images ``(B, S, S, 3)`` RGB 0-255 to probabilities ``(B, K)``.
        dataset: pictures of any size.
        views: turns a picture into the views ``(V, S, S, 3)`` whose probabilities are averaged; the middle of the
            picture by default.
        batch_size: views at once.
        progress: called with the number of pictures after each piece.

    Example:
        >>> evaluate_classifier(model, load_classes("cifar10.zip", "test")).top1_error    # doctest: +SKIP
    """
    check_class_count(model, dataset)
    views = views or CentreCrop(model.input_shape[1] or 224)
    found: list[np.ndarray] = []
    seconds, start = 0.0, 0
    while start < len(dataset):
        pieces: list[np.ndarray] = []
        while start < len(dataset) and sum(map(len, pieces)) < batch_size:
            pieces.append(views(dataset.image(start)))
            start += 1
        started = time.perf_counter()
        probabilities = np.asarray(model.predict_on_batch(np.concatenate(pieces)), np.float32)
        seconds += time.perf_counter() - started
        ends = np.cumsum([len(piece) for piece in pieces])[:-1]
        found += [part.mean(axis=0) for part in np.split(probabilities, ends)]
        if progress is not None:
            progress(len(pieces))
    return score_probabilities(np.stack(found), dataset.labels, dataset.classes, seconds)


def check_class_count(model: keras.Model, dataset: ClassificationDataset) -> None:
    """Raise if the model has another number of classes than the data, or other names where it knows them."""
    if not len(dataset):
        raise ValueError(f"{dataset.name}: the data set is empty")
    count = model.output_shape[-1]
    if count != len(dataset.classes):
        raise ValueError(
            f"the model has {count} classes, {dataset.name} has {len(dataset.classes)}; build the model with "
            "classes=dataset.classes"
        )
    meta = getattr(model, "zoo_meta", None)
    names = tuple(meta.classes) if meta is not None else ()
    if names and names != tuple(dataset.classes):
        raise ValueError(
            f"the model knows the classes {', '.join(names[:8])} ..., {dataset.name} has "
            f"{', '.join(dataset.classes[:8])} ...; load the data with the model's classes, or train a model for these"
        )
