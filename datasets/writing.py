"""Writes data sets as VOC, COCO, CSV or YOLO, so that other tools can read them."""

import os
import shutil
from collections.abc import Hashable, Mapping
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from PIL import Image

from zoo.datasets import write_coco, write_csv, write_voc, write_yolo
from zoo.datasets.checks import unique_ids
from zoo.datasets.images import image_size
from zoo.datasets.notes import Note
from zoo.datasets.records import DetectionDataset, Sample, Subset
from zoo.datasets.split_names import check_split_names
from zoo.datasets.written import Entry, Part

Layout = Literal["voc", "coco", "csv", "yolo"]

# Where each layout keeps its pictures; YOLO has a folder for each split.
_PICTURES = {"voc": "JPEGImages", "coco": "images", "csv": "images", "yolo": "images"}
_WRITERS = {"voc": write_voc.write, "coco": write_coco.write, "csv": write_csv.write, "yolo": write_yolo.write}


def save(
    data: DetectionDataset | Mapping[str, DetectionDataset],
    folder: str | Path,
    layout: Layout,
    pictures: Literal["copy", "link"] = "copy",
) -> list[Note]:
    """Write a data set, or several splits of one, to a new folder; `zoo.datasets.load` reads it back.

    Coordinates are kept to .001 pixel, and so are ``difficult`` and ``crowd`` where the layout has room for them
    (YOLO has none). The folder appears when all of it is written.

    Args:
        data: the data set; or its splits by name, which have the same classes. A picture that is in several
            splits is written once, except for YOLO. Each layout has its own rules for the splits' names.
        folder: must not exist yet, or be empty.
        layout: "voc", "coco", "csv" or "yolo".
        pictures: "copy" copies the files; "link" makes symbolic links. Pictures that are composed in memory, or
            that were annotated against their EXIF orientation, are written as PNG.

    Returns:
        What the layout cannot hold: boxes narrower than a pixel in VOC, flags in YOLO.

    Example: ``save(load("coco128"), "coco128-voc", "voc")``.
    """
    if layout not in _WRITERS:
        raise ValueError(f"layout is one of {', '.join(_WRITERS)}, not {layout!r}")
    if pictures not in ("copy", "link"):
        raise ValueError(f"pictures is 'copy' or 'link', not {pictures!r}")
    parts = dict(data) if isinstance(data, Mapping) else {"": data}
    classes = {part.classes for part in parts.values()}
    check_split_names(parts, layout)
    if len(classes) != 1:
        raise ValueError(f"the splits {', '.join(parts)} have different classes; load them with the same")
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: exists already; give a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(f".{os.getpid()}-{folder.name}")
    try:
        aside.mkdir()
        written = _place_pictures(parts, aside, layout, pictures)
        notes = _WRITERS[layout](written, aside)
        if folder.exists():
            folder.rmdir()
        os.replace(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return notes


def _place_pictures(parts: Mapping[str, DetectionDataset], root: Path, layout: Layout, pictures: str) -> list[Part]:
    """Every picture at its place in the new folder, and the splits with what they are called there."""
    names = _names(parts)
    done: dict[Path, Path] = {}
    written = []
    for split, data in parts.items():
        folder = PurePosixPath(_PICTURES[layout]) / (split if layout == "yolo" else "")
        (root / folder).mkdir(parents=True, exist_ok=True)
        entries = []
        for index in range(len(data)):
            sample = data.sample(index)
            name = names[_key(data, sample)]
            stem = root / folder / name
            if stem not in done:
                done[stem] = _write_picture(data, index, sample, stem, pictures)
            entries.append(Entry(name, PurePosixPath(done[stem].relative_to(root).as_posix()), sample))
        written.append(Part(split, data.classes, data.category_ids, entries))
    return written


def _key(data: DetectionDataset, sample: Sample) -> Hashable:
    """Equal for the same picture in several splits: its file or, where it has none, its name in its data set."""
    if sample.path is not None:
        return str(sample.path)
    while isinstance(data, Subset):
        data = data.parent
    return id(data), sample.image_id  # other data sets may have pictures of the same name


def _names(parts: Mapping[str, DetectionDataset]) -> dict[Hashable, str]:
    """A name for each picture that serves as a file name: its own without the suffix, if no other has it."""
    paths: dict[Hashable, PurePosixPath] = {}
    for split, data in parts.items():
        for index in range(len(data)):
            sample = data.sample(index)
            own = PurePosixPath(split, sample.image_id) if sample.path is None else sample.path.as_posix()
            paths.setdefault(_key(data, sample), PurePosixPath(own))
    ids = unique_ids(paths.values())
    flat = [name.strip("/").replace("/", "-") for name in ids]
    if len(set(flat)) < len(flat):
        flat = [f"{number:06d}-{name}" for number, name in enumerate(flat)]
    return dict(zip(paths, flat, strict=True))


def _write_picture(data: DetectionDataset, index: int, sample: Sample, stem: Path, pictures: str) -> Path:
    if sample.path is None or image_size(sample.path) != sample.size:
        target = stem.with_name(stem.name + ".png")
        Image.fromarray(np.asarray(data.image(index))).save(target)
        return target
    target = stem.with_name(stem.name + sample.path.suffix)
    if pictures == "link":
        target.symlink_to(sample.path.resolve())
    else:
        shutil.copyfile(sample.path, target)
    return target
