"""Reads data sets in the PASCAL VOC devkit's layout (Annotations, JPEGImages, ImageSets/Main)."""

import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from zoo.datasets.images import IMAGE_SUFFIXES, image_size, natural_key
from zoo.datasets.records import DetectionDataset, Sample

_LAYOUT = "Annotations/NAME.xml, JPEGImages/NAME.jpg and, for splits, ImageSets/Main/SPLIT.txt"


class AnnotationError(ValueError):
    """An annotation or split file that cannot be used; the message names the file."""


def load_voc(root: str | Path, split: str | None = None, classes: Sequence[str] | None = None) -> DetectionDataset:
    """Read a VOC folder.

    The devkit counts pixels from 1 and includes the last one, so a file's (xmin, ymin, xmax, ymax) becomes
    (xmin - 1, ymin - 1, xmax, ymax) in continuous pixels (Everingham 2010). A box without area is dropped,
    one partly outside its picture is clipped, one wholly outside is dropped; the data set's ``notes`` name
    each.

    Args:
        root: the folder with ``Annotations`` and ``JPEGImages``, or one that holds it as
            ``VOCdevkit/VOC2007``.
        split: a file of ``ImageSets/Main`` without ".txt"; None takes every annotation file.
        classes: the class names in the order to number them. None takes those of all annotation files of the
            folder, sorted, so that the splits of one folder agree.

    Example: ``load_voc("VOCdevkit/VOC2007", "trainval").classes`` is ``("aeroplane", ...)``.
    """
    folder = _find_folder(Path(root))
    ids, notes = _image_ids(folder, split)
    trees = {name: _parse(folder / "Annotations" / f"{name}.xml") for name in ids}
    names = _class_names(folder, trees) if classes is None else _checked_classes(classes)
    images = _Images(folder)
    samples = [_sample(folder, name, trees[name], names, images, notes) for name in ids]
    return DetectionDataset(f"{folder.name} {split or 'all'}", names, samples, notes)


def voc_splits(root: str | Path) -> tuple[str, ...]:
    """The splits a VOC folder has: the names in ``ImageSets/Main``, the devkit's per-class lists left out."""
    folder = _find_folder(Path(root))
    names = {path.stem for path in (folder / "ImageSets" / "Main").glob("*.txt")}
    return tuple(sorted(name for name in names if name.rpartition("_")[2] not in names - {name}))


def _find_folder(root: Path) -> Path:
    if not root.is_dir():
        raise AnnotationError(f"{root}: no such folder; give a VOC folder with {_LAYOUT}")
    candidates = [
        root,
        root / "VOCdevkit",
        *sorted(root.glob("VOC[0-9]*")),
        *sorted(root.glob("VOCdevkit/VOC[0-9]*")),
    ]
    found = [path for path in candidates if (path / "Annotations").is_dir()]
    if root in found:
        return root
    if len(found) > 1:
        raise AnnotationError(f"{root}: holds several VOC folders, choose one: {', '.join(map(str, found))}")
    if not found:
        raise AnnotationError(f"{root}: not a VOC folder (no Annotations in it); expected {_LAYOUT}")
    return found[0]


def _image_ids(folder: Path, split: str | None) -> tuple[list[str], list[str]]:
    """The ids of a split in its file's order, and notes on lines left out."""
    if split is None:
        ids = sorted((path.stem for path in (folder / "Annotations").glob("*.xml")), key=natural_key)
        if not ids:
            raise AnnotationError(f"{folder / 'Annotations'}: no .xml files in it")
        return ids, []
    file = folder / "ImageSets" / "Main" / f"{split}.txt"
    if not file.is_file() or not re.fullmatch(r"[\w.-]+", split):
        known = ", ".join(voc_splits(folder)) or "none; without a split every annotated picture is taken"
        raise AnnotationError(f"{file}: there is no split {split!r}; splits of this folder: {known}")
    ids, notes = {}, []
    for number, line in enumerate(file.read_text("utf-8-sig").splitlines(), 1):
        name = line.strip()
        if not name:
            continue
        if not (folder / "Annotations" / f"{name}.xml").is_file():
            # The devkit's per-class lists have a flag (-1, 0 or 1) behind the id.
            name = re.sub(r"\s+-?[01]$", "", name)
        if ".." in name or name.startswith("/") or not (folder / "Annotations" / f"{name}.xml").is_file():
            raise AnnotationError(f"{file}, line {number}: {name!r} has no file {folder / 'Annotations'}/{name}.xml")
        if name in ids:
            notes.append(f"{file.name}, line {number}: {name} is listed twice; taken once")
        ids[name] = None
    if not ids:
        raise AnnotationError(f"{file}: the split is empty")
    return list(ids), notes


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuses DOCTYPE: entities declared in one can expand without end or read other files."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise AnnotationError("has a DOCTYPE, which is not read")


def _parse(file: Path) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(file.read_bytes(), ElementTree.XMLParser(target=_NoDoctype()))
    except AnnotationError as error:
        raise AnnotationError(f"{file}: {error}; remove it") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise AnnotationError(f"{file}: not well-formed XML ({error})") from error


