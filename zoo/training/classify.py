"""Measures a classifier: top-1 and top-5 error, confusion."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import keras
import numpy as np

from zoo.datasets.class_records import ClassificationDataset
from zoo.datasets.class_views import CentreCrop
from zoo.distribute.prediction import predict_batch

# Turns a picture into equally large views (V, S, S, 3), or into several such arrays of different sizes.
Views = Callable[[np.ndarray], np.ndarray | list[np.ndarray]]
_READERS = 4  # pictures decoded at the same time
_AHEAD = 32  # and at most so many before they are needed


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
    at least as probable as its own. So does a probability that is not a number.

    >>> score_probabilities(np.array([[0.2, 0.8], [0.6, 0.4]]), np.array([1, 1]), ("cat", "dog")).top1_error
    0.5
    """
    labels = np.asarray(labels)
    rows = np.arange(len(labels))
    own = probabilities[rows, labels]
    ahead = (~(probabilities < own[:, None])).sum(axis=1) - 1  # so that nan counts as a tie
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
        views: turns a picture into the views ``(V, S, S, 3)`` whose probabilities are averaged, or into several such
            arrays of different sizes if the model takes any; the middle of the picture by default.
        batch_size: views at once; larger ones than the model's own input count by their area.
        progress: called with the number of pictures after each piece.

    Example:
        >>> evaluate_classifier(model, load_classes("cifar10.zip", "test")).top1_error    # doctest: +SKIP
    """
    check_class_count(model, dataset)
    side = model.input_shape[1] or 224
    views = views or CentreCrop(side)
    found: list[np.ndarray] = []
    seconds = 0.0
    waiting: list[list[np.ndarray]] = []
    size = 0.0
    for index, pieces in enumerate(_read(dataset, views), start=1):
        waiting.append(pieces)
        size += sum(piece.size for piece in pieces) / (side * side * 3)
        if size >= batch_size or index == len(dataset):
            started = time.perf_counter()
            found += _mean_probabilities(model, waiting)
            seconds += time.perf_counter() - started
            if progress is not None:
                progress(len(waiting))
            waiting, size = [], 0.0
    return score_probabilities(np.stack(found), dataset.labels, dataset.classes, seconds)


def _read(dataset: ClassificationDataset, views: Views) -> Iterator[list[np.ndarray]]:
    """The views of every picture in order, read by threads a little ahead."""

    def load(index: int) -> list[np.ndarray]:
        made = views(dataset.image(index))
        return made if isinstance(made, list) else [made]

    with ThreadPoolExecutor(_READERS) as pool:
        coming: deque = deque()
        for index in range(len(dataset)):
            coming.append(pool.submit(load, index))
            if len(coming) == _AHEAD:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def _mean_probabilities(model: keras.Model, pictures: list[list[np.ndarray]]) -> list[np.ndarray]:
    """For each picture the mean over all its views; views of one size go through the model together."""
    totals: list = [0.0] * len(pictures)
    by_size: dict[tuple[int, ...], list[tuple[int, np.ndarray]]] = {}
    for number, pieces in enumerate(pictures):
        for piece in pieces:
            by_size.setdefault(piece.shape[1:], []).append((number, piece))
    for group in by_size.values():
        probabilities = predict_batch(model, np.concatenate([piece for _, piece in group]))
        ends = np.cumsum([len(piece) for _, piece in group])[:-1]
        for (number, _), part in zip(group, np.split(np.asarray(probabilities, np.float32), ends), strict=True):
            totals[number] = totals[number] + part.sum(axis=0)
    return [total / sum(map(len, pieces)) for total, pieces in zip(totals, pictures, strict=True)]


def average_scores(members: Sequence[ClassScores], labels: np.ndarray) -> ClassScores:
    """The scores of an ensemble: the mean of its members' probabilities (Krizhevsky 2012, section 6; He 2016, 4.1).

    Args:
        members: what each model scored on the same pictures, in the same order, of the same classes.
        labels: (N,) the pictures' classes.
    """
    if not members:
        raise ValueError("an ensemble needs at least one member")
    first = members[0]
    for member in members:
        if member.classes != first.classes or member.probabilities.shape != first.probabilities.shape:
            raise ValueError("the members of an ensemble have to be tested on the same pictures and classes")
    mean = np.mean([member.probabilities for member in members], axis=0, dtype=np.float64)
    seconds = sum(member.seconds for member in members)
    return score_probabilities(mean.astype(np.float32), labels, first.classes, seconds)


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
