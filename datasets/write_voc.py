"""Writes the PASCAL VOC layout; see `zoo.datasets.writing`."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

from zoo.datasets.notes import Note
from zoo.datasets.written import Entry, Part, number

# Inclusive pixels: xmax - xmin is one less than the width, and readers take 0 for no width.
_LEAST = 0.01


def write(parts: Sequence[Part], root: Path) -> list[Note]:
    """Annotations/NAME.xml for every picture, ImageSets/Main/SPLIT.txt for every split."""
    notes: list[Note] = []
    (root / "Annotations").mkdir()
    done: set[str] = set()
    for part in parts:
        for entry in part.entries:
            if entry.name not in done:
                done.add(entry.name)
                tree = ElementTree.ElementTree(_annotation(entry, part.classes, notes))
                ElementTree.indent(tree, "\t")
                tree.write(root / "Annotations" / f"{entry.name}.xml", encoding="utf-8")
        if part.split:
            folder = root / "ImageSets" / "Main"
            folder.mkdir(parents=True, exist_ok=True)
            lines = "".join(f"{entry.name}\n" for entry in part.entries)
            (folder / f"{part.split}.txt").write_text(lines, encoding="utf-8")
    return notes


def _annotation(entry: Entry, classes: Sequence[str], notes: list[Note]) -> ElementTree.Element:
    sample = entry.sample
    root = ElementTree.Element("annotation")
    _add(root, "folder", "JPEGImages")
    _add(root, "filename", entry.file.name)
    size = ElementTree.SubElement(root, "size")
    for name, value in zip(("width", "height", "depth"), (sample.size[1], sample.size[0], 3), strict=True):
        _add(size, name, str(value))
    for box, label, difficult, crowd in zip(
        sample.boxes.astype(float), sample.classes, sample.difficult, sample.crowd, strict=True
    ):
        item = ElementTree.SubElement(root, "object")
        _add(item, "name", classes[label])
        _add(item, "difficult", str(int(difficult)))
        if crowd:
            _add(item, "crowd", "1")
        x1, y1, x2, y2 = box
        wide, tall = max(x2, x1 + 1 + _LEAST), max(y2, y1 + 1 + _LEAST)
        if (wide, tall) != (x2, y2):
            shown = ", ".join(map(number, box))
            text = f"{entry.name}.xml: the box ({classes[label]}, {shown}) is at most a pixel wide or high, which VOC "
            notes.append(Note(text + "cannot say; written a little larger", "zero-area", image_id=entry.name))
        bounds = ElementTree.SubElement(item, "bndbox")
        for name, value in zip(("xmin", "ymin", "xmax", "ymax"), (x1 + 1, y1 + 1, wide, tall), strict=True):
            _add(bounds, name, number(value))
    return root


def _add(parent: ElementTree.Element, name: str, text: str) -> None:
    ElementTree.SubElement(parent, name).text = text
