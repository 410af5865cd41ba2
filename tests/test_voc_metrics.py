"""VOC average precision against loops written from the definition, and the devkit's rules one by one."""

import time

import numpy as np
import pytest

from zoo.datasets.digits import digit_scenes
from zoo.datasets.metric_inputs import box_iou
from zoo.datasets.records import Sample
from zoo.datasets.voc_metrics import evaluate_voc, voc_ap

NAMES = ("a", "b", "c", "d")


# --- the definition, in loops: shares no code with what is tested ---


def loop_overlap(a, b, more):
    a, b = [float(v) for v in a], [float(v) for v in b]
    wide = min(a[2], b[2]) - max(a[0], b[0]) + more
    tall = min(a[3], b[3]) - max(a[1], b[1]) + more
    if wide <= 0 or tall <= 0:
        return 0.0
    area = sum((box[2] - box[0] + more) * (box[3] - box[1] + more) for box in (a, b))
    return wide * tall / (area - wide * tall)


def loop_curve(detections, samples, label, iou, more, strict):
    """Recall and precision after each counted detection, and the number of boxes that count."""
    rows = []
    for image, (boxes, scores, labels) in enumerate(detections):
        for box, score, its in zip(boxes, scores, labels, strict=True):
            if its == label:
                rows.append((score, image, box))
    rows = sorted(rows, key=lambda row: -row[0])  # Python's sort is stable
    taken, right, wrong, points = set(), 0, 0, []
    for _, image, box in rows:
        sample, best, where = samples[image], -1.0, None
        for number in range(len(sample.boxes)):
            if sample.classes[number] == label:
                overlap = loop_overlap(box, sample.boxes[number], more)
                if overlap > best:
                    best, where = overlap, number
        if where is not None and (best > iou if strict else best >= iou):
            if sample.difficult[where] or sample.crowd[where]:
                continue
            if (image, where) in taken:
                wrong += 1
            else:
                taken.add((image, where))
                right += 1
        else:
            wrong += 1
        points.append((right, wrong))
    total = sum(
        1
        for sample in samples
        for number in range(len(sample.boxes))
        if sample.classes[number] == label and not sample.difficult[number] and not sample.crowd[number]
    )
    return points, total


def loop_ap(points, total, interpolation):
    """In whole numbers as far as possible: recall >= k / 10 is 10 * right >= k * total."""
    if interpolation == "11point":
        result = 0.0
        for k in range(11):
            best = 0.0
            for right, wrong in points:
                if 10 * right >= k * total:
                    best = max(best, right / (right + wrong))
            result += best / 11
        return result
    result = 0.0
    for level in range(1, total + 1):  # the recall rises in steps of 1 / total
        best = 0.0
        for right, wrong in points:
            if right >= level:
                best = max(best, right / (right + wrong))
        result += best / total
    return result


def problem(seed):
    """Few coordinates and few scores, so that ties and overlaps of exactly one half are common."""
    rng = np.random.default_rng(seed)
    grid = rng.choice([2, 4, 10])

    def boxes(count):
        corner = rng.integers(0, 3 * grid, (count, 2)) * (24 / grid)
        return np.concatenate([corner, corner + rng.integers(1, grid + 1, (count, 2)) * (24 / grid)], 1)

    used = rng.integers(1, 5)  # some classes stay without ground truth
    samples, detections = [], []
    for number in range(rng.integers(1, 6)):
        count = rng.integers(0, 6)
        truth, labels = boxes(count), rng.integers(0, used, count)
        difficult, crowd = rng.random(count) < 0.2, rng.random(count) < 0.1
        sample = Sample(str(number), None, (200, 200), truth, labels, difficult, crowd)
        extra = rng.integers(0, 8) if seed % 10 else 0
        near = truth[rng.random(count) < 0.7] if seed % 10 else truth[:0]
        shifted = near + rng.integers(-1, 2, near.shape) * rng.choice([0.0, 1.0, 3.0])
        shifted[:, 2:] = np.maximum(shifted[:, 2:], shifted[:, :2] + 1)
        found = np.concatenate([shifted, boxes(extra), near])
        scores = rng.choice([rng.random(len(found)), rng.integers(0, 4, len(found)) / 4])
        labels = rng.integers(0, rng.integers(1, 5), len(found))
        samples.append(sample)
        detections.append((found, scores, labels))
    return detections, samples


