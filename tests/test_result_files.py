"""Result files, read as the official tools read them: the scores that come out are those of our own metrics."""

import json

import numpy as np
import pytest
from coco_official import CATEGORIES, NAMES, as_annotations, assert_equal, official, problem

from zoo.datasets.coco_metrics import evaluate_coco
from zoo.datasets.records import DetectionDataset, Sample
from zoo.datasets.result_files import save_coco_results, save_voc_results
from zoo.datasets.voc_metrics import evaluate_voc


def some(seed):
    """Detections as a model gives them, in float32, and a data set."""
    found, samples = problem(seed)
    found = [(boxes.astype(np.float32), scores.astype(np.float32), labels) for boxes, scores, labels in found]
    return found, DetectionDataset("some", NAMES, samples, category_ids=CATEGORIES)


def devkit_ap(folder, name, label, samples):
    """AP of one class, from its file and from whole-pixel annotations, by the devkit's rules (VOCevaldet, area)."""
    truth, total = {}, 0
    for sample in samples:
        mine = sample.classes == label
        # What the XML holds: pixels counted from 1, the last one included.
        boxes = sample.boxes[mine] + [1, 1, 0, 0]
        hard = (sample.difficult | sample.crowd)[mine]
        truth[sample.image_id] = (boxes, hard, np.zeros(len(boxes), bool))
        total += int((~hard).sum())
    rows = [line.split() for line in (folder / f"comp4_det_test_{name}.txt").read_text().splitlines()]
    rows.sort(key=lambda row: -float(row[1]))
    right, wrong, curve = 0, 0, []
    for image, _, *box in rows:
        x1, y1, x2, y2 = map(float, box)
        boxes, hard, taken = truth[image]
        best, where = 0.0, None
        for number, (a1, b1, a2, b2) in enumerate(boxes):
            wide, tall = min(x2, a2) - max(x1, a1) + 1, min(y2, b2) - max(y1, b1) + 1
            if wide > 0 and tall > 0:
                union = (x2 - x1 + 1) * (y2 - y1 + 1) + (a2 - a1 + 1) * (b2 - b1 + 1) - wide * tall
                if wide * tall / union > best:
                    best, where = wide * tall / union, number
        if best >= 0.5:
            if hard[where]:
                continue
            right, wrong = (right, wrong + 1) if taken[where] else (right + 1, wrong)
            taken[where] = True
        else:
            wrong += 1
        curve.append((right, right / (right + wrong)))
    if not total:
        return np.nan
    levels = [max((p for r, p in curve if r >= level), default=0) for level in range(1, total + 1)]
    return sum(levels) / total


def test_voc_files_score_in_the_devkit_as_the_detections_do_here(tmp_path):
    """The devkit's inclusive pixels with their +1 and our continuous boxes are two ways to say the same."""
    scored = 0
    for seed in range(1, 25):
        found, data = some(seed)
        folder = tmp_path / str(seed)
        paths = save_voc_results(folder, found, data)
        assert [path.name for path in paths] == [f"comp4_det_test_{name}.txt" for name in NAMES]
        result = evaluate_voc(found, data, interpolation="area", strict=False)
        aps = [devkit_ap(folder, name, label, data.samples) for label, name in enumerate(NAMES)]
        np.testing.assert_allclose(result.ap, aps, rtol=0, atol=1e-9)
        scored += int((np.nan_to_num(aps) > 0).sum())
    assert scored > 30


def test_a_voc_line_holds_id_score_and_inclusive_pixels(tmp_path):
    data = DetectionDataset("one", ("cat", "dining table"), [Sample("2008_000001", None, (50, 60), [], [], [], [])])
    found = [(np.array([[0, 0, 60, 50], [9, 19, 30, 40], [0, 0, 0, 0]]), np.array([0.25, 1, 0]), np.array([1, 1, -1]))]
    paths = save_voc_results(tmp_path / "Main", found, data, "val")
    assert paths[0].read_text() == ""
    assert paths[1].name == "comp4_det_val_dining table.txt"
    assert [line.split() for line in paths[1].read_text().splitlines()] == [
        ["2008_000001", "0.250000000", "1.000000", "1.000000", "60.000000", "50.000000"],
        ["2008_000001", "1.000000000", "10.000000", "20.000000", "30.000000", "40.000000"],
    ]
    assert sorted(path.name for path in (tmp_path / "Main").iterdir()) == sorted(path.name for path in paths)


def test_coco_files_score_in_pycocotools_as_the_detections_do_here(tmp_path):
    for seed in range(1, 25, 2):
        found, data = some(seed)
        path = save_coco_results(tmp_path / "sub" / "results.json", found, data)
        rows = json.loads(path.read_text())
        assert len(rows) == sum(len(scores) for _, scores, _ in found)
        assert_equal(evaluate_coco(found, data), official(as_annotations(data.samples), rows))


def test_a_coco_row_holds_the_files_own_numbers(tmp_path):
    data = DetectionDataset("one", ("cat", "dog"), [Sample("397133", None, (50, 60), [], [], [], [])])
    found = [(np.array([[9, 19, 30, 40.5], [0, 0, 0, 0]]), np.array([0.25, 0]), np.array([1, -1]))]
    with pytest.raises(ValueError, match="one has no category ids of COCO; give category_ids="):
        save_coco_results(tmp_path / "r.json", found, data)
    with pytest.raises(ValueError, match="1 category_ids for 2 classes"):
        save_coco_results(tmp_path / "r.json", found, data, [17])
    path = save_coco_results(tmp_path / "r.json", found, data, [17, 18])
    assert json.loads(path.read_text()) == [
        {"image_id": 397133, "category_id": 18, "bbox": [9.0, 19.0, 21.0, 21.5], "score": 0.25}
    ]


def test_what_the_formats_cannot_say_is_refused_and_nothing_written(tmp_path):
    def data(image_id="1", name="cat"):
        sample = Sample(image_id, None, (50, 60), [], [], [], [])
        return DetectionDataset("one", (name,), [sample], category_ids=[1])

    found = [(np.array([[0, 0, 9, 9]]), np.array([0.5]), np.array([0]))]
    with pytest.raises(ValueError, match="'a b' has a space"):
        save_voc_results(tmp_path, found, data("a b"))
    with pytest.raises(ValueError, match=r"class '\.\./cat' cannot be part of a file name"):
        save_voc_results(tmp_path, found, data(name="../cat"))
    with pytest.raises(ValueError, match="split 'a/b'"):
        save_voc_results(tmp_path, found, data(), "a/b")
    with pytest.raises(ValueError, match="'scene' is no number"):
        save_coco_results(tmp_path / "r.json", found, data("scene"))
    for save, where in ((save_voc_results, tmp_path), (save_coco_results, tmp_path / "r.json")):
        with pytest.raises(ValueError, match="detections of 2 pictures"):
            save(where, found * 2, data())
        with pytest.raises(ValueError, match="1: a detection has a class outside 0 to 0"):
            save(where, [(found[0][0], found[0][1], np.array([3]))], data())
    assert list(tmp_path.iterdir()) == []
