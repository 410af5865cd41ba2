"""Reads data sets whose annotations are one COCO instances JSON (Lin 2014)."""

import json
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.datasets.checks import checked_classes, four_numbers, relative_name, tidy_box, unknown_class
from zoo.datasets.images import ImageError, image_size
from zoo.datasets.notes import AnnotationError, OnError, Reading
from zoo.datasets.records import DetectionDataset, Sample

LAYOUT = "annotations/instances_SPLIT.json with SPLIT/*.jpg, or instances.json with images/*.jpg"

# Where a split's annotations lie in a folder: COCO's own layout, and what common tools export.
_FILES = ("annotations/instances_{}.json", "instances_{}.json", "annotations/{}.json", "{}/_annotations.coco.json")
# Names of files in the same folders that are no splits begin so.
OTHER_FILES = ("instances", "captions", "person_keypoints", "panoptic", "image_info")
_ONLY = ("instances.json", "annotations/instances.json", "_annotations.coco.json")


def load_coco(
    root: str | Path,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    images: str | Path | None = None,
    on_error: OnError = "raise",
) -> DetectionDataset:
    """Read a COCO instances JSON.

    Boxes [x, y, width, height] are continuous pixels. One without area, or outside its picture, is dropped, one
    partly outside is clipped, each with a note. ``iscrowd`` objects are kept as ``crowd``; ``areas`` are the
    file's. Pictures without objects are kept; so are those of COCO's ``image_info_*.json``, which has no annotations.
    ``image_id`` is COCO's own id as text. An annotation's ``difficult``, which COCO does not have, is read where there
    is one.

    Args:
        root: the JSON file, or a folder that holds it (see `coco_splits`).
        split: which of the folder's files; None where it has only one.
        classes: the class names in the order to number them. None takes all categories in the order of their
            ids, which have gaps; the data set's ``category_ids`` keeps them.
        images: the folder that file names are relative to; None looks in the usual places.
        on_error: "note" leaves out what cannot be used and goes on.

    Example: ``load_coco("coco", "val2017").classes[:2]`` is ``("person", "bicycle")``.
    """
    root, reading = Path(root), Reading(on_error)
    file = _find_file(root, split)
    content = _parse(file)
    if _is_unlabelled(file) and not content["annotations"]:
        reading.note("no-annotation", file, "lists pictures without annotations; taken as without objects")
    categories = _categories(file, content["categories"])
    ids_by_name = {name: number for number, name in categories.items()}
    names = tuple(ids_by_name) if classes is None else checked_classes(classes)
    places = [Path(images)] if images is not None else _image_folders(file)
    pictures = _pictures(file, content["images"], places, reading)
    objects = _by_picture(file, content["annotations"], pictures, reading)
    samples = [
        _sample(file, picture, objects[picture.number], categories, names, reading) for picture in pictures.values()
    ]
    # A class that only the caller knows has no number in the file: the next free one.
    free = max(categories, default=0) + 1
    numbers = [ids_by_name.get(name, free + at) for at, name in enumerate(names)]
    shown = file.parent.name if file.name in _ONLY or root.is_dir() else file.stem
    return DetectionDataset(f"{shown} {split or 'all'}", names, samples, reading.notes, numbers)


def coco_splits(root: str | Path) -> tuple[str, ...]:
    """The splits of a COCO folder; none for a JSON file and for a folder with one file.

    They are found as annotations/instances_SPLIT.json, instances_SPLIT.json, annotations/SPLIT.json or
    SPLIT/_annotations.coco.json.
    """
    root = Path(root)
    found: dict[str, None] = {}
    for pattern in _FILES if root.is_dir() else ():
        for path in sorted(root.glob(pattern.format("*"))):
            text = path.relative_to(root).as_posix()
            name = re.fullmatch(re.escape(pattern).replace(r"\{\}", "(.+)"), text)[1]
            if not name.startswith(OTHER_FILES):
                found[name] = None
    return tuple(found)


def is_coco(folder: Path) -> bool:
    """Whether a folder holds COCO annotations."""
    return any((folder / name).is_file() for name in _ONLY) or bool(coco_splits(folder))


@dataclass(frozen=True)
class _Picture:
    number: int | str
    path: Path
    size: tuple[int, int]

    @property
    def name(self) -> str:
        return str(self.number)


