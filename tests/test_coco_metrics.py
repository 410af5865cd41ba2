"""COCO's twelve figures against pycocotools, array by array, and the rules that set it apart one by one."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from coco_official import NAMES, as_annotations, as_results, assert_equal, det, official, one, problem

from zoo.datasets import coco_matching, load
from zoo.datasets.coco_metrics import FIGURES, evaluate_coco
from zoo.datasets.digits import digit_scenes
from zoo.datasets.records import Sample
from zoo.datasets.result_files import save_coco_results


def test_equals_pycocotools_on_random_problems():
    seen = dict.fromkeys(["crowd", "more than 100", "empty picture", "no objects of a class", "nothing found"], 0)
    values = []
    for seed in range(200):
        found, samples = problem(seed)
        result = evaluate_coco(found, samples, NAMES)
        assert_equal(result, official(as_annotations(samples), as_results(found, samples)))
        values.append([*result.figures.values()])
        seen["crowd"] += any(s.crowd.any() for s in samples)
        seen["more than 100"] += any(max(np.bincount(labels), default=0) > 100 for _, _, labels in found)
        seen["empty picture"] += any(len(s) == 0 for s in samples)
        seen["no objects of a class"] += bool((result.positives == 0).any())
        seen["nothing found"] += result.found.sum() == 0
    assert min(seen.values()) >= 5, seen
    # The problems are no easy ones: each figure is now something between, now undefined.
    spread = np.array(values)
    assert np.isnan(spread).any(axis=0).all()
    assert ((spread > 0.05) & (spread < 0.95)).sum(axis=0).min() > 60, dict(zip(FIGURES, spread, strict=True))


def test_equals_pycocotools_on_coco128_with_its_objects_moved(tmp_path):
    """From the file through the loader to the twelve figures, and from the result file to those of pycocotools."""
    shared = os.environ.get("ZOO_SHARED_DATA")
    folder = Path(shared or ".") / "coco128"
    if not shared or not (folder / "instances.json").is_file():
        pytest.skip("needs the coco128 data set: set ZOO_SHARED_DATA to the folder that holds it")
    annotations = json.loads((folder / "instances.json").read_text())
    rng = np.random.default_rng(0)
    # The file has no crowds, and its areas are those of the boxes: made up, so that both rules have their say.
    for thing in annotations["annotations"]:
        thing["iscrowd"] = int(rng.random() < 0.03)
        thing["area"] *= rng.uniform(0.4, 1.0)
    (tmp_path / "instances.json").write_text(json.dumps(annotations))
    data = load(tmp_path / "instances.json", images=folder / "images")
    assert len(data) == 128
    found = []
    for sample in data.samples:
        twice = np.concatenate([sample.boxes, sample.boxes])
        sides = np.tile(twice[:, 2:] - twice[:, :2], 2)
        moved = twice + rng.normal(0, 0.08, twice.shape) * sides
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        right = np.concatenate([sample.classes, sample.classes])
        guesses = np.where(rng.random(len(twice)) < 0.9, right, rng.integers(0, 80, len(twice)))
        found.append((moved, np.round(rng.random(len(twice)), 2), guesses))
    result = evaluate_coco(found, data)
    assert 0.1 < result.figures["AP"] < 0.9
    # The official tool reads the file's own numbers, with all their digits, and scores a result file.
    results = json.loads(save_coco_results(tmp_path / "results.json", found, data).read_text())
    assert_equal(result, official(annotations, results))


# --- the rules, one by one ---


def figures(found, samples):
    return evaluate_coco(found, samples, ("a",)).figures


def test_an_overlap_counts_for_the_thresholds_it_reaches():
    got = figures([det((0, 0, 100, 60, 0.9))], [one([[0, 0, 100, 100]])])  # .5, .55 and .6 of ten
    assert got["AP"] == pytest.approx(0.3)
    assert (got["AP50"], got["AP75"]) == (pytest.approx(1), 0)


def test_sizes_go_by_the_object_not_its_box():
    sample = one([[0, 0, 100, 100]], areas=[1024.0])  # both bounds belong to a range
    got = figures([det((0, 0, 100, 100, 0.9))], [sample])
    assert (got["APs"], got["APm"]) == (pytest.approx(1), pytest.approx(1))
    assert np.isnan(got["APl"])


def test_a_second_detection_is_wrong_unless_the_object_is_a_crowd_or_difficult():
    rows = det((0, 0, 50, 50, 0.9), (0, 0, 50, 50, 0.8), (100, 100, 150, 150, 0.7))
    truth = [[0, 0, 50, 50], [100, 100, 150, 150]]
    assert figures([rows], [one(truth)])["AP50"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert figures([rows], [one(truth, crowd=[0])])["AP50"] == pytest.approx(1)
    assert figures([rows], [one(truth, difficult=[0])])["AP50"] == pytest.approx(1)


def test_a_detection_inside_a_crowd_is_not_wrong():
    small, other = (0, 0, 10, 10, 0.9), (100, 100, 150, 150, 0.7)
    truth = [[0, 0, 80, 80], [100, 100, 150, 150]]
    assert figures([det(small, other)], [one(truth, crowd=[0])])["AP50"] == pytest.approx(1)
    assert figures([det(small, other)], [one(truth, difficult=[0])])["AP50"] == pytest.approx(0.5)


def test_of_equal_overlaps_the_last_object_is_taken():
    sample = one([[0, 0, 20, 20], [4, 0, 24, 20]])
    rows = det((2, 0, 22, 20, 0.9), (0, 0, 20, 20, 0.8))  # the first lies in the middle between both
    result = evaluate_coco([rows], [sample], ("a",))
    assert result.recall[6, 0, 0].tolist() == [0.5, 1, 1]  # at .8; the second has the other object for itself
    swapped = evaluate_coco([rows], [one(sample.boxes[::-1])], ("a",))
    assert swapped.recall[6, 0, 0].tolist() == [0.5, 0.5, 0.5]
    annotations, results = as_annotations([sample]), as_results([rows], [sample])
    assert_equal(evaluate_coco([rows], [sample], ("a", "b", "c", "d")), official(annotations, results))


def test_recall_by_the_number_of_detections():
    truth = [[30 * i, 0, 30 * i + 20, 20] for i in range(20)]
    got = figures([det(*[(*box, 0.5) for box in truth])], [one(truth)])
    assert [got[name] for name in ("AR1", "AR10", "AR100")] == pytest.approx([0.05, 0.5, 1])


def test_equal_scores_go_by_the_number_of_the_picture():
    hit, miss = det((0, 0, 50, 50, 0.5)), det((100, 100, 150, 150, 0.5))
    for ids, value in ((("2", "10"), 1), (("10", "2"), 0.5), (("b", "a"), 1)):
        samples = [one([[0, 0, 50, 50]], image_id=ids[0]), one([], image_id=ids[1])]
        assert figures([hit, miss], samples)["AP50"] == pytest.approx(value)


def test_a_data_set_brings_its_classes_and_a_result_its_dictionary():
    scenes = digit_scenes("test", 5)
    perfect = [(s.boxes, np.ones(len(s)), s.classes) for s in scenes.samples]
    result = evaluate_coco(perfect, scenes)
    assert result.map == result.figures["AP"] == pytest.approx(1)
    plain = json.loads(json.dumps(result.to_dict()))
    assert list(plain)[:12] == list(FIGURES)
    assert plain["positives"] == plain["detections"]
    absent = [name for name, count in plain["positives"].items() if count == 0]
    assert all((plain["ap"][name] is None) == (name in absent) for name in scenes.classes)
    assert all(value is None or value == pytest.approx(1) for value in plain["ap"].values())


def test_nothing_at_all_is_not_a_number():
    assert np.isnan([*figures([], []).values()]).all()
    assert np.isnan([*figures([det((0, 0, 9, 9, 0.5))], [one([])]).values()]).all()
    assert figures([det()], [one([[0, 0, 9, 9]])])["AP"] == 0


def test_input_that_would_spoil_the_ranking():
    with pytest.raises(ValueError, match="detections of 2 pictures, but ground truth of 1"):
        figures([det(), det()], [one([])])
    with pytest.raises(ValueError, match="7: a detection's box or score is not a finite number"):
        figures([det((0, 0, np.nan, 1, 0.5))], [one([])])
    with pytest.raises(ValueError, match="give classes="):
        evaluate_coco([det()], [one([])])


def test_a_small_store_of_pairs_changes_nothing(monkeypatch):
    found, samples = problem(3)
    whole = evaluate_coco(found, samples, NAMES)
    monkeypatch.setattr(coco_matching, "_PAIRS_AT_ONCE", 5)
    np.testing.assert_array_equal(evaluate_coco(found, samples, NAMES).precision, whole.precision)


def test_a_hundred_thousand_detections_take_seconds():
    rng = np.random.default_rng(0)

    def some(count):
        corner = rng.uniform(0, 400, (count, 2))
        return np.concatenate([corner, corner + rng.uniform(5, 200, (count, 2))], 1)

    none = [False] * 4
    samples = [Sample(str(i), None, (600, 600), some(4), rng.integers(0, 4, 4), none, none) for i in range(5000)]
    found = [(some(20), rng.random(20), rng.integers(0, 4, 20)) for _ in samples]
    start = time.process_time()  # other processes do not count
    evaluate_coco(found, samples, NAMES)
    assert time.process_time() - start < 10
