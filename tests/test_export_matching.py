"""When two sets of detections are the same: the tolerances, ties, and what is said of the rest."""

from types import SimpleNamespace

import numpy as np
import pytest

from zoo.export import ParityError
from zoo.export.matching import Tolerance, compare_detections, compare_probabilities
from zoo.export.parity import compare as compare_artifact
from zoo.export.parity import map_lost
from zoo.export.samples import SamplePicture

CLASSES = ("cat", "dog")
MOST = 5


def results(*found, most=MOST):
    """Padded results from (class, score, box) entries."""
    boxes = np.zeros((most, 4), np.float32)
    scores, classes = np.zeros(most, np.float32), np.full(most, -1, np.int32)
    for i, (index, score, box) in enumerate(found):
        classes[i], scores[i], boxes[i] = index, score, box
    return {"boxes": boxes, "scores": scores, "classes": classes, "num_detections": np.int32(len(found))}


def compare(expected, found, **options):
    options = {"threshold": 0.05, **options}
    return compare_detections(expected, found, CLASSES, **options)


A, B = (0, 0.9, (10, 10, 50, 50)), (1, 0.8, (60, 20, 90, 80))


def moved(entry, box=0.0, score=0.0):
    return entry[0], entry[1] + score, tuple(side + box for side in entry[2])


def test_the_same_is_the_same_in_any_order():
    agreement = compare(results(A, B), results(B, A))
    assert (agreement.expected, agreement.matched, agreement.tied, agreement.wrong) == (2, 2, 0, ())


@pytest.mark.parametrize(("box", "score"), [(0.49, 0.0), (-0.49, 0.0), (0.0, 9e-4), (0.4, -9e-4)])
def test_differences_within_the_tolerance_are_measured(box, score):
    agreement = compare(results(A, B), results(moved(A, box, score), B))
    assert agreement.wrong == ()
    assert agreement.worst_box == pytest.approx(abs(box), abs=1e-5)
    assert agreement.worst_score == pytest.approx(abs(score), abs=1e-6)


@pytest.mark.parametrize(
    "other",
    [moved(A, box=0.51), moved(A, score=1.1e-3), (1, *A[1:]), (0, np.nan, A[2]), (0, 0.9, (np.nan, 10, 50, 50))],
    ids=["box", "score", "class", "score not a number", "box not a number"],
)
def test_differences_beyond_it_are_wrong_on_both_sides(other):
    agreement = compare(results(A, B), results(other, B))
    assert agreement.matched == 1
    assert len(agreement.wrong) == 2
    assert "lacks cat of score 0.9000 at (10.00, 10.00, 50.00, 50.00)" in agreement.wrong[0] + agreement.wrong[1]


def test_one_detection_stands_for_one_only():
    """Two boxes near to one: the second is missing, however near."""
    twin = moved(A, box=0.1)
    assert compare(results(A, twin), results(A)).wrong
    assert compare(results(A), results(A, twin)).wrong


def test_the_nearest_pairs_are_taken():
    a, b = moved(A, box=-0.3), moved(A, box=0.3)
    agreement = compare(results(a, b), results(b, a))
    assert agreement.worst_box == 0.0


def test_a_score_at_the_threshold_may_be_there_or_not():
    low = (0, 0.0509, (100, 100, 120, 120))
    for expected, found in ((results(A, low), results(A)), (results(A), results(A, low))):
        agreement = compare(expected, found)
        assert (agreement.wrong, agreement.tied) == ((), 1)
    low = (0, 0.0511, (100, 100, 120, 120))
    assert compare(results(A, low), results(A)).wrong


def test_the_end_of_a_full_list_may_differ():
    shared = [(0, 0.9 - 0.1 * i, (50 * i, 0, 50 * i + 30, 30)) for i in range(MOST - 1)]
    last = (1, 0.3, (0, 60, 30, 90))
    other = (1, 0.3004, (60, 60, 90, 90))
    assert compare(results(*shared, last), results(*shared, other)).tied == 2
    # A clearly better one is not excused; nor is any while there is room.
    assert compare(results(*shared, last), results(*shared, (1, 0.35, other[2]))).wrong
    assert compare(results(*shared, last, most=9), results(*shared, other, most=9)).wrong


@pytest.mark.parametrize("score", [-1e-6, 0.0, 1e-6])
def test_what_is_lacking_is_told_before_what_is_there_instead(score):
    assert "lacks" in compare(results(A), results(moved(A, 20.0, score))).wrong[0]


def test_a_box_elsewhere_is_wrong_however_equal_its_score():
    """Else an artifact that moves all boxes would pass: it gives the very same scores."""
    assert compare(results(A, B), results((0, 0.9, (12, 12, 52, 52)), B)).wrong


def test_the_worst_is_told_first_with_its_nearest():
    agreement = compare(results(B), results(moved(A), moved(B, box=3)))
    assert agreement.wrong[0] == "the artifact alone finds cat of score 0.9000 at (10.00, 10.00, 50.00, 50.00)"
    assert "lacks dog of score 0.8000" in "".join(agreement.wrong)
    assert "its nearest is dog of score 0.8000 at (63.00, 23.00, 93.00, 83.00)" in "".join(agreement.wrong)


