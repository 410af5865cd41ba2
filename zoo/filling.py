"""Building a model whose weights come from a file: none is drawn at random first.

Drawing the 137 million random weights of a VGG-16 only to overwrite them takes longer than reading them. Inside
``keras.StatelessScope`` Keras makes variables without values and asks their initialisers when the scope ends; until
then an initialiser can be replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.convert.damage import naming
from zoo.pieces import Rows, assign, check_finite, pieces
from zoo.weights_io import weight_names

if TYPE_CHECKING:
    import keras

Shapes = dict[str, tuple[int, ...]]
Arrays = Mapping[str, np.ndarray | Rows]


def shapes_of(build: Callable[[], keras.Model]) -> Shapes:
    """Shapes of a model's variables by name, at next to no cost in time and memory.

    >>> shapes_of(zoo.info("vgg16").builder)["fc6/kernel"]    # doctest: +SKIP
    (25088, 4096)
    """
    with _unfilled(build) as (model, zero):
        variables = weight_names(model)
        zero(variables.values(), ())  # the model is thrown away: one number will do
        return {name: tuple(variable.shape) for name, variable in variables.items()}


def build_filled(build: Callable[[], keras.Model], choose: Callable[[Shapes], Arrays], source: str) -> keras.Model:
    """Build a model with weights from elsewhere.

    Args:
        build: makes the model; its layers must create their variables from initialisers, as ``add_weight`` does.
        choose: given the shapes of the model's variables by name, gives the arrays to use by the same names, having
            compared both; an array is read when it is taken out of the mapping. Variables it does not name are
            initialised as usual.
        source: named in errors.

    Raises:
        WeightsError: what ``choose`` and reading raise, and for values that are no numbers.

    >>> build_filled(zoo.info("vgg16").builder, lambda shapes: arrays, "x.npz")    # doctest: +SKIP
    """
    with _unfilled(build) as (model, zero):
        variables = weight_names(model)
        try:
            arrays = choose({name: tuple(variable.shape) for name, variable in variables.items()})
        except BaseException:
            # The block's end initialises all variables, which is not worth the time for a model that nobody gets.
            zero(variables.values(), ())
            raise
        zero([variables[name] for name in arrays])
    with naming(Path(source)):
        for name in arrays:
            array = arrays[name]
            for _, part in pieces(array):
                check_finite(name, part, source)
            assign(variables[name], array)
    return model


@contextmanager
def _unfilled(build: Callable[[], keras.Model]) -> Iterator[tuple[keras.Model, Callable[..., None]]]:
    """A model whose variables get their values when the block ends, and a function that makes these zeros.

    A layer that makes a variable out of a value cannot do so in a stateless scope; such a model is built as usual.
    """
    import keras

    with keras.StatelessScope():
        try:
            model = build()
        except ValueError as error:
            if "stateless scope" not in str(error):
                raise
            model = None
        if model is not None:
            yield model, _zero
            return
    yield build(), lambda variables, shape=None: None


def _zero(variables: Iterable[keras.Variable], shape: tuple[int, ...] | None = None) -> None:
    """Let variables of a stateless scope become zeros, of their own shape or of another."""
    import keras

    for variable in variables:
        # Keras has no public way to this; tests/test_transfer.py notices if it changes.
        variable._initializer = lambda own, dtype: keras.ops.zeros(own if shape is None else shape, dtype)
