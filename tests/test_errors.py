"""Each kind of error by an example worked out by hand, and the sums that have to come out."""

import json
from dataclasses import replace

import numpy as np
import pytest
from coco_official import NAMES, problem

from zoo.datasets.errors import KINDS, NOT_COUNTED, find_errors
from zoo.datasets.metric_inputs import box_iou
from zoo.datasets.records import Sample
from zoo.datasets.voc_metrics import evaluate_voc

CAT, DOG = 0, 1


def sample(*rows, difficult=()):
    """Rows of (x1, y1, x2, y2, class)."""
    rows = np.array(rows, float).reshape(-1, 5)
    hard = np.zeros(len(rows), bool)
    hard[list(difficult)] = True
    return Sample("x", None, (300, 300), rows[:, :4], rows[:, 4], hard, np.zeros(len(rows)))


def det(*rows):
    """Rows of (x1, y1, x2, y2, class, score)."""
    rows = np.array(rows, float).reshape(-1, 6)
    return rows[:, :4], rows[:, 5], rows[:, 4].astype(int)


def kinds_of(found, truth, **options):
    report = find_errors([found], [truth], ("cat", "dog"), **options)
    return ["-" if kind == NOT_COUNTED else KINDS[kind] for kind in report.kinds[0]]


# A cat of 100 x 100 at the left, a dog of 100 x 100 at the right.
SCENE = sample((0, 0, 100, 100, CAT), (200, 0, 300, 100, DOG))


@pytest.mark.parametrize(
    ("box", "label", "kind"),
    [
        ((0, 0, 100, 51), CAT, "correct"),
        ((0, 0, 100, 50), CAT, "localisation"),  # .5 has to be exceeded
        ((0, 0, 100, 10), CAT, "localisation"),  # .1 has to be reached
        ((0, 0, 100, 9), CAT, "background"),
        ((0, 0, 100, 51), DOG, "class"),
        ((0, 0, 100, 50), DOG, "both"),
        ((0, 0, 100, 10), DOG, "both"),
        ((0, 0, 100, 9), DOG, "background"),
        ((120, 120, 180, 180), CAT, "background"),
    ],
)
def test_each_kind(box, label, kind):
    assert kinds_of(det((*box, label, 0.9)), SCENE) == [kind]


def test_one_of_a_crowd_is_no_error():
    """A hundredth of the crowd's box; also where it lies on an object that another detection has taken."""
    truth = sample((0, 0, 200, 200, CAT), (10, 10, 30, 30, CAT))
    truth = replace(truth, crowd=np.array([True, False]))
    boxes = (
        ((100, 100, 120, 120, CAT, 0.9), "-"),  # in the crowd
        ((190, 100, 210, 120, CAT, 0.9), "background"),  # half of it, which is not more than half
        ((191, 100, 210, 120, CAT, 0.9), "background"),
        ((189, 100, 210, 120, CAT, 0.9), "-"),
        ((100, 100, 120, 120, DOG, 0.9), "background"),  # a crowd of cats
        ((10, 10, 30, 30, CAT, 0.8), "correct"),
        ((10, 10, 30, 29, CAT, 0.7), "-"),
    )
    assert kinds_of(det(*(box for box, _ in boxes)), truth) == [kind for _, kind in boxes]
    report = find_errors([det((0, 0, 200, 200, CAT, 0.9))], [truth], ("cat", "dog"))
    assert report.missed[0].tolist() == [False, True]


def test_the_higher_score_is_correct_the_other_one_a_duplicate():
    box = (0, 0, 100, 100, CAT)
    assert kinds_of(det((*box, 0.6), (*box, 0.9), (*box, 0.4)), SCENE) == ["duplicate", "correct", "-"]
    assert kinds_of(det((*box, 0.6), (*box, 0.9), (*box, 0.4)), SCENE, score=0.4)[2] == "duplicate"


