"""What ``weights=`` of ``zoo.get`` stands for: a registered name, or a file of any known layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zoo.arguments import RegistryError, check_options, nearest
from zoo.convert.check import Converted, convert_arrays
from zoo.convert.known import find_layout
from zoo.convert.layout import Layout
from zoo.convert.readers import is_foreign, open_arrays
from zoo.filling import shapes_of
from zoo.model_info import ModelInfo
from zoo.weights_entry import WeightsEntry, converted, locate
from zoo.weights_error import WeightsError
from zoo.weights_io import WeightsMeta, is_ours, read_meta, save_arrays

# Raised when the converters write something else for the same file: what is in the cache is then made anew.
_CONVERTER = 1
_SUFFIXES = (".h5", ".keras", ".npz", ".pth", ".pt", ".onnx", ".caffemodel")


@dataclass(frozen=True)
class Source:
    """A file of weights and what is known of it.

    Attributes:
        path: the file.
        title: what the caller called it, for messages.
        owner: the model that its arrays are for: the one asked for, or the classifier that is built on.
        classes: class names; empty if unknown.
        options: builder options that it was made with; others contradict it.
        implied: options that its layout implies where the caller says nothing else.
        layout: how its arrays become ours; ``None`` for our own files and Keras's.
        whole: only Keras can load it, as a whole: a ``.keras`` file or Keras 3's ``.weights.h5``.
    """

    path: Path
    title: str
    owner: ModelInfo
    classes: tuple[str, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)
    implied: Mapping[str, object] = field(default_factory=dict)
    layout: Layout | None = None
    whole: bool = False


def find_source(model: ModelInfo, weights: str | Path, base: ModelInfo | None = None) -> Source:
    """The file behind ``weights``; fetched, checked and converted first if that is a published entry.

    Args:
        model: the model asked for.
        weights: name of an entry, or a path.
        base: the classifier that a detector is built on, whose entries and files it may start from.

    Raises:
        RegistryError: neither an entry nor a file.
        WeightsError: a file that is damaged, of no known layout or for another model; an entry that cannot be had.
    """
    owners = [owner for owner in (model, base) if owner is not None]
    for owner in owners:
        entry = owner.entry(str(weights))
        if entry is not None:
            title = f"{entry.name!r}" if owner is model else f"{owner.name}'s {entry.name!r}"
            return Source(fetched(owner, entry), title, owner, entry.classes, entry.options)
    path = Path(weights)
    if path.suffix not in _SUFFIXES and not path.exists():
        names = [entry.name for owner in owners for entry in owner.weights]
        raise RegistryError(
            f"unknown weights {str(weights)!r} for {model.name}{nearest(str(weights), names)}; or give the path of a "
            f"weights file ({', '.join(_SUFFIXES)})"
        )
    if path.is_dir():
        path = path / "model.weights.h5"
    if is_foreign(path):
        return _published_file(path, model, base)
    meta = read_meta(path) or WeightsMeta()
    if path.suffix == ".keras":
        return Source(path, str(path), model, meta.classes, meta.options, whole=True)
    for owner in owners:
        if meta.model in ("", owner.name):
            return Source(path, str(path), owner, meta.classes, meta.options, whole=not is_ours(path))
    raise WeightsError(f"{path} holds weights of {meta.model}, not of {model.name}; use zoo.load({str(path)!r})")


def fetched(model: ModelInfo, entry: WeightsEntry) -> Path:
    """The file of an entry in our own layout: the packaged one, or that made of the published one in the cache."""
    if entry.layout == "zoo":
        return locate(entry)

    def make(original: Path, aside: Path) -> None:
        convert_file(original, aside, model, entry.classes or None, entry.options, entry.layout)

    return converted(entry, make, model=model.name, version=_CONVERTER)


def convert_file(
    source: Path,
    target: Path,
    model: ModelInfo,
    classes: tuple[str, ...] | int | None = None,
    options: Mapping[str, object] | None = None,
    layout_name: str = "",
) -> Converted:
    """Write a published file as weights of ours; arrays are read, rearranged and written one by one.

    Gives what was converted: our names and shapes, which arrays they came from, and the file.

    >>> convert_file(Path("vgg16_imagenet.npz"), Path("vgg16.weights.h5"), zoo.info("vgg16"))    # doctest: +SKIP
    """
    with open_arrays(source) as file:
        layout = find_layout(file)
        if layout_name and layout.name != layout_name:
            raise WeightsError(f"{source} should have the layout {layout_name!r}, but it is {layout.about}")
        _check_owner(source, layout, layout.model(file.shapes), (model.name,))
        merged = {**layout.options(model.name, file.shapes), **(options or {})}
        check_options(model, merged)
        shapes = shapes_of(lambda: model.builder(classes, **merged))
        arrays = convert_arrays(model.name, shapes, file, layout)
        names = classes if isinstance(classes, tuple) else ()
        meta = WeightsMeta(model.name, names, merged, command=f"converted from {source.name} ({layout.about})")
        save_arrays(arrays, target, meta=meta)
        return arrays


def published_model(path: Path) -> str:
    """Name of the model that a published file is for; ``WeightsError`` if it does not tell."""
    with open_arrays(path) as file:
        layout = find_layout(file)
        name = layout.model(file.shapes)
    if name is None:
        raise WeightsError(
            f"{path} ({layout.about}) does not tell which model it is for: AlexNet's and CaffeNet's files are alike. "
            "Name it: zoo.get(NAME, weights=PATH), or --model NAME"
        )
    return name


def _published_file(path: Path, model: ModelInfo, base: ModelInfo | None) -> Source:
    with open_arrays(path) as file:
        layout = find_layout(file)
        told = layout.model(file.shapes)
        # AlexNet's and CaffeNet's files are alike and tell no name: the model asked for decides.
        owners = {None: base or model, model.name: model} | ({base.name: base} if base is not None else {})
        _check_owner(path, layout, told, tuple(owners))
        owner = owners[told]
        return Source(path, str(path), owner, implied=layout.options(owner.name, file.shapes), layout=layout)


def _check_owner(path: Path, layout: Layout, told: str | None, allowed: tuple[str | None, ...]) -> None:
    if told is not None and told not in allowed:
        names = " or ".join(name for name in allowed if name)
        raise WeightsError(
            f"{path} ({layout.about}) holds weights of {told}, not of {names}; "
            f"use zoo.get({told!r}, weights={str(path)!r})"
        )
