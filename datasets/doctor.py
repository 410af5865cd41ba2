"""Examines a whole data set: what would hurt a training, what is in it, and how anchors fit it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from zoo.datasets import anchor_fit, findings
from zoo.datasets.anchor_fit import AnchorPlan, Coverage
from zoo.datasets.doctor_boxes import box_findings, class_findings
from zoo.datasets.doctor_counts import Boxes, ClassCount, Histograms, count_classes, gather, histograms
from zoo.datasets.doctor_parts import Part, open_parts
from zoo.datasets.doctor_pictures import look_at_all, without_annotation
from zoo.datasets.doctor_twins import find_twins
from zoo.datasets.findings import Finding

_MORE_SIZES = (0, 1, 2)  # besides as many as there are, this many more are suggested
_CLUSTERS = 9


@dataclass(frozen=True)
class Suggestion:
    """Anchors that fit the data: a grid of sizes and ratios, or shapes (width, height); and how well they cover.

    Attributes:
        sizes, ratios: of the grid; empty where there are only shapes.
        shapes: (width, height) of every anchor, in pixels of the prepared picture.
        all: with anchors that reach beyond the picture, as when detecting.
        inside: without them, as in training.
    """

    sizes: tuple[float, ...]
    ratios: tuple[float, ...]
    shapes: tuple[tuple[float, float], ...]
    all: Coverage
    inside: Coverage


@dataclass(frozen=True, eq=False)
class Examination:
    """What `examine` found.

    Attributes:
        name: what was examined.
        parts: the splits, with their pictures.
        findings: the worst kinds first.
        classes: every class and its counts.
        histograms: sizes and shapes.
        plan: the anchors that were chosen.
        boxes: all boxes but crowds, in original pixels.
        best: (N,) for every box the highest IoU that a chosen anchor has with it.
        chosen: how well the chosen anchors cover.
        grids: suggested sizes and ratios, as many sizes as chosen and more.
        clusters: suggested shapes by k-means, None where there are no boxes.
    """

    name: str
    parts: tuple[Part, ...]
    findings: tuple[Finding, ...]
    classes: tuple[ClassCount, ...]
    histograms: Histograms
    plan: AnchorPlan
    boxes: Boxes
    best: np.ndarray
    chosen: Suggestion
    grids: tuple[Suggestion, ...]
    clusters: Suggestion | None

    @property
    def has_errors(self) -> bool:
        """Whether anything was found that stops a training or spoils its measurement."""
        return any(finding.severity == "error" for finding in self.findings)

    @property
    def pictures(self) -> int:
        """How many pictures there are, those in several splits counted once for each."""
        return sum(len(part.data) for part in self.parts)

    def to_dict(self) -> dict[str, object]:
        """All of it but the pictures, for JSON."""
        return {
            "data": self.name,
            "splits": {part.split: _part_counts(part) for part in self.parts},
            "findings_by_kind": findings.counts(self.findings),
            "findings": [finding.to_dict() for finding in self.findings],
            "classes": [asdict(each) for each in self.classes],
            "histograms": self.histograms.to_dict(),
            "anchors": {
                "plan": asdict(self.plan),
                "chosen": _record(self.chosen),
                "suggested_grids": [_record(each) for each in self.grids],
                "suggested_shapes": None if self.clusters is None else _record(self.clusters),
            },
        }


def examine(
    spec: str | Path,
    only: Sequence[str] = (),
    classes: Sequence[str] | str | Path | None = None,
    images: str | Path | None = None,
    plan: AnchorPlan | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
    workers: int | None = None,
) -> Examination:
    """Read a whole data set and say what is wrong with it.

    Args:
        spec: as for `zoo.datasets.load`.
        only: these splits; none for all.
        classes: the class list, so that others are found; None takes what occurs.
        images: as for `zoo.datasets.load`.
        plan: the anchors to try on the boxes, and how pictures are resized; None for Ren 2015's.
        progress: called with the pictures read so far and how many there are.
        workers: threads that read pictures.

    Raises:
        ValueError: there is no such data set, or nothing of it can be read.

    Example: ``examine("VOCdevkit/VOC2007").to_dict()["findings_by_kind"]``.
    """
    plan = AnchorPlan() if plan is None else plan
    parts, found = open_parts(spec, only, classes, images)
    total, done = sum(len(part.data) for part in parts), 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        progress(done, total)

    pictures, more = look_at_all(parts, count, workers)
    found += more
    found += find_twins(pictures)
    if not only:  # a picture that the other splits annotate would pass for one without
        found += without_annotation(parts, found)
    found += box_findings(parts) + class_findings(parts)
    found.sort(key=lambda finding: findings.rank(finding.kind))
    boxes = gather(parts)
    prepared, sizes = anchor_fit.prepare(boxes.boxes, boxes.sizes, plan)
    grids, clusters = _suggest(prepared, sizes, plan)
    chosen = _judged(plan.sizes, plan.ratios, plan.shapes, prepared, sizes, plan)
    return Examination(
        name=str(spec),
        parts=tuple(parts),
        findings=tuple(found),
        classes=tuple(count_classes(parts)),
        histograms=histograms(parts, boxes),
        plan=plan,
        boxes=boxes,
        best=anchor_fit.best_iou(prepared, sizes, plan.shapes, plan.stride),
        chosen=chosen,
        grids=grids,
        clusters=clusters,
    )


def _suggest(
    boxes: np.ndarray, sizes: np.ndarray, plan: AnchorPlan
) -> tuple[tuple[Suggestion, ...], Suggestion | None]:
    if not len(boxes):
        return (), None
    grids = []
    for more in _MORE_SIZES:
        found = anchor_fit.fit_grid(boxes, sizes, plan.stride, len(plan.sizes) + more, len(plan.ratios))
        grids.append(_judged(*found, anchor_fit.grid_shapes(*found), boxes, sizes, plan))
    shapes = anchor_fit.k_means(boxes[:, 2:] - boxes[:, :2], _CLUSTERS)
    return tuple(grids), _judged((), (), shapes, boxes, sizes, plan)


def _judged(
    anchor_sizes: Sequence[float],
    ratios: Sequence[float],
    shapes: np.ndarray,
    boxes: np.ndarray,
    sizes: np.ndarray,
    plan: AnchorPlan,
) -> Suggestion:
    by_place = [anchor_fit.best_iou(boxes, sizes, shapes, plan.stride, inside) for inside in (False, True)]
    rounded = tuple((round(float(width), 1), round(float(height), 1)) for width, height in shapes)
    return Suggestion(tuple(anchor_sizes), tuple(ratios), rounded, *map(anchor_fit.coverage, by_place))


def _part_counts(part: Part) -> dict[str, int]:
    samples = [part.data.sample(index) for index in range(len(part.data))]
    return {"pictures": len(samples), "boxes": sum(map(len, samples))}


def _record(suggestion: Suggestion) -> dict[str, object]:
    """Numbers that are none become null: JSON has no NaN."""
    record = asdict(suggestion)
    for name in ("all", "inside"):
        record[name] = {key: None if np.isnan(value) else round(value, 4) for key, value in record[name].items()}
    return record
