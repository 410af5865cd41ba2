"""What a compression of the dense layers brings and costs: size, time, average precision."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import keras
import numpy as np

from zoo.compression import head_layers, kernel_of
from zoo.detectors.fast_rcnn import FastRCNN
from zoo.heads.low_rank import LowRankDense


@dataclass(frozen=True)
class LayerChange:
    """One layer before and after.

    Attributes:
        name: of the layer.
        shape: (u, v) of its kernel.
        rank: t after it; the full rank of a layer that stayed whole.
        energy: share of the kernel's squared singular values that is kept.
        before: numbers in its kernel,
        after: and in both thin ones.
    """

    name: str
    shape: tuple[int, int]
    rank: int
    energy: float
    before: int
    after: int


@dataclass(frozen=True)
class Cost:
    """What a model takes.

    Attributes:
        parameters: numbers in all.
        megabytes: its weights file, in millions of bytes.
        dense_ms: milliseconds a picture in the dense layers; ``None`` where no time was taken.
        whole_ms: milliseconds a picture in all.
        map: mean average precision, if data were given.
    """

    parameters: int
    megabytes: float
    dense_ms: float | None = None
    whole_ms: float | None = None
    map: float | None = None

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return asdict(self)


def layer_changes(before: keras.Model, after: keras.Model) -> list[LayerChange]:
    """The layers whose rank has changed.

    >>> [change.rank for change in layer_changes(model, zoo.compress(model, {"fc6": 64}))]    # doctest: +SKIP
    [64]
    """
    found, old = [], head_layers(before)
    for name, layer in head_layers(after).items():
        was = old[name]
        if not isinstance(layer, LowRankDense) or getattr(was, "rank", None) == layer.rank:
            continue
        kernel = kernel_of(was)
        # The error itself, not the singular values: it also tells if the layers were mixed up.
        lost = np.square(kernel - kernel_of(layer), dtype=np.float64).sum()
        whole = np.square(kernel, dtype=np.float64).sum()
        kept = 1 - float(lost / (whole or 1.0))  # a pyramid's coarser levels begin at zero
        found.append(LayerChange(name, kernel.shape, layer.rank, kept, _kernels(was), _kernels(layer)))
    return found


def dense_part(model: keras.Model) -> keras.Model:
    """The dense layers of a detector alone: from the input of the first to class logits and box deltas.

    Of an SPPnet, where several layers look at parts of what is pooled, from there. It shares its weights with the
    detector.
    """
    head = model.head
    first = next(iter(head_layers(model).values())).input
    last = [layer(head.body.output) for layer in (head.score, head.loc) if layer is not None]
    return keras.Model(head.body.input if _readers(head.body) > 1 else first, last, name="dense_part")


def _readers(network: keras.Model) -> int:
    """How many operations look at the network's input."""
    return sum(any(each is network.input for each in keras.tree.flatten(step.input)) for step in network.operations)


def take_times(
    models: Sequence[keras.Model], image: np.ndarray, rois: int, repeats: int = 5
) -> list[tuple[float, float]]:
    """Milliseconds of the dense layers and of the whole, for each model: medians of turns taken by all in order.

    Args:
        models: detectors.
        image: (H, W, 3) uint8; detected in as a whole.
        rois: inputs that the dense layers are given; proposals of a Fast R-CNN.
        repeats: turns after a first one that is not counted.
    """
    if repeats < 1:
        raise ValueError(f"repeats={repeats}; give at least 1")
    rng = np.random.default_rng(0)
    jobs: list[Callable[[], object]] = []
    for model in models:
        part = dense_part(model)
        vectors = np.maximum(rng.standard_normal((rois, *part.input_shape[1:]), np.float32), 0)
        # Fast R-CNN is given proposals: finding them is no part of it.
        given = {"proposals": _boxes(image, rois)} if isinstance(model, FastRCNN) else {}
        jobs += [
            lambda part=part, x=vectors: part.predict_on_batch(x),
            lambda model=model, given=given: model.detect(image, **given),
        ]
    taken: list[list[float]] = [[] for _ in jobs]
    for turn in range(repeats + 1):
        for job, times in zip(jobs, taken, strict=True):
            started = time.perf_counter()
            job()
            if turn:
                times.append(1000 * (time.perf_counter() - started))
    medians = [float(np.median(times)) for times in taken]
    return list(zip(medians[::2], medians[1::2], strict=True))


def _boxes(image: np.ndarray, count: int) -> np.ndarray:
    """Random boxes (P, 4), of at least 16 pixels except at the border."""
    size = np.array(image.shape[1::-1], np.float32)
    corners = np.sort(np.random.default_rng(0).random((count, 2, 2), np.float32) * size, axis=1)
    corners[:, 1] = np.minimum(np.maximum(corners[:, 1], corners[:, 0] + 16), size)
    return corners.reshape(count, 4)


def _kernels(layer: keras.layers.Layer) -> int:
    return sum(int(np.prod(variable.shape)) for variable in layer.weights if variable is not layer.bias)
