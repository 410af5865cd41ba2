"""ONNX: traced with the weights as inputs, which then become the file's initialisers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from zoo.detectors.detect import ProposalsOf
from zoo.export.checks import check_format
from zoo.export.errors import ExportError, need
from zoo.export.finishing import Exported, report_path, work_folder
from zoo.export.metadata import describe, to_json
from zoo.export.onnx_files import move_model, save_model
from zoo.export.onnx_int8 import quantise
from zoo.export.onnx_weights import add_weights, name_sizes
from zoo.export.parity import check_parity
from zoo.export.proposals import shown
from zoo.export.runners import open_artifact
from zoo.export.samples import representative_pictures
from zoo.export.subject import Subject, subject
from zoo.files import save_json

OPSETS = (17, 18)
PRECISIONS = ("float32", "dynamic_int8", "int8")


def onnx(
    model: keras.Model,
    path: str | Path,
    *,
    precision: str = "float32",
    size: tuple[int, int] | None = None,
    dtype: str = "uint8",
    opset: int = 18,
    external_data: bool | None = None,
    images: Sequence[Any] | Any | None = None,
    representative: Sequence[Any] | Any | None = None,
    most_lost: float = 0.1,
    proposals: ProposalsOf | None = None,
) -> Exported:
    """Write ``model`` as an ONNX file, after comparing it with the Keras model.

    Input ``images (B, H, W, 3)``, RGB 0-255, of a Fast R-CNN also ``proposals (B, P, 4)`` float32; outputs as
    :func:`zoo.export.metadata.describe` explains them. The metadata stand in the file's ``metadata_props``: all of them
    under ``zoo``, and ``model``, ``task`` and ``classes``.

    Args:
        model: a detector or a classifier.
        path: a file that ends in ``.onnx``.
        precision: of the weights. ``"float32"``; ``"dynamic_int8"``, a quarter of the size for fully connected layers;
            ``"int8"``, for convolutions too, which are then computed in 8 bits (:mod:`zoo.export.onnx_int8`). The last
            layers, which give scores and boxes, stay float32.
        size: (height, width) if all images will have it; by default they may have any.
        dtype: of the images, ``"uint8"`` or ``"float32"``.
        opset: 17 or 18.
        external_data: whether weights go into a file of their own beside it; by default if they are more than 2 GB,
            which is all that one ONNX file can hold.
        images: pictures to compare on; see :func:`zoo.export.check_parity`.
        representative: for ``"int8"``, some fifty pictures of the kind that the model will see: a folder, a list.
        most_lost: mean average precision that fewer bits may cost.
        proposals: of each of ``images``, for a Fast R-CNN; see :func:`zoo.export.check_parity`.

    Raises:
        ExportError: the model cannot be exported, or tf2onnx or onnxruntime is not installed.
        ParityError: the file differs from the Keras model; nothing is written then.

    Example:
        >>> onnx(model, "digits.onnx").report["worst_box"] < 0.5    # doctest: +SKIP
        True
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise ExportError(f"{path}: give a file that ends in .onnx")
    if precision not in PRECISIONS:
        raise ExportError(f"precision={precision!r}: choose one of {', '.join(map(repr, PRECISIONS))}")
    if dtype not in ("uint8", "float32"):
        raise ExportError(f"dtype={dtype!r}: images are 'uint8' or 'float32'")
    if opset not in OPSETS:
        raise ExportError(f"opset={opset}: choose one of {', '.join(map(str, OPSETS))}")
    need("onnxruntime", "onnxruntime", "comparing an ONNX file with its Keras model")
    pictures = representative_pictures(representative, size) if precision == "int8" else ()
    seen = subject(model)
    metadata = describe(seen, "onnx", dtype=dtype, size=size, precision=precision, details={"opset": opset})
    with work_folder(path) as folder:
        proto = convert(seen, size, dtype, opset)
        if precision != "float32":
            kept = {name for name, variable in _by_path(model).items() if any(variable is v for v in seen.sensitive)}
            proto = quantise(proto, folder, precision, kept, (shown(each, seen.proposals, dtype) for each in pictures))
        _tell(proto, metadata)
        written = save_model(proto, folder / path.name, external_data)
        del proto  # as large as the model
        artifact = open_artifact(written)
        check_format(artifact)
        report = check_parity(model, artifact, images, most_lost=most_lost, proposals=proposals)
        move_model(written, path)
    save_json(report, report_path(path))
    return Exported(path, report, report_path(path))


def convert(seen: Subject, size: tuple[int, int] | None, dtype: str, opset: int):
    """The model as an ``onnx.ModelProto``.

    The weights are inputs while TensorFlow's graph is made and converted: as constants they would be copied and
    compared again and again (twelve times the time and five times the memory for VGG-16).
    """
    convert = need("tf2onnx", "tf2onnx", "writing ONNX").convert
    variables = _by_path(seen.model)
    inputs = seen.inputs(size, dtype)
    specs = inputs + [tf.TensorSpec(variable.shape, variable.dtype, name) for name, variable in variables.items()]

    def traced(images, *others):
        boxes, weights = others[: len(inputs) - 1], others[len(inputs) - 1 :]
        with keras.StatelessScope(state_mapping=list(zip(variables.values(), weights, strict=True))):
            return seen.predict(tf.cast(images, tf.float32), *boxes)

    function = tf.function(traced, input_signature=specs, autograph=False)
    with _no_copies():
        proto, _ = convert.from_function(function, input_signature=specs, opset=opset)
    proto.graph.name = seen.name
    proto.producer_name = "zoo"
    add_weights(proto, variables)
    name_sizes(proto)
    return proto


@contextmanager
def _no_copies() -> Iterator[None]:
    """Let tf2onnx optimise its graph itself, not copies of it.

    It copies the graph before each of some forty passes, to go on without one that fails: half of the time that an
    export takes. For models of more than 2 GB it does without, and where this variable is set.
    """
    name = "TF2ONNX_CATCH_ERRORS"
    before = os.environ.get(name)
    os.environ[name] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _by_path(model: keras.Model) -> dict[str, keras.Variable]:
    """All variables, each under its path, as often as a path occurs."""
    found: dict[str, keras.Variable] = {}
    for variable in model.variables:
        name, number = variable.path, 1
        while name in found:
            number += 1
            name = f"{variable.path}_{number}"
        found[name] = variable
    return found


def _tell(proto: Any, metadata: dict[str, Any]) -> None:
    """Put the metadata into the file."""
    import onnx

    known = {
        "zoo": to_json(metadata),
        "model": metadata["model"],
        "task": metadata["task"],
        "classes": json.dumps(metadata["classes"], ensure_ascii=False),
    }
    onnx.helper.set_model_props(proto, known)
    proto.doc_string = f"{metadata['model']}: {metadata['task']}, {metadata['preprocessing']['description']}"
