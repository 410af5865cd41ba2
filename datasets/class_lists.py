"""Class names from a file."""

import csv
from pathlib import Path

from zoo.datasets.checks import checked_classes, read_text
from zoo.datasets.notes import AnnotationError, Reading


def read_class_list(file: str | Path) -> tuple[str, ...]:
    """Class names in order: one a line, or ``name,index`` (keras-retinanet's mapping) with indices from 0.

    >>> import tempfile; path = Path(tempfile.mkdtemp()) / "classes.csv"; _ = path.write_text("dog,1\\ncat,0\\n")
    >>> read_class_list(path)
    ('cat', 'dog')
    """
    file = Path(file)
    try:
        lines = list(enumerate(csv.reader(read_text(file, Reading()).splitlines(), strict=True), 1))
    except csv.Error as error:
        raise AnnotationError(f"{file}: not CSV ({error})") from error
    rows = [(number, [cell.strip() for cell in row]) for number, row in lines if any(cell.strip() for cell in row)]
    if not rows:
        raise AnnotationError(f"{file}: holds no class names; write one a line, or name,index")
    if all(len(row) == 1 for _, row in rows):
        return _checked(file, [row[0] for _, row in rows])
    found: dict[int, str] = {}
    for number, row in rows:
        if len(row) != 2 or not row[0] or not row[1].isdecimal():
            raise AnnotationError(f"{file}, line {number}: {','.join(row)!r} is not name,index")
        if int(row[1]) in found:
            raise AnnotationError(f"{file}, line {number}: the index {row[1]} is given twice")
        found[int(row[1])] = row[0]
    if sorted(found) != list(range(len(found))):
        raise AnnotationError(f"{file}: the indices have to be 0 to {len(found) - 1} without gaps")
    return _checked(file, [found[index] for index in sorted(found)])


def _checked(file: Path, names: list[str]) -> tuple[str, ...]:
    try:
        return checked_classes(names)
    except ValueError as error:
        raise AnnotationError(f"{file}: {error}") from error