def test_equals_the_definition_on_a_thousand_random_problems():
    """Both conventions of width and both interpolations on each problem; ``strict`` and the IoU take turns."""
    seen_nan = seen_number = 0
    for seed in range(1000):
        detections, samples = problem(seed)
        iou, strict = [0.5, 0.3, 0.75][seed % 3], seed % 2 == 0
        for plus_one in (False, True):
            truth = [loop_curve(detections, samples, label, iou, float(plus_one), strict) for label in range(4)]
            for interpolation in ("11point", "area"):
                result = evaluate_voc(detections, samples, NAMES, iou, interpolation, plus_one=plus_one, strict=strict)
                aps = [loop_ap(points, total, interpolation) if total else np.nan for points, total in truth]
                np.testing.assert_allclose(result.ap, aps, rtol=0, atol=1e-9)
                mean = np.nan if np.isnan(aps).all() else np.nanmean(aps)
                assert result.map == pytest.approx(mean, abs=1e-9, nan_ok=True)
            assert result.positives.tolist() == [total for _, total in truth]
            for (points, total), recall, precision in zip(truth, result.recall, result.precision, strict=True):
                if total:
                    np.testing.assert_allclose(recall, [r / total for r, _ in points], atol=1e-12)
                    np.testing.assert_allclose(precision, [r / (r + w) for r, w in points], atol=1e-12)
            seen_nan += int(np.isnan(aps).sum())
            seen_number += int((np.nan_to_num(aps) > 0).sum())
    assert seen_nan > 200
    assert seen_number > 500


# --- the rules, one by one ---


def one(boxes, classes=None, difficult=None):
    count = len(boxes)
    flags = [False] * count
    return Sample("x", None, (100, 100), boxes, classes or [0] * count, difficult or flags, flags)


def score(detections, samples, **options):
    return evaluate_voc(detections, samples, ("a",), **options)


def det(*rows):
    """Rows of (x1, y1, x2, y2, score), all of class 0."""
    rows = np.array(rows, float).reshape(-1, 5)
    return rows[:, :4], rows[:, 4], np.zeros(len(rows), int)


def test_exactly_half_passes_only_if_reaching_is_enough():
    samples, found = [one([[0, 0, 10, 10]])], [det((0, 0, 10, 5, 0.9))]
    assert score(found, samples).map == 0
    assert score(found, samples, strict=False).map == 1


def test_plus_one_widens_boxes():
    samples, found = [one([[0, 0, 10, 10]])], [det((0, 0, 10, 5, 0.9))]
    assert score(found, samples, plus_one=True).map == 1  # 66 / 121


def test_a_second_detection_of_a_box_is_wrong():
    samples = [one([[0, 0, 10, 10], [50, 50, 60, 60]])]
    found = [det((0, 0, 10, 10, 0.9), (0, 0, 10, 10, 0.8), (50, 50, 60, 60, 0.7))]
    result = score(found, samples)
    np.testing.assert_allclose(result.precision[0], [1, 1 / 2, 2 / 3])
    assert result.map == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    assert score(found, samples, interpolation="area").map == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_a_detection_does_not_move_on_to_a_free_box():
    """It goes to the box it overlaps most, even if that is taken and another would do."""
    samples = [one([[0, 0, 10, 10], [0, 0, 10, 9]])]
    found = [det((0, 0, 10, 10, 0.9), (0, 0, 10, 10, 0.8))]
    assert score(found, samples).recall[0].tolist() == [0.5, 0.5]


def test_difficult_boxes_neither_count_nor_punish():
    samples = [one([[0, 0, 10, 10], [50, 50, 60, 60]], difficult=[True, False])]
    found = [det((0, 0, 10, 10, 0.9), (0, 0, 10, 10, 0.8), (50, 50, 60, 60, 0.7))]
    result = score(found, samples)
    assert result.map == 1
    assert result.positives.tolist() == [1]
    assert result.found.tolist() == [3]
    assert result.scores[0].tolist() == [0.7]


def test_other_classes_and_other_pictures_do_not_match():
    samples = [one([[0, 0, 10, 10]], [1]), one([[0, 0, 10, 10]])]
    found = [det((0, 0, 10, 10, 0.9)), det()]
    result = evaluate_voc(found, samples, ("a", "b"))
    assert result.ap.tolist() == [0, 0]


