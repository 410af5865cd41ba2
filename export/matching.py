"""Whether two sets of results are the same, up to rounding and up to ties."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Results = Mapping[str, np.ndarray]
_Trimmed = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Tolerance:
    """How far apart two results may be: ``boxes`` in pixels, ``scores`` in 0..1."""

    boxes: float = 0.5
    scores: float = 1e-3


@dataclass(frozen=True)
class Agreement:
    """What came of a comparison.

    Attributes:
        expected: detections (or probabilities) of the Keras model.
        matched: how many the artifact has too.
        tied: how many are there on one side only, which rounding alone decides: their score is at the threshold, or
            at the end of a full list, or the Keras model itself finds them at one time and not at another; or that of
            a best class, when two are equally probable.
        worst_box: largest difference of a coordinate among the matched, in pixels.
        worst_score: largest difference of a score.
        wrong: one sentence for each other difference, the worst first.
    """

    expected: int
    matched: int
    tied: int
    worst_box: float
    worst_score: float
    wrong: tuple[str, ...] = ()


def compare_detections(
    expected: Results,
    found: Results,
    classes: Sequence[str],
    *,
    tolerance: Tolerance = Tolerance(),
    threshold: float = 0.0,
    shaken: Iterable[Results] = (),
) -> Agreement:
    """Pair the detections of one image, each with the nearest of the same class within the tolerance, in any order.

    Args:
        expected: ``boxes (D, 4)``, ``scores (D,)``, ``classes (D,)``, ``num_detections`` of the Keras model.
        found: the same of the artifact.
        classes: names, for the sentences.
        tolerance: how far apart a pair may be.
        threshold: least score of a detection; one that is at it may be there or not.
        shaken: what the Keras model finds when its inputs change by next to nothing (:mod:`zoo.export.rounding`). What
            one of these lacks too may be missing, and what one of them has may be there.
    """
    a, b = _trimmed(expected), _trimmed(found)
    (boxes_a, scores_a, classes_a), (boxes_b, scores_b, classes_b) = a, b
    far, off, fits = _compared(a, b, tolerance)
    # Where boxes may be anywhere the nearest is still the one that is meant.
    near = tolerance.boxes if np.isfinite(tolerance.boxes) else 1.0
    pairs = _nearest_pairs(far / near + off / tolerance.scores, fits)
    left_a = sorted(set(range(len(scores_a))) - {a for a, _ in pairs})
    left_b = sorted(set(range(len(scores_b))) - {b for _, b in pairs})

    excused: set[tuple[str, int]] = set()
    most = len(expected["scores"])
    for side, left, scores, others in (("a", left_a, scores_a, scores_b), ("b", left_b, scores_b, scores_a)):
        # A full list ends where the next best would have been.
        end = others.min() if len(others) == most else threshold
        excused |= {(side, each) for each in left if scores[each] <= max(end, threshold) + tolerance.scores}
    for other in map(_trimmed, shaken):
        there_a, there_b = (_compared(side, other, tolerance)[2].any(axis=1) for side in (a, b))
        excused |= {("a", each) for each in left_a if not there_a[each]}
        excused |= {("b", each) for each in left_b if there_b[each]}

    wrong = [
        (scores_a[a], _missing(boxes_a[a], scores_a[a], classes[classes_a[a]], found, classes))
        for a in left_a
        if ("a", a) not in excused
    ]
    wrong += [
        (scores_b[b], f"the artifact alone finds {_name(boxes_b[b], scores_b[b], classes[classes_b[b]])}")
        for b in left_b
        if ("b", b) not in excused
    ]
    # Of scores that rounding alone tells apart what is lacking comes first, as it names what is there in its place.
    wrong.sort(key=lambda each: -round(float(each[0]), 3))
    return Agreement(
        len(scores_a),
        len(pairs),
        len(excused),
        float(max((far[pair] for pair in pairs), default=0.0)),
        float(max((off[pair] for pair in pairs), default=0.0)),
        tuple(sentence for _, sentence in wrong),
    )


def compare_probabilities(
    expected: Results,
    found: Results,
    classes: Sequence[str],
    *,
    tolerance: Tolerance = Tolerance(),
) -> Agreement:
    """Compare a classifier's ``probabilities (K,)``, and its best class unless two are equally probable."""
    a, b = expected["probabilities"], found["probabilities"]
    off = np.abs(a - b)
    # A NaN is not within any tolerance.
    bad = np.flatnonzero(~(off <= tolerance.scores))
    wrong = [
        f"{classes[index]} has probability {b[index]:.5f} instead of {a[index]:.5f}"
        for index in sorted(bad, key=lambda index: -np.nan_to_num(off[index], nan=np.inf))
    ]
    first, second = int(a.argmax()), int(found["classes"][0])
    tied = 0
    if first != second:
        if a[first] - a[second] <= tolerance.scores:
            tied = 1
        else:
            wrong.insert(0, f"the best class is {classes[second]} instead of {classes[first]}")
    return Agreement(len(a), len(a) - len(bad), tied, 0.0, float(np.max(np.nan_to_num(off, nan=np.inf))), tuple(wrong))


def _compared(a: _Trimmed, b: _Trimmed, tolerance: Tolerance) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each in ``a`` with each in ``b``: difference of the boxes, of the scores, and whether they are the same."""
    far = np.abs(a[0][:, None] - b[0][None]).max(axis=2, initial=0)
    off = np.abs(a[1][:, None] - b[1][None])
    return far, off, (a[2][:, None] == b[2][None]) & (far <= tolerance.boxes) & (off <= tolerance.scores)


def _trimmed(results: Results) -> _Trimmed:
    """Without the padding: boxes (N, 4), scores (N,), classes (N,)."""
    count = int(results["num_detections"])
    boxes = np.asarray(results["boxes"], np.float64)[:count].reshape(-1, 4)
    return boxes, np.asarray(results["scores"], np.float64)[:count], np.asarray(results["classes"], np.int64)[:count]


def _nearest_pairs(cost: np.ndarray, allowed: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (row, column), the cheapest first; none is used twice."""
    order = np.argsort(np.where(allowed, cost, np.inf), axis=None)[: allowed.sum()]
    rows: set[int] = set()
    columns: set[int] = set()
    pairs = []
    for row, column in zip(*(index.tolist() for index in np.unravel_index(order, cost.shape)), strict=True):
        if row not in rows and column not in columns:
            rows.add(row)
            columns.add(column)
            pairs.append((row, column))
    return pairs


def _missing(box: np.ndarray, score: float, name: str, found: Results, classes: Sequence[str]) -> str:
    """What the artifact lacks, and the most similar that it has."""
    sentence = f"the artifact lacks {_name(box, score, name)}"
    boxes, scores, indices = _trimmed(found)
    if not len(scores):
        return f"{sentence}; it finds nothing"
    near = int(np.abs(boxes - box).max(axis=1).argmin())
    return f"{sentence}; its nearest is {_name(boxes[near], scores[near], classes[indices[near]])}"


def _name(box: np.ndarray, score: float, name: str) -> str:
    sides = ", ".join(f"{side:.2f}" for side in box)
    return f"{name} of score {score:.4f} at ({sides})"
