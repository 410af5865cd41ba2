"""Writes COCO instances JSON; see `zoo.datasets.writing`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo.datasets.notes import Note
from zoo.datasets.written import Entry, Part


def write(parts: Sequence[Part], root: Path) -> list[Note]:
    """instances.json, or annotations/instances_SPLIT.json for every split."""
    entries = {entry.name: entry for part in parts for entry in part.entries}
    numbers = _image_numbers(list(entries.values()))
    for part in parts:
        file = root / (f"annotations/instances_{part.split}.json" if part.split else "instances.json")
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(_content(part, numbers)), encoding="utf-8")
    return []


def _image_numbers(entries: Sequence[Entry]) -> dict[str, int]:
    """Each picture's number: the one it has in its own data set, if all have one."""
    given = [entry.sample.image_id for entry in entries]
    if all(text.isdecimal() for text in given) and len({int(text) for text in given}) == len(given):
        return {entry.name: int(text) for entry, text in zip(entries, given, strict=True)}
    return {entry.name: at for at, entry in enumerate(entries, 1)}


def _content(part: Part, numbers: dict[str, int]) -> dict[str, list[dict[str, Any]]]:
    categories = part.category_ids or range(1, len(part.classes) + 1)
    images, annotations = [], []
    for entry in part.entries:
        sample, number = entry.sample, numbers[entry.name]
        # Relative to the folder "images", as COCO's own are to theirs.
        name = entry.file.relative_to("images").as_posix()
        images.append({"id": number, "file_name": name, "width": sample.size[1], "height": sample.size[0]})
        for at, (x1, y1, x2, y2) in enumerate(sample.boxes.astype(float)):
            bbox = [round(value, 4) for value in (x1, y1, x2 - x1, y2 - y1)]
            area = (x2 - x1) * (y2 - y1) if sample.areas is None else float(sample.areas[at])
            annotation = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": int(categories[sample.classes[at]]),
                "bbox": bbox,
                "area": area,
                "iscrowd": int(sample.crowd[at]),
            }
            annotations.append(annotation | ({"difficult": 1} if sample.difficult[at] else {}))
    names = zip(categories, part.classes, strict=True)
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": int(number), "name": name} for number, name in names],
    }
