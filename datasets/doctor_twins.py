"""Finds pictures that are there twice: the same file, or nearly the same picture; worst across splits."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
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

    Of several copies each is named once, beside an earlier one.
    """
    groups: dict[bytes, list[Picture]] = defaultdict(list)
    for picture in pictures:
        groups[picture.digest].append(picture)
    findings = []
    for group in groups.values():
        seen = {group[0].split: group[0]}
        for other in group[1:]:
            findings.append(_same(seen.get(other.split, group[0]), other))
            seen.setdefault(other.split, other)
    for one, other, alike, mirrored in near_pairs([group[0] for group in groups.values()]):
        # It is a leak if any copies of the two are in different splits.
        pairs = product(groups[one.digest], groups[other.digest])
        a, b = next((pair for pair in pairs if _leaks(*pair)), (one, other))
        findings.append(_near(a, b, alike, mirrored))
    return findings


def near_pairs(pictures: Sequence[Picture]) -> Iterator[tuple[Picture, Picture, float, bool]]:
    """Pairs that look alike: the two, their correlation, and whether one is the other's mirror image."""
    shown = [picture for picture in pictures if picture.thumb.std() > _FLAT]
    if len(shown) < 2:
        return
    thumbs = np.stack([picture.thumb for picture in shown]).astype(np.float32)
    shapes = np.array([picture.size[1] / picture.size[0] for picture in shown])
    fine, coarse = _unit(thumbs), _unit(_halved(thumbs))
    fine_mirrored, coarse_mirrored = _unit(thumbs[:, :, ::-1]), _unit(_halved(thumbs[:, :, ::-1]))
    for start in range(0, len(shown), _BLOCK):
        rows = coarse[start : start + _BLOCK]
        for mirrored, others in ((False, coarse[start:]), (True, coarse_mirrored[start:])):
            # Everything to the right of the diagonal; a picture is often its own mirror image.
            near = np.triu(rows @ others.T > _COARSE, 1)
            for i, j in np.argwhere(near) + start:
                other = fine_mirrored[j] if mirrored else fine[j]
                alike = float(fine[i] @ other)
                if alike < ALIKE or abs(np.log(shapes[i] / shapes[j])) > _SHAPE:
                    continue
                if mirrored and fine[i] @ fine[j] >= alike:
                    continue  # found as it stands
                if not mirrored and fine[i] @ fine_mirrored[j] > max(alike, ALIKE):
                    continue  # found as a mirror image
                yield shown[i], shown[j], alike, mirrored


def _halved(thumbs: np.ndarray) -> np.ndarray:
    half = THUMB // 2
    return thumbs.reshape(-1, half, 2, half, 2).mean(axis=(2, 4))


def _unit(thumbs: np.ndarray) -> np.ndarray:
    """Rows of zero mean and unit length: their products are correlations."""
    flat = thumbs.reshape(len(thumbs), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def _leaks(a: Picture, b: Picture) -> bool:
    return a.split != b.split and REST not in a.split and REST not in b.split


def _called(picture: Picture) -> str:
    name = str(picture.path) if picture.path is not None else picture.image_id
    return f"{name} ({picture.split})" if picture.split else name


def _same(a: Picture, b: Picture) -> Finding:
    if a.path is not None and a.path == b.path:
        how = "is in both splits" if _leaks(a, b) else f"has two annotations, {a.image_id} and {b.image_id}"
        text = f"{b.path}: {how}" + (f", {a.split} and {b.split}" if _leaks(a, b) else "")
    else:
        text = f"{_called(b)}: is the same file as {_called(a)}"
    return _finding("leak" if _leaks(a, b) else "twin", text, a, b)


def _near(a: Picture, b: Picture, alike: float, mirrored: bool) -> Finding:
    how = "mirrored, it is" if mirrored else "is"
    text = f"{_called(b)}: {how} nearly the same picture as {_called(a)} (correlation {alike:.3f})"
    return _finding("near-leak" if _leaks(a, b) else "twin", text, a, b)


def _finding(kind: str, text: str, a: Picture, b: Picture) -> Finding:
    return Finding(kind, text, b.path, b.split, b.image_id, other=(a.split, a.image_id))