def test_tied_scores_keep_the_order_given():
    samples = [one([[0, 0, 10, 10]])]
    hit, miss = (0, 0, 10, 10, 0.5), (50, 50, 60, 60, 0.5)
    assert score([det(hit, miss)], samples).precision[0].tolist() == [1, 0.5]
    assert score([det(miss, hit)], samples).precision[0].tolist() == [0, 0.5]


def test_eleven_points_of_a_recall_of_three_tenths():
    """Recall 3/10 reaches the point 0.3, which 3 * 0.1 = 0.30000000000000004 would miss."""
    recall, precision = np.arange(1, 4) / 10, np.ones(3)
    assert voc_ap(recall, precision) == pytest.approx(4 / 11)


def test_no_detections_and_padding():
    samples = [one([[0, 0, 10, 10]]), one(np.zeros((0, 4)))]
    empty = (np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    assert score([empty, empty], samples).map == 0
    padded = (np.array([[0, 0, 10, 10], [0, 0, 0, 0]]), np.array([0.9, np.nan]), np.array([0, -1]))
    assert score([padded, empty], samples).map == 1


def test_classes_without_ground_truth_are_left_out_of_the_mean():
    result = evaluate_voc([det((0, 0, 10, 10, 0.9))], [one([[0, 0, 10, 10]])], ("a", "b"))
    assert result.ap[0] == 1
    assert np.isnan(result.ap[1])
    assert result.map == 1
    assert result.to_dict()["ap"] == {"a": 1.0, "b": None}
    assert result.to_dict()["positives"] == {"a": 1, "b": 0}
    assert np.isnan(score([det()], [one(np.zeros((0, 4)))]).map)


def test_a_data_set_brings_its_classes():
    scenes = digit_scenes("test", 5)
    perfect = [(s.boxes, np.ones(len(s)), s.classes) for s in scenes.samples]
    result = evaluate_voc(perfect, scenes)
    assert result.map == 1
    assert result.classes == scenes.classes


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"boxes": [[0, 0, np.nan, 1]]}, "x: a detection's box or score is not a finite number"),
        ({"scores": [np.inf]}, "not a finite number"),
        ({"classes": [1]}, "x: a detection has a class outside 0 to 0"),
        ({"classes": [-2]}, "outside 0 to 0"),
        ({"scores": [0.5, 0.4]}, "x: 1 boxes, 2 scores, 1 classes"),
    ],
)
def test_detections_that_would_spoil_the_ranking(change, words):
    found = {"boxes": [[0, 0, 9, 9]], "scores": [0.9], "classes": [0], **change}
    with pytest.raises(ValueError, match=words):
        score([tuple(found.values())], [one([[0, 0, 10, 10]])])


def test_arguments_that_mean_nothing():
    samples = [one([[0, 0, 10, 10]])]
    with pytest.raises(ValueError, match="11point, area, not '12point'"):
        score([det()], samples, interpolation="12point")
    with pytest.raises(ValueError, match="area, not 'x'"):
        voc_ap(np.zeros(1), np.zeros(1), "x")
    with pytest.raises(ValueError, match="detections of 2 pictures, but ground truth of 1"):
        score([det(), det()], samples)
    with pytest.raises(ValueError, match="give classes="):
        evaluate_voc([det()], samples)
    with pytest.raises(ValueError, match="ground-truth box has a class outside 0 to 0"):
        score([det()], [one([[0, 0, 10, 10]], [3])])


def test_overlap_of_boxes_without_area_is_zero():
    assert box_iou(np.zeros((1, 4)), np.zeros((1, 4))).tolist() == [[0]]


def test_a_hundred_thousand_detections_take_seconds():
    rng = np.random.default_rng(0)

    def boxes(count):
        corner = rng.uniform(0, 400, (count, 2))
        return np.concatenate([corner, corner + rng.uniform(5, 200, (count, 2))], 1)

    none = [False] * 4
    samples = [Sample(str(i), None, (600, 600), boxes(4), rng.integers(0, 4, 4), none, none) for i in range(5000)]
    found = [(boxes(20), rng.random(20), rng.integers(0, 4, 20)) for _ in samples]
    start = time.process_time()  # other processes do not count
    evaluate_voc(found, samples, NAMES)
    assert time.process_time() - start < 10
