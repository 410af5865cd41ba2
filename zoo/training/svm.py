"""Linear SVMs in place of a trained detector's softmax (Girshick 2015, section 5.4 and table 8; Girshick 2014)."""

from __future__ import annotations

import logging
from collections.abc import Callable

import keras
import numpy as np

from zoo.datasets.metric_inputs import box_iou
from zoo.datasets.proposals import ProposalSource
from zoo.datasets.proposals_choice import check_proposals
from zoo.datasets.records import DetectionDataset
from zoo.training.evaluate import check_classes
from zoo.training.rebuilt import rebuilt
from zoo.training.roi_vectors import Picture, RoIVectors, pictures
from zoo.training.svm_class import ClassSVM, SVMSettings

_log = logging.getLogger("zoo")
_MEASURED = 100  # pictures that the mean length of vectors is taken of
_NEVER = -10.0  # margin of a class that has no object: far below any threshold

Progress = Callable[[int], None]


def train_svms(
    model: keras.Model,
    data: DetectionDataset,
    proposals: ProposalSource,
    *,
    settings: SVMSettings | None = None,
    mirrored: bool = True,
    progress: Progress | None = None,
) -> keras.Model:
    """A detector whose classes are scored by one linear SVM each, from one that is trained.

    The procedure is that of ``train_svms`` of Fast R-CNN's release, which is R-CNN's: vectors are those before the
    class layer (fc7), scaled to a mean length of 20. Positives are the objects' own boxes; negatives are proposals
    that overlap all objects of the class by less than .3, and are mined: a class starts from zero weights, takes the
    negatives above a margin of -1.0001 into its cache, is trained anew whenever more than 2000 have come, and then
    drops those below -1.1. After one pass over the pictures each class is trained a last time.

    Args:
        model: a Fast R-CNN, SPPnet or R-CNN; it stays as it is.
        data: pictures to train on, with the model's classes.
        proposals: where their proposals come from; the first ``model.proposals`` of a picture are looked at.
        settings: constants of the procedure.
        mirrored: each picture is also seen mirrored, as in the release.
        progress: called with a number of pictures that are done; `work` tells how many there are in all.

    Returns:
        A model like any other, with the option ``scoring="svm"``: the planes, with the scale of vectors multiplied
        in, are its class layer, and scores are what :func:`zoo.heads.postprocess.class_scores` makes of margins. It
        detects, is measured, saved, compressed and exported; it is not trained further. A class without an object in
        ``data`` is never detected; a warning of the logger ``zoo`` names it.

    Raises:
        ValueError: another kind of model, other classes, or no objects at all.
        ProposalError: a picture without proposals.

    Example:
        >>> model = zoo.load("runs/fast")                                                    # doctest: +SKIP
        >>> svms = train_svms(model, data, open_proposals("proposals"))                      # doctest: +SKIP
        >>> zoo.evaluate(svms, test, proposals=open_proposals("proposals")).result.map       # doctest: +SKIP
    """
    settings, vectors = settings or SVMSettings(), RoIVectors(model)
    check_classes(model.classes, data)
    check_proposals(proposals, data)

    def all_pictures():
        most, difficult = model.proposals, model.use_difficult
        for picture in pictures(data, proposals, most, difficult=difficult, mirrored=mirrored):
            yield picture
            if progress is not None:
                progress(1)

    scale, machines = _started(vectors, all_pictures(), len(data) * (1 + mirrored), settings, len(model.classes))
    for _ in range(settings.passes):
        for picture in all_pictures():
            found = vectors(picture.image, picture.proposals) * scale
            # Continuous boxes overlap as much as the same ones with their last pixel counted.
            overlaps = box_iou(picture.proposals, picture.objects)
            for k, machine in enumerate(machines):
                nearest = overlaps[:, picture.classes == k].max(axis=1, initial=0.0)
                negative = np.flatnonzero(nearest < settings.negative_overlap)
                machine.add(found[negative], [(*picture.key, int(i)) for i in negative])
    for machine in machines:
        machine.fit()
    return _with_planes(model, machines, scale)


def work(data: DetectionDataset, settings: SVMSettings | None = None, mirrored: bool = True) -> int:
    """How many pictures :func:`train_svms` reports as done in all: one pass for the objects, then those of mining."""
    return len(data) * (1 + mirrored) * (1 + (settings or SVMSettings()).passes)


def _started(
    vectors: RoIVectors, every: object, count: int, settings: SVMSettings, classes: int
) -> tuple[float, list[ClassSVM]]:
    """The scale of vectors, and a machine a class that knows its positives and nothing else."""
    chosen = np.random.default_rng(settings.seed).permutation(count)[:_MEASURED]
    measured, lengths, positives = set(chosen.tolist()), [], [[] for _ in range(classes)]
    for place, picture in enumerate(every):
        found = vectors(picture.image, _looked_at(picture, place in measured))
        for vector, k in zip(found, picture.classes, strict=False):
            positives[k].append(vector)
        if place in measured:
            lengths.append(np.linalg.norm(found, axis=1))
    if not any(positives):
        raise ValueError("no picture has an object: there is nothing to train support vector machines on")
    mean = float(np.concatenate(lengths).mean())
    if not mean > 0:
        raise ValueError(f"the vectors of {vectors.model.name} are all zero; has it been trained?")
    scale = settings.norm / mean
    empty = np.zeros((0, vectors.width), np.float32)
    return scale, [ClassSVM(np.stack(each) * scale if each else empty, settings) for each in positives]


def _looked_at(picture: Picture, all_of_it: bool) -> np.ndarray:
    """The objects, and the proposals behind them if these are wanted too."""
    return np.concatenate([picture.objects, picture.proposals]) if all_of_it else picture.objects


def _with_planes(model: keras.Model, machines: list[ClassSVM], scale: float) -> keras.Model:
    """The model with the planes as its class layer; the background's column has no meaning."""
    without = [name for name, machine in zip(model.classes, machines, strict=True) if not len(machine.positives)]
    if without:
        _log.warning("%s: no object of %s in the data; never detected", model.name, ", ".join(without))
    kernel = np.zeros((machines[0].weights.size, 1 + len(machines)), np.float32)
    bias = np.zeros(1 + len(machines), np.float32)
    for column, machine in enumerate(machines, start=1):
        kernel[:, column] = machine.weights * scale
        bias[column] = machine.bias if len(machine.positives) else _NEVER
    return rebuilt(model, {"scoring": "svm"}, {"head/score/kernel": kernel, "head/score/bias": bias})