def test_an_exact_box_of_the_wrong_class_is_a_wrong_class_even_if_its_own_is_near():
    near = sample((0, 0, 100, 100, CAT), (0, 60, 100, 160, DOG))
    assert kinds_of(det((0, 0, 100, 100, DOG, 0.9)), near) == ["class"]


def test_difficult_objects_and_padding_are_not_counted():
    hard = sample((0, 0, 100, 100, CAT), (200, 0, 300, 100, DOG), difficult=[0])
    found = det((0, 0, 100, 100, CAT, 0.9), (0, 0, 100, 100, CAT, 0.8), (0, 0, 0, 0, -1, 0.9), (0, 0, 9, 9, CAT, 0.9))
    report = find_errors([found], [hard], ("cat", "dog"))
    assert report.kinds[0].tolist() == [-1, -1, -1, KINDS.index("background")]
    assert report.missed[0].tolist() == [False, True]
    assert report.positives.tolist() == [0, 1]


def test_counts_confusions_and_the_worst_pictures():
    found = [
        det((0, 0, 100, 100, CAT, 0.9), (200, 0, 300, 100, DOG, 0.9)),  # all right
        det((0, 0, 100, 100, DOG, 0.75), (0, 0, 100, 100, DOG, 0.5)),  # a cat taken for a dog, twice; both missed
        det((0, 0, 100, 40, CAT, 0.6), (200, 0, 300, 100, DOG, 0.9)),  # a cat whose box is bad, so missed
        det(),
    ]
    scenes = [SCENE, SCENE, SCENE, sample()]
    report = find_errors(found, scenes, ("cat", "dog"))
    assert report.badness.tolist() == [0, 3.25, 1.6, 0]
    assert report.worst(10) == [1, 2]
    assert report.worst(1) == [1]
    plain = json.loads(json.dumps(report.to_dict()))
    none = dict.fromkeys(KINDS, 0)
    assert plain["by_class"] == {
        "cat": {**none, "correct": 1, "localisation": 1, "missed": 2},
        "dog": {**none, "correct": 2, "class": 2, "missed": 1},
    }
    assert plain["confused"] == [{"found": "dog", "object": "cat", "count": 2}]
    assert report.confused.tolist() == [[0, 0], [2, 0]]


def test_sums_agree_with_the_metric_on_random_problems():
    for seed in range(40):
        found, samples = problem(seed)
        report = find_errors(found, samples, NAMES, score=0.0)
        result = evaluate_voc(found, samples, NAMES)
        np.testing.assert_array_equal(report.positives, result.positives)
        np.testing.assert_array_equal(report.counts[:, 0] + report.missed_counts, report.positives)
        for label in range(4):
            if result.positives[label]:
                reached = result.recall[label][-1] if len(result.recall[label]) else 0
                assert report.counts[label, 0] == round(reached * result.positives[label])
        for (boxes, _, labels), one, kinds in zip(found, samples, report.kinds, strict=True):
            overlaps = box_iou(boxes, one.boxes)
            for row, kind in enumerate(kinds):
                if kind == NOT_COUNTED:
                    assert one.crowd.any()
                elif KINDS[kind] == "background":
                    assert overlaps[row].max(initial=0) < 0.1
                elif KINDS[kind] in ("class", "both"):
                    assert (one.classes != labels[row]).any()
        assert report.confused.sum() == report.counts[:, KINDS.index("class")].sum()


def test_what_means_nothing():
    with pytest.raises(ValueError, match=r"background=0.6, iou=0.5"):
        find_errors([det()], [SCENE], ("cat", "dog"), background=0.6)
    with pytest.raises(ValueError, match="detections of 0 pictures"):
        find_errors([], [SCENE], ("cat", "dog"))
    with pytest.raises(ValueError, match="x: a detection has a class outside 0 to 1"):
        find_errors([det((0, 0, 1, 1, 2, 0.5))], [SCENE], ("cat", "dog"))
