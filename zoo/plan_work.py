"""What a training step of a model costs: multiplications, parameters and bytes, counted layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from zoo.heads.low_rank import LowRankDense
from zoo.training.evaluate import takes_proposals

# Layers of which every number of the kernel is multiplied once for each place of the output, or of the input.
_BY_OUTPUT = (
    *(layers.Dense, LowRankDense, layers.Conv1D, layers.Conv2D, layers.Conv3D),
    *(layers.DepthwiseConv2D, layers.SeparableConv2D),
)
_BY_INPUT = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
# Their output is their input under another shape: no memory of its own.
_VIEWS = (layers.InputLayer, layers.Flatten, layers.Reshape)


@dataclass(frozen=True)
class LayerWork:
    """One call of one layer on one picture.

    Attributes:
        layer: its name.
        macs: multiplications with its kernel, forward.
        backward: the same backward: once for the kernel's gradient if it is trained, once for the input's if anything
            before it is.
        output: bytes of what it gives, which training keeps until the way back.
    """

    layer: str
    macs: int
    backward: int
    output: int


@dataclass(frozen=True)
class Workload:
    """A training step of one picture.

    A MAC is a multiplication and an addition: two FLOPs.

    Attributes:
        model: name.
        size: height and width of the picture, in pixels.
        layers: in the order in which they run.
        parameters: numbers, those included that are not trained.
        parameter_bytes: of all of them.
        gradient_bytes: of the trained ones' gradients.
        uncounted: layers with a kernel of a kind that is not known here, by name.
    """

    model: str
    size: tuple[int, int]
    layers: tuple[LayerWork, ...]
    parameters: int
    parameter_bytes: int
    gradient_bytes: int
    uncounted: tuple[str, ...] = ()

    @property
    def forward_macs(self) -> int:
        """MACs of the way forward."""
        return sum(each.macs for each in self.layers)

    @property
    def training_macs(self) -> int:
        """MACs of the ways forward and back."""
        return self.forward_macs + sum(each.backward for each in self.layers)

    @property
    def training_flops(self) -> int:
        """FLOPs of both ways."""
        return 2 * self.training_macs

    @property
    def backward_share(self) -> float:
        """Which part of a step's work is on the way back."""
        return 1 - self.forward_macs / self.training_macs if self.training_macs else 0.0

    @property
    def activation_bytes(self) -> int:
        """What layers give on the way forward."""
        return sum(each.output for each in self.layers)


def count_work(model: keras.Model, size: tuple[int, int] | None = None) -> Workload:
    """Run a training step's way forward on one random picture, and count what its layers do. Nothing is changed.

    As in the papers' own counts, convolutions and dense layers are counted, and normalisation, pooling, activations
    and boxes are not.

    Args:
        model: any of this package, built.
        size: of the picture; by default what a classifier takes, and what a detector resizes to, 3 high and 4 wide.

    Example:
        >>> round(count_work(zoo.get("vgg16")).forward_macs / 1e9, 1)                         # doctest: +SKIP
        15.5
    """
    size = usual_size(model) if size is None else size
    x, y = example_batch(model, 1, size)
    calls: list[LayerWork] = []
    uncounted: list[str] = []
    with keras.StatelessScope(), _watching(model, calls, uncounted):
        predicted = model(x, training=True)
        if hasattr(model, "detect"):
            model.compute_loss(x, y, predicted, None, training=True)
    return Workload(
        model=model.name,
        size=size,
        layers=tuple(calls),
        parameters=int(model.count_params()),
        parameter_bytes=sum(_bytes(each) for each in model.weights),
        gradient_bytes=sum(_bytes(each) for each in model.trainable_variables),
        uncounted=tuple(dict.fromkeys(uncounted)),
    )


def usual_size(model: keras.Model) -> tuple[int, int]:
    """Height and width of the pictures that a model is made for."""
    if hasattr(model, "preprocessing"):
        short, long = model.preprocessing.short, model.preprocessing.long
        return short, min(long, round(short * 4 / 3))
    height, width = model.input_shape[1:3]
    return height or 224, width or 224


def example_batch(model: keras.Model, count: int, size: tuple[int, int], seed: int = 0) -> tuple[Any, Any]:
    """``(x, y)`` as the model's training takes them: ``count`` random pictures of ``size``."""
    height, width = size
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, height, width, 3)).astype(np.uint8)
    if not hasattr(model, "detect"):
        classes = keras.tree.flatten(model.outputs)[0].shape[-1]
        return images, rng.integers(0, classes, count).astype(np.int32)
    corner = rng.uniform(0, 0.5, (count, 2000, 2)) * [width, height]
    boxes = np.concatenate([corner, corner + rng.uniform(0.1, 0.5, corner.shape) * [width, height]], -1)
    x = {"images": images, "image_id": np.arange(count, dtype=np.int32)}
    if takes_proposals(model):
        x["proposals"] = boxes.astype(np.float32)
    classes = rng.integers(0, len(model.classes), (count, 2)).astype(np.int32)
    return x, {"boxes": boxes[:, :2].astype(np.float32), "classes": classes}


@contextmanager
def _watching(model: keras.Model, calls: list[LayerWork], uncounted: list[str]) -> Iterator[None]:
    """While the block runs, every call of a layer that has no layers inside is noted."""
    leaves = {id(each): each for each in model._flatten_layers() if not list(each._flatten_layers(include_self=False))}
    behind = [False]  # whether something that is trained has run
    for layer in leaves.values():
        # Not by setattr, which Keras watches.
        vars(layer)["call"] = _noting(layer, calls, uncounted, behind)
    try:
        yield
    finally:
        for layer in leaves.values():
            del vars(layer)["call"]


def _noting(layer: keras.layers.Layer, calls: list[LayerWork], uncounted: list[str], behind: list[bool]) -> Any:
    call = layer.call

    def noting(*args: Any, **kwargs: Any) -> Any:
        output = call(*args, **kwargs)
        kernels = [each for each in layer.weights if len(each.shape) > 1]
        if not isinstance(layer, (*_BY_OUTPUT, *_BY_INPUT)):
            uncounted.extend([layer.name] if kernels else [])
            kernels = []
        seen = keras.tree.flatten(args)[0] if isinstance(layer, _BY_INPUT) else output
        macs = sum(int(np.prod(each.shape)) for each in kernels) * _places(seen) if kernels else 0
        trained = bool(layer.trainable_weights)
        backward = macs * (trained + behind[0])
        behind[0] = behind[0] or trained
        kept = 0 if isinstance(layer, _VIEWS) else sum(_bytes(each) for each in keras.tree.flatten(output))
        calls.append(LayerWork(layer.name, macs, backward, kept))
        return output

    return noting


def _places(tensor: Any) -> int:
    """Numbers in one channel of a tensor that has them last."""
    return int(np.prod(tensor.shape[:-1]))


def _bytes(tensor: Any) -> int:
    """What a tensor or a variable takes."""
    sizes = {"float16": 2, "bfloat16": 2, "float64": 8, "int64": 8, "bool": 1, "uint8": 1}
    return int(np.prod(tensor.shape)) * sizes.get(keras.backend.standardize_dtype(tensor.dtype), 4)
