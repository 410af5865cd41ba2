"""Opens all parts of a data set for a check: nothing stops the reading, and no picture is in two parts unseen."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.datasets.findings import Finding, from_note
from zoo.datasets.loading import find_source, load, splits
from zoo.datasets.notes import AnnotationError, Reading
from zoo.datasets.records import DetectionDataset
from zoo.datasets.splits import base_splits
from zoo.datasets.voc import load_voc
from zoo.datasets.voc_layout import find_folders, image_ids, voc_splits

REST = "in no split"


@dataclass(frozen=True)
class Part:
    """A split that is no union of others: its name ("" where there are none) and its pictures."""

    split: str
    data: DetectionDataset


def open_parts(
    spec: str | Path,
    only: Sequence[str] = (),
    classes: Sequence[str] | str | Path | None = None,
    images: str | Path | None = None,
) -> tuple[list[Part], list[Finding]]:
    """The parts of a data set, and what reading their annotations found.

    Args:
        spec: as for `zoo.datasets.load`.
        only: these splits; none for all that are not unions of others, and what is in no split.
        classes: the class names; None takes the data's own, and then no class is unknown.
        images: as for `zoo.datasets.load`.

    Raises:
        ValueError: no part can be opened.
    """
    source = find_source(spec)
    if source.layout == "voc" and not only:
        return _voc_parts(Path(source.place), classes)
    names = tuple(only) or base_splits(splits(spec)) or (None,)
    if source.layout == "digits" and not only:
        names = ("train",) if ":" not in str(spec) else names
    found: list[Part] = []
    findings: list[Finding] = []
    errors: list[Exception] = []
    for name in names:
        try:
            data = load(spec, name, classes, images=images, on_error="note")
        except AnnotationError as error:
            errors.append(error)
            findings.append(Finding("unreadable-annotation", str(error), split=name or ""))
            continue
        found.append(Part(name or "", data))
        findings += [from_note(note, name or "") for note in data.notes]
    if not found:
        raise errors[0]
    return _with_one_list(found, spec, classes, images), findings


def _with_one_list(
    parts: list[Part], spec: str | Path, classes: Sequence[str] | str | Path | None, images: str | Path | None
) -> list[Part]:
    """The parts with the same class list: where each only names its own classes, all of them."""
    union = tuple(dict.fromkeys(name for part in parts for name in part.data.classes))
    return [
        part
        if part.data.classes == union
        else Part(part.split, load(spec, part.split or None, union, images=images, on_error="note"))
        for part in parts
    ]


def _voc_parts(root: Path, classes: Sequence[str] | str | Path | None) -> tuple[list[Part], list[Finding]]:
    """Every annotation file is read once, whatever splits it is in."""
    folders = find_folders(root)
    parts: list[Part] = []
    findings: list[Finding] = []
    if classes is None and len(folders) > 1:
        classes = sorted({name for folder in folders for name in load_voc(folder, None, None, "note").classes})
    for folder in folders:
        data = load(f"voc:{folder}", None, classes, on_error="note")
        places = {data.sample(index).image_id: index for index in range(len(data))}
        prefix = f"{folder.name}/" if len(folders) > 1 else ""
        homes: dict[str, str] = {}
        for split in base_splits(voc_splits(folder)):
            reading = Reading("note")
            try:
                ids = image_ids(folder, split, reading)
            except AnnotationError as error:
                findings.append(Finding("unreadable-annotation", str(error), split=prefix + split))
                continue
            findings += [from_note(note, prefix + split) for note in reading.notes]
            homes = dict.fromkeys(ids, prefix + split) | homes
            parts.append(Part(prefix + split, data.subset(places[image_id] for image_id in ids if image_id in places)))
        listed = set(homes)
        rest = {image_id: index for image_id, index in places.items() if image_id not in listed}
        if rest:
            name = f"{prefix}{REST}" if listed else prefix.rstrip("/")
            parts.append(Part(name, data.subset(rest.values())))
            homes |= dict.fromkeys(rest, name)
        findings += [from_note(note, homes.get(getattr(note, "image_id", None) or "", "")) for note in data.notes]
    if not parts:
        raise AnnotationError(f"{root}: no annotation file in it can be used: {findings[0].text if findings else ''}")
    return parts, findings
