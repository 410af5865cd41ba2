"""Our weights in other libraries' files: keras.applications' ``.h5`` and ChainerCV's ``.npz``."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain
from pathlib import Path

import h5py
import numpy as np
from numpy.lib import format as npy

from zoo.backbones.inputs import INPUTS
from zoo.convert.chainercv import ChainerResNet, ChainerVGG
from zoo.convert.detectors import ChainerFasterRCNN
from zoo.convert.keras_applications import KerasResNet, KerasVGG
from zoo.convert.layout import ArrayFile, Layout, Shapes
from zoo.files import save_atomically
from zoo.filling import shapes_of
from zoo.model_info import ModelInfo
from zoo.weights_error import WeightsError
from zoo.weights_io import WeightsMeta, check_shapes, open_weights, read_meta

Make = Callable[[], np.ndarray]

# Layout and model: what knows how to write them.
WRITABLE: dict[tuple[str, str], Layout] = {
    **{("keras_applications", name): KerasVGG() for name in ("vgg16", "vgg19")},
    **{("keras_applications", name): KerasResNet() for name in ("resnet50", "resnet101", "resnet152")},
    ("chainercv", "vgg16"): ChainerVGG(),
    **{("chainercv", name): ChainerResNet() for name in ("resnet50", "resnet101", "resnet152")},
    ("chainercv", "faster_rcnn_vgg16"): ChainerFasterRCNN(),
}
# Options that a layout implies but that its library can also be told: ChainerCV's arch='fb'.
_FREE = {"chainercv": ("stride_in",)}
_MOST_ATTRIBUTE = 60_000  # bytes
_NOT_COMPARED = ("inputs", "rpn_channels", "head_units")


def write_file(source: str | Path, target: str | Path, layout_name: str, model: ModelInfo) -> list[str]:
    """Write one of our weights files as another library's; gives the names of the arrays written.

    Args:
        source: a ``.weights.h5`` of ours that tells which model it is for.
        target: what to write; never left half written.
        layout_name: ``"keras_applications"`` or ``"chainercv"``.
        model: the model that the weights are for.

    Raises:
        WeightsError: a model or options that this layout cannot express.

    >>> write_file("resnet50.weights.h5", "resnet50.h5", "keras_applications", info)    # doctest: +SKIP
    """
    meta = read_meta(source) or WeightsMeta()
    if meta.model not in ("", model.name):
        raise WeightsError(f"{source} holds weights of {meta.model}, not of {model.name}")
    layout = WRITABLE.get((layout_name, model.name))
    if layout is None:
        models = ", ".join(name for known, name in WRITABLE if known == layout_name) or "none"
        raise WeightsError(f"{source} holds weights of {model.name}; models that {layout_name} can hold: {models}")
    flip = _compare_options(layout, model.name, {**model.options, **meta.options}, str(source))
    # In the model's order, by which Keras reads its files.
    wanted = shapes_of(lambda: model.builder(meta.classes or None, **meta.options))
    with open_weights(source) as file:
        check_shapes(wanted, file.shapes, str(source), model.name)
        arrays = _for_file(layout, model.name, file, wanted, flip)
        if layout_name == "keras_applications":
            return _write_keras(Path(target), arrays)
        extras = getattr(layout, "extras", lambda shapes: {})(wanted)
        return _write_npz(Path(target), arrays, extras)


def _compare_options(layout: Layout, model: str, options: Mapping[str, object], source: str) -> bool:
    """Whether the first convolution's colours have to change places; an error if more than that differs."""
    _refuse_other_layers(layout, options, source)
    implied = layout.options(model, {})
    free = (*_NOT_COMPARED, *_FREE.get(layout.name, ()))
    differing = {name: value for name, value in implied.items() if name not in free and options.get(name) != value}
    if differing:
        raise WeightsError(
            f"{source} was made with {_pairs({name: options.get(name) for name in differing})}, but {layout.about} "
            f"always has {_pairs(differing)}: its answers would be others. Train it with these options first"
        )
    ours, theirs = (INPUTS[str(which)] for which in (options["inputs"], implied["inputs"]))
    if (ours.order, ours.mean, ours.std) == (theirs.order, theirs.mean, theirs.std):
        return False
    if ours.order != theirs.order and (ours.mean[::-1], ours.std[::-1]) == (theirs.mean, theirs.std):
        return True
    raise WeightsError(
        f"{source} was made for the input {ours.describe()} (inputs={options['inputs']!r}), {layout.about} gives "
        f"{theirs.describe()}: train it with inputs={implied['inputs']!r} first"
    )


