"""What is odd about the boxes and classes that were read: doubles, pictures without any, names that mean the same."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from zoo.datasets.doctor_parts import Part
from zoo.datasets.findings import Finding
from zoo.datasets.notes import Note
from zoo.datasets.records import Sample

SAME = 0.95  # IoU from which on two boxes are taken for one
TINY = 4.0  # pixels of a side
_RARE = 10  # objects


def box_findings(parts: Sequence[Part]) -> list[Finding]:
    """Duplicate boxes, two classes on one box, tiny boxes, pictures without objects: all pictures of all parts."""
    findings = []
    for part in parts:
        noted = {note.image_id for note in part.data.notes if isinstance(note, Note)}
        for index in range(len(part.data)):
            sample = part.data.sample(index)
            findings += _doubles(sample, part)
            findings += _tiny(sample, part)
            if not len(sample):
                why = "; what it had was left out" if sample.image_id in noted else ""
                findings.append(_finding("no-boxes", f"has no objects{why}", sample, part.split))
    return findings


def class_findings(parts: Sequence[Part]) -> list[Finding]:
    """Names that seem to mean the same class, and classes with few or no objects."""
    names = parts[0].data.classes
    found: Counter[str] = Counter()
    first: dict[str, tuple[Part, Sample]] = {}
    for part in parts:
        for index in range(len(part.data)):
            sample = part.data.sample(index)
            for label in sample.classes:
                found[names[label]] += 1
                first.setdefault(names[label], (part, sample))
    alike = defaultdict(list)
    for name in names:
        alike[re.sub(r"[\W_]+", "", name).casefold().removesuffix("s")].append(name)
    findings = [
        _similar(sorted(group, key=lambda name: found[name]), found, first)
        for group in alike.values()
        if len(group) > 1
    ]
    rare = {name: found[name] for name in names if found[name] < _RARE}
    if len(rare) < len(names):
        findings += [
            Finding("rare-class", f"{name!r}: {count or 'no'} object{'s' * (count != 1)}")
            for name, count in rare.items()
        ]
    return findings


def _similar(group: list[str], found: Counter[str], first: dict[str, tuple[Part, Sample]]) -> Finding:
    """The names, the rarest first, and a picture with that one."""
    text = ", ".join(f"{name!r} ({found[name]:,} object{'s' * (found[name] != 1)})" for name in group)
    at = next((first[name] for name in group if name in first), None)
    if at is None:
        return Finding("similar-classes", text)
    part, sample = at
    finding = _finding("similar-classes", "", sample, part.split)
    return replace(finding, text=f"{text}; {group[0]!r} for one in {finding.text.rstrip(': ')}")


def overlaps(boxes: np.ndarray) -> np.ndarray:
    """(G, G) float64: the IoU of every two of G boxes."""
    boxes = boxes.astype(np.float64)
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    both = np.clip(high - low, 0, None).prod(axis=2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return both / (area[:, None] + area[None, :] - both)


def _doubles(sample: Sample, part: Part) -> list[Finding]:
    if len(sample) < 2:
        return []
    found = []
    for a, b in np.argwhere(np.triu(overlaps(sample.boxes) >= SAME, 1)):
        if sample.crowd[a] or sample.crowd[b]:
            continue
        one, other = (part.data.classes[sample.classes[at]] for at in (a, b))
        kind = "duplicate-box" if one == other else "two-classes"
        corners = [", ".join(f"{value:g}" for value in np.round(sample.boxes[at].astype(float), 1)) for at in (a, b)]
        text = f"has {one} ({corners[0]}) and {other} ({corners[1]})"
        found.append(_finding(kind, text, sample, part.split, (a, b)))
    return found


def _tiny(sample: Sample, part: Part) -> list[Finding]:
    small = np.flatnonzero((sample.boxes[:, 2:] - sample.boxes[:, :2]).min(axis=1, initial=np.inf) < TINY)
    if not len(small):
        return []
    names = Counter(part.data.classes[sample.classes[at]] for at in small)
    text = f"has {len(small)} with a side under {TINY:g} pixels ({', '.join(names)})"
    return [_finding("tiny-box", text, sample, part.split, small)]


def _finding(kind: str, text: str, sample: Sample, split: str, boxes: Sequence[int] = ()) -> Finding:
    name = str(sample.path) if sample.path is not None else sample.image_id
    corners = tuple(tuple(float(value) for value in sample.boxes[at]) for at in boxes)
    return Finding(kind, f"{name}: {text}", sample.path, split, sample.image_id, corners)
