"""Which weights of one model another can start with: other classes, or a classifier that becomes a detector."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.filling import Shapes, shapes_of
from zoo.weights_io import check_shapes

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Transfer:
    """What becomes of the weights of a file.

    Attributes:
        kept: variables that come from the file.
        new: variables that do not, and are initialised as at the start of a training.
        left: variables of the file that the model has no use for.
    """

    kept: tuple[str, ...]
    new: tuple[str, ...] = ()
    left: tuple[str, ...] = ()

    @property
    def new_layers(self) -> tuple[str, ...]:
        """Layers that have new variables, in the model's order."""
        return _layers(self.new)

    def report(self, model: str, source: str) -> str:
        """One line for people.

        >>> Transfer(("fc6/bias",), ("head/score/bias",), ("fc8/bias",)).report("faster_rcnn_vgg16", "'imagenet'")
        "faster_rcnn_vgg16: 1 of 2 weights are from 'imagenet'; NEW, to be trained: head/score; not used: fc8"
        """
        parts = [f"{model}: {len(self.kept)} of {len(self.kept) + len(self.new)} weights are from {source}"]
        if self.new:
            parts.append(f"NEW, to be trained: {', '.join(self.new_layers)}")
        if self.left:
            parts.append(f"not used: {', '.join(_layers(self.left))}")
        return "; ".join(parts)


def class_variables(builder: Callable[..., keras.Model], classes: object, options: Mapping[str, object]) -> set[str]:
    """Variables of a model whose shape depends on the number of classes: those of its last layers.

    >>> sorted(class_variables(zoo.info("vgg16").builder, 10, {}))    # doctest: +SKIP
    ['fc8/bias', 'fc8/kernel']
    """
    if isinstance(classes, int):
        more: object = classes + 1
    else:
        classes = tuple(classes or ("one class",))
        more = (*classes, "one more class")
    few = shapes_of(lambda: builder(classes, **options))
    many = shapes_of(lambda: builder(more, **options))
    return {name for name, shape in few.items() if many[name] != shape}


def match(
    wanted: Shapes,
    found: Mapping[str, tuple[int, ...]],
    model: str,
    source: str,
    *,
    new: Collection[str] = (),
    part: bool = False,
    to_detector: bool = False,
) -> Transfer:
    """Compare a model's variables with a file's, name by name and shape by shape.

    Args:
        wanted: shapes of the model's variables.
        found: shapes of the file's, by the same names.
        model: the model's name, for messages.
        source: the file, for messages.
        new: variables not to be taken from the file, whatever it holds.
        part: the model is a part of the file's: the file may hold more.
        to_detector: the file's is a classifier: what only a detector has is new, and the classifier's last layers may
            stay behind. Convolutions all have to be there.

    Raises:
        WeightsError: one message that lists all that is missing, left over or of another shape beyond that.
    """
    fresh = set(new)
    if to_detector:
        fresh |= {name for name in wanted if name not in found and not name.startswith("conv")}
    left = {name for name in found if name in fresh}
    if part:
        left |= {name for name in found if name not in wanted}
    if to_detector:
        # Whole layers only: statistics of a norm that is another one here are a fault.
        known = {_layer(name) for name in wanted}
        left |= {name for name in found if _layer(name) not in known}
    rest = {name: shape for name, shape in wanted.items() if name not in fresh}
    check_shapes(rest, {name: shape for name, shape in found.items() if name not in left}, source, model)
    return Transfer(
        tuple(rest),
        tuple(name for name in wanted if name in fresh),
        tuple(name for name in found if name in left and name not in fresh),
    )


def _layers(names: Collection[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_layer(name) for name in names))


def _layer(name: str) -> str:
    return name.rpartition("/")[0] or name
