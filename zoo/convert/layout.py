"""What a layout is: how the arrays of a published file become the variables of one of our models.

A reader (``zoo/convert/readers``) opens a file as :class:`ArrayFile`: names and shapes at once, values one by one when
they are asked for. A layout says, for every variable of a model, which arrays of the file it comes from and how
(:class:`Array`). ``zoo.convert.check`` accounts for every array on both sides before a value is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from zoo.pieces import Rows

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


class ArrayFile(Mapping[str, np.ndarray]):
    """The arrays of a file by name; a value is read anew each time it is asked for, and not kept.

    Args:
        path: the file, for messages.
        shapes: shape of every array by name.
        read: reads one array by name; raises ``WeightsError``, naming the file, for a damaged one.
        format: what the file is, in words.
        close: closes what ``read`` keeps open; use the object in a ``with`` statement.

    Example:
        >>> file = ArrayFile("x.npz", {"fc/b": (3,)}, lambda name: np.zeros(3))
        >>> file.shapes["fc/b"], file["fc/b"].sum()
        ((3,), np.float64(0.0))
    """

    def __init__(
        self,
        path: str | Path,
        shapes: Shapes,
        read: Callable[[str], np.ndarray],
        format: str = "",
        close: Callable[[], None] | None = None,
    ):
        self.path, self.format = Path(path), format
        self.shapes: dict[str, Shape] = {name: tuple(shape) for name, shape in shapes.items()}
        self._read, self._close = read, close

    def __enter__(self) -> ArrayFile:
        """The object itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the file."""
        if self._close is not None:
            self._close()

    def __getitem__(self, name: str) -> np.ndarray:
        """Read one array."""
        if name not in self.shapes:
            raise KeyError(name)
        return self._read(name)

    def __iter__(self) -> Iterator[str]:
        """The arrays' names in the file's order."""
        return iter(self.shapes)

    def __len__(self) -> int:
        """How many arrays there are."""
        return len(self.shapes)


@dataclass(frozen=True)
class Array:
    """Where one of our variables comes from.

    Attributes:
        names: the file's arrays that it needs, in the order of ``load``'s arguments; none for a constant.
        load: the file's arrays to our variable, as an array or :class:`zoo.pieces.Rows`. Transposes, reshapes and
            slices should be views: before any value is read it is called with arrays of the file's shapes that take
            no memory, to see which shape it gives.
        save: our variable to the file's one array, where that layout is also written; else ``None``.
    """

    names: tuple[str, ...]
    load: Callable[..., np.ndarray | Rows]
    save: Callable[[np.ndarray], np.ndarray] | None = None


class Layout(Protocol):
    """One kind of published file for one family of models.

    ``found`` is always the shapes of the file's arrays, ``wanted`` the shapes of our model's variables, both by name;
    our names are those of ``zoo.weights_io.weight_names``.
    """

    name: str  # "chainercv", "keras_applications", "torchvision", "onnx" or "caffe"
    about: str  # the family in words, for messages: "ChainerCV's VGG-16 for ImageNet"

    def recognises(self, found: Shapes) -> bool:
        """Whether a file with these arrays is of this layout. Tells families apart; it is no check."""

    def model(self, found: Shapes) -> str | None:
        """Name of the registered model that the file is for, or ``None`` if its arrays do not tell."""

    def options(self, model: str, found: Shapes) -> dict[str, object]:
        """Builder options that the layout implies, such as ``inputs`` or ``epsilon``; the caller's own win."""

    def arrays(self, model: str, wanted: Shapes, found: Shapes) -> dict[str, Array]:
        """An :class:`Array` for every variable in ``wanted`` that the layout knows; others are reported missing."""

    def ignored(self, found: Shapes) -> dict[str, str]:
        """Arrays of the file that carry no weight, each with the reason."""


def _same(array: np.ndarray) -> np.ndarray:
    return array


def same(name: str) -> Array:
    """A variable that is stored as we have it: vectors, and kernels of Keras files."""
    return Array((name,), _same, _same)


def convolution(name: str) -> Array:
    """A kernel stored (output, input, rows, columns), as everywhere but in TensorFlow; ours (rows, columns, i, o)."""
    return Array((name,), lambda w: w.transpose(2, 3, 1, 0), lambda k: k.transpose(3, 2, 0, 1))


def dense(name: str) -> Array:
    """A matrix stored (output, input); ours is (input, output)."""
    return Array((name,), lambda w: w.reshape(w.shape[0], -1).T, lambda k: k.T)


def dense_after_flatten(name: str, channels: int, size: int) -> Array:
    """The first dense layer: its inputs are stored in the order C, H, W; ours see H, W, C.

    Args:
        name: of the file's (output, channels * size * size) matrix.
        channels: of the feature map that is flattened.
        size: its height and width.
    """

    def load(w: np.ndarray) -> Rows:
        # (cells, C, O): a piece is what one cell of the map gives.
        return Rows(w.reshape(w.shape[0], channels, size * size).transpose(2, 1, 0))

    def save(k: np.ndarray) -> np.ndarray:
        units = k.shape[1]
        return k.reshape(size, size, channels, units).transpose(3, 2, 0, 1).reshape(units, -1)

    return Array((name,), load, save)


def zeros(shape: Shape) -> Array:
    """A variable that the file leaves out because it is zero, such as the bias of a convolution before a norm."""
    return Array((), lambda: np.zeros(shape, np.float32))
