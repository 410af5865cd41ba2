"""What `zoo doctor` prints, as plain lines."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING

from zoo.datasets.findings import KINDS

if TYPE_CHECKING:
    from zoo.datasets.doctor import Examination, Suggestion

_CLASSES_SHOWN = 30


def summary(examination: Examination) -> Iterator[str]:
    """Splits, pictures and boxes."""
    boxes = sum(each.objects for each in examination.classes)
    yield f"{examination.name}: {examination.pictures:,} pictures, {boxes:,} boxes, {len(examination.classes)} classes"
    for part in examination.parts:
        if part.split:
            count = sum(len(part.data.sample(index)) for index in range(len(part.data)))
            yield f"  {part.split}: {len(part.data):,} pictures, {count:,} boxes"


def findings(examination: Examination, shown: int) -> Iterator[str]:
    """Each kind with its title, how many there are, and the first ``shown`` of them."""
    if not examination.findings:
        yield "Nothing found."
    for kind, group in groupby(examination.findings, key=lambda finding: finding.kind):
        found = list(group)
        about = KINDS[kind]
        yield f"{about.severity}: {about.title}: {len(found):,}. {about.advice}".rstrip()
        for finding in found[:shown]:
            yield f"  {finding.text}"
        if len(found) > shown:
            yield f"  and {len(found) - shown:,} more (see --json or --html)"


def class_rows(examination: Examination) -> Iterator[tuple[str, ...]]:
    """Class, objects, share, pictures, difficult, crowds; the largest first."""
    total = sum(each.objects for each in examination.classes) or 1
    order = sorted(examination.classes, key=lambda each: -each.objects)
    for each in order[:_CLASSES_SHOWN]:
        share = f"{each.objects / total:.1%}"
        yield each.name, f"{each.objects:,}", share, f"{each.pictures:,}", f"{each.difficult:,}", f"{each.crowd:,}"
    if len(order) > _CLASSES_SHOWN:
        rest = order[_CLASSES_SHOWN:]
        objects = sum(each.objects for each in rest)
        yield f"({len(rest)} more)", f"{objects:,}", f"{objects / total:.1%}", "", "", ""


def anchor_rows(examination: Examination) -> Iterator[tuple[str, ...]]:
    """What anchors, mean best IoU, recall at .5 and .7, and both again for those inside the picture."""
    yield _anchor_row("chosen", examination.chosen)
    for number, grid in enumerate(examination.grids):
        yield _anchor_row("suggested" if not number else "with more", grid)
    if examination.clusters is not None:
        yield _anchor_row(f"{len(examination.clusters.shapes)} by k-means", examination.clusters)


def options(examination: Examination) -> str:
    """The first suggested grid as options of `zoo train`; "" where there are no boxes."""
    if not examination.grids:
        return ""
    grid = examination.grids[0]
    return f'--option "anchor_sizes={numbers(grid.sizes)}" --option "anchor_ratios={numbers(grid.ratios)}"'


def numbers(values: tuple[float, ...]) -> str:
    """Numbers as a Python tuple.

    >>> numbers((24.0, 0.5))
    '(24, 0.5)'
    """
    return "(" + ", ".join(f"{value:g}" for value in values) + ("," if len(values) == 1 else "") + ")"


def describe(suggestion: Suggestion) -> str:
    """The anchors themselves."""
    if suggestion.sizes:
        return f"sizes {numbers(suggestion.sizes)} x ratios {numbers(suggestion.ratios)}"
    return ", ".join(f"{width:.0f}x{height:.0f}" for width, height in suggestion.shapes)


def _anchor_row(title: str, suggestion: Suggestion) -> tuple[str, ...]:
    both = (suggestion.all, suggestion.inside)
    figures = [f"{value:.3f}" for one in both for value in (one.mean, one.at_50, one.at_70)]
    return title, describe(suggestion), *figures
