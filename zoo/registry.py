"""The registry: models by name.

A model is one decorated function in any module of ``zoo/backbones`` or ``zoo/detectors``; nothing else
lists it::

    @register(task="detection", paper="Ren 2015", summary="Faster R-CNN on AlexNet.", params=12_345_678)
    def faster_rcnn_alexnet(classes=None, *, anchor_sizes=(128, 256, 512)):
        ...
        return FasterRCNN(...)
"""

from __future__ import annotations

import fnmatch
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.arguments import RegistryError, check_options, nearest
from zoo.building import build, class_names
from zoo.convert.readers import is_foreign
from zoo.model_info import ModelInfo, Task
from zoo.weights_entry import WeightsEntry
from zoo.weights_error import WeightsError
from zoo.weights_io import WeightsMeta, load_keras_file, meta_path, read_meta
from zoo.weights_source import find_source, published_model

if TYPE_CHECKING:
    import keras

_PACKAGES = ("zoo.backbones", "zoo.detectors")
_models: dict[str, ModelInfo] = {}
_discovered: set[str] = set()

Builder = Callable[..., "keras.Model"]


def register(
    *,
    task: Task,
    paper: str,
    summary: str,
    params: int | None = None,
    input: str = "",
    preprocessing: str = "",
    licence: str = "Apache-2.0",
    source: str = "",
    weights: Sequence[WeightsEntry] = (),
    base: str = "",
) -> Callable[[Builder], Builder]:
    """Register the decorated builder under its function name; the arguments are the fields of ``ModelInfo``.

    The builder takes ``classes=None`` and named options with defaults, nothing else: every option must be
    visible in its signature, so that a misspelt one is an error.
    """

    def decorate(builder: Builder) -> Builder:
        name = builder.__name__
        parameters = list(inspect.signature(builder).parameters.values())
        if not parameters or parameters[0].name != "classes":
            raise TypeError(f"{name}: the first parameter of a model builder is `classes=None`")
        for parameter in parameters[1:]:
            if parameter.kind is not parameter.KEYWORD_ONLY or parameter.default is parameter.empty:
                raise TypeError(f"{name}: write the option {parameter.name!r} after `*`, with a default")
        known = _models.get(name)
        if known is not None and known.builder.__module__ != builder.__module__:
            raise ValueError(
                f"the model name {name!r} of {builder.__module__} is already taken by {known.builder.__module__}"
            )
        _models[name] = ModelInfo(
            name=name,
            task=task,
            builder=builder,
            paper=paper,
            summary=summary,
            input=input,
            preprocessing=preprocessing,
            licence=licence,
            source=source,
            params=params,
            weights=tuple(weights),
            base=base,
        )
        return builder

    return decorate


def get(
    name: str, weights: str | Path | None = None, classes: Sequence[str] | int | None = None, **options: Any
) -> keras.Model:
    """Build the model ``name``, with weights if asked.

    Args:
        name: a name that ``list_models`` lists.
        weights: ``None`` for random weights; the name of an entry that ``info(name)`` shows, fetched at its first
            use; or the path of a file: of ours, ``.keras``, or any layout that ``zoo convert --help`` lists. Classes
            and options that the weights were made with are used. A detector also takes entries and files of the
            classifier that it is built on.
        classes: class names in index order without background (a classifier also takes their number);
            ``None`` for those of the weights, or else the model's default. With others than those of the weights the
            layers that depend on them are new: a warning of the logger ``zoo`` and ``model.zoo_meta`` tell which.
        **options: named options of the builder; ``info(name)`` shows them. An unknown one is an error.

    Example:
        >>> model = get("faster_rcnn_alexnet", weights="digits")                     # doctest: +SKIP
        >>> model = get("faster_rcnn_vgg16", classes=("cat", "dog"))                 # doctest: +SKIP
        >>> model = get("faster_rcnn_vgg16", "imagenet", ("cat", "dog"))             # doctest: +SKIP
        >>> model = get("faster_rcnn_vgg16", weights="runs/cells/model.weights.h5")  # doctest: +SKIP
    """
    model_info = info(name)
    check_options(model_info, options)
    source = None if weights is None else find_source(model_info, weights, _base(model_info))
    return build(model_info, classes, options, source)


def load(path: str | Path, **options: Any) -> keras.Model:
    """A model from what training wrote: a run folder, a ``.keras`` file, or weights with their metadata.

    A published file of another library will do too, if it tells which model it is for.

    ``options`` are those of the model's builder that its weights do not settle, such as a limit on
    detections.

    >>> model = load("runs/cells")                  # doctest: +SKIP
    >>> model = load("runs/cells/best.weights.h5")  # doctest: +SKIP
    """
    path = Path(path)
    if path.is_dir():
        found = [path / name for name in ("model.weights.h5", "checkpoint.weights.h5", "model.keras")]
        present = [candidate for candidate in found if candidate.is_file()]
        if not present:
            raise WeightsError(
                f"{path} is no run folder: it holds none of "
                f"{', '.join(candidate.name for candidate in found)}; "
                "give the folder that `zoo train --out` named, or a weights file"
            )
        path = present[0]
    if path.suffix == ".keras":
        if options:
            raise RegistryError(
                f"{path} rebuilds its model as it was saved; leave the options {', '.join(options)} out"
            )
        _discover()  # registers the classes that Keras needs to rebuild the model
        model = load_keras_file(path)
        model.zoo_meta = read_meta(path) or WeightsMeta(classes=class_names(model, None))
        return model
    if is_foreign(path):
        return get(published_model(path), weights=path, **options)
    meta = read_meta(path)
    if meta is None or not meta.model:
        raise WeightsError(
            f"{path} does not say which model it belongs to (no metadata inside it and no "
            f"{meta_path(path).name} beside "
            "it); name the model: zoo.get(NAME, weights=PATH, classes=...), or --model NAME"
        )
    return get(meta.model, weights=path, **options)


def list_models(pattern: str = "*", pretrained: bool = False, task: Task | None = None) -> list[str]:
    """Sorted names of the models that match a shell ``pattern``; ``pretrained``: only those with weights.

    >>> list_models("*vgg*")                  # doctest: +SKIP
    ['faster_rcnn_vgg16', 'faster_rcnn_vgg19', 'vgg16', 'vgg19']
    """
    _discover()
    return sorted(
        name
        for name, model in _models.items()
        if fnmatch.fnmatchcase(name, pattern)
        and (model.weights or not pretrained)
        and (task is None or model.task == task)
    )


def info(name: str) -> ModelInfo:
    """What is known of the model ``name``; print it.

    >>> print(info("vgg16"))                  # doctest: +SKIP
    """
    _discover()
    if name not in _models:
        raise RegistryError(f"unknown model {name!r}{nearest(name, _models)}; zoo.list_models() lists all")
    return _models[name]


def _discover() -> None:
    """Import every module of the model packages once, so that the decorators in them run."""
    for package_name in _PACKAGES:
        package = importlib.import_module(package_name)
        for module in pkgutil.iter_modules(package.__path__, package_name + "."):
            if module.name not in _discovered:
                importlib.import_module(module.name)
                _discovered.add(module.name)


def _base(model: ModelInfo) -> ModelInfo | None:
    """The classifier that a detector is built on, by its name: ``faster_rcnn_vgg16`` is on ``vgg16``."""
    if model.task != "detection":
        return None
    if model.base:
        return info(model.base)
    names = [name for name, other in _models.items() if other.task == "classification"]
    fitting = [name for name in names if model.name.endswith(f"_{name}")]
    return _models[max(fitting, key=len)] if fitting else None
