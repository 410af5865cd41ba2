"""Reads YOLO text folders: ``images/NAME.jpg`` and ``labels/NAME.txt`` with a line per object."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from zoo.datasets.checks import checked_classes, read_text, relative_name, tidy_box, unique_ids, unknown_class
from zoo.datasets.class_lists import read_class_list
from zoo.datasets.headers import read_sizes
from zoo.datasets.images import IMAGE_SUFFIXES, natural_key
from zoo.datasets.notes import AnnotationError, OnError, Reading
from zoo.datasets.records import DetectionDataset, Sample
from zoo.datasets.yolo_layout import find_layout

_FIELDS = "class cx cy width height (shares of the picture), or class x1 y1 x2 y2 x3 y3 ... (an outline)"


def load_yolo(
    root: str | Path,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    on_error: OnError = "raise",
) -> DetectionDataset:
    """Read a YOLO text folder.

    A line is ``class cx cy width height``, all but the class as shares of the picture's width and height; an
    outline of three or more points counts as the box around it. A picture without a label file, or with an empty
    one, has no objects. A box without area, or outside its picture, is dropped, one partly outside is clipped, each
    with a note.

    Args:
        root: a folder with ``data.yaml``, or with ``images`` and ``labels``; or the ``data.yaml`` itself.
        split: "train", "val" or "test" of ``data.yaml``, or a folder in ``images``; None takes all pictures.
        classes: the class names in the order to number them. Where the data name their classes (``names`` of
            ``data.yaml``, or the lines of ``classes.txt``), objects keep the class of their name; where they do not,
            these are the names of the files' numbers. None takes the data's names, or else the numbers themselves.
        on_error: "note" leaves out what cannot be used and goes on.

    Example: ``load_yolo("coco128/data.yaml", "train")``.
    """
    reading = Reading(on_error)
    layout = find_layout(Path(root), reading)
    files = _pictures(layout.root, layout.sources(split), reading)
    _tell_lone_labels(layout.root, layout.sources(split), files, reading)
    sizes = read_sizes(dict.fromkeys(files), reading)
    files = [path for path in files if path in sizes]
    given = None if classes is None else checked_classes(classes)
    labels = [_label_file(layout.root, path) for path in files]
    objects = [list(_objects(file, reading)) if file.is_file() else None for file in labels]
    own = layout.classes or _class_list(layout.root) or given
    names = _numbers(objects) if own is None else own
    numbered = names if given is None else given
    ids = unique_ids(PurePosixPath(path.relative_to(layout.root).as_posix()) for path in files)
    samples = []
    for path, file, found, name in zip(files, labels, objects, ids, strict=True):
        if found is None:
            reading.note("no-annotation", path, f"has no label file {file}; taken as without objects", image_id=name)
        samples.append(_sample(path, file, found or [], name, sizes[path], names, numbered, reading))
    return DetectionDataset(f"{layout.root.name} {split or 'all'}", numbered, samples, reading.notes)


def yolo_splits(root: str | Path) -> tuple[str, ...]:
    """The splits a YOLO folder has: those of ``data.yaml``, or else the folders in ``images``."""
    return find_layout(Path(root), Reading("note")).splits


@dataclass(frozen=True)
class _Object:
    line: int
    label: int
    corners: tuple[float, float, float, float]  # shares of the picture


def _pictures(root: Path, sources: Iterable[Path], reading: Reading) -> list[Path]:
    """Picture files of a split: those in its folders, with all below, and those that its lists name."""
    found: dict[Path, None] = {}
    for source in sources:
        if source.is_dir():
            paths = [path for path in source.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES]
            found |= dict.fromkeys(sorted(paths, key=lambda path: natural_key(str(path))))
        elif source.is_file():
            found |= dict.fromkeys(_listed(root, source, reading))
        else:
            raise AnnotationError(f"{source}: no such folder of pictures, nor a list of them")
    if not found:
        raise AnnotationError(f"{', '.join(map(str, sources))}: no pictures there")
    return list(found)


def _tell_lone_labels(root: Path, sources: Iterable[Path], pictures: Iterable[Path], reading: Reading) -> None:
    """Note files of boxes beside which there is no picture, or one of another kind."""
    known = {_label_file(root, path) for path in pictures}
    for source in sources:
        folder = _label_file(root, source / "any.jpg").parent
        if not source.is_dir() or not folder.is_dir():
            continue
        for file in sorted(folder.rglob("*.txt")):
            if file not in known and _has_boxes(file):
                reading.note("missing-picture", file, "there is no picture of that name; its boxes are left out")


def _has_boxes(file: Path) -> bool:
    """Whether it begins as a file of boxes does; other texts may lie among them."""
    with file.open(encoding="utf-8", errors="replace") as lines:
        fields = next((line.split() for line in lines if line.strip()), [])
    try:
        return len(list(map(float, fields))) >= 5
    except ValueError:
        return False


def _listed(root: Path, file: Path, reading: Reading) -> Iterable[Path]:
    """The pictures that a list names, relative to the list's folder or the data set's."""
    for number, line in enumerate(read_text(file, reading).splitlines(), 1):
        if not (name := line.strip()):
            continue
        places = {place: inner for place in (file.parent, root) if (inner := relative_name(name, place)) is not None}
        if not places:
            reading.error("leads-out", file, f"{name!r} leads out of the data set", line=number)
            continue
        path = next((place / inner for place, inner in places.items() if (place / inner).is_file()), None)
        if path is None:
            reading.error("missing-picture", file, f"the picture {name} is missing", line=number)
        else:
            yield path


def _label_file(root: Path, path: Path) -> Path:
    """The label file of a picture: the last folder called images becomes labels, or else the same folder."""
    parts = list(path.relative_to(root).parts)
    for at in reversed(range(len(parts) - 1)):
        if parts[at] == "images":
            parts[at] = "labels"
            break
    return root.joinpath(*parts).with_suffix(".txt")


def _objects(file: Path, reading: Reading) -> Iterable[_Object]:
    try:
        lines = read_text(file, reading).splitlines()
    except AnnotationError as error:
        if reading.on_error == "raise":
            raise
        reading.error("unreadable-annotation", file, str(error))
        return
    for number, line in enumerate(lines, 1):
        if not (fields := line.split()):
            continue
        try:
            values = [float(field) for field in fields]
        except ValueError:
            values = []
        outline = len(values) >= 7 and len(values) % 2 == 1
        usable = len(values) == 5 or outline
        if not usable or not all(abs(value) < 1e6 for value in values) or values[0] < 0 or values[0] % 1:
            hint = "; a sixth number is a score: these are results" if len(fields) == 6 else ""
            text = f"{line.strip()[:80]!r} is not {_FIELDS}{hint}"
            reading.error("unreadable-box", file, text, line=number, image_id=file.stem)
        elif outline:
            xs, ys = values[1::2], values[2::2]
            yield _Object(number, int(values[0]), (min(xs), min(ys), max(xs), max(ys)))
        elif max(values[1:]) > 2:
            # One number may be a little above 1; pixels are far above it.
            text = f"{line.strip()!r} is not in shares of the picture (0 to 1) but, it seems, in pixels"
            reading.error("unreadable-box", file, text, line=number, image_id=file.stem)
        else:
            x, y, width, height = values[1:]
            yield _Object(number, int(values[0]), (x - width / 2, y - height / 2, x + width / 2, y + height / 2))


def _class_list(root: Path) -> tuple[str, ...] | None:
    """Class names from classes.txt, which drawing tools leave beside the labels."""
    file = next((path for path in (root / "classes.txt", root / "labels" / "classes.txt") if path.is_file()), None)
    return None if file is None else read_class_list(file)


def _numbers(objects: Iterable[list[_Object] | None]) -> tuple[str, ...]:
    """Class names where the data have none."""
    most = max((item.label for found in objects for item in found or []), default=-1)
    return tuple(str(number) for number in range(most + 1))


def _sample(
    path: Path,
    file: Path,
    objects: list[_Object],
    name: str,
    size: tuple[int, int],
    names: tuple[str, ...],
    classes: tuple[str, ...],
    reading: Reading,
) -> Sample:
    """``names`` are those of the file's numbers; ``classes`` are numbered in the result."""
    boxes, labels = [], []
    for item in objects:
        if item.label >= len(names):
            text = f"has the class {item.label}; there are {len(names)}, 0 ({names[0] if names else '-'}) "
            text += f"to {len(names) - 1} ({names[-1] if names else '-'})"
            reading.error("unknown-class", file, text, line=item.line, image_id=name)
            continue
        called = names[item.label]
        if called not in classes:
            reading.error("unknown-class", file, unknown_class(called, classes), line=item.line, image_id=name)
            continue
        height, width = size
        corners = tuple(share * side for share, side in zip(item.corners, (width, height) * 2, strict=True))
        box, kind, problem = tidy_box(corners, size)
        if problem:
            shown = ", ".join(f"{value:.1f}" for value in corners)
            text = f"the box ({called}, {shown}) {problem}"
            reading.note(kind, file, text, line=item.line, image_id=name, box=corners)
        if box is not None:
            boxes.append(box)
            labels.append(classes.index(called))
    no = [False] * len(boxes)
    return Sample(name, path, size, boxes, labels, no, no)
