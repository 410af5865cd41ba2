"""TensorFlow Serving's REST API (version 1): ``/v1/models/NAME``, its metadata, and ``:predict``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from zoo.export.metadata import to_json
from zoo.export.serving.asked import ENCODED, Asked, limit_count
from zoo.export.serving.batching import Results
from zoo.export.serving.bodies import kind
from zoo.export.serving.pictures import Picture, Wanted, encoded_picture, pixel_picture
from zoo.export.serving.proposals import PROPOSALS, boxes_of
from zoo.export.serving.refused import OtherSize, Refused
from zoo.export.serving.served import Served, Tensor

# Each signature's input; beside it stands that of proposals, for a model that looks at such.
_SIGNATURES = {"serving_default": "images", "serve_encoded": ENCODED, "metadata": "query"}
# What serve_encoded gives beside the results; see zoo.export.decoding, whose numbers these are.
_OK, _UNREADABLE, _TOO_LARGE, _OTHER_SIZE = 0, 1, 2, 3
_ENCODED_OUTPUTS = {"sizes": Tensor("int32", (-1, 2)), "status": Tensor("int32", (-1,)), "error": Tensor("str", (-1,))}
_HOW = '{"b64": "..."} with the base64 of a JPEG or PNG file, or nested lists [height][width][3]'


def status(served: Served) -> dict[str, Any]:
    """The answer to ``GET /v1/models/NAME``."""
    good = {"error_code": "OK", "error_message": ""}
    return {"model_version_status": [{"version": served.version, "state": "AVAILABLE", "status": good}]}


def metadata(served: Served) -> dict[str, Any]:
    """The answer to ``GET /v1/models/NAME/metadata``."""
    signatures = {
        "serving_default": ({"images": served.images, **served.proposals}, served.outputs),
        "serve_encoded": (
            {ENCODED: Tensor("str", (-1,)), **served.proposals},
            {**served.outputs, **_ENCODED_OUTPUTS},
        ),
        "metadata": ({"query": Tensor("str", (-1,))}, {"json": Tensor("str", (-1,))}),
    }
    described = {
        name: {
            "inputs": {key: _tensor_info(name, key, value) for key, value in inputs.items()},
            "outputs": {key: _tensor_info("StatefulPartitionedCall", key, value) for key, value in outputs.items()},
            "method_name": "tensorflow/serving/predict",
        }
        for name, (inputs, outputs) in signatures.items()
    }
    return {
        "model_spec": {"name": served.name, "signature_name": "", "version": served.version},
        "metadata": {"signature_def": {"signature_def": described}},
    }


def parse(body: dict[str, Any], served: Served, wanted: Wanted, max_images: int) -> Asked:
    """What ``POST /v1/models/NAME:predict`` asks for.

    Signature ``serving_default`` takes numbers, as the artifact does, and encoded pictures too. ``serve_encoded``
    takes encoded pictures alone and tells of each, in ``status`` and ``error``, whether it could be read; only if
    none can, the request is refused. ``metadata`` takes any strings and gives for each what stands in the artifact.

    For a Fast R-CNN each row may hold ``proposals`` beside its picture, and ``inputs`` a list of such; rows need not
    have equally many.

    Raises:
        Refused: it is no such request.
    """
    unknown = sorted(set(body) - {"instances", "inputs", "signature_name"})
    if unknown:
        raise Refused(400, f"unknown key {unknown[0]!r}; a request has 'instances' or 'inputs', and 'signature_name'")
    if ("instances" in body) == ("inputs" in body):
        raise Refused(400, "a request has either 'instances' (rows) or 'inputs' (columns), exactly one of them")
    signature = body.get("signature_name") or "serving_default"
    if not isinstance(signature, str) or signature not in _SIGNATURES:
        raise Refused(400, f"no signature {signature!r} here; there are {', '.join(_SIGNATURES)}")
    key = "instances" if "instances" in body else "inputs"
    values, boxes = (body[key], None) if key == "instances" else _columns(body[key], signature)
    if not isinstance(values, list):
        raise Refused(400, f"{key!r} is a {kind(values)}; give a list with an entry for each image")
    limit_count(len(values), max_images)
    if boxes is not None and (not isinstance(boxes, list) or len(boxes) != len(values)):
        found = f"has {len(boxes)} entries" if isinstance(boxes, list) else f"is a {kind(boxes)}"
        raise Refused(400, f"{PROPOSALS!r} {found} for {len(values)} images; give a list with boxes for each image")
    if signature == "metadata":
        text, name = to_json(served.artifact.metadata), "predictions" if key == "instances" else "outputs"
        return Asked([], lambda _: {name: [text] * len(values)})
    encoded = signature == "serve_encoded"
    pictures: list[Picture | Refused] = []
    for i, value in enumerate(values):
        where = f"{key}[{i}]"
        value, given = _row(value) if boxes is None else (value, boxes[i])
        # Before the picture: serve_encoded tells of pictures that are no good, and of nothing else.
        found = boxes_of(given, where, wanted)
        try:
            pictures.append(replace(_picture(value, where, signature, wanted), proposals=found))
        except Refused as refused:
            if not encoded:
                raise
            pictures.append(refused)
    return Asked(pictures, _answer(key == "instances", pictures if encoded else None), encoded)


def _columns(value: Any, signature: str) -> tuple[Any, Any]:
    """The pictures of ``inputs``, which may stand there without a name, and the proposals if there are any."""
    if not isinstance(value, dict) or set(value) == {"b64"}:
        return value, None
    name = _SIGNATURES[signature]
    # Encoded pictures are welcome in serving_default under either name.
    for allowed in (name, ENCODED) if signature == "serving_default" else (name,):
        if set(value) - {PROPOSALS} == {allowed}:
            return value[allowed], value.get(PROPOSALS)
    raise Refused(400, f"'inputs' has {sorted(value)}; signature {signature!r} has the input {name!r}")


def _row(value: Any) -> tuple[Any, Any]:
    """An instance without its proposals, and those; ``None`` where there are none."""
    if not isinstance(value, dict) or PROPOSALS not in value:
        return value, None
    return {name: each for name, each in value.items() if name != PROPOSALS}, value[PROPOSALS]


def _picture(value: Any, where: str, signature: str, wanted: Wanted) -> Picture:
    if isinstance(value, dict) and len(value) == 1:
        (name,) = value
        if name in (_SIGNATURES[signature], ENCODED):
            value, where = value[name], f"{where}.{name}"
    if isinstance(value, dict):
        if set(value) != {"b64"}:
            raise Refused(400, f"{where} is an object with {sorted(value)}; give {_HOW}")
        return encoded_picture(value["b64"], where, wanted)
    if signature == "serve_encoded" or not isinstance(value, list):
        raise Refused(
            400,
            f"{where} is a {kind(value)}; give {_HOW if signature != 'serve_encoded' else _HOW.partition(',')[0]}: the "
            "server opens no files and no addresses",
        )
    return pixel_picture(value, where, wanted)


def _answer(rows: bool, encoded: list[Picture | Refused] | None) -> Callable[[list[Results | Refused]], dict]:
    """From results to the JSON object; with what ``serve_encoded`` adds where its pictures are given."""

    def answer(results: list[Results | Refused]) -> dict[str, Any]:
        found = results if encoded is None else _with_status(encoded, results)
        if rows:
            return {"predictions": [{name: value.tolist() for name, value in row.items()} for row in found]}
        return {"outputs": {name: [row[name].tolist() for row in found] for name in found[0]}}

    return answer


def _with_status(pictures: list[Picture | Refused], results: list[Results | Refused]) -> list[Results]:
    good = [found for found in results if not isinstance(found, Refused)]
    if not good:
        raise next(found for found in results if isinstance(found, Refused))
    nothing = {name: np.full_like(value, -1 if name == "classes" else 0) for name, value in good[0].items()}
    found = []
    for picture, result in zip(pictures, results, strict=True):
        if isinstance(result, Refused):
            number, row, size, word = _number(result), nothing, (0, 0), result.sentence
        else:
            number, row, size, word = _OK, result, picture.size, ""
        extra = {"sizes": np.array(size, np.int32), "status": np.array(number), "error": np.array(word)}
        found.append({**row, **extra})
    return found


def _number(refused: Refused) -> int:
    if isinstance(refused, OtherSize):
        return _OTHER_SIZE
    return _TOO_LARGE if refused.status == 413 else _UNREADABLE


def _tensor_info(prefix: str, name: str, tensor: Tensor) -> dict[str, Any]:
    types = {"str": "DT_STRING", "float32": "DT_FLOAT"}
    dims = [{"size": str(side), "name": ""} for side in tensor.shape]
    return {
        "dtype": types.get(tensor.dtype, f"DT_{tensor.dtype.upper()}"),
        "tensor_shape": {"dim": dims, "unknown_rank": False},
        "name": f"{prefix}_{name}:0",
    }
