"""How many of the objects a set of proposals covers: at one overlap, and averaged as COCO does."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from zoo.datasets.coco_matching import AREAS, IOUS, arrange, match
from zoo.datasets.metric_inputs import GroundTruth, box_iou, check_count, samples_of
from zoo.datasets.records import Sample

_PROPOSALS_AT_ONCE = 200_000


@dataclass(frozen=True, eq=False)
class RecallResult:
    """What `average_recall` measured. L limits, T overlaps, A = 4 sizes ("all", "small", "medium", "large").

    Attributes:
        limits: (L) numbers of proposals.
        ious: (T,) overlaps.
        recall: (T, A, L) share of the objects covered; NaN where there is no object of that size.
        positives: (A,) objects that count.
    """

    limits: tuple[int, ...]
    ious: np.ndarray
    recall: np.ndarray
    positives: np.ndarray

    @property
    def average(self) -> np.ndarray:
        """(A, L) average recall over the overlaps."""
        return self.recall.mean(axis=0)

    def to_dict(self) -> dict[str, object]:
        """Average recall by size and limit, as ``{"all": {"100": .6, ...}, ...}``, and counts; ready for JSON."""
        rows = zip(AREAS, self.average, strict=True)
        return {
            "average_recall": {
                name: {
                    str(limit): None if np.isnan(value) else float(value)
                    for limit, value in zip(self.limits, row, strict=True)
                }
                for name, row in rows
            },
            "ious": [round(float(iou), 6) for iou in self.ious],
            "positives": dict(zip(AREAS, self.positives.tolist(), strict=True)),
        }


def average_recall(
    proposals: Sequence[np.ndarray],
    ground_truth: GroundTruth,
    limits: Sequence[int] = (10, 100, 1000),
    ious: np.ndarray | Sequence[float] = IOUS,
) -> RecallResult:
    """Recall of proposals by their number, the overlap and the size of the objects, whatever their class.

    As COCO's AR (pycocotools with ``useCats=0``; the average over overlaps is that of Hosang 2016, section 3.2): the
    proposals choose by rank, each covers one object at most, and each object takes one. Sizes are COCO's, by
    ``sample.areas``; crowd and difficult boxes do not count.

    Args:
        proposals: for each picture (P, 4) boxes, best first.
        ground_truth: a data set, or its samples, in the same order.
        limits: how many of each picture's proposals to look at.
        ious: overlaps that have to be reached.

    >>> from zoo.datasets.digits import digit_scenes
    >>> scenes = digit_scenes("test", count=5)
    >>> result = average_recall([sample.boxes for sample in scenes.samples], scenes, limits=(100,))
    >>> float(result.average[0, 0])
    1.0
    """
    samples, limits = samples_of(ground_truth), tuple(sorted(limits))
    if not limits or limits[0] < 1:
        raise ValueError(f"limits={limits}: give one or more numbers of proposals, each at least 1")
    ious = np.sort(np.asarray(ious, np.float64))
    if not ious.size or ious[0] <= 0 or ious[-1] > 1:
        raise ValueError(f"ious={ious.tolist()}: give one or more overlaps above 0 and up to 1")
    check_count(proposals, samples, "proposals")
    covered = np.zeros((len(ious), len(AREAS), len(limits)), int)
    positives = np.zeros(len(AREAS), int)
    for boxes, some in _pieces(proposals, samples, limits[-1]):
        # Scores that fall with the rank, and one class for all.
        triples = [(one, -np.arange(len(one), dtype=float), np.zeros(len(one), int)) for one in boxes]
        found, objects = arrange(triples, [replace(s, classes=np.zeros(len(s))) for s in some], 1)
        matches = match(found, objects, ious)
        positives += matches.counted.sum(axis=1)
        for place, limit in enumerate(limits):
            covered[..., place] += matches.right[:, :, found.rank < limit].sum(axis=2).T
    nothing = np.full(covered.shape, np.nan)
    recall = np.divide(covered, positives[:, None], out=nothing, where=positives[:, None] > 0)
    return RecallResult(limits, ious, recall, positives)


def proposal_recall(proposals: Sequence[np.ndarray], ground_truth: GroundTruth, iou: float = 0.5) -> float:
    """Share of the ground-truth boxes, difficult ones left out, that a proposal overlaps by ``iou`` or more.

    A proposal may cover several objects: what a detector could reach that moves each as it likes.

    Args:
        proposals: for each picture (P, 4) boxes, of whatever class.
        ground_truth: a data set, or its samples, in the same order.
        iou: the overlap that is asked for.

    Returns NaN if no box counts.
    """
    samples = samples_of(ground_truth)
    check_count(proposals, samples, "proposals")
    covered = total = 0
    for boxes, sample in zip(proposals, samples, strict=True):
        counted = sample.boxes[~(sample.difficult | sample.crowd)]
        total += len(counted)
        if len(counted) and len(boxes):
            covered += int((box_iou(np.asarray(boxes), counted).max(axis=0) >= iou).sum())
    return covered / total if total else float("nan")


def _pieces(
    proposals: Sequence[np.ndarray], samples: Sequence[Sample], most: int
) -> Iterator[tuple[list[np.ndarray], list[Sample]]]:
    """Some pictures at a time, so that memory stays bounded; of each the first ``most`` proposals."""
    boxes, some, count = [], [], 0
    for given, sample in zip(proposals, samples, strict=True):
        boxes.append(np.asarray(given).reshape(-1, 4)[:most])
        some.append(sample)
        count += len(boxes[-1])
        if count >= _PROPOSALS_AT_ONCE:
            yield boxes, some
            boxes, some, count = [], [], 0
    yield boxes, some
