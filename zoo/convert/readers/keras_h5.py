"""The HDF5 layout in which Keras 1, 2 and 3 write ``save_weights("x.h5")``: keras.applications' published files."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from zoo.convert.damage import naming
from zoo.convert.layout import ArrayFile, Shape
from zoo.weights_error import WeightsError

# Files of 2016 name a kernel ``block1_conv1_W_1:0``; ``_1`` and ``:0`` are TensorFlow's.
_OLD_ROLES = {"W": "kernel", "b": "bias", "running_mean": "moving_mean", "running_std": "moving_variance"}


def is_keras_h5(file: h5py.File) -> bool:
    """Whether an open HDF5 file has that layout, at its root or, for a whole saved model, below ``model_weights``."""
    return _has_layers(file) or ("model_weights" in file and _has_layers(file["model_weights"]))


def read_keras_h5(path: str | Path) -> ArrayFile:
    """The arrays of a legacy Keras ``.h5`` file as ``layer/kernel``, ``layer/moving_mean`` and so on.

    Keras itself loads such files by the layers' order, so that two layers of equal shape may be swapped unseen;
    here an array's name tells where it belongs.

    >>> file = read_keras_h5("vgg16_weights_tf_dim_ordering_tf_kernels.h5")    # doctest: +SKIP
    >>> file.shapes["block1_conv1/kernel"]                                     # doctest: +SKIP
    (3, 3, 3, 64)
    """
    path = Path(path)
    shapes: dict[str, Shape] = {}
    places: dict[str, str] = {}
    file = _open(path)
    with naming(path, file.close):
        root = file if _has_layers(file) else file.get("model_weights")
        if root is None or not _has_layers(root):
            raise WeightsError(f"{path} is HDF5, but not of the layout in which Keras writes weights to .h5 files")
        layers = [*_strings(root, "layer_names")]
        if "top_level_model_weights" in root and "top_level_model_weights" not in layers:
            layers.append("top_level_model_weights")
        for layer in layers:
            for weight in _strings(root[layer], "weight_names"):
                dataset = _dataset(path, root[layer], weight)
                name = f"{layer}/{_role(weight, layer)}"
                if name in shapes:
                    raise WeightsError(f"{path} holds {name!r} twice; it is damaged")
                shapes[name], places[name] = tuple(dataset.shape), dataset.name

    def read(name: str) -> np.ndarray:
        with naming(path):
            return file[places[name]][()]

    return ArrayFile(path, shapes, read, "Keras weights (.h5)", file.close)


def _open(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise WeightsError(f"{path} is not an HDF5 file, or is cut short ({error}); fetch it again") from error


def _has_layers(group: h5py.Group) -> bool:
    return "layer_names" in group.attrs or "layer_names0" in group.attrs


def _strings(group: h5py.Group, name: str) -> list[str]:
    """A list attribute; long ones are cut into ``name0``, ``name1``, ... because HDF5 limits their size."""
    values = [group.attrs[name]] if name in group.attrs else []
    while f"{name}{len(values)}" in group.attrs and name not in group.attrs:
        values.append(group.attrs[f"{name}{len(values)}"])
    return [text.decode("utf8") if isinstance(text, bytes) else str(text) for part in values for text in part]


def _dataset(path: Path, group: h5py.Group, name: str) -> h5py.Dataset:
    """The dataset, if its values lie in this very file: HDF5 can point to other files of the reader's machine."""
    here = group
    for part in name.strip("/").split("/"):
        if not isinstance(here, h5py.Group) or not isinstance(here.get(part, getlink=True), h5py.HardLink):
            raise WeightsError(f"{path}: {name!r} is missing or a link; weights files hold their arrays themselves")
        here = here[part]
    if not isinstance(here, h5py.Dataset) or here.external or here.is_virtual or here.dtype.kind not in "fiu":
        raise WeightsError(f"{path}: {name!r} is no array of numbers inside this file")
    return here


def _role(weight: str, layer: str) -> str:
    """What an array is to its layer: ``kernel``, ``bias``, ``gamma``, ..."""
    last = weight.rsplit("/", 1)[-1].split(":")[0]
    if last.startswith(layer + "_"):
        last = last.removeprefix(layer + "_")
        stem, _, number = last.rpartition("_")
        last = stem if stem and number.isdigit() else last
    return _OLD_ROLES.get(last, last)
