"""Every array accounted for: what a layout needs, what a file holds and what a model wants, compared before reading."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np

from zoo.convert.layout import Array, ArrayFile, Layout, Shape, Shapes
from zoo.pieces import Rows
from zoo.weights_error import WeightsError

_SHOWN = 12  # names listed of each kind of fault
# What our classifiers have above their convolutions; of the last layer every classifier has one of the two.
_TOP = ("fc6/", "fc7/", "fc8/", "predictions/")
_LAST = {"fc8/kernel", "predictions/kernel"}


class Converted(Mapping[str, np.ndarray]):
    """Our variables by name, each read from the file and rearranged when it is asked for; nothing is kept."""

    def __init__(self, file: ArrayFile, layout: Layout, arrays: Mapping[str, Array], shapes: Shapes):
        self.file, self.layout, self.arrays, self.shapes = file, layout, dict(arrays), dict(shapes)

    def __getitem__(self, name: str) -> np.ndarray | Rows:
        """Read one variable's arrays and rearrange them."""
        array = self.arrays[name]
        # In one expression, so that what was read is freed as soon as it has been rearranged.
        return array.load(*[self.file[source] for source in array.names])

    def __iter__(self) -> Iterator[str]:
        """Our names."""
        return iter(self.arrays)

    def __len__(self) -> int:
        """How many variables there are."""
        return len(self.arrays)

    @property
    def constant(self) -> list[str]:
        """Variables that the file has no array for: zero, or starting anew."""
        return [name for name, array in self.arrays.items() if not array.names]

    @property
    def ignored(self) -> dict[str, list[str]]:
        """The file's arrays that carry no weight, by the reason."""
        reasons: dict[str, list[str]] = {}
        for name, reason in self.layout.ignored(self.file.shapes).items():
            reasons.setdefault(reason, []).append(name)
        return reasons


def convert_arrays(
    model: str, wanted: Shapes, file: ArrayFile, layout: Layout, new: Collection[str] = (), part: bool = False
) -> Converted:
    """The variables of a model out of a file, once names and shapes on both sides are found to fit.

    Args:
        model: name of the model, for the layout and for messages.
        wanted: shapes of the model's variables by name.
        file: an open file.
        layout: its layout.
        new: variables that need not come from the file: those of layers that depend on the classes.
        part: the model is only a part of the published one (built without its top): arrays may be left over.

    Raises:
        WeightsError: one message that lists all that is missing, left over or of another shape.

    Example:
        >>> with open_arrays("vgg16_imagenet_converted_2017_07_18.npz") as file:    # doctest: +SKIP
        ...     arrays = convert_arrays("vgg16", shapes, file, find_layout(file))
    """
    found = file.shapes
    arrays = {name: array for name, array in layout.arrays(model, wanted, found).items() if name in wanted}
    ignored = layout.ignored(found)
    for name in new:
        arrays.pop(name, None)
    missing = {name: f"{name} (no source is known)" for name in wanted if name not in arrays and name not in new}
    misshapen = []
    shapes: dict[str, Shape] = {}
    for name, array in arrays.items():
        absent = [source for source in array.names if source not in found]
        if absent:
            missing[name] = f"{', '.join(absent)} (for {name})"
            continue
        shapes[name], fault = _shape(array, found)
        if fault or shapes[name] != tuple(wanted[name]):
            sources = ", ".join(f"{source} {found[source]}" for source in array.names)
            misshapen.append(f"{sources} {fault or f'gives {shapes[name]}'}, {name} is {tuple(wanted[name])}")
    used = {source for array in arrays.values() for source in array.names}
    if new:
        # The file's own class layers belong to the variables that are new.
        own = layout.arrays(model, wanted, found)
        used |= {source for name in new if name in own for source in own[name].names}
    left_over = [] if part else [f"{name} {found[name]}" for name in found if name not in used and name not in ignored]
    kinds = {"missing": [*missing.values()], "left over": left_over, "of another shape": misshapen}
    faults = [f"{len(names)} {kind}: {_list(names)}" for kind, names in kinds.items() if names]
    if faults:
        advice = "Is it for another model, or made with other classes or options?"
        if len(faults) == 1 and _only_the_top(missing):
            advice = "Only the top is missing: give include_top=False (`zoo convert --option include_top=False`)"
        raise WeightsError(
            f"{file.path} ({layout.about}) does not fit the model {model}. {'. '.join(faults)}. {advice}"
        )
    return Converted(file, layout, arrays, shapes)


def _only_the_top(missing: Collection[str]) -> bool:
    """Whether a classifier's layers behind its convolutions are missing, and nothing else."""
    return not _LAST.isdisjoint(missing) and all(name.startswith(_TOP) for name in missing)


def fits(layout: Layout, model: str, wanted: Shapes, file: ArrayFile, names: Collection[str]) -> bool:
    """Whether the file holds these of our variables, all in the shape that is wanted."""
    sources = layout.arrays(model, wanted, file.shapes)
    for name in names:
        array = sources.get(name)
        if array is None or any(source not in file.shapes for source in array.names):
            return False
        if _shape(array, file.shapes) != (tuple(wanted[name]), ""):
            return False
    return True


def _shape(array: Array, found: Shapes) -> tuple[Shape, str]:
    """The shape that ``load`` gives, and what is wrong with the file's shapes if it cannot."""
    # Arrays of any shape that take no memory: all their numbers are one.
    empty = [np.broadcast_to(np.float32(1), found[source]) for source in array.names]
    try:
        return tuple(array.load(*empty).shape), ""
    except (ValueError, IndexError) as error:
        return (), f"cannot be rearranged ({error})"


def _list(names: list[str]) -> str:
    more = f"; and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return "; ".join(names[:_SHOWN]) + more
