"""ONNX files on disk: one, or a model and its weights beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import onnx

from zoo.export.onnx_weights import all_graphs
from zoo.files import sha256_of

# Protobuf's limit is 2 GiB; the graph itself, and names, want some.
_LIMIT = 2_000_000_000
_SMALL = 1024  # bytes; smaller tensors stay in the model, where readers expect shapes and axes
_SUFFIX = ".weights"


def save_model(model: onnx.ModelProto, path: Path, external_data: bool | None = None) -> Path:
    """Write ``model``; gives the path back. The weights' file is called after its contents.

    So a new export never overwrites the weights that an older model file refers to.

    Args:
        model: its tensors are moved out of it if they go into a file of their own.
        path: of the model.
        external_data: whether weights go beside it; by default if they have to.
    """
    if external_data is None:
        external_data = sum(len(tensor.raw_data) for tensor in _weights(model)) > _LIMIT
    if not external_data:
        onnx.save_model(model, path)
        return path
    beside = path.with_name(f"{path.name}.new{_SUFFIX}")
    onnx.save_model(
        model,
        path,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=beside.name,
        size_threshold=_SMALL,
    )
    name = f"{path.name}.{sha256_of(beside)[:12]}{_SUFFIX}"
    os.rename(beside, path.with_name(name))
    graph = onnx.load(path, load_external_data=False)
    for tensor in _weights(graph):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = name
    path.write_bytes(graph.SerializeToString())
    return path


def outside(model: onnx.ModelProto) -> list[str]:
    """Names of the files beside ``model`` that hold its weights."""
    named = {
        entry.value
        for tensor in _weights(model)
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return sorted(named)


def move_model(source: Path, target: Path) -> None:
    """Put a model that :func:`save_model` wrote in the place of ``target``: its weights first, so that it is whole.

    Weights of a model that was there before go last.
    """
    weights = [file for file in source.parent.iterdir() if file.name.endswith(_SUFFIX)]
    for file in weights:
        os.replace(file, target.with_name(file.name))
    os.replace(source, target)
    kept = {file.name for file in weights}
    for file in target.parent.glob(f"{target.name}.*{_SUFFIX}"):
        if file.name not in kept:
            file.unlink()


def _weights(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in all_graphs(model.graph):
        yield from graph.initializer
