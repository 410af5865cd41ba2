"""pycocotools as the judge of COCO's figures, and random problems to put before it."""

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from zoo.datasets.coco_matching import box_areas
from zoo.datasets.records import Sample

NAMES = ("a", "b", "c", "d")
CATEGORIES = (3, 17, 18, 90)


def official(annotations, results, *, agnostic=False, limits=(1, 10, 100)):
    """pycocotools' evaluation of an annotation dictionary and a list of results; its chatter is swallowed."""
    truth = COCO()
    truth.dataset = annotations
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        if results:
            found = truth.loadRes(results)
        else:  # loadRes cannot read an empty list
            found = COCO()
            found.dataset = {**annotations, "annotations": []}
            found.createIndex()
        judge = COCOeval(truth, found, "bbox")
        judge.params.useCats = int(not agnostic)
        judge.params.maxDets = list(limits)
        judge.evaluate()
        judge.accumulate()
        if limits == (1, 10, 100):
            judge.summarize()
    return judge


def as_annotations(samples, categories=CATEGORIES):
    images = [{"id": int(s.image_id), "file_name": f"{s.image_id}.jpg"} for s in samples]
    objects = []
    for sample in samples:
        for number, box in enumerate(sample.boxes.astype(float)):
            x1, y1, x2, y2 = box.tolist()
            one = {"image_id": int(sample.image_id), "category_id": categories[sample.classes[number]]}
            area = (x2 - x1) * (y2 - y1) if sample.areas is None else float(sample.areas[number])
            one |= {"id": len(objects) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": area}
            objects.append(one | {"iscrowd": int(sample.crowd[number])})
    named = [{"id": category, "name": str(category)} for category in categories]
    return {"images": images, "annotations": objects, "categories": named}


def as_results(found, samples, categories=CATEGORIES):
    rows = []
    for (boxes, scores, labels), sample in zip(found, samples, strict=True):
        for box, score, label in zip(boxes, scores, labels, strict=True):
            x1, y1, x2, y2 = np.asarray(box, float).tolist()
            row = {"image_id": int(sample.image_id), "category_id": categories[label], "score": float(score)}
            rows.append(row | {"bbox": [x1, y1, x2 - x1, y2 - y1]})
    return rows


def nan(values):
    """pycocotools writes -1 where there is nothing to measure."""
    return np.where(np.asarray(values) == -1, np.nan, values)


def assert_equal(result, judge):
    np.testing.assert_allclose([*result.figures.values()], nan(judge.stats), rtol=0, atol=1e-9)
    np.testing.assert_allclose(result.precision, nan(judge.eval["precision"][..., -1]), rtol=0, atol=1e-9)
    np.testing.assert_allclose(result.recall, nan(judge.eval["recall"]), rtol=0, atol=1e-9)


def boxes(rng, count, grid):
    """Corners on a grid, so that equal overlaps and overlaps of exactly a threshold are common; sides 4 to 200."""
    corner = rng.integers(0, 80, (count, 2)) * grid
    sides = rng.choice([4, 20, 30, 60, 120, 200], (count, 2)) + rng.integers(0, 3, (count, 2)) * grid
    return np.concatenate([corner, corner + sides], axis=1).astype(float)


def problem(seed):
    rng = np.random.default_rng(seed)
    grid = rng.choice([1.0, 4.0, 0.25])
    used = rng.integers(1, 5)  # some classes stay without objects
    pictures = rng.integers(1, 9)
    ids = rng.choice(10**6, pictures, replace=False)  # in no order
    ties = rng.random() < 0.5
    samples, found = [], []
    for number in range(pictures):
        count = rng.integers(0, 9) * (rng.random() < 0.8)
        truth, labels = boxes(rng, count, grid), rng.integers(0, used, count)
        crowd = rng.random(count) < 0.2
        areas = box_areas(truth) * rng.choice([0.3, 0.7, 1.0], count) if seed % 3 else None
        size = (600, 600)
        samples.append(Sample(str(ids[number]), None, size, truth, labels, np.zeros(count), crowd, areas))
        near = np.concatenate([truth, truth])[rng.random(2 * count) < 0.7]
        near = near + rng.integers(-2, 3, near.shape) * grid
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        many = 230 if seed % 10 == 0 and number == 0 else rng.integers(0, 12)
        extra = boxes(rng, many * (rng.random() < 0.8), grid)
        all_boxes = np.concatenate([near, extra])
        scores = rng.integers(1, 5, len(all_boxes)) / 4 if ties else rng.random(len(all_boxes))
        guesses = rng.integers(0, rng.integers(1, 5), len(all_boxes))
        right = np.concatenate([labels, labels])
        guesses[: min(len(near), len(right))] = right[: min(len(near), len(right))]
        if seed % 25 == 7:
            all_boxes, scores, guesses = all_boxes[:0], scores[:0], guesses[:0]  # nothing is found at all
        found.append((all_boxes, scores, guesses))
    return found, samples


def one(truth, *, crowd=(), difficult=(), areas=None, image_id="7"):
    truth = np.array(truth, float).reshape(-1, 4)
    flags = np.zeros((2, len(truth)), bool)
    flags[0, list(crowd)] = flags[1, list(difficult)] = True
    return Sample(image_id, None, (200, 200), truth, np.zeros(len(truth)), flags[1], flags[0], areas)


def det(*rows):
    """Rows of (x1, y1, x2, y2, score), all of class 0."""
    rows = np.array(rows, float).reshape(-1, 5)
    return rows[:, :4], rows[:, 4], np.zeros(len(rows), int)
