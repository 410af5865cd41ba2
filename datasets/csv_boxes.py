"""Reads boxes from CSV: ``path,x1,y1,x2,y2,class``, one object a line."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from zoo.datasets.checks import (
    checked_classes,
    four_numbers,
    read_text,
    relative_name,
    tidy_box,
    unique_ids,
    unknown_class,
)
from zoo.datasets.class_lists import read_class_list
from zoo.datasets.headers import read_sizes
from zoo.datasets.notes import AnnotationError, OnError, Reading
from zoo.datasets.records import DetectionDataset, Sample

LAYOUT = "a line of path,x1,y1,x2,y2,class for each object; path,,,,, for a picture without any"

# Names of columns that are understood in a first line, in the order of the format without one.
_COLUMNS = {
    "path": ("path", "filename", "file", "file_name", "image", "image_path", "img_file"),
    "x1": ("x1", "xmin", "x_min", "left"),
    "y1": ("y1", "ymin", "y_min", "top"),
    "x2": ("x2", "xmax", "x_max", "right"),
    "y2": ("y2", "ymax", "y_max", "bottom"),
    "class": ("class", "class_name", "label", "name"),
}
_FURTHER = {"width": ("width",), "height": ("height",), "difficult": ("difficult",), "crowd": ("crowd", "iscrowd")}
CLASS_FILE = "classes.csv"


def load_csv(
    root: str | Path,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    images: str | Path | None = None,
    on_error: OnError = "raise",
) -> DetectionDataset:
    """Read a CSV of boxes (the format of keras-retinanet).

    Coordinates are continuous pixels from 0, taken as they are. A box without area, or outside its picture, is
    dropped, one partly outside is clipped, each with a note. A first line may name the columns: then their order
    does not matter, and ``width``, ``height``, ``difficult`` and ``crowd`` are read too.

    Args:
        root: the file, or a folder with SPLIT.csv in it.
        split: which file of the folder; None where it has only one.
        classes: the class names in the order to number them. None takes those of ``classes.csv`` beside the file
            (lines of name,index), or else those that occur, sorted; of a folder, in any of its files.
        images: the folder that paths are relative to; None is the file's own, or ``images`` in it.
        on_error: "note" leaves out what cannot be used and goes on.

    Example: ``load_csv("cells.csv", classes=("RBC", "WBC"))``.
    """
    root, reading = Path(root), Reading(on_error)
    file = _find_file(root, split)
    places = [Path(images)] if images is not None else [file.parent, file.parent / "images"]
    pictures = _pictures(file, places, reading)
    if classes is not None:
        names = checked_classes(classes)
    elif (file.parent / CLASS_FILE).is_file():
        names = read_class_list(file.parent / CLASS_FILE)
    else:
        names = _class_names(root, file, pictures)
    sizes = read_sizes({picture.path: picture.size for picture in pictures.values()}, reading)
    usable = [picture for picture in pictures.values() if picture.path in sizes]
    ids = unique_ids(picture.name for picture in usable)
    samples = [
        _sample(file, picture, name, sizes[picture.path], names, reading)
        for picture, name in zip(usable, ids, strict=True)
    ]
    shown = file.parent.name if root.is_dir() else file.stem
    return DetectionDataset(f"{shown} {split or 'all'}", names, samples, reading.notes)


def csv_splits(root: str | Path) -> tuple[str, ...]:
    """The splits of a folder of CSV files, their names without ".csv"; none for a single file."""
    root = Path(root)
    if not root.is_dir():
        return ()
    return tuple(sorted(path.stem for path in root.glob("*.csv") if path.name != CLASS_FILE))


@dataclass(frozen=True)
class _Columns:
    """Where each column is, and how many there are."""

    at: dict[str, int]
    count: int


@dataclass
class _Picture:
    name: PurePosixPath
    path: Path
    size: tuple[int, int] | None = None
    rows: list["_Row"] = field(default_factory=list)


@dataclass(frozen=True)
class _Row:
    line: int
    corners: tuple[float, ...]
    label: str
    difficult: bool
    crowd: bool


def _find_file(root: Path, split: str | None) -> Path:
    if root.is_file():
        if split is not None:
            raise AnnotationError(f"{root}: one CSV file has no splits; leave {split!r} out, or give its folder")
        return root
    known = csv_splits(root)
    if not known:
        raise AnnotationError(f"{root}: no such file, nor a folder with .csv files; expected {LAYOUT}")
    if split is None and len(known) == 1:
        split = known[0]
    if split not in known:
        given = "choose a split" if split is None else f"there is no split {split!r}"
        raise AnnotationError(f"{root}: {given}; splits: {', '.join(known)}")
    return root / f"{split}.csv"


def _pictures(file: Path, places: list[Path], reading: Reading) -> dict[str, _Picture]:
    """Pictures in the order in which they first occur, with their rows."""
    found: dict[str, _Picture | None] = {}
    columns: _Columns | None = None
    rows = csv.reader(io.StringIO(read_text(file, reading), newline=""), strict=True)
    try:
        for row in rows:
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if columns is None:
                columns = _header(file, cells, rows.line_num)
                if columns is not None:
                    continue
                columns = _Columns({name: at for at, name in enumerate(_COLUMNS)}, len(_COLUMNS))
            _add_row(file, rows.line_num, cells, columns, found, places, reading)
    except csv.Error as error:
        raise AnnotationError(f"{file}, line {rows.line_num}: not CSV ({error})") from error
    if not found:
        raise AnnotationError(f"{file}: is empty; expected {LAYOUT}")
    return {name: picture for name, picture in found.items() if picture is not None}


def _header(file: Path, cells: list[str], line: int) -> _Columns | None:
    """Where each column is if the first line names them; None if it holds data."""
    lower = [cell.lower() for cell in cells]
    found = {
        column: next((lower.index(name) for name in names if name in lower), None)
        for column, names in (_COLUMNS | _FURTHER).items()
    }
    missing = [column for column in _COLUMNS if found[column] is None]
    if not missing:
        return _Columns({column: at for column, at in found.items() if at is not None}, len(cells))
    if len(missing) < 3:
        raise AnnotationError(
            f"{file}, line {line}: names columns, but none for {', '.join(missing)}; "
            f"wanted are {', '.join('/'.join(_COLUMNS[column]) for column in missing)}"
        )
    return None


def _add_row(
    file: Path,
    line: int,
    cells: list[str],
    columns: _Columns,
    found: dict[str, _Picture | None],
    places: list[Path],
    reading: Reading,
) -> None:
    if len(cells) < columns.count or any(cells[columns.count :]):
        hint = "; separate them by commas" if ";" in cells[0] or "\t" in cells[0] else ""
        text = f"has {len(cells)} fields, {columns.count} are wanted ({LAYOUT}){hint}"
        reading.error("unreadable-box", file, text, line=line)
        return
    values = {column: cells[at] for column, at in columns.at.items()}
    name = values["path"]
    if name not in found:
        found[name] = _picture(file, line, values, places, reading)
    picture = found[name]
    texts = [values[side] for side in ("x1", "y1", "x2", "y2")]
    if picture is None or not any([*texts, values["class"]]):
        return
    corners = four_numbers(texts)
    if corners is None:
        text = f"x1, y1, x2, y2 are {', '.join(texts)}: four numbers are wanted, or none and no class"
        reading.error("unreadable-box", file, text, line=line, image_id=picture.name.stem)
        return
    flags = [values.get(flag, "").lower() in ("1", "true", "yes") for flag in ("difficult", "crowd")]
    picture.rows.append(_Row(line, corners, values["class"], *flags))


def _picture(file: Path, line: int, values: dict[str, str], places: list[Path], reading: Reading) -> _Picture | None:
    name = values["path"]
    tried = {place: inner for place in places if name and (inner := relative_name(name, place)) is not None}
    if not tried:
        text = f"the path {name!r} leads out of {places[0]}" if name else "there is no path"
        text += "; write paths relative to the pictures' folder, and say which that is if it is another (images)"
        reading.error("leads-out" if name else "missing-picture", file, text, line=line)
        return None
    place = next((place for place, inner in tried.items() if (place / inner).is_file()), None)
    if place is None:
        text = f"its picture {name} is missing; looked in {', '.join(map(str, places))}"
        reading.error("missing-picture", file, text, line=line)
        return None
    try:
        height, width = int(float(values.get("height", 0))), int(float(values.get("width", 0)))
    except (ValueError, OverflowError):
        height = width = 0
    size = (height, width) if height > 0 and width > 0 else None
    return _Picture(tried[place], place / tried[place], size)


def _class_names(root: Path, file: Path, pictures: dict[str, _Picture]) -> tuple[str, ...]:
    """The classes that occur; in a folder those of all its files, so that splits agree."""
    names = {row.label for picture in pictures.values() for row in picture.rows}
    for other in csv_splits(root):
        if root / f"{other}.csv" != file:
            names |= _names_in(root / f"{other}.csv")
    return tuple(sorted(names - {""}))


def _names_in(file: Path) -> set[str]:
    """The class names of another split's file; whether its pictures are there does not matter here."""
    try:
        rows = [row for row in csv.reader(io.StringIO(read_text(file, Reading()), newline="")) if any(row)]
        columns = _header(file, [cell.strip() for cell in rows[0]], 1) if rows else None
    except (AnnotationError, csv.Error):
        return set()
    at = columns.at["class"] if columns else 5
    return {row[at].strip() for row in rows[1 if columns else 0 :] if len(row) > at}


def _sample(
    file: Path, picture: _Picture, name: str, size: tuple[int, int], classes: tuple[str, ...], reading: Reading
) -> Sample:
    kept: list[tuple[_Row, tuple[float, ...]]] = []
    for row in picture.rows:
        if row.label not in classes:
            text = unknown_class(row.label, classes)
            reading.error("unknown-class", file, text, line=row.line, image_id=name)
            continue
        box, kind, problem = tidy_box(row.corners, size)
        if problem:
            shown = ", ".join(f"{value:g}" for value in row.corners)
            text = f"the box of {picture.path.name} ({row.label}, {shown}) {problem}"
            reading.note(kind, file, text, line=row.line, image_id=name, box=row.corners)
        if box is not None:
            kept.append((row, box))
    return Sample(
        name,
        picture.path,
        size,
        [box for _, box in kept],
        [classes.index(row.label) for row, _ in kept],
        [row.difficult for row, _ in kept],
        [row.crowd for row, _ in kept],
    )
