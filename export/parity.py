"""Runs an artifact and its Keras model on the same pictures, and compares what they find."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from zoo.datasets.records import Sample
from zoo.datasets.voc_metrics import evaluate_voc
from zoo.detectors.detect import ProposalsOf
from zoo.export.errors import ExportError, ParityError
from zoo.export.matching import Agreement, Results, Tolerance, compare_detections, compare_probabilities
from zoo.export.proposals import with_proposals
from zoo.export.rounding import shaken
from zoo.export.runners import Artifact, open_artifact
from zoo.export.samples import SamplePicture, sample_pictures
from zoo.export.subject import Subject, first, subject

# Of weights with fewer bits: what a probability may differ by, and detections that count as the truth.
_COARSE = Tolerance(boxes=np.inf, scores=0.1)
_SURE = 0.5
_TOLD = 5  # differences a picture that a report names


def check_parity(
    model: keras.Model,
    artifact: str | Path | Artifact,
    images: Sequence[Any] | Any | None = None,
    *,
    tolerance: Tolerance | None = None,
    most_lost: float = 0.1,
    proposals: ProposalsOf | None = None,
) -> dict[str, Any]:
    """Compare an artifact, run in its own runtime, with the Keras model.

    Every detection has to be there with the same class, its box within .5 pixel, its score within .001. What only
    rounding decides may differ: which of two equal scores comes first, whether a score at the threshold counts, and
    what the Keras model itself does not always find (:mod:`zoo.export.rounding`).
    Artifacts with fewer bits a weight are measured instead: the Keras model's detections of score .5
    and more are taken as the truth, and the mean average precision that the artifact reaches on them may be less than
    1 by ``most_lost``.

    Args:
        model: what the artifact was made from.
        artifact: a path, or an opened artifact.
        images: paths or arrays ``(H, W, 3)``; by default composed scenes of digits in three sizes. Give pictures of
            the kind that the model knows: where it finds nothing, nothing is compared, and the report says so.
        tolerance: other limits.
        most_lost: for artifacts with fewer bits a weight.
        proposals: of each picture, for a Fast R-CNN; see :func:`zoo.export.proposals.with_proposals`.

    Returns:
        The report: plain values for JSON, with the Keras model's results, so that the artifact can be verified later
        without the model (:func:`zoo.export.verify`).

    Raises:
        ParityError: they differ; the message shows the worst detection.
    """
    artifact = artifact if isinstance(artifact, Artifact) else open_artifact(artifact)
    seen = subject(model)
    if list(seen.classes) != list(artifact.classes):
        raise ExportError(
            f"{artifact.path} knows the classes {_few(artifact.classes)}, the model {_few(seen.classes)}: it was made "
            "from another model"
        )
    pictures = with_proposals(sample_pictures(images, artifact.size), seen.proposals, proposals)
    references = [_timed(lambda picture=picture: _reference(seen, picture)) for picture in pictures]
    others = partial(shaken, seen)
    return compare(artifact, pictures, references, others, tolerance=tolerance, most_lost=most_lost)


def compare(
    artifact: Artifact,
    pictures: Sequence[SamplePicture],
    references: Sequence[tuple[Results, float]],
    others: Callable[[SamplePicture], Iterable[Results]] = lambda picture: (),
    *,
    tolerance: Tolerance | None = None,
    most_lost: float = 0.1,
) -> dict[str, Any]:
    """Run ``artifact`` on ``pictures`` and compare with what the model gave and the seconds it took.

    Where that is not the same, ``others(picture)`` tells what else the model may give.

    Returns:
        The report; see :func:`check_parity`.

    Raises:
        ParityError: they differ.
    """
    precision = artifact.metadata["precision"]
    exact = precision == "float32"
    tolerance = tolerance or (Tolerance() if exact else _COARSE)
    detecting = artifact.metadata["task"] == "detection"
    runs = [_timed(lambda picture=picture: _run(artifact, picture)) for picture in pictures]
    entries, agreements, found = [], [], []
    for picture, (expected, keras_seconds), (results, seconds) in zip(pictures, references, runs, strict=True):
        asked: list[Results] = []
        if detecting:
            limits = artifact.metadata.get("postprocessing", {})
            same = partial(
                compare_detections,
                *(expected, results, artifact.classes),
                tolerance=tolerance,
                threshold=limits.get("score_threshold", 0.0),
            )
            agreement = same()
            for other in others(picture) if agreement.wrong and exact else ():
                asked.append(other)
                agreement = same(shaken=asked)
                if not agreement.wrong:
                    break
        else:
            agreement = compare_probabilities(expected, results, artifact.classes, tolerance=tolerance)
        agreements.append(agreement)
        found.append(results)
        entries.append(
            {
                "name": picture.name,
                "size": list(picture.pixels.shape[:2]),
                "digest": picture.digest,
                **asdict(agreement),
                "wrong": list(agreement.wrong[:_TOLD]),
                "seconds": round(seconds, 4),
                "keras_seconds": round(keras_seconds, 4),
                "reference": _plain(expected),
                "shaken": [_plain(other) for other in asked],
            }
        )
    report = {
        "format": artifact.format,
        "runtime": artifact.runtime,
        "model": artifact.metadata["model"],
        "precision": precision,
        "digest": artifact.digest,
        "bytes": artifact.bytes,
        "tolerance": {"boxes": tolerance.boxes, "scores": tolerance.scores} if exact else {"map_lost": most_lost},
        "compared": sum(each.expected for each in agreements),
        "tied": sum(each.tied for each in agreements),
        "worst_box": max(each.worst_box for each in agreements),
        "worst_score": max(each.worst_score for each in agreements),
        "images": entries,
    }
    wrong = [
        f"{picture.name}: {each.wrong[0]}" for picture, each in zip(pictures, agreements, strict=True) if each.wrong
    ]
    if detecting and not exact:
        lost = map_lost([expected for expected, _ in references], found, pictures, artifact.classes)
        report["map_lost"] = lost
        # Single detections of low score come and go.
        too_much = lost is not None and lost > most_lost
        wrong = (wrong or [_farthest(pictures, agreements)]) if too_much else []
    report["ok"] = not wrong
    if wrong:
        raise ParityError(_complaint(artifact, report, wrong, agreements), report)
    return report


def map_lost(
    expected: Sequence[Results], found: Sequence[Results], pictures: Sequence[SamplePicture], classes: Sequence[str]
) -> float | None:
    """How much of the mean average precision is lost when the Keras model's sure detections are the truth.

    Where it is sure of none all of its detections are, and where it has none the result is ``None``.
    """
    counts = [int(results["num_detections"]) for results in expected]
    best = max(results["scores"][:count].max(initial=0.0) for results, count in zip(expected, counts, strict=True))
    least = _SURE if best >= _SURE else 0.0
    samples = []
    for results, count, picture in zip(expected, counts, pictures, strict=True):
        sure = np.flatnonzero(results["scores"][:count] >= least)
        no = np.zeros(len(sure), bool)
        boxes, labels = results["boxes"][sure], results["classes"][sure]
        samples.append(Sample(picture.name, None, picture.pixels.shape[:2], boxes, labels, no, no))
    if not any(len(sample.boxes) for sample in samples):
        return None
    triples = [(each["boxes"], each["scores"], each["classes"]) for each in found]
    return round(1.0 - evaluate_voc(triples, samples, classes=classes, interpolation="area").map, 4)


def _farthest(pictures: Sequence[SamplePicture], agreements: Sequence[Agreement]) -> str:
    """What is said where all detections are there, but elsewhere."""
    picture, agreement = max(zip(pictures, agreements, strict=True), key=lambda pair: pair[1].worst_box)
    return f"{picture.name}: boxes are off by up to {agreement.worst_box:.1f} pixels"


def _complaint(artifact: Artifact, report: Mapping[str, Any], wrong: list[str], agreements: list[Agreement]) -> str:
    count = sum(len(each.wrong) for each in agreements)
    what = "detections" if artifact.metadata["task"] == "detection" else "probabilities"
    lost = report.get("map_lost")
    measured = f"{count} differ" if lost is None else f"{lost:.1%} of the mean average precision is lost"
    return (
        f"{artifact.path} ({report['runtime']}) does not give what the Keras model gives: of {report['compared']} "
        f"{what} on {len(report['images'])} pictures {measured}. The worst: {wrong[0]}"
    )


def _reference(seen: Subject, picture: SamplePicture) -> Results:
    return seen.reference(*(each[0] for each in picture.inputs().values()))


def _run(artifact: Artifact, picture: SamplePicture) -> Results:
    return first(artifact.predict_on_batch(picture.inputs()))


def _timed(call: Callable[[], Results]) -> tuple[Results, float]:
    started = time.perf_counter()
    results = call()
    return results, time.perf_counter() - started


def _plain(results: Results) -> dict[str, Any]:
    """Without the padding, as lists."""
    if "num_detections" not in results:
        return {name: np.asarray(value).tolist() for name, value in results.items()}
    count = int(results["num_detections"])
    cut = {name: np.asarray(results[name])[:count].tolist() for name in ("boxes", "scores", "classes")}
    return {**cut, "num_detections": count, "most": len(results["scores"])}


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" ... ({len(names)})" if len(names) > 5 else "")