def _find_file(root: Path, split: str | None) -> Path:
    if root.is_file():
        if split is not None:
            raise AnnotationError(f"{root}: one JSON file has no splits; leave {split!r} out, or give its folder")
        return root
    if not root.is_dir():
        raise AnnotationError(f"{root}: no such file or folder; expected {LAYOUT}")
    known = coco_splits(root)
    if split is None:
        only = [root / name for name in _ONLY if (root / name).is_file()]
        if only:
            return only[0]
        if len(known) != 1:
            there = f"choose one of its splits: {', '.join(known)}" if known else f"expected {LAYOUT}"
            raise AnnotationError(f"{root}: {there}")
        split = known[0]
    if split not in known:
        raise AnnotationError(f"{root}: there is no split {split!r}; splits: {', '.join(known) or 'none'}")
    return next(path for pattern in _FILES if (path := root / pattern.format(split)).is_file())


def _parse(file: Path) -> dict[str, list]:
    try:
        content = json.loads(file.read_bytes())
    except json.JSONDecodeError as error:
        raise AnnotationError(f"{file}, line {error.lineno}: not JSON ({error.msg})") from error
    except (UnicodeDecodeError, RecursionError, OSError) as error:
        raise AnnotationError(f"{file}: not JSON that can be read ({error})") from error
    wanted = ("images", "annotations", "categories")
    should = f"an instances file is an object with the lists {', '.join(wanted)}"
    if not isinstance(content, dict):
        results = isinstance(content, list) and content and isinstance(content[0], dict) and "score" in content[0]
        looks = " and looks like a file of results" if results else ""
        raise AnnotationError(f"{file}: holds {_kind(content)}{looks}; {should}")
    if _is_unlabelled(file):
        content.setdefault("annotations", [])
    for key in wanted:
        if not isinstance(content.get(key), list):
            given = "is missing" if key not in content else f"is {_kind(content[key])}"
            raise AnnotationError(f"{file}: {key!r} {given}; {should}")
        for at, entry in enumerate(content[key]):
            if not isinstance(entry, dict):
                raise AnnotationError(f"{file}: {key}[{at}] is {_kind(entry)}, not an object")
    return content


def _is_unlabelled(file: Path) -> bool:
    """Whether it is one of COCO's lists of test pictures, whose annotations are not published."""
    return file.name.startswith("image_info")


def _categories(file: Path, entries: list[dict[str, Any]]) -> dict[int, str]:
    found: dict[int, str] = {}
    for at, entry in enumerate(entries):
        number, name = entry.get("id"), entry.get("name")
        if not _is_int(number) or not isinstance(name, str) or not name:
            raise AnnotationError(f"{file}: categories[{at}] needs a whole number as id and a name, has {entry}")
        if number in found or name in found.values():
            raise AnnotationError(f"{file}: categories[{at}] repeats id {number} or name {name!r}")
        found[number] = name
    return dict(sorted(found.items()))


def _image_folders(file: Path) -> list[Path]:
    """Where the pictures of an annotation file may lie, the likeliest first."""
    folder, split = file.parent, file.stem.removeprefix("instances_")
    above = folder.parent
    near = [folder / "images", folder / split, folder / "images" / split, folder]
    # In COCO's own layout the JSON has a folder of its own beside those of the pictures.
    return near + [above / split, above / "images" / split, above / "images"] * (folder.name == "annotations")


