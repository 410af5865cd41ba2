"""Is this artifact whole, and does it still give what it gave? With or without the Keras model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from zoo.detectors.detect import ProposalsOf
from zoo.export.checks import check_format
from zoo.export.errors import ExportError
from zoo.export.finishing import report_path
from zoo.export.matching import Results
from zoo.export.parity import check_parity, compare
from zoo.export.proposals import with_proposals
from zoo.export.runners import Artifact, open_artifact
from zoo.export.samples import sample_pictures

# Of the mean average precision, with fewer bits a weight.
_MOST_LOST = 0.1


def verify(
    path: str | Path,
    model: keras.Model | None = None,
    images: Sequence[Any] | Any | None = None,
    *,
    proposals: ProposalsOf | None = None,
) -> dict[str, Any]:
    """Check an artifact's form, run it here, and compare with its Keras model.

    Args:
        path: a file, or a SavedModel's folder.
        model: the Keras model; without it the results that the report keeps are what is compared with.
        images: other pictures; without the model they have to be those that the artifact was exported with.
        proposals: of each picture, for a Fast R-CNN, as it was exported with.

    Returns:
        A new report. The one that is kept stays as it is.

    Raises:
        ExportError: the artifact is damaged, is not the one that the report is about, or cannot be compared.
        ParityError: it gives other results.

    Example:
        >>> verify("digits.onnx")["ok"]    # doctest: +SKIP
        True
    """
    artifact = open_artifact(path)
    check_format(artifact)
    if model is not None:
        known = report_path(artifact.path).is_file()
        limit = _limit(_read_report(artifact)) if known else _MOST_LOST
        return check_parity(model, artifact, images, most_lost=limit, proposals=proposals)
    kept = _read_report(artifact)
    if kept["digest"] != artifact.digest:
        raise ExportError(
            f"{artifact.path} is not the artifact that {report_path(artifact.path)} is about: it was changed or "
            "damaged after its export; export it again, or compare it with its model (`zoo verify --model`)"
        )
    pictures = with_proposals(sample_pictures(images, artifact.size), artifact.proposals, proposals)
    by_digest = {entry["digest"]: entry for entry in kept["images"]}
    known = [picture for picture in pictures if picture.digest in by_digest]
    if not known:
        names = ", ".join(entry["name"] for entry in kept["images"])
        raise ExportError(
            f"{artifact.path} was compared on {names} when it was exported, and its report knows no other pictures; "
            "give the same ones, or the model (`zoo verify --model`)"
        )
    entries = [by_digest[picture.digest] for picture in known]
    references = [(_results(entry["reference"]), entry["keras_seconds"]) for entry in entries]
    return compare(
        artifact,
        known,
        references,
        lambda picture: map(_results, by_digest[picture.digest].get("shaken", ())),
        most_lost=_limit(kept),
    )


def _limit(report: dict[str, Any]) -> float:
    """What was allowed when the artifact was written."""
    return report["tolerance"].get("map_lost", _MOST_LOST)


def _results(kept: dict[str, Any]) -> Results:
    """What the Keras model gave, padded again."""
    most = kept.get("most")
    results = {name: np.asarray(value) for name, value in kept.items() if name != "most"}
    if most is not None:
        for name, padding in (("boxes", 0.0), ("scores", 0.0), ("classes", -1)):
            value = results[name].reshape(-1, 4) if name == "boxes" else results[name]
            missing = [(0, most - len(value))] + [(0, 0)] * (value.ndim - 1)
            results[name] = np.pad(value, missing, constant_values=padding)
        results["classes"] = results["classes"].astype(np.int32)
    return results


def _read_report(artifact: Artifact) -> dict[str, Any]:
    file = report_path(artifact.path)
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        if not report["images"] or not {"digest", "tolerance"} <= report.keys():
            raise KeyError("images, digest, tolerance")
    except FileNotFoundError as error:
        raise ExportError(
            f"{artifact.path} has no report ({file} does not exist); compare it with its model (`zoo verify --model`)"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(
            f"{file} is no parity report ({error}); compare the artifact with its model (`zoo verify --model`)"
        ) from error
    return report