def test_without_a_limit_the_nearest_boxes_are_paired():
    others = (moved(A, box=3, score=-0.002), moved(A, box=60))
    agreement = compare(results(A), results(*others), tolerance=Tolerance(boxes=np.inf, scores=0.1))
    assert (agreement.matched, agreement.worst_box) == (1, 3.0)


def test_nothing_and_nothing_agree():
    agreement = compare(results(), results())
    assert (agreement.expected, agreement.wrong) == (0, ())
    assert compare(results(A), results()).wrong == (
        "the artifact lacks cat of score 0.9000 at (10.00, 10.00, 50.00, 50.00); it finds nothing",
    )


def probabilities(*values):
    values = np.array(values, np.float32)
    return {"probabilities": values, "classes": np.argsort(-values, kind="stable").astype(np.int32)}


def test_probabilities():
    good = compare_probabilities(probabilities(0.7, 0.3), probabilities(0.7005, 0.2995), CLASSES)
    assert good.wrong == ()
    assert good.worst_score == pytest.approx(5e-4, abs=1e-6)
    bad = compare_probabilities(probabilities(0.7, 0.3), probabilities(0.698, 0.302), CLASSES)
    assert bad.wrong[0] == "cat has probability 0.69800 instead of 0.70000"
    tie = compare_probabilities(probabilities(0.5003, 0.4997), probabilities(0.4998, 0.5002), CLASSES)
    assert (tie.wrong, tie.tied) == ((), 1)
    # Each within the tolerance, and yet another class: .575 and .425 are no tie.
    loose = Tolerance(boxes=0.5, scores=0.1)
    other = compare_probabilities(probabilities(0.575, 0.425), probabilities(0.49, 0.51), CLASSES, tolerance=loose)
    assert other.wrong == ("the best class is dog instead of cat",)
    assert compare_probabilities(probabilities(0.6, 0.4), probabilities(np.nan, np.nan), CLASSES).wrong


PICTURES = [SamplePicture(name, np.zeros((200, 200, 3), np.uint8)) for name in "xy"]
FAR = (0, 0.95, (120, 120, 190, 190))


@pytest.mark.parametrize(
    ("found", "lost"),
    [
        ([[A, B], [A]], 0.0),
        ([[moved(A, box=2), moved(B, box=-2)], [moved(A, score=-0.3)]], 0.0),  # IoU .8 and .75: the same objects
        ([[A], [A]], 0.5),  # one class of two is gone
        ([[A, B], []], 0.25),  # half of the recall of one class of two
        ([[], []], 1.0),
        # Precisions of 1/2, 2/3: the best is first found at a recall of 1/2. AP (2/3 + 2/3) / 2 of one class of two.
        ([[FAR, A, B], [A]], 0.1667),
    ],
)
def test_what_fewer_bits_lose_is_measured_on_what_the_model_is_sure_of(found, lost):
    unsure = (1, 0.4, (0, 100, 40, 140))
    expected = [results(A, B, unsure), results(A)]
    assert map_lost(expected, [results(*each) for each in found], PICTURES, CLASSES) == lost


def test_a_model_that_is_sure_of_nothing_is_measured_on_all_that_it_finds():
    low = [moved(each, score=-0.6) for each in (A, B)]
    expected = [results(*low), results()]
    assert map_lost(expected, [results(*low), results()], PICTURES, CLASSES) == 0.0
    assert map_lost(expected, [results(low[0]), results()], PICTURES, CLASSES) == 0.5
    assert map_lost([results(), results()], [results(A), results()], PICTURES, CLASSES) is None


def fake_artifact(found, precision):
    return SimpleNamespace(
        path="some.tflite",
        format="tflite",
        runtime="a runtime",
        classes=CLASSES,
        metadata={"precision": precision, "task": "detection", "model": "tiny"},
        digest="",
        bytes=0,
        predict_on_batch=lambda images: {name: np.asarray(value)[None] for name, value in found.items()},
    )


def test_boxes_that_went_elsewhere_are_a_loss_too():
    """With fewer bits a box may be off by any number of pixels, as long as objects are found."""
    expected = [(results(A, B), 0.1)]
    good = fake_artifact(results(moved(A, box=2), moved(B, box=2)), "float16")
    assert compare_artifact(good, PICTURES[:1], expected)["map_lost"] == 0.0
    bad = fake_artifact(results(moved(A, box=90), moved(B, box=90)), "float16")
    with pytest.raises(ParityError, match=r"100.0% of the mean .* The worst: x: boxes are off by up to 90.0 pixels"):
        compare_artifact(bad, PICTURES[:1], expected)
    exact = fake_artifact(results(moved(A, box=2), B), "float32")
    with pytest.raises(ParityError, match=r"of 2 detections on 1 pictures 2 differ. .* lacks cat of score 0.9000"):
        compare_artifact(exact, PICTURES[:1], expected)