def _pictures(
    file: Path, entries: list[dict[str, Any]], places: list[Path], reading: Reading
) -> dict[int | str, _Picture | None]:
    """The pictures by id, those left out as None, which `_by_picture` then takes away."""
    found: dict[int | str, _Picture | None] = {}
    seen: dict[str, int | str] = {}
    for at, entry in enumerate(entries):
        number, name = entry.get("id"), entry.get("file_name")
        if not _is_int(number) and not isinstance(number, str):
            raise AnnotationError(f"{file}: images[{at}] has no id (a whole number): {_short(entry)}")
        if number in found:
            raise AnnotationError(f"{file}: images[{at}] repeats the id {number!r}")
        found[number] = None
        where = f"image {number!r}"
        if not isinstance(name, str) or not name:
            reading.error("missing-picture", file, f"{where} has no file_name", image_id=str(number))
            continue
        if name in seen:
            reading.note("listed-twice", file, f"{where} is {name}, as image {seen[name]!r}", image_id=str(number))
        seen.setdefault(name, number)
        tried = {place: place / inner for place in places if (inner := relative_name(name, place)) is not None}
        if not tried:
            text = f"{where}: file_name {name!r} leads out of the data set; write it relative to the pictures' folder"
            reading.error("leads-out", file, text, image_id=str(number))
            continue
        place = next((place for place, path in tried.items() if path.is_file()), None)
        if place is None:
            text = f"{where}: its picture {name} is missing; looked in {', '.join(map(str, places))}"
            reading.error("missing-picture", file, text, image_id=str(number))
            continue
        # Where one picture was, the next one will be.
        places.remove(place)
        places.insert(0, place)
        try:
            found[number] = _Picture(number, tried[place], _size(entry, tried[place]))
        except ImageError as error:
            if reading.on_error == "raise":
                raise
            reading.error("unreadable-picture", tried[place], error.problem, image_id=str(number))
    return found


def _size(entry: dict[str, Any], path: Path) -> tuple[int, int]:
    """(height, width) as annotated; from the picture's header where the file says nothing or 0."""
    height, width = entry.get("height"), entry.get("width")
    if all(isinstance(side, int | float) and math.isfinite(side) and side >= 1 for side in (height, width)):
        return int(height), int(width)
    return image_size(path)


def _by_picture(
    file: Path, entries: list[dict[str, Any]], pictures: dict[int | str, _Picture | None], reading: Reading
) -> dict[int | str, list[tuple[str, dict[str, Any]]]]:
    """Each picture's annotations, with what to call them; pictures left out are taken out of ``pictures``."""
    found: dict[int | str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for at, entry in enumerate(entries):
        number = entry.get("image_id")
        if isinstance(number, list | dict) or number not in pictures:
            text = f"{_called(entry, at)} belongs to image {number!r}, which is not in the list of images"
            reading.error("missing-picture", file, text)
            continue
        found[number].append((_called(entry, at), entry))
    for number in [number for number, picture in pictures.items() if picture is None]:
        del pictures[number]
    return found


def _sample(
    file: Path,
    picture: _Picture,
    entries: list[tuple[str, dict[str, Any]]],
    categories: dict[int, str],
    classes: tuple[str, ...],
    reading: Reading,
) -> Sample:
    boxes, labels, difficult, crowd, areas = [], [], [], [], []
    for where, entry in entries:
        number = entry.get("category_id")
        if not _is_int(number) or number not in categories:
            text = f"{where} has the category id {number!r}, which is not in the list of categories"
            reading.error("unknown-class", file, text, image_id=picture.name)
            continue
        label = categories[number]
        if label not in classes:
            reading.error("unknown-class", file, f"{where} {unknown_class(label, classes)}", image_id=picture.name)
            continue
        given = four_numbers(entry.get("bbox"))
        if given is None:
            text = f"{where} has no bbox of four numbers (x, y, width, height): {_short(entry.get('bbox'))}"
            reading.error("unreadable-box", file, text, image_id=picture.name)
            continue
        x, y, width, height = given
        corners = (x, y, x + width, y + height)
        box, kind, problem = tidy_box(corners, picture.size)
        if problem:
            shown = ", ".join(f"{value:g}" for value in given)
            text = f"{where} of {picture.path.name} ({label}, {shown}) {problem}"
            reading.note(kind, file, text, image_id=picture.name, box=corners)
        if box is not None:
            boxes.append(box)
            labels.append(classes.index(label))
            difficult.append(entry.get("difficult") == 1)
            crowd.append(entry.get("iscrowd") == 1)
            areas.append(_area(entry.get("area"), box))
    return Sample(picture.name, picture.path, picture.size, boxes, labels, difficult, crowd, areas)


def _area(value: object, box: tuple[float, ...]) -> float:
    if isinstance(value, int | float) and math.isfinite(value) and value >= 0:
        return float(value)
    return (box[2] - box[0]) * (box[3] - box[1])


def _called(entry: dict[str, Any], at: int) -> str:
    return f"annotation {entry['id']!r}" if _is_int(entry.get("id")) else f"annotations[{at}]"


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def _short(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 100 else text[:97] + "..."
