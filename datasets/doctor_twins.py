"""Finds pictures that are there twice: the same file, or nearly the same picture; worst across splits."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import product

import numpy as np

from zoo.datasets.doctor_parts import REST
from zoo.datasets.doctor_pictures import THUMB, Picture
from zoo.datasets.findings import Finding

# Correlation of two 32x32 gray pictures from which on they are taken for one. Saved again, scaled or brightened, a
# photo keeps .995 and more; the same cells in another focus have .976; different photos of COCO at most .87.
ALIKE = 0.95
_COARSE = 0.93  # the same at 16x16, by which pairs are chosen that are worth comparing
_FLAT = 3.0  # gray levels of standard deviation under which a picture shows too little to be compared
_SHAPE = 0.03  # relative difference of width / height up to which pictures may be one
_BLOCK = 1024


def find_twins(pictures: Sequence[Picture]) -> list[Finding]:
    """Pairs of pictures with the same content, and of nearly the same; a mirrored copy counts too.

    Each copy is named once, beside an earlier one. One of nearly the same is named beside the first such before it
    and, if that is in the same split, beside the first in another split.
    """
    groups: dict[bytes, list[Picture]] = defaultdict(list)
    for picture in pictures:
        groups[picture.digest].append(picture)
    findings = []
    firsts: dict[bytes, dict[str, Picture]] = {}  # of each group, by split
    for digest, group in groups.items():
        seen = firsts[digest] = {group[0].split: group[0]}
        for other in group[1:]:
            findings.append(_same(seen.get(other.split, group[0]), other))
            seen.setdefault(other.split, other)
    ones = [group[0] for group in groups.values()]
    for one, other, alike, mirrored in near_pairs(ones, [tuple(firsts[picture.digest]) for picture in ones]):
        # It is a leak if any copies of the two are in different splits.
        pairs = product(firsts[one.digest].values(), firsts[other.digest].values())
        a, b = next((pair for pair in pairs if _leak(pair[0].split, pair[1].split)), (one, other))
        findings.append(_near(a, b, alike, mirrored))
    return findings


def near_pairs(
    pictures: Sequence[Picture], splits: Sequence[Sequence[str]]
) -> Iterator[tuple[Picture, Picture, float, bool]]:
    """Pairs that look alike: the two, their correlation, and whether one is the other's mirror image.

    Of many that are all alike there would be too many pairs: each picture comes with the first before it and, if that
    is no leak, with the first before it that is.

    Args:
        pictures: no two the same.
        splits: those that each picture is in.
    """
    kept = [at for at, picture in enumerate(pictures) if picture.thumb.std() > _FLAT]
    if len(kept) < 2:
        return
    shown = [pictures[at] for at in kept]
    thumbs = np.stack([picture.thumb for picture in shown]).astype(np.float32)
    shapes = np.array([picture.size[1] / picture.size[0] for picture in shown])
    fine, coarse = _unit(thumbs), _unit(_halved(thumbs))
    leaks = _leak_table([splits[at] for at in kept])
    alone, safe = np.ones(len(shown), bool), np.ones(len(shown), bool)  # no earlier one yet, no leak yet
    for i, near in _near_rows(coarse):
        leaking = leaks(i, near)
        wanted = alone[near] | (safe[near] & leaking)
        near, leaking = near[wanted], leaking[wanted]
        straight, mirrored = (fine[near] @ np.stack([fine[i], _mirrored(fine[i])], axis=1)).T
        alike = np.maximum(straight, mirrored)
        for at in np.flatnonzero((alike >= ALIKE) & (np.abs(np.log(shapes[i] / shapes[near])) <= _SHAPE)):
            j = near[at]
            alone[j], safe[j] = False, safe[j] and not leaking[at]
            # A picture is often its own mirror image.
            yield shown[i], shown[j], float(alike[at]), bool(mirrored[at] > straight[at])


def _near_rows(coarse: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """For each picture the later ones that are worth comparing with it, as they stand or mirrored."""
    for start in range(0, len(coarse), _BLOCK):
        rows, others = coarse[start : start + _BLOCK], coarse[start:].T
        near = rows @ others > _COARSE
        near |= _mirrored(rows) @ others > _COARSE
        near = np.triu(near, 1)  # all to the right of the diagonal
        for row in np.flatnonzero(near.any(axis=1)):
            yield start + row, start + np.flatnonzero(near[row])


def _leak_table(splits: Sequence[Sequence[str]]) -> Callable[[int, np.ndarray], np.ndarray]:
    """A function that says which of some pictures are a leak beside one: in different splits, copies and all."""
    counted = [[name for name in each if REST not in name] for each in splits]
    names = sorted({name for each in counted for name in each})
    within = np.array([[name in each for name in names] for each in counted], bool).reshape(len(splits), len(names))
    any_split = within.any(axis=1)

    def leaks(one: int, others: np.ndarray) -> np.ndarray:
        together = (within[one] | within[others]).sum(axis=1)
        return any_split[one] & any_split[others] & (together > 1)

    return leaks


def _mirrored(rows: np.ndarray) -> np.ndarray:
    """Square pictures in rows, left and right exchanged: products with these are those with others' mirror images."""
    side = round(rows.shape[-1] ** 0.5)
    return rows.reshape(-1, side, side)[:, :, ::-1].reshape(rows.shape)


def _halved(thumbs: np.ndarray) -> np.ndarray:
    half = THUMB // 2
    return thumbs.reshape(-1, half, 2, half, 2).mean(axis=(2, 4))


def _unit(thumbs: np.ndarray) -> np.ndarray:
    """Rows of zero mean and unit length: their products are correlations."""
    flat = thumbs.reshape(len(thumbs), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def _leak(a: str, b: str) -> bool:
    """Whether the same picture must not be in both of these splits."""
    return a != b and REST not in a and REST not in b


def _called(picture: Picture) -> str:
    name = str(picture.path) if picture.path is not None else picture.image_id
    return f"{name} ({picture.split})" if picture.split else name


def _same(a: Picture, b: Picture) -> Finding:
    if a.path is not None and a.path == b.path:
        how = "is in both splits" if _leak(a.split, b.split) else f"has two annotations, {a.image_id} and {b.image_id}"
        text = f"{b.path}: {how}" + (f", {a.split} and {b.split}" if _leak(a.split, b.split) else "")
    else:
        text = f"{_called(b)}: is the same file as {_called(a)}"
    return _finding("leak" if _leak(a.split, b.split) else "twin", text, a, b)


def _near(a: Picture, b: Picture, alike: float, mirrored: bool) -> Finding:
    how = "mirrored, it is" if mirrored else "is"
    text = f"{_called(b)}: {how} nearly the same picture as {_called(a)} (correlation {alike:.3f})"
    return _finding("near-leak" if _leak(a.split, b.split) else "twin", text, a, b)


def _finding(kind: str, text: str, a: Picture, b: Picture) -> Finding:
    return Finding(kind, text, b.path, b.split, b.image_id, other=(a.split, a.image_id))
