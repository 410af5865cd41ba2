"""Recall of proposals: COCO's average against pycocotools, the plain share against loops."""

import json
from dataclasses import replace

import numpy as np
import pytest
from coco_official import as_annotations, as_results, nan, official, one, problem

from zoo.datasets import proposal_recall as module
from zoo.datasets.proposal_recall import average_recall, proposal_recall


def ranked(found):
    """The problems' detections as proposals, best first (equal scores in the order given)."""
    return [boxes[np.argsort(-scores, kind="stable")] for boxes, scores, _ in found]


def test_equals_pycocotools_without_classes():
    counts = np.zeros(4, int)
    for seed in range(60):
        found, samples = problem(seed)
        proposals = ranked(found)
        result = average_recall(proposals, samples, (10, 3, 200))
        # Without its classes pycocotools would put proposals of one score, and objects, into an order by class.
        single = [replace(sample, classes=np.zeros(len(sample))) for sample in samples]
        rows = [(boxes, -np.arange(len(boxes)), np.zeros(len(boxes), int)) for boxes in proposals]
        annotations, results = as_annotations(single), as_results(rows, single)
        judge = official(annotations, results, agnostic=True, limits=(3, 10, 200))
        np.testing.assert_allclose(result.recall, nan(judge.eval["recall"])[:, 0], rtol=0, atol=1e-9)
        assert result.limits == (3, 10, 200)
        counts += result.positives
    assert counts.min() > 50


def test_pieces_add_up_to_the_whole(monkeypatch):
    found, samples = problem(5)
    whole = average_recall(ranked(found), samples)
    monkeypatch.setattr(module, "_PROPOSALS_AT_ONCE", 7)
    pieces = average_recall(ranked(found), samples)
    np.testing.assert_array_equal(whole.recall, pieces.recall)
    np.testing.assert_array_equal(whole.positives, pieces.positives)


def test_a_proposal_covers_one_object_only_and_sizes_are_those_of_the_objects():
    sample = one([[0, 0, 20, 20], [0, 0, 20, 19], [0, 0, 200, 200]], areas=[400, 380, 1000])
    result = average_recall([np.array([[0, 0, 20, 20], [0, 0, 200, 200]])], [sample], (1, 2))
    assert result.positives.tolist() == [3, 3, 0, 0]
    np.testing.assert_allclose(result.average[0], [1 / 3, 2 / 3])
    np.testing.assert_allclose(result.average[1], [1 / 3, 2 / 3])
    assert np.isnan(result.average[2:]).all()
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain["average_recall"]["small"] == {"1": pytest.approx(1 / 3), "2": pytest.approx(2 / 3)}
    assert plain["average_recall"]["large"] == {"1": None, "2": None}
    assert proposal_recall([np.array([[0, 0, 20, 20]])], [sample]) == pytest.approx(2 / 3)  # here it may cover both


def test_overlaps_that_are_asked_for():
    half = [np.array([[0, 0, 10, 5]])]
    sample = one([[0, 0, 10, 10]])
    assert average_recall(half, [sample], (1,), [0.5, 0.3]).recall[:, 0, 0].tolist() == [1, 1]
    assert average_recall(half, [sample], (1,), [0.51]).recall[0, 0, 0] == 0
    assert average_recall([sample.boxes], [sample], (1,), [1.0]).recall[0, 0, 0] == 1


def test_what_means_nothing():
    sample = one([[0, 0, 10, 10]])
    with pytest.raises(ValueError, match="proposals of 0 pictures"):
        average_recall([], [sample])
    with pytest.raises(ValueError, match="each at least 1"):
        average_recall([sample.boxes], [sample], (0, 10))
    with pytest.raises(ValueError, match="above 0 and up to 1"):
        average_recall([sample.boxes], [sample], (10,), [50])
    with pytest.raises(ValueError, match="7: a detection's box"):
        average_recall([np.full((1, 4), np.nan)], [sample])
    assert np.isnan(average_recall([], []).recall).all()


def test_the_plain_share_equals_loops():
    for seed in range(20):
        found, samples = problem(seed)
        hit = total = 0
        for (boxes, _, _), sample in zip(found, samples, strict=True):
            for box, crowd in zip(sample.boxes, sample.crowd, strict=True):
                total += not crowd
                hit += not crowd and any(overlap(box, other) >= 0.5 for other in boxes)
        expected = hit / total if total else float("nan")
        assert proposal_recall([boxes for boxes, _, _ in found], samples) == pytest.approx(expected, nan_ok=True)
    half = np.array([[0, 0, 10, 5]])
    assert proposal_recall([half], [one([[0, 0, 10, 10]])]) == 1  # reaching is enough
    assert proposal_recall([half], [one([[0, 0, 10, 10]])], iou=0.51) == 0
    assert np.isnan(proposal_recall([half], [one([[0, 0, 10, 10]], difficult=[0])]))
    with pytest.raises(ValueError, match="proposals of 0 pictures"):
        proposal_recall([], [one([[0, 0, 1, 1]])])


def overlap(a, b):
    wide = min(a[2], b[2]) - max(a[0], b[0])
    tall = min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or tall <= 0:
        return 0.0
    return wide * tall / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - wide * tall)
