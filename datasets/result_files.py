"""Detections as files that the evaluation servers of PASCAL VOC and COCO accept."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zoo.datasets.metric_inputs import ImageDetections, check_count, checked
from zoo.datasets.records import DetectionDataset
from zoo.files import save_atomically


def save_voc_results(
    folder: str | Path, detections: Sequence[ImageDetections], dataset: DetectionDataset, split: str = "test"
) -> list[Path]:
    """Write ``comp4_det_SPLIT_CLASS.txt`` for each class: image id, score, and box (devkit, section 8.2).

    Boxes are (xmin, ymin, xmax, ymax) in pixels counted from 1, the last one included: 1 is added to the upper
    left corner of our continuous boxes, the inverse of what `load_voc` does. A class that was not found gets an
    empty file, which the devkit asks for. The server takes the folder packed as ``results/VOC2012/Main/``.

    Args:
        folder: where to write; it is made.
        detections: for each picture, in the order of the data set, boxes (D, 4), scores (D,) and 0-based
            classes (D,); rows with class -1 are padding.
        dataset: its image ids and class names go into the files.
        split: the image set, "test" for the server.

    Returns the paths, in the order of the classes.

    >>> import tempfile
    >>> from zoo.datasets.digits import digit_scenes
    >>> scenes = digit_scenes("test", count=1)
    >>> found = [(np.array([[9.0, 19.0, 30.0, 40.0]]), np.array([0.5]), np.array([7]))]
    >>> paths = save_voc_results(tempfile.mkdtemp(), found, scenes)
    >>> paths[7].name, paths[7].read_text().split()[1:]
    ('comp4_det_test_7.txt', ['0.500000000', '10.000000', '20.000000', '30.000000', '40.000000'])
    """
    check_count(detections, dataset.samples, "detections")
    for what, names in (("split", (split,)), ("class", dataset.classes)):
        for name in names:
            if not name or any(sign in name for sign in "/\\\0"):
                raise ValueError(f"{what} {name!r} cannot be part of a file name, as the VOC format needs it to be")
    lines: list[list[str]] = [[] for _ in dataset.classes]
    for given, sample in zip(detections, dataset.samples, strict=True):
        if not sample.image_id or any(sign.isspace() for sign in sample.image_id):
            raise ValueError(f"image id {sample.image_id!r} has a space: a VOC result file could not be read")
        boxes, scores, labels = checked(given, sample, len(dataset.classes))
        for box, score, label in zip(np.add(boxes, (1, 1, 0, 0)), scores, labels, strict=True):
            numbers = " ".join(f"{side:.6f}" for side in box)
            lines[label].append(f"{sample.image_id} {score:.9f} {numbers}\n")
    paths = []
    for name, rows in zip(dataset.classes, lines, strict=True):
        paths.append(Path(folder) / f"comp4_det_{split}_{name}.txt")
        with save_atomically(paths[-1]) as aside:
            aside.write_text("".join(rows), encoding="utf-8")
    return paths


def save_coco_results(
    path: str | Path,
    detections: Sequence[ImageDetections],
    dataset: DetectionDataset,
    category_ids: Sequence[int] | None = None,
) -> Path:
    """Write COCO's results JSON: a list of image_id, category_id, bbox [x, y, width, height] and score.

    Coordinates are continuous pixels from the upper left corner, as ours are. The server's name for the file is
    ``detections_test-dev2017_NAME_results.json``.

    Args:
        path: the JSON file.
        detections: as for `save_voc_results`.
        dataset: read from a COCO file: its image ids are that file's numbers, its ``category_ids`` too.
        category_ids: the category of each class, where the data set has none.

    Returns the path.
    """
    check_count(detections, dataset.samples, "detections")
    categories = dataset.category_ids if category_ids is None else tuple(category_ids)
    if categories is None:
        raise ValueError(f"{dataset.name} has no category ids of COCO; give category_ids=, a number for each class")
    if len(categories) != len(dataset.classes):
        raise ValueError(f"{len(categories)} category_ids for {len(dataset.classes)} classes; give one for each")
    rows = []
    for given, sample in zip(detections, dataset.samples, strict=True):
        if not (sample.image_id.isascii() and sample.image_id.isdecimal()):
            raise ValueError(
                f"image id {sample.image_id!r} is no number, as COCO's are; read the data from a COCO file"
            )
        boxes, scores, labels = checked(given, sample, len(dataset.classes))
        boxes[:, 2:] -= boxes[:, :2]
        for box, score, label in zip(boxes.tolist(), scores.tolist(), labels, strict=True):
            row = {"image_id": int(sample.image_id), "category_id": int(categories[label])}
            rows.append({**row, "bbox": box, "score": score})
    with save_atomically(path) as aside:
        aside.write_text(json.dumps(rows), encoding="utf-8")
    return Path(path)
