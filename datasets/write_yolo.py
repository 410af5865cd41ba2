"""Writes YOLO text folders; see `zoo.datasets.writing`."""

import json
from collections.abc import Sequence
from pathlib import Path

from zoo.datasets.notes import Note
from zoo.datasets.written import Entry, Part
from zoo.datasets.yolo_layout import SPLITS


def write(parts: Sequence[Part], root: Path) -> list[Note]:
    """labels/NAME.txt beside images/NAME.jpg, in folders of the splits, and data.yaml."""
    lost = 0
    for part in parts:
        for entry in part.entries:
            file = (root / "labels" / entry.file.relative_to("images")).with_suffix(".txt")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(_lines(entry), encoding="utf-8")
            lost += int((entry.sample.difficult | entry.sample.crowd).sum())
    names = ", ".join(map(_quoted, parts[0].classes))
    folders = "".join(_folder(part.split) for part in parts)
    (root / "data.yaml").write_text(f"{folders}nc: {len(parts[0].classes)}\nnames: [{names}]\n", encoding="utf-8")
    if not lost:
        return []
    return [Note(f"{lost} objects are difficult or a crowd, which YOLO files cannot say; written as ordinary ones")]


def _folder(split: str) -> str:
    """The line of data.yaml that says where a split is."""
    name, folder = split or "train", f"images/{split}".rstrip("/")
    plain = name in SPLITS
    return f"{name}: {folder}\n" if plain else f"{_quoted(name)}: {_quoted(folder)}\n"


def _quoted(text: str) -> str:
    # JSON is YAML, and quotes what YAML would take for numbers or truth values.
    return json.dumps(text, ensure_ascii=False)


def _lines(entry: Entry) -> str:
    height, width = entry.sample.size
    rows = []
    for (x1, y1, x2, y2), label in zip(entry.sample.boxes.astype(float), entry.sample.classes, strict=True):
        shares = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
        rows.append(" ".join([str(label), *(f"{share:.8f}" for share in shares)]) + "\n")
    return "".join(rows)
