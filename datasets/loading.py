"""Opens a data set by what a person types: a built-in name, a prefix and a name, a file or a folder."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

from zoo.datasets import coco, csv_boxes, voc_layout, yolo_layout
from zoo.datasets.class_lists import read_class_list
from zoo.datasets.class_records import ClassificationDataset
from zoo.datasets.class_sources import class_splits, load_classes
from zoo.datasets.difficult import DifficultAsOrdinary
from zoo.datasets.digits import CLASSES, SPLITS, digit_scenes
from zoo.datasets.notes import Note, OnError
from zoo.datasets.records import DetectionDataset, Subset
from zoo.datasets.tfds_boxes import load_tfds, tfds_splits
from zoo.datasets.voc import load_voc
from zoo.datasets.yolo import load_yolo, yolo_splits

DIGIT_COUNTS = {"train": 2000, "val": 200, "test": 200}
LAYOUTS = ("voc", "coco", "yolo", "csv", "tfds")

ALLOWED = (
    '"digits", "digits:COUNT" (composed scenes, COUNT of them), "tfds:NAME" (as tfds:voc/2007), FILE.csv, FILE.json '
    "(COCO), data.yaml (YOLO), or a folder in the VOC, COCO, YOLO or CSV layout; voc:, coco:, yolo: or csv: before a "
    "path says which is meant"
)


Classes = Sequence[str] | str | Path | None
Task = Literal["detection", "classification"]


@overload
def load(
    spec: str | Path,
    split: str | None = None,
    classes: Classes = None,
    *,
    images: str | Path | None = None,
    keep_empty: bool = True,
    difficult: Literal["marked", "ordinary"] = "marked",
    on_error: OnError = "raise",
) -> DetectionDataset: ...


@overload
def load(
    spec: str | Path, split: str | None = None, classes: Classes = None, *, task: Literal["classification"]
) -> ClassificationDataset: ...


def load(
    spec: str | Path,
    split: str | None = None,
    classes: Classes = None,
    *,
    images: str | Path | None = None,
    keep_empty: bool = True,
    difficult: Literal["marked", "ordinary"] = "marked",
    on_error: OnError = "raise",
    task: Task = "detection",
) -> DetectionDataset | ClassificationDataset:
    """Open a data set.

    Args:
        spec: what to open. A text is taken as the first of these that fits:

            - ``"digits"``, ``"digits:200"``: scenes of digits, that many; a folder called so is ``"./digits"``;
            - ``"tfds:voc/2007"``: a set that tensorflow-datasets has prepared, see `zoo.datasets.tfds_boxes`;
            - ``"voc:PATH"``, ``"coco:PATH"``, ``"yolo:PATH"``, ``"csv:PATH"``: a path in this layout;
            - a path: a ``.csv`` file; a ``.json`` file (COCO instances); a ``.yaml`` file (YOLO); or a folder, by
              what lies in it: ``Annotations`` (VOC), instances JSON (COCO), ``data.yaml`` or ``images`` and
              ``labels`` (YOLO), ``.csv`` files.

        split: a split of it (see `splits`), for VOC also "train+val", "2007/test", "07+12", "07++12". None is "train"
            for digits, and all there is otherwise.
        classes: class names in the order to number them, or a file that lists them; None takes the data's own.
        images: the folder that the file names in COCO and CSV files are relative to, if it is not beside them.
        keep_empty: keep pictures without objects; otherwise they are left out, with a note.
        difficult: "marked" keeps objects marked so as that: detectors do not train on them, metrics do not count
            them. "ordinary" takes them as any other object (the two settings of Girshick 2015).
        on_error: "raise" stops at the first thing that cannot be used; "note" leaves it out and goes on.
        task: "detection" for boxes. "classification" for pictures of one class each: ``spec`` is then a folder or a
            .zip of class folders, or "tfds:NAME", see `zoo.datasets.class_sources.open_classes`; the options above
            from ``images`` on are about boxes.

    >>> load("digits:20", "test")
    <DigitScenes 'digits test': 20 images, 10 classes>
    """
    if isinstance(classes, Path) or (isinstance(classes, str) and os.path.isfile(classes)):
        classes = read_class_list(classes)
    if _is_classification(task):
        if (images, keep_empty, difficult, on_error) != (None, True, "marked", "raise"):
            raise ValueError(f"{spec}: images, keep_empty, difficult and on_error are about boxes; leave them out")
        return load_classes(spec, split, classes)
    source = find_source(spec)
    if difficult not in ("marked", "ordinary"):
        raise ValueError(f"difficult is 'marked' or 'ordinary', not {difficult!r}")
    if images is not None and source.layout not in ("coco", "csv"):
        raise ValueError(
            f"{spec}: images= is for COCO and CSV files; a {source.layout} set says where its pictures are"
        )
    if source.layout == "digits":
        data = _digits(source.place, split, CLASSES if classes is None else classes)
    elif source.layout == "tfds":
        data = load_tfds(source.place, split, classes, on_error)
    elif source.layout == "voc":
        data = load_voc(source.place, split, classes, on_error)
    elif source.layout == "yolo":
        data = load_yolo(source.place, split, classes, on_error)
    else:
        read = {"coco": coco.load_coco, "csv": csv_boxes.load_csv}[source.layout]
        data = read(source.place, split, classes, images, on_error)
    if difficult == "ordinary":
        data = DifficultAsOrdinary(data)
    return data if keep_empty else _without_empty(data)


def splits(spec: str | Path, task: Task = "detection") -> tuple[str, ...]:
    """The splits of a data set that `load` would open; none if it is all in one.

    >>> splits("digits")
    ('train', 'val', 'test')
    """
    if _is_classification(task):
        return class_splits(spec)
    source = find_source(spec)
    if source.layout == "digits":
        return tuple(SPLITS)
    known = {
        "tfds": tfds_splits,
        "voc": voc_layout.voc_splits,
        "yolo": yolo_splits,
        "coco": coco.coco_splits,
        "csv": csv_boxes.csv_splits,
    }
    return known[source.layout](source.place)


@dataclass(frozen=True)
class Source:
    """What a spec means: the layout ("digits" or one of LAYOUTS), and the path, or what followed the prefix."""

    layout: str
    place: str


def find_source(spec: str | Path) -> Source:
    """Which data set a person means; see `load`.

    Raises:
        ValueError: there is no such data set; says what can be given.
    """
    text = str(spec)
    prefix, colon, rest = text.partition(":")
    if isinstance(spec, str):
        if prefix == "digits" and (colon or not rest):
            return Source("digits", text)
        if colon and prefix in LAYOUTS:
            return Source(prefix, rest)
    path = Path(spec)
    by_suffix = {".csv": "csv", ".json": "coco", ".yaml": "yolo", ".yml": "yolo"}
    if path.is_file() and path.suffix.lower() in by_suffix:
        return Source(by_suffix[path.suffix.lower()], text)
    if path.is_dir():
        return Source(_layout_of(path), text)
    hint = f"; a set of tensorflow-datasets is given as tfds:{text}" if re.fullmatch(r"(voc|coco)/\d{4}", text) else ""
    there = "cannot be read as a data set" if path.exists() else "no such data set"
    raise ValueError(f"{text}: {there}; give {ALLOWED}{hint}")


def _is_classification(task: str) -> bool:
    if task not in ("detection", "classification"):
        raise ValueError(f"task is 'detection' or 'classification', not {task!r}")
    return task == "classification"


def _layout_of(folder: Path) -> str:
    fitting = {
        "voc": voc_layout.has_voc(folder),
        "coco": coco.is_coco(folder),
        "yolo": yolo_layout.is_yolo(folder),
    }
    found = [layout for layout, fits in fitting.items() if fits]
    # Tables of anything may lie about in a folder that is of another layout.
    found = found or ["csv"] * bool(csv_boxes.csv_splits(folder))
    if len(found) > 1:
        ways = " or ".join(f"{layout}:{folder}" for layout in found)
        raise ValueError(f"{folder}: could be of several layouts; say which: {ways}")
    if not found:
        layouts = (voc_layout.LAYOUT, coco.LAYOUT, yolo_layout.LAYOUT, f"FILE.csv with {csv_boxes.LAYOUT}")
        named = "; ".join(f"{name}: {text}" for name, text in zip(("VOC", "COCO", "YOLO", "CSV"), layouts, strict=True))
        raise ValueError(
            f"{folder}: this folder is in none of the layouts that are read ({named}); class folders without boxes are "
            "for task='classification'"
        )
    return found[0]


def _digits(text: str, split: str | None, classes: Sequence[str]) -> DetectionDataset:
    split = split or "train"
    if split not in SPLITS:
        raise ValueError(f"{text}: no split {split!r}; there are {', '.join(SPLITS)}")
    _, colon, given = text.partition(":")
    count = given if colon else str(DIGIT_COUNTS[split])
    if not re.fullmatch(r"0*[1-9][0-9]*", count):
        raise ValueError(f"{text}: what follows the colon is the number of scenes, as in digits:200")
    return digit_scenes(split, int(count), classes=classes)


def _without_empty(data: DetectionDataset) -> DetectionDataset:
    kept = [index for index in range(len(data)) if len(data.sample(index))]
    left_out = len(data) - len(kept)
    if not left_out:
        return data
    part = Subset(data, kept)
    part.name = data.name
    text = f"{data.name}: {left_out} of {len(data)} pictures have no objects; left out, as asked"
    part.notes = (*data.notes, Note(text, "no-boxes"))
    return part