def _refuse_other_layers(layout: Layout, options: Mapping[str, object], source: str) -> None:
    """An error for layers that no other library's file has a place for."""
    if options.get("ranks"):
        raise WeightsError(
            f"{source} is compressed (ranks={options['ranks']!r}): its layers are products of two kernels, "
            f"{layout.about} has whole ones. Convert the weights that it was compressed from"
        )
    if options.get("norm") == "group":
        raise WeightsError(
            f"{source} was made with norm='group', but {layout.about} has batch normalisation, whose means and "
            "variances these weights lack: train it with norm='batch' first"
        )


def _for_file(layout: Layout, model: str, file: ArrayFile, wanted: Shapes, flip: bool) -> dict[str, Make]:
    """The arrays to write by their names, each made when it is called for."""
    sources = layout.arrays(model, wanted, {})
    homeless = [name for name in wanted if name not in sources or (sources[name].names and not sources[name].save)]
    if homeless:
        raise WeightsError(f"{file.path}: {layout.about} has no place for {', '.join(homeless)}")
    first = next(name for name, shape in wanted.items() if len(shape) == 4)
    # A bias that the layout does not have: before a normalisation it only shifts the mean.
    dropped = {name for name in wanted if not sources[name].names and name.endswith("_conv/bias")}

    def made(name: str) -> np.ndarray:
        value = np.asarray(file[name], np.float32)
        bias = name.replace("_bn/moving_mean", "_conv/bias")
        if bias != name and bias in dropped:
            value = value - np.asarray(file[bias], np.float32)
        if flip and name == first:
            value = value[:, :, ::-1]
        return np.ascontiguousarray(sources[name].save(value))

    return {sources[name].names[0]: partial(made, name) for name in wanted if sources[name].names}


def _write_keras(target: Path, arrays: Mapping[str, Make]) -> list[str]:
    """The layout of ``save_weights("x.h5")``, a group a layer."""
    layers = list(dict.fromkeys(name.rpartition("/")[0] for name in arrays))
    with save_atomically(target) as aside, h5py.File(aside, "w") as out:
        _set_list(out, "layer_names", layers)
        out.attrs["backend"], out.attrs["keras_version"] = b"tensorflow", b"3.0.0"
        for layer in layers:
            names = [name for name in arrays if name.rpartition("/")[0] == layer]
            group = out.create_group(layer)
            _set_list(group, "weight_names", [f"{name}:0" for name in names])
            for name in names:
                group[f"{name}:0"] = arrays[name]()
        _set_list(out.create_group("top_level_model_weights"), "weight_names", [])
    return list(arrays)


def _set_list(group: h5py.Group, name: str, values: list[str]) -> None:
    """An attribute that Keras reads as a list; HDF5 keeps attributes below 64 KB, so a long one is cut in parts."""
    encoded = np.array([value.encode() for value in values] or np.zeros(0, "S1"))
    count = max(1, -(-encoded.nbytes // _MOST_ATTRIBUTE))
    for number, part in enumerate(np.array_split(encoded, count)):
        group.attrs[name if count == 1 else f"{name}{number}"] = part


def _write_npz(target: Path, arrays: Mapping[str, Make], extras: Mapping[str, np.ndarray]) -> list[str]:
    """An uncompressed ``.npz``, array by array."""
    made = chain(((name, make()) for name, make in arrays.items()), extras.items())
    with save_atomically(target) as aside, zipfile.ZipFile(aside, "w") as out:
        for name, value in made:
            with out.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy.write_array(member, value, allow_pickle=False)
    return [*arrays, *extras]


def _pairs(options: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in options.items())
