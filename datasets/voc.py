"""Reads data sets in the PASCAL VOC devkit's layout (Annotations, JPEGImages, ImageSets/Main)."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

from zoo.datasets.checks import checked_classes, four_numbers, name_key, relative_name, tidy_box, unknown_class
from zoo.datasets.images import IMAGE_SUFFIXES, ImageError, image_size
from zoo.datasets.notes import AnnotationError, OnError, Reading
from zoo.datasets.records import DetectionDataset, Sample
from zoo.datasets.voc_layout import image_ids, is_unlabelled, parts_of, voc_splits

__all__ = ["AnnotationError", "load_voc", "voc_splits"]

_SIDES = ("xmin", "ymin", "xmax", "ymax")


def load_voc(
    root: str | Path,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    on_error: OnError = "raise",
) -> DetectionDataset:
    """Read a VOC folder.

    The devkit counts pixels from 1 and includes the last one, so a file's (xmin, ymin, xmax, ymax) becomes
    (xmin - 1, ymin - 1, xmax, ymax) in continuous pixels (Everingham 2010). A box without area is dropped,
    one partly outside its picture is clipped, one wholly outside is dropped; the data set's ``notes`` name
    each. ``<crowd>1</crowd>`` in an object, which the devkit does not have, marks a box around many. A split
    called ``test`` of which most pictures have no annotation file, as that of VOC2012, is taken as without objects.

    Args:
        root: the folder with ``Annotations`` and ``JPEGImages``, or a devkit with one or several of them, as
            ``VOCdevkit/VOC2007`` and ``VOCdevkit/VOC2012``.
        split: a file of ``ImageSets/Main`` without ".txt"; None takes every annotation file. "train+val" is
            the union of two; in a devkit "2007/trainval" says whose; "07+12" is the trainval of 2007 and 2012,
            "07++12" the test pictures of 2007 as well.
        classes: the class names in the order to number them. None takes those of all annotation files of the
            folder, sorted, so that the splits of one folder agree.
        on_error: "note" leaves out what cannot be used and goes on.

    Example: ``load_voc("VOCdevkit", "2007/trainval").classes`` is ``("aeroplane", ...)``.
    """
    root, reading = Path(root), Reading(on_error)
    parts = parts_of(root, split)
    trees: dict[tuple[Path, str], ElementTree.Element] = {}
    for folder, name in parts:
        file = folder / "ImageSets" / "Main" / f"{name}.txt"
        unlabelled = is_unlabelled(folder, name)
        if unlabelled:
            reading.note("no-annotation", file, "most pictures have no annotations; all are taken as without objects")
        for image_id in image_ids(folder, name, reading, not unlabelled):
            if (folder, image_id) in trees:
                reading.note("listed-twice", file, f"{image_id} is in another part too; taken once", image_id=image_id)
            elif unlabelled:
                trees[folder, image_id] = ElementTree.Element("annotation")
            elif (tree := _parse(folder / "Annotations" / f"{image_id}.xml", reading, image_id)) is not None:
                trees[folder, image_id] = tree
    names = _class_names(trees) if classes is None else checked_classes(classes)
    shared = len({image_id for _, image_id in trees}) < len(trees)
    images = {folder: _Images(folder) for folder in {folder for folder, _ in parts}}
    samples = []
    for (folder, image_id), tree in trees.items():
        file = folder / "Annotations" / f"{image_id}.xml"
        name = f"{folder.name}/{image_id}" if shared else image_id
        if (found := _picture(tree, file, name, images[folder], reading)) is not None:
            samples.append(_sample(file, name, tree, names, found, reading))
    shown = parts[0][0].name if len(images) == 1 else root.name
    return DetectionDataset(f"{shown} {split or 'all'}", names, samples, reading.notes)


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuses DOCTYPE: entities declared in one can expand without end or read other files."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise AnnotationError("has a DOCTYPE, which is not read")


def _parse(file: Path, reading: Reading, image_id: str) -> ElementTree.Element | None:
    """The file's XML; None if it cannot be used and the reading goes on."""
    try:
        data = file.read_bytes()
        if not _is_utf8(data) and not re.match(rb"\s*<\?xml[^>]*encoding|\xff\xfe|\xfe\xff", data):
            reading.note("encoding", file, "is not UTF-8 and names no encoding; read as Latin-1", image_id=image_id)
            data = data.decode("latin-1").encode()
        return ElementTree.fromstring(data, ElementTree.XMLParser(target=_NoDoctype()))
    except AnnotationError as error:
        reading.error("unreadable-annotation", file, f"{error}; remove it", image_id=image_id)
    except (ElementTree.ParseError, ValueError, LookupError, OSError) as error:
        reading.error("unreadable-annotation", file, f"not well-formed XML ({error})", image_id=image_id)
    return None


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _text(element: ElementTree.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _class_names(trees: dict[tuple[Path, str], ElementTree.Element]) -> tuple[str, ...]:
    """Class names over the whole folders; a broken file outside the split is no reason to stop."""
    names = {_text(item, "name") for tree in trees.values() for item in tree.iterfind("object")}
    quiet = Reading("note")
    for folder in {folder for folder, _ in trees}:
        for file in (folder / "Annotations").glob("*.xml"):
            if (folder, file.stem) not in trees and (tree := _parse(file, quiet, file.stem)) is not None:
                names |= {_text(item, "name") for item in tree.iterfind("object")}
    return tuple(sorted(names - {""}))


class _Images:
    """Finds pictures by name; the folder is listed once, as a look per suffix is slow on network disks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "JPEGImages"
        self.by_stem: dict[str, Path] = {}
        for path in sorted(self.folder.iterdir()) if self.folder.is_dir() else []:
            if path.suffix.lower() in IMAGE_SUFFIXES:
                self.by_stem.setdefault(name_key(path.stem), path)

    def find(self, filename: str, image_id: str) -> Path:
        """The picture that <filename> names, else the one called as the annotation file.

        Raises:
            AnnotationError: <filename> leads out of the folder.
            FileNotFoundError: there is no such picture.
        """
        name = relative_name(filename, self.folder)
        if name is None:
            raise AnnotationError(f"<filename> {filename!r} leads out of JPEGImages; write the picture's name alone")
        if filename and (self.folder / name).is_file() and name.suffix.lower() in IMAGE_SUFFIXES:
            return self.folder / name
        for stem in (str(name), name.stem, image_id):
            if name_key(stem) in self.by_stem:
                return self.by_stem[name_key(stem)]
        wanted = f"{self.folder / name} and " if filename else ""
        raise FileNotFoundError(f"its picture is missing; looked for {wanted}{self.folder}/{image_id}.*")


def _picture(
    tree: ElementTree.Element, file: Path, name: str, images: _Images, reading: Reading
) -> tuple[Path, tuple[int, int]] | None:
    """The picture's path and its size as annotated; from its header where the file says nothing or 0."""
    try:
        path = images.find(_text(tree, "filename"), file.stem)
    except (AnnotationError, FileNotFoundError) as error:
        kind = "missing-picture" if isinstance(error, FileNotFoundError) else "leads-out"
        reading.error(kind, file, str(error), image_id=name)
        return None
    try:
        height, width = (int(float(_text(tree, f"size/{side}"))) for side in ("height", "width"))
    except (ValueError, OverflowError):
        height = width = 0
    if height > 0 and width > 0:
        return path, (height, width)
    try:
        return path, image_size(path)
    except ImageError as error:
        if reading.on_error == "raise":
            raise
        reading.error("unreadable-picture", path, error.problem, image_id=name)
        return None


def _sample(
    file: Path,
    name: str,
    tree: ElementTree.Element,
    classes: tuple[str, ...],
    picture: tuple[Path, tuple[int, int]],
    reading: Reading,
) -> Sample:
    """One annotation file as a sample; what was dropped or clipped is noted."""
    path, size = picture
    boxes, labels, difficult, crowd = [], [], [], []
    for number, item in enumerate(tree.iterfind("object"), 1):
        label = _text(item, "name")
        if label not in classes:
            text = f"object {number} {unknown_class(label, classes)}"
            reading.error("unknown-class", file, text, image_id=name)
            continue
        corners = four_numbers([_text(item, f"bndbox/{side}") for side in _SIDES])
        if corners is None:
            text = f"object {number} has no bndbox with four numbers ({', '.join(_SIDES)})"
            reading.error("unreadable-box", file, text, image_id=name)
            continue
        as_given = (corners[0] - 1, corners[1] - 1, *corners[2:])
        # A pixel is 1 wide, so xmin = xmax could be a box of one pixel; in practice it is a slip of the mouse.
        box, kind, problem = tidy_box(as_given, size, least=1.0)
        if problem:
            shown = ", ".join(f"{value:g}" for value in corners)
            reading.note(kind, file, f"object {number} ({label}, {shown}) {problem}", image_id=name, box=as_given)
        if box is not None:
            boxes.append(box)
            labels.append(classes.index(label))
            difficult.append(_text(item, "difficult") == "1")
            crowd.append(_text(item, "crowd") == "1")
    return Sample(name, path, size, boxes, labels, difficult, crowd)