def _text(element: ElementTree.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _class_names(folder: Path, trees: dict[str, ElementTree.Element]) -> tuple[str, ...]:
    """Class names over the whole folder; a broken file outside the split is no reason to stop."""
    names = {_text(item, "name") for tree in trees.values() for item in tree.iterfind("object")}
    for file in (folder / "Annotations").glob("*.xml"):
        if file.stem not in trees:
            try:
                names |= {_text(item, "name") for item in _parse(file).iterfind("object")}
            except AnnotationError:
                continue
    return tuple(sorted(names - {""}))


def _checked_classes(classes: Sequence[str]) -> tuple[str, ...]:
    names = (classes,) if isinstance(classes, str) else tuple(classes)
    if len(set(names)) != len(names):
        raise ValueError(f"classes holds a name twice: {', '.join(names)}")
    if "__background__" in names:
        raise ValueError("classes holds '__background__'; leave it out, background is added where it is needed")
    return names


class _Images:
    """Finds pictures by name; the folder is listed once, as a look per suffix is slow on network disks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "JPEGImages"
        self.by_stem: dict[str, Path] = {}
        for path in sorted(self.folder.iterdir()) if self.folder.is_dir() else []:
            if path.suffix.lower() in IMAGE_SUFFIXES:
                self.by_stem.setdefault(path.stem, path)

    def find(self, filename: str, name: str, file: Path) -> Path:
        """The picture that <filename> names, else the one called as the annotation file."""
        parts = PurePosixPath(filename.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or re.match(r"[A-Za-z]:", filename):
            raise AnnotationError(
                f"{file}: <filename> {filename!r} leads out of JPEGImages; write the picture's name alone"
            )
        if filename and (self.folder / parts).is_file() and parts.suffix.lower() in IMAGE_SUFFIXES:
            return self.folder / parts
        for stem in (str(parts), parts.stem, name):
            if stem in self.by_stem:
                return self.by_stem[stem]
        tried = " and ".join(
            dict.fromkeys([*([f"{self.folder}/{filename}"] if filename else []), f"{self.folder}/{name}.*"])
        )
        raise AnnotationError(f"{file}: its picture is missing; looked for {tried}")


def _sample(
    folder: Path,
    name: str,
    tree: ElementTree.Element,
    classes: tuple[str, ...],
    images: _Images,
    notes: list[str],
) -> Sample:
    """One annotation file as a sample; what was dropped or clipped is added to ``notes``."""
    file = folder / "Annotations" / f"{name}.xml"
    path = images.find(_text(tree, "filename"), name, file)
    size = _size(tree, path)
    boxes, labels, difficult = [], [], []
    for number, item in enumerate(tree.iterfind("object"), 1):
        label = _text(item, "name")
        if label not in classes:
            raise AnnotationError(
                f"{file}: object {number} has the unknown class {label!r}; known: {', '.join(classes)}"
            )
        corners = _corners(item, file, number)
        box, problem = _to_continuous(corners, size)
        if problem:
            shown = ", ".join(f"{value:g}" for value in corners)
            notes.append(f"{file.name}: object {number} ({label}, {shown}) {problem}")
        if box is not None:
            boxes.append(box)
            labels.append(classes.index(label))
            difficult.append(_text(item, "difficult") == "1")
    return Sample(name, path, size, boxes, labels, difficult, [False] * len(boxes))


def _size(tree: ElementTree.Element, path: Path) -> tuple[int, int]:
    """(height, width) as annotated; from the picture's header where the file says nothing or 0."""
    try:
        height, width = (int(float(_text(tree, f"size/{side}"))) for side in ("height", "width"))
    except ValueError:
        return image_size(path)
    return (height, width) if height > 0 and width > 0 else image_size(path)


def _corners(item: ElementTree.Element, file: Path, number: int) -> tuple[float, ...]:
    try:
        corners = tuple(float(_text(item, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax"))
    except ValueError:
        corners = (math.nan,)
    if not all(map(math.isfinite, corners)):
        raise AnnotationError(f"{file}: object {number} has no bndbox with four numbers (xmin, ymin, xmax, ymax)")
    return corners


def _to_continuous(corners: tuple[float, ...], size: tuple[int, int]) -> tuple[tuple[float, ...] | None, str | None]:
    """A file's corners as a box inside the picture, or None; and what was wrong with it, or None."""
    xmin, ymin, xmax, ymax = corners
    if xmax <= xmin or ymax <= ymin:
        return None, "has no area; dropped"
    x1, y1 = xmin - 1, ymin - 1
    height, width = size
    if x1 >= width or y1 >= height or xmax <= 0 or ymax <= 0:
        return None, f"lies outside its {width}x{height} picture; dropped"
    inside = (max(x1, 0.0), max(y1, 0.0), min(xmax, width), min(ymax, height))
    clipped = inside != (x1, y1, xmax, ymax)
    return inside, f"reaches beyond its {width}x{height} picture; clipped" if clipped else None
