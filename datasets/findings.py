"""What a check of a data set may find: the kinds, how bad each is, and what to do about it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from zoo.datasets.notes import Note, printable

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class Kind:
    """A kind of finding: a title for people, and what to do.

    Severity "error": training stops there, or measures something else than it says; "warning": it learns
    something wrong; "info": worth knowing.
    """

    severity: Severity
    title: str
    advice: str


KINDS = {
    "unreadable-annotation": Kind("error", "Annotation files that cannot be read", "Correct or remove them."),
    "missing-annotation": Kind("error", "Listed pictures without annotations", "Correct the list of the split."),
    "missing-picture": Kind(
        "error", "Annotated pictures that are not there", "Add the pictures, or remove the entries."
    ),
    "unreadable-picture": Kind("error", "Pictures that cannot be read", "Replace or remove them."),
    "wrong-size": Kind("error", "Pictures of another size than annotated", "Scale the picture or its boxes."),
    "leads-out": Kind("error", "File names that lead out of the data set", "Write them relative to its folder."),
    "unknown-class": Kind("error", "Objects of unknown classes", "Correct the class, or add it to the list."),
    "unreadable-box": Kind("error", "Objects whose box cannot be read", "Correct or remove them."),
    "leak": Kind("error", "The same picture in two splits", "Keep it in one: scores on the other mean nothing."),
    "near-leak": Kind("warning", "Nearly the same picture in two splits", "Keep such pictures in one split."),
    "mislabelled": Kind("warning", "Pictures whose suffix says another format", "Rename them."),
    "zero-area": Kind("warning", "Boxes without area", "Draw them anew; they are left out."),
    "swapped": Kind("warning", "Boxes with swapped corners", "Swap the corners back; they are left out."),
    "outside": Kind("warning", "Boxes outside their picture", "Correct them; they are left out."),
    "clipped": Kind("warning", "Boxes that reach beyond their picture", "They are clipped; a shift is worth a look."),
    "duplicate-box": Kind("warning", "The same box twice", "Remove one: it is counted as a second object."),
    "two-classes": Kind("warning", "Two classes on one box", "Decide for one."),
    "similar-classes": Kind("warning", "Class names that seem to mean the same", "Unite them."),
    "twin": Kind("warning", "The same picture twice in a split", "Keep one; see that its boxes are complete."),
    "listed-twice": Kind("warning", "Pictures listed twice", "Remove the second line."),
    "no-annotation": Kind("warning", "Pictures without annotations", "Annotate them, or take them away."),
    "turned": Kind("warning", "Pictures that a camera marked as turned", "Save them upright, and check their boxes."),
    "encoding": Kind("warning", "Text files that are not UTF-8", "Save them as UTF-8."),
    "no-boxes": Kind("info", "Pictures without objects", "Fine if they are meant as background."),
    "rare-class": Kind("info", "Classes with few objects", "Scores on them say little."),
    "tiny-box": Kind("info", "Boxes smaller than the detector can see", "Enlarge the pictures, or leave them out."),
    "odd": Kind("info", "Other remarks of the reader", ""),
}
_ORDER = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Attributes:
        kind: a key of ``KINDS``.
        text: a sentence that names the file.
        file: the file at fault, or None.
        split: the split it is in, "" where there are none.
        image_id: the picture it concerns, or None.
        boxes: boxes to look at, (x1, y1, x2, y2) in pixels of the picture.
        other: (split, image_id) of a second picture, for pairs.
    """

    kind: str
    text: str
    file: Path | None = None
    split: str = ""
    image_id: str | None = None
    boxes: tuple[tuple[float, ...], ...] = ()
    other: tuple[str, str] | None = None

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return KINDS[self.kind].severity

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        record: dict[str, object] = {"kind": self.kind, "severity": self.severity, "text": printable(self.text)}
        if self.file is not None:
            record["file"] = printable(str(self.file))
        for name in ("split", "image_id", "boxes", "other"):
            if getattr(self, name):
                record[name] = getattr(self, name)
        return record


def from_note(note: str, split: str) -> Finding:
    """A reader's note as a finding."""
    if not isinstance(note, Note) or note.kind not in KINDS:
        return Finding("odd", str(note), split=split)
    boxes = () if note.box is None else (note.box,)
    return Finding(note.kind, str(note), note.file, split, note.image_id, boxes)


def counts(findings: Iterable[Finding]) -> dict[str, int]:
    """How many there are of each kind that occurs, the worst kinds first."""
    found = Counter(finding.kind for finding in findings)
    return {kind: found[kind] for kind in sorted(found, key=rank)}


def rank(kind: str) -> tuple[int, int]:
    """Sort key of a kind: the worst first, then in the order of ``KINDS``."""
    return _ORDER[KINDS[kind].severity], list(KINDS).index(kind)
