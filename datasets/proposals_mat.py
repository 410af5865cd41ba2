"""Selective search's boxes as Girshick released them for R-CNN and Fast R-CNN: MATLAB files, one for each split.

``boxes`` is a cell array of N matrices (P, 4), ``images`` one of N names without suffix. A row is **(y1, x1, y2, x2)**,
counted from 1, and includes its last pixel; the reference subtracts 1 and swaps the columns. In continuous pixels
such a box is (x1 - 1, y1 - 1, x2, y2).
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from zoo.datasets.proposals import ProposalError, Scored

_HDF5 = b"\x89HDF\r\n\x1a\n"
_USER_BLOCK = 512  # bytes before HDF5's own in MATLAB's version 7.3


def read_mat(path: Path) -> dict[str, Scored]:
    """Boxes (P, 4) float32 in continuous pixels by the picture's name; there are no scores.

    Version 5 to 7 are read by SciPy, version 7.3 (HDF5) by h5py.

    Raises:
        ProposalError: it is no such file.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(_USER_BLOCK + len(_HDF5))
        hdf5 = _HDF5 in (head[: len(_HDF5)], head[_USER_BLOCK:])
        names, boxes = _read_hdf5(path) if hdf5 else _read_v5(path)
    except ProposalError:
        raise
    except Exception as error:  # the readers raise what they like on damaged files
        raise ProposalError(f"{path}: cannot be read as a MATLAB file ({type(error).__name__}: {error})") from error
    if len(names) != len(boxes):
        raise ProposalError(f"{path}: {len(names)} images, but {len(boxes)} boxes")
    if len(set(names)) != len(names):
        raise ProposalError(f"{path}: names an image twice in `images`")
    return {name: (_continuous(path, name, each), None) for name, each in zip(names, boxes, strict=True)}


def _continuous(path: Path, name: str, rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows)
    if rows.size == 0:
        return np.zeros((0, 4), np.float32)
    if rows.ndim != 2 or rows.shape[1] != 4 or rows.dtype.kind not in "iuf":
        raise ProposalError(f"{path}: the boxes of image {name} are {rows.dtype} of shape {rows.shape}, not (P, 4)")
    # Unsigned numbers would wrap around.
    y1, x1, y2, x2 = rows.astype(np.float32).T
    return np.stack([x1 - 1, y1 - 1, x2, y2], axis=1)


def _read_v5(path: Path) -> tuple[list[str], list[np.ndarray]]:
    from scipy.io import loadmat

    content = loadmat(path, variable_names=("boxes", "images"))
    _check(path, content)
    names = [str(np.asarray(each).ravel()[0]) for each in content["images"].ravel()]
    return names, list(content["boxes"].ravel())


def _read_hdf5(path: Path) -> tuple[list[str], list[np.ndarray]]:
    import h5py

    with h5py.File(path, "r") as file:
        _check(path, file)
        # Strings are columns of UTF-16 units; matrices are stored by columns, which transposes them.
        names = ["".join(map(chr, np.asarray(each).ravel())) for each in _cells(file, "images")]
        boxes = [np.zeros((0, 4)) if "MATLAB_empty" in each.attrs else each[()].T for each in _cells(file, "boxes")]
    return names, boxes


def _cells(file: object, name: str) -> Iterator[object]:
    return (file[reference] for reference in file[name][()].ravel())


def _check(path: Path, content: object) -> None:
    for name in ("boxes", "images"):
        if name not in content:
            there = ", ".join(key for key in content if not key.startswith(("__", "#"))) or "nothing"
            raise ProposalError(
                f"{path}: has no cell array {name!r} (it has {there}); expected `boxes` and `images`, as in "
                "Girshick's release of selective search"
            )
