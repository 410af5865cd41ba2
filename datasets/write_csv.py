"""Writes boxes as CSV; see `zoo.datasets.writing`."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from zoo.datasets.notes import Note
from zoo.datasets.written import Part, number

_HEADER = ("path", "x1", "y1", "x2", "y2", "class", "difficult", "crowd")


def write(parts: Sequence[Part], root: Path) -> list[Note]:
    """annotations.csv, or SPLIT.csv for every split, and classes.csv.

    A line is ``path,x1,y1,x2,y2,class`` as most programs take it. Only where an object is difficult or a crowd,
    columns for these follow, and a first line names all.
    """
    flagged = any(entry.sample.difficult.any() or entry.sample.crowd.any() for part in parts for entry in part.entries)
    for part in parts:
        with open(root / f"{part.split or 'annotations'}.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if flagged:
                writer.writerow(_HEADER)
            writer.writerows(row if flagged else row[:6] for row in _rows(part))
    with open(root / "classes.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows((name, at) for at, name in enumerate(parts[0].classes))
    return []


def _rows(part: Part) -> Iterator[list[str]]:
    for entry in part.entries:
        sample = entry.sample
        if not len(sample):
            yield [str(entry.file)] + [""] * 7
        for box, label, difficult, crowd in zip(
            sample.boxes, sample.classes, sample.difficult, sample.crowd, strict=True
        ):
            flags = (str(int(difficult)), str(int(crowd)))
            yield [str(entry.file), *map(number, box), part.classes[label], *flags]
