"""A linear regression of boxes for a detector that was trained without one (Girshick 2014, appendix C)."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np

from zoo.datasets.metric_inputs import box_iou
from zoo.datasets.proposals import ProposalSource
from zoo.datasets.proposals_choice import check_proposals
from zoo.datasets.records import DetectionDataset
from zoo.detectors.roi_detector import LAST_PIXEL
from zoo.heads import boxes as box_math
from zoo.training.evaluate import check_classes
from zoo.training.rebuilt import rebuilt
from zoo.training.roi_vectors import Picture, RoIVectors, pictures

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]


class Ridge:
    """Least squares with a penalty of the squared weights, for vectors that come bit by bit.

    Args:
        width: F, numbers in a vector.

    Example:
        >>> ridge = Ridge(1)
        >>> ridge.add(np.array([[1.0], [2.0], [3.0]]), np.array([[0.0] * 4, [1] * 4, [2] * 4]))
        >>> kernel, bias = ridge.solve(0.0, 1.0)
        >>> float(kernel[0, 0].round(6)), float(bias[0].round(6))
        (1.0, -1.0)
    """

    def __init__(self, width: int) -> None:
        self._square = np.zeros((width + 1, width + 1))
        self._product, self._targets, self.count = np.zeros((width + 1, 4)), np.zeros(4), 0

    def add(self, vectors: np.ndarray, targets: np.ndarray) -> None:
        """Take vectors (N, F) and their targets (N, 4)."""
        longer = np.concatenate([vectors, np.ones((len(vectors), 1))], axis=1).astype(np.float64)
        self._square += longer.T @ longer
        self._product += longer.T @ targets
        self._targets += targets.sum(axis=0)
        self.count += len(vectors)

    def solve(self, penalty: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
        """Kernel (F, 4) and bias (4,) that minimise the error plus ``penalty`` times the squared weights.

        The targets' mean is taken away before, the constant feature's weight is punished like the others, and vectors
        count as multiplied by ``scale``, which the kernel makes up for. (The release also whitens the targets; of a
        linear regression with one penalty for all four the solution is the same without.)
        """
        mean = self._targets / max(self.count, 1)
        sums = self._square[-1]
        by = np.append(np.full(len(sums) - 1, scale), 1.0)
        square = self._square * by[:, None] * by + penalty * np.eye(len(by))
        product = (self._product - sums[:, None] * mean) * by[:, None]
        found = np.linalg.solve(square, product) * by[:, None]
        return found[:-1], found[-1] + mean


def fit_boxes(
    model: keras.Model,
    data: DetectionDataset,
    proposals: ProposalSource,
    *,
    penalty: float = 1000.0,
    least_overlap: float = 0.6,
    norm: float = 20.0,
    mirrored: bool = True,
    progress: Callable[[int], None] | None = None,
) -> keras.Model:
    """A detector with a ridge regression of boxes for each class, in place of its own or of none.

    Each proposal that overlaps an object by more than ``least_overlap`` is paired with the one it overlaps most; the
    regression of that object's class learns what turns the one into the other (``t`` of appendix C). Vectors are
    scaled to a mean length of 20. R-CNN takes them from pool5; here they are those of the last layers (fc7), so that
    the result is the detector's own box layer, and any body will do. One F x F matrix a class is held in memory, in
    double precision: 0.13 GB for VGG-16's 4096 numbers.

    Args:
        model: a Fast R-CNN, SPPnet or R-CNN; it stays as it is.
        data: pictures to train on, with the model's classes.
        proposals: where their proposals come from; the first ``model.proposals`` of a picture are looked at.
        penalty: lambda.
        least_overlap: of a pair.
        norm: mean length that vectors are scaled to.
        mirrored: each picture is also seen mirrored.
        progress: called with a number of pictures that are done, of ``len(data) * (1 + mirrored)``.

    Returns:
        A model like any other, with ``bbox="multi"``. Boxes of a class without pairs are left as proposed.

    Raises:
        ValueError: another kind of model, other classes, or no proposal that overlaps an object so much.
        ProposalError: a picture without proposals.

    Example:
        >>> model = fit_boxes(zoo.load("runs/rcnn"), data, open_proposals("proposals"))    # doctest: +SKIP
    """
    if not (penalty > 0 and 0 <= least_overlap < 1 and norm > 0):
        raise ValueError(
            f"penalty={penalty:g}, least_overlap={least_overlap:g}, norm={norm:g}: give a positive penalty and norm, "
            "and an overlap from 0 to below 1"
        )
    vectors = RoIVectors(model)
    check_classes(model.classes, data)
    check_proposals(proposals, data)
    ridges, lengths, count = [Ridge(vectors.width) for _ in model.classes], 0.0, 0
    every = pictures(data, proposals, model.proposals, difficult=model.use_difficult, mirrored=mirrored)
    for picture in every:
        places, classes, targets = _pairs(picture, least_overlap, model.convention)
        found = vectors(picture.image, picture.proposals[places])
        for k in set(classes.tolist()):
            ridges[k].add(found[classes == k], targets[classes == k])
        lengths, count = lengths + float(np.linalg.norm(found, axis=1).sum()), count + len(found)
        if progress is not None:
            progress(1)
    if not lengths > 0:
        raise ValueError(f"{data.name}: no proposal overlaps an object by more than {least_overlap:g}")
    kernel = np.zeros((vectors.width, 1 + len(ridges), 4), np.float32)
    bias = np.zeros((1 + len(ridges), 4), np.float32)
    for column, ridge in enumerate(ridges, start=1):
        if ridge.count:
            kernel[:, column], bias[column] = ridge.solve(penalty, norm * count / lengths)
    shape = (len(ridges), 4)
    arrays = {"head/loc/kernel": kernel.reshape(vectors.width, -1), "head/loc/bias": bias.reshape(-1)}
    arrays |= {"box_means": np.zeros(shape, np.float32), "box_deviations": np.ones(shape, np.float32)}
    return rebuilt(model, {"bbox": "multi", "refine": True}, arrays)


def _pairs(picture: Picture, least: float, convention: str) -> Pairs:
    """Places of proposals that overlap an object enough, and the class (N,) and deltas (N, 4) of their objects."""
    if not len(picture.objects):
        return np.zeros(0, int), np.zeros(0, int), np.zeros((0, 4))
    overlaps = box_iou(picture.proposals, picture.objects)
    places = np.flatnonzero(overlaps.max(axis=1, initial=0.0) > least)
    best = overlaps[places].argmax(axis=1)
    last = LAST_PIXEL if convention != "continuous" else 0.0
    pair = (np.asarray(each - last, np.float32) for each in (picture.objects[best], picture.proposals[places]))
    deltas = box_math.encode(*pair, convention == "caffe")
    return places, picture.classes[best], keras.ops.convert_to_numpy(deltas)
