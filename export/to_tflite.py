"""TFLite: builtin operators only, any image size, labels and metadata packed in."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.detectors.detect import ProposalsOf
from zoo.export.checks import check_format
from zoo.export.errors import ExportError, need
from zoo.export.finishing import Exported, report_path, work_folder
from zoo.export.metadata import describe
from zoo.export.parity import check_parity
from zoo.export.proposals import shown
from zoo.export.runners import LABELS_FILE, METADATA_FILE, open_artifact
from zoo.export.samples import representative_pictures
from zoo.export.subject import Subject, subject
from zoo.export.tflite_graph import rewrite
from zoo.export.tflite_int8 import quantise
from zoo.files import save_json

PRECISIONS = ("float32", "float16", "dynamic_int8", "int8")


def tflite(
    model: keras.Model,
    path: str | Path,
    *,
    precision: str = "float32",
    size: tuple[int, int] | None = None,
    dtype: str = "uint8",
    images: Sequence[Any] | Any | None = None,
    representative: Sequence[Any] | Any | None = None,
    most_lost: float = 0.1,
    proposals: ProposalsOf | None = None,
) -> Exported:
    """Write ``model`` as a TFLite file, after comparing it with the Keras model.

    Its signature ``serving_default`` takes ``images (B, H, W, 3)``, RGB 0-255, of a Fast R-CNN also ``proposals (B, P,
    4)`` float32; outputs as :func:`zoo.export.metadata.describe` explains them. The file is a zip archive too, as
    TFLite's metadata standard has it: ``labels.txt`` and ``zoo.json`` are packed behind the model. (The standard's own
    description in the model, ``TFLITE_METADATA``, is not written: no task of its kind has these outputs.)

    Args:
        model: a detector or a classifier.
        path: a file that ends in ``.tflite``.
        precision: of the weights. ``"float32"``; ``"float16"``, half the size; ``"dynamic_int8"``, a quarter of the
            size, with activations quantised as they come; ``"int8"``, network layers computed in 8 bits, the last ones
            and all that makes boxes in float32 (:mod:`zoo.export.tflite_int8`).
        size: (height, width) if all images will have it; by default they may have any.
        dtype: of the images, ``"uint8"`` or ``"float32"``.
        images: pictures to compare on; see :func:`zoo.export.check_parity`.
        representative: for ``"int8"``, some fifty pictures of the kind that the model will see: a folder, a list.
        most_lost: mean average precision that fewer bits may cost.
        proposals: of each of ``images``, for a Fast R-CNN; see :func:`zoo.export.check_parity`.

    Raises:
        ExportError: the model cannot be exported, or ai-edge-litert is not installed.
        ParityError: the file differs from the Keras model; nothing is written then.

    Example:
        >>> tflite(model, "digits.tflite", precision="float16").report["map_lost"]    # doctest: +SKIP
        0.0
    """
    path = Path(path)
    if path.suffix != ".tflite":
        raise ExportError(f"{path}: give a file that ends in .tflite")
    if precision not in PRECISIONS:
        raise ExportError(f"precision={precision!r}: choose one of {', '.join(map(repr, PRECISIONS))}")
    if dtype not in ("uint8", "float32"):
        raise ExportError(f"dtype={dtype!r}: images are 'uint8' or 'float32'")
    need("ai_edge_litert.interpreter", "ai-edge-litert", "comparing a TFLite file with its Keras model")
    seen = subject(model)
    pictures = representative_pictures(representative, size) if precision == "int8" else ()
    metadata = describe(seen, "tflite", dtype=dtype, size=size, precision=precision)
    with work_folder(path) as folder:
        written = folder / path.name
        converter = _converter(seen, folder / "saved_model", size, dtype)
        inputs = (shown(each, seen.proposals, dtype) for each in pictures)
        written.write_bytes(_convert(seen, converter, precision, inputs))
        labels = "".join(f"{name}\n" for name in seen.classes)
        _pack(written, {METADATA_FILE: json.dumps(metadata, indent=2, ensure_ascii=False), LABELS_FILE: labels})
        artifact = open_artifact(written)
        check_format(artifact)
        report = check_parity(model, artifact, images, most_lost=most_lost, proposals=proposals)
        os.replace(written, path)
    save_json(report, report_path(path))
    return Exported(path, report, report_path(path))


def _converter(seen: Subject, folder: Path, size: tuple[int, int] | None, dtype: str) -> tf.lite.TFLiteConverter:
    """For a SavedModel that is written into ``folder``: of bare functions converters lose Keras 3 weights."""

    def serve(images, *boxes):
        return seen.predict(tf.cast(images, tf.float32), *boxes)

    function = tf.function(serve, input_signature=seen.inputs(size, dtype), autograph=False)
    holder = tf.Module()
    holder.weights = [variable.value for variable in seen.model.variables]
    tf.saved_model.save(holder, str(folder), signatures={"serving_default": function})
    rewrite(folder)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=["serving_default"])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter


def _convert(
    seen: Subject, converter: tf.lite.TFLiteConverter, precision: str, pictures: Iterable[dict[str, np.ndarray]]
) -> bytes:
    """The model's part of the file."""
    try:
        if precision == "int8":
            return quantise(converter, [np.asarray(each) for each in seen.sensitive], pictures)
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        return converter.convert()
    except ExportError:
        raise
    except Exception as error:  # the converter's error has no public class
        raise ExportError(f"{seen.name} does not convert to TFLite: {str(error).partition(chr(10))[0]}") from error


def _pack(path: Path, files: dict[str, str]) -> None:
    """Append files as a zip archive; a TFLite reader does not look behind the model's end."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as packed:
        for name, text in files.items():
            # A fixed date, so that equal models are equal files.
            packed.writestr(zipfile.ZipInfo(name), text)
