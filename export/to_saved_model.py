"""SavedModel: a folder of versions as TensorFlow Serving wants it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from zoo.detectors.detect import ProposalsOf
from zoo.export.checks import check_format
from zoo.export.decoding import MAX_PIXELS, MESSAGES, OK, OTHER_SIZE, decode
from zoo.export.errors import ExportError
from zoo.export.finishing import Exported, move_folder, report_path, work_folder
from zoo.export.metadata import describe, to_json
from zoo.export.parity import check_parity
from zoo.export.proposals import with_proposals
from zoo.export.runners import LABELS_FILE, METADATA_FILE, open_artifact, saved_versions
from zoo.export.samples import sample_pictures
from zoo.export.subject import Subject, subject
from zoo.export.warmup import warmup_requests, write_warmup
from zoo.files import save_json

_WARMUP_SIZE = (480, 640)


def saved_model(
    model: keras.Model,
    path: str | Path,
    *,
    version: int | None = None,
    size: tuple[int, int] | None = None,
    dtype: str = "uint8",
    max_pixels: int = MAX_PIXELS,
    images: Sequence[Any] | Any | None = None,
    proposals: ProposalsOf | None = None,
) -> Exported:
    """Write ``model`` as ``path/VERSION``, after comparing it with the Keras model.

    Signatures, all with a batch of any length:

    ================= ==============================================================================================
    serving_default   ``images (B, H, W, 3)`` uint8, RGB: detections, or probabilities
    serving_float     the same from float32, 0-255
    serve_encoded     ``image_bytes (B,)``, JPEG or PNG files of any sizes: the same results, with ``sizes (B, 2)``,
                      ``status (B,)`` (:mod:`zoo.export.decoding`; 0 is good) and ``error (B,)`` in words
    features          ``images`` as serving_default: ``features``, what the network computes before it decides
    metadata          ``query (B,)``, any strings: ``json (B,)``, what :func:`zoo.export.metadata.describe` tells
    ================= ==============================================================================================

    Of a Fast R-CNN the first three also take ``proposals (B, P, 4)`` float32 in pixels of the (upright) pictures, of an
    R-CNN ``features`` too.

    Beside them, in ``assets.extra``, stand the metadata (``zoo.json``), class names (``labels.txt``), requests that
    TensorFlow Serving warms up with, and the parity report.

    Args:
        model: a detector or a classifier.
        path: the folder of versions.
        version: a number from 1 on; by default one more than the highest there is, which TensorFlow Serving then
            takes by itself. One that exists is replaced.
        size: (height, width) if all images will have it; by default they may have any.
        dtype: of the images that ``serving_default`` and ``features`` take, ``"uint8"`` or ``"float32"``.
        max_pixels: ``serve_encoded`` does not decode larger pictures.
        images: pictures to compare on; see :func:`zoo.export.check_parity`.
        proposals: of each of them, for a Fast R-CNN.

    Raises:
        ExportError: the model cannot be exported.
        ParityError: the SavedModel differs from the Keras model; nothing is written then.

    Example:
        >>> saved_model(model, "serving/digits").path    # doctest: +SKIP
        PosixPath('serving/digits/1')
    """
    path = Path(path)
    if (path / "saved_model.pb").exists() or path.is_file():
        raise ExportError(f"{path} is itself an artifact; give the folder that holds, or will hold, its versions")
    if version is None:
        version = max(saved_versions(path), default=0) + 1
    if version < 1:
        raise ExportError(f"version={version}: TensorFlow Serving counts versions from 1")
    if dtype not in ("uint8", "float32"):
        raise ExportError(f"dtype={dtype!r}: images are 'uint8' or 'float32'")
    if max_pixels < 1:
        raise ExportError(f"max_pixels={max_pixels}: give the pixels of the largest picture to be decoded")
    target = path / str(version)
    seen = subject(model)
    metadata = describe(seen, "saved_model", dtype=dtype, size=size, details=_details(seen, dtype, max_pixels))
    with work_folder(target) as folder:
        written = folder / str(version)
        write_signatures(seen, written, to_json(metadata), size=size, dtype=dtype, max_pixels=max_pixels)
        extra = written / "assets.extra"
        extra.mkdir()
        (extra / METADATA_FILE).write_text(json.dumps(metadata, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (extra / LABELS_FILE).write_text("".join(f"{name}\n" for name in seen.classes), encoding="utf-8")
        sample = with_proposals(sample_pictures(None, size or _WARMUP_SIZE)[:1], seen.proposals)[0]
        write_warmup(warmup_requests(seen.name, sample.pixels, dtype, sample.proposals, seen.crops), extra)
        artifact = open_artifact(written)
        check_format(artifact)
        report = check_parity(model, artifact, images, proposals=proposals)
        save_json(report, report_path(written))
        move_folder(written, target)
    return Exported(target, report, report_path(target))


def write_signatures(
    seen: Subject,
    folder: Path,
    metadata: str,
    *,
    size: tuple[int, int] | None = None,
    dtype: str = "uint8",
    max_pixels: int = MAX_PIXELS,
) -> None:
    """Write the SavedModel itself; ``metadata`` is what its signature of that name gives."""
    predict = _function(seen.predict, seen.inputs(size, tf.float32))
    images, *boxes = seen.inputs(size, dtype)

    def serve_encoded(image_bytes, *proposals):
        # Each picture by itself, in its own size: padded to a common one they would give other results. One after the
        # other: several at once are no quicker on two cores, and take more memory.
        return tf.map_fn(
            lambda each: _one(each[0], each[1:], predict, size, max_pixels),
            (image_bytes, *proposals),
            parallel_iterations=1,
            fn_output_signature=_encoded_spec(predict),
        )

    def answer(query):
        # TensorFlow Serving refuses a signature without inputs in its REST API, and one without a batch in batches.
        return {"json": tf.fill(tf.shape(query), metadata)}

    functions = {
        "serving_default": _function(
            lambda images, *boxes: predict(tf.cast(images, tf.float32), *boxes), [images, *boxes]
        ),
        "serving_float": predict,
        "serve_encoded": _function(serve_encoded, [_strings("image_bytes"), *boxes]),
        "features": _function(
            lambda images, *boxes: seen.features(tf.cast(images, tf.float32), *boxes),
            [images, *(boxes if seen.crops else [])],
        ),
        "metadata": _function(answer, [_strings("query")]),
    }
    holder = tf.Module()
    holder.weights = [variable.value for variable in seen.model.variables]
    tf.saved_model.save(holder, str(folder), signatures=functions)


def _details(seen: Subject, dtype: str, max_pixels: int) -> dict[str, Any]:
    """What only a SavedModel has to tell."""
    results = "outputs as above"
    also = "" if seen.proposals is None else "; and proposals (B, P, 4) float32 in pixels of the pictures"
    encoded = "" if seen.proposals is None else f"{also}, upright"
    return {
        "signatures": {
            "serving_default": f"images (B, H, W, 3) {dtype}, RGB 0-255{also}: {results}",
            "serving_float": f"images (B, H, W, 3) float32, RGB 0-255{also}: {results}",
            "serve_encoded": f"image_bytes (B,), JPEG or PNG files of any sizes{encoded}: {results}, "
            "sizes (B, 2) height and width after turning upright, status (B,), error (B,) in words",
            "features": f"images (B, H, W, 3) {dtype}, RGB 0-255{also if seen.crops else ''}: what the network "
            "computes before it decides",
            "metadata": "query (B,), any strings: json (B,), this text",
        },
        "status": {str(number): text or "good" for number, text in enumerate(MESSAGES)},
        "max_pixels": max_pixels,
    }


def _strings(name: str) -> tf.TensorSpec:
    """A batch of strings."""
    return tf.TensorSpec((None,), tf.string, name)


def _function(call: Callable[..., dict[str, Any]], inputs: Sequence[tf.TensorSpec]):
    """``call`` as a graph function."""
    # Without autograph, which rewrites Python code and slows tracing; Keras needs none.
    return tf.function(lambda *given: call(*given), input_signature=inputs, autograph=False)


def _one(
    data: tf.Tensor,
    boxes: Sequence[tf.Tensor],
    predict: Callable,
    size: tuple[int, int] | None,
    max_pixels: int,
) -> dict[str, tf.Tensor]:
    """Results for the bytes of one image, and its proposals if any, without the batch axis."""
    pixels, status = decode(data, max_pixels)
    if size is not None:
        # A graph for one size cannot look at another.
        fits = tf.reduce_all(tf.shape(pixels)[:2] == tf.constant(size))
        status = tf.where((status == OK) & ~fits, OTHER_SIZE, status)
    good = status == OK

    def look() -> dict[str, tf.Tensor]:
        images = tf.cast(pixels, tf.float32)[None]
        if size is not None:
            images = tf.ensure_shape(images, (1, *size, 3))
        return {name: value[0] for name, value in predict(images, *(each[None] for each in boxes)).items()}

    def nothing() -> dict[str, tf.Tensor]:
        return {
            name: tf.fill(shape, tf.constant(-1 if name == "classes" else 0, dtype))
            for name, (shape, dtype) in _result_shapes(predict).items()
        }

    found = tf.cond(good, look, nothing)
    shape = tf.where(good, tf.shape(pixels)[:2], 0)
    return {**found, "sizes": shape, "status": status, "error": tf.gather(tf.constant(MESSAGES), status)}


def _result_shapes(predict: Any) -> dict[str, tuple[tuple[int, ...], tf.DType]]:
    """Shape, without the batch axis, and type of every result."""
    outputs = predict.get_concrete_function().structured_outputs
    return {name: (tuple(value.shape[1:]), value.dtype) for name, value in outputs.items()}


def _encoded_spec(predict: Any) -> dict[str, tf.TensorSpec]:
    found = {name: tf.TensorSpec(shape, dtype) for name, (shape, dtype) in _result_shapes(predict).items()}
    return {
        **found,
        "sizes": tf.TensorSpec((2,), tf.int32),
        "status": tf.TensorSpec((), tf.int32),
        "error": tf.TensorSpec((), tf.string),
    }
