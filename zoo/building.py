"""A model with weights: those of its own kind, with the same or other classes, or a classifier's in a detector."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.arguments import RegistryError, check_options, merge_classes, merge_options
from zoo.convert.check import Converted, convert_arrays, fits
from zoo.convert.layout import ArrayFile
from zoo.convert.readers import open_arrays
from zoo.filling import Shapes, build_filled, shapes_of
from zoo.model_info import ModelInfo
from zoo.pieces import Rows
from zoo.transfer import Transfer, class_variables, match
from zoo.weights_io import WeightsMeta, load_weights, open_weights
from zoo.weights_source import Source

if TYPE_CHECKING:
    import keras

_log = logging.getLogger("zoo")
Classes = Sequence[str] | int | None


def build(model: ModelInfo, classes: Classes, options: Mapping[str, Any], source: Source | None) -> keras.Model:
    """Build a model, with the weights of ``source`` if there is one; what it is is told in its ``zoo_meta``.

    Layers that depend on the classes are new if the caller's classes are not those of the weights; so are, in a
    detector, all that its classifier does not have. A warning of the logger ``zoo`` and ``zoo_meta`` name them.

    Raises:
        RegistryError: classes or options that cannot be, or that contradict the weights.
        WeightsError: weights that do not fit.
    """
    if source is None:
        classes = merge_classes(model, classes, ())
        made = _built(model, classes, options)
        made.zoo_meta = WeightsMeta(model.name, class_names(made, classes), dict(options))
        return made
    if source.owner is not model:
        return _build_on_classifier(model, classes, options, source)
    given, classes = classes, merge_classes(model, classes, source.classes)
    options = merge_options({**source.implied, **options}, source.options, source.title)
    check_options(model, options)
    others = bool(source.classes) and not _same_classes(classes, source.classes)
    if source.whole:
        return _load_whole(model, classes, options, source, others)

    def class_layers() -> set[str]:
        return class_variables(model.builder, classes, options)

    def choose(wanted: Shapes, file: ArrayFile) -> tuple[ArrayFile | Converted, Transfer]:
        new = class_layers() if others else set()
        if others and not new:
            raise RegistryError(
                f"{source.title} knows the classes {', '.join(source.classes)}, not {_listed(classes)}, and no layer "
                f"of {model.name} depends on their number, so that none can be made anew; leave `classes` out"
            )
        part = options.get("include_top") is False
        arrays: ArrayFile | Converted = file
        if source.layout is not None:
            # Whoever gives classes may have others than the file.
            candidates = class_layers() if given is not None else set()
            new = set() if fits(source.layout, model.name, wanted, file, candidates) else candidates
            arrays = convert_arrays(model.name, wanted, file, source.layout, new, part)
        return arrays, match(wanted, arrays.shapes, model.name, source.title, new=new, part=part)

    return _fill(model, classes, options, source, choose)


def class_names(model: keras.Model, classes: Classes) -> tuple[str, ...]:
    """The model's own class names, else the given ones, else none."""
    own = getattr(model, "classes", None)
    own = classes if own is None or isinstance(own, int) else own
    return () if own is None or isinstance(own, int) else tuple(own)


def _build_on_classifier(model: ModelInfo, classes: Classes, options: Mapping[str, Any], source: Source) -> keras.Model:
    """A detector whose backbone, and dense layers where it has some, come from a classifier."""
    base = source.owner
    classes = merge_classes(model, classes, ())
    theirs = {**source.implied, **source.options}
    options = {**inherited_options(model, source), **options}

    def choose(wanted: Shapes, file: ArrayFile) -> tuple[ArrayFile | Converted, Transfer]:
        arrays: ArrayFile | Converted = file
        if source.layout is not None:
            whole = shapes_of(lambda: base.builder(None, **theirs))
            top = class_variables(base.builder, 1000, theirs)
            unused = set() if fits(source.layout, base.name, whole, file, top) else top
            arrays = convert_arrays(base.name, whole, file, source.layout, unused)
        return arrays, match(wanted, arrays.shapes, model.name, source.title, to_detector=True)

    return _fill(model, classes, options, source, choose)


def inherited_options(model: ModelInfo, source: Source) -> dict[str, Any]:
    """The options of a detector that the classifier decides whose weights ``source`` has.

    The classifier's defaults are among them: metadata hold only options that were given, and the detector's own
    defaults may be others. Those of ``inputs`` are, and colours in the wrong order would go unnoticed.
    """
    told = {**source.implied, **source.options}
    theirs = {**source.owner.options, **told}
    if "norm" in theirs and "norm" not in told:
        # Statistics of a few images a batch would spoil those of ImageNet (He 2016, appendix A).
        theirs["norm"] = "frozen"
    return {name: value for name, value in theirs.items() if name in model.options}


def _built(model: ModelInfo, classes: Classes, options: Mapping[str, Any]) -> keras.Model:
    """The builder's model; a value of the wrong kind is a mistake of whoever gave it."""
    try:
        return model.builder(classes, **options)
    except (AttributeError, TypeError) as error:
        usual = model.options
        changed = {name: value for name, value in options.items() if repr(value) != repr(usual[name])}
        if not changed:
            raise
        raise RegistryError(
            f"{model.name} cannot be built with {_pairs(changed)} ({error}); give an option a value of the kind that "
            f"its default is: {_pairs({name: usual[name] for name in changed})}"
        ) from error


def _fill(
    model: ModelInfo,
    classes: Classes,
    options: dict[str, Any],
    source: Source,
    choose: Callable[[Shapes, ArrayFile], tuple[ArrayFile | Converted, Transfer]],
) -> keras.Model:
    """Build, fill, and tell what is new."""
    transfers: list[Transfer] = []

    def chosen(wanted: Shapes) -> Mapping[str, np.ndarray | Rows]:
        arrays, transfer = choose(wanted, file)
        transfers.append(transfer)
        return ArrayFile(source.path, {name: wanted[name] for name in transfer.kept}, arrays.__getitem__)

    with open_weights(source.path) if source.layout is None else open_arrays(source.path) as file:
        made = build_filled(lambda: _built(model, classes, options), chosen, str(source.path))
    (transfer,) = transfers
    started_from = ""
    if transfer.new:
        started_from = source.title
        _log.warning(transfer.report(model.name, source.title))
    names = class_names(made, classes)
    made.zoo_meta = WeightsMeta(model.name, names, options, started_from=started_from, new_layers=transfer.new_layers)
    return made


def _load_whole(
    model: ModelInfo, classes: Classes, options: dict[str, Any], source: Source, others: bool
) -> keras.Model:
    if others:
        raise RegistryError(
            f"{source.title} knows the classes {', '.join(source.classes)}, and Keras loads such a file as a whole. To "
            "keep all but its last layers load it without `classes`, save it with zoo.weights_io.save_weights_file, "
            "and give that file with the new `classes`"
        )
    made = _built(model, classes, options)
    made.zoo_meta = WeightsMeta(model.name, class_names(made, classes), options)
    load_weights(made, source.path)
    return made


def _pairs(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items())


def _listed(classes: Classes) -> str:
    return f"{classes} of them" if isinstance(classes, int) else ", ".join(classes or ())


def _same_classes(classes: Classes, stored: tuple[str, ...]) -> bool:
    return classes == len(stored) if isinstance(classes, int) else tuple(classes or ()) == stored
