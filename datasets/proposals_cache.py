"""Proposals kept on disk, a small file for each picture, found by what the picture shows."""

import hashlib
import json
from pathlib import Path

import numpy as np

from zoo.datasets.proposals import ProposalError, ProposalMethod, Scored
from zoo.datasets.proposals_files import read_arrays
from zoo.datasets.records import Sample
from zoo.files import save_atomically, save_json

_ABOUT = "method.json"
_FORMAT = 1


def picture_key(image: np.ndarray) -> str:
    """What a picture uint8 (H, W, 3) is kept under: a hash of its size and pixels, wherever they come from."""
    digest = hashlib.sha256(f"{image.shape[0]}x{image.shape[1]}:".encode())
    digest.update(np.ascontiguousarray(image))
    return digest.hexdigest()[:32]


def method_key(method: ProposalMethod) -> str:
    """What a method's results are kept under: its name and a hash of its settings."""
    return f"{method.name}-{hashlib.sha256(_settings(method).encode()).hexdigest()[:10]}"


class ProposalFolder:
    """What one method proposed for the pictures of one or more data sets.

    ``FOLDER/METHOD-HASH/method.json`` says by which settings; ``FOLDER/METHOD-HASH/ab/abcd....npz`` holds the ``boxes``
    (and ``scores``) of the picture with that `picture_key`. So results of other settings, or of a picture that has
    changed since, are never taken for these.

    Args:
        folder: several methods may share one; also one method's own sub-folder.
        method: a method; or its name, or the name of its sub-folder; None where there is one only.

    Example: ``Batches(data, proposals=ProposalFolder("proposals"))``.
    """

    def __init__(self, folder: str | Path, method: ProposalMethod | str | None = None) -> None:
        """Looks for the method's sub-folder; reads no boxes."""
        folder = Path(folder)
        if method is None or isinstance(method, str):
            self.path = _find(folder, method)
        else:
            self.path = folder / method_key(method)

    def __contains__(self, key: str) -> bool:
        """Whether there are proposals for the picture with this key."""
        return self._file(key).is_file()

    def __len__(self) -> int:
        """Of how many different pictures there are proposals."""
        return sum(1 for _ in self.path.glob("??/[!.]*.npz"))

    def read(self, key: str) -> Scored:
        """Boxes (P, 4) and scores (P,), or None, of the picture with this key."""
        file = self._file(key)
        arrays = read_arrays(file)
        boxes, scores = arrays.get("boxes"), arrays.get("scores")
        fits = boxes is not None and boxes.shape[1:] == (4,) and (scores is None or len(scores) == len(boxes))
        if not fits:
            raise ProposalError(f"{file}: holds no boxes (P, 4); remove it and run `zoo proposals` again")
        return boxes.astype(np.float32), scores

    def describe(self, method: ProposalMethod) -> None:
        """Say by which method and settings the proposals come, if that is not said yet."""
        about = self.path / _ABOUT
        if not about.is_file():
            save_json({"format": _FORMAT, "method": method.name, "settings": method.settings}, about)

    def write(self, key: str, boxes: np.ndarray, scores: np.ndarray | None = None) -> None:
        """Keep a picture's proposals: all of them or, if this is interrupted, nothing."""
        arrays = {"boxes": np.asarray(boxes, np.float32).reshape(-1, 4)}
        if scores is not None:
            arrays["scores"] = np.asarray(scores, np.float32)
        with save_atomically(self._file(key)) as aside:
            np.savez_compressed(aside, **arrays)

    def boxes(self, sample: Sample, image: np.ndarray) -> np.ndarray:
        """Boxes (P, 4) float32 of the picture, best first.

        Raises:
            ProposalError: there are none for it; the picture may have changed since.
        """
        return self._look_up(image, f"image {sample.image_id}")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The same for a picture alone: what ``detect(..., proposals=folder)`` of a Fast R-CNN asks for."""
        return self._look_up(image, f"this {image.shape[1]}x{image.shape[0]} picture")

    def _look_up(self, image: np.ndarray, what: str) -> np.ndarray:
        key = picture_key(image)
        if key not in self:
            raise ProposalError(
                f"{self.path}: no proposals for {what}; run `zoo proposals` with its data and split and this folder: "
                "what is there already is not computed again"
            )
        return self.read(key)[0]

    def _file(self, key: str) -> Path:
        return self.path / key[:2] / f"{key}.npz"


def methods_in(folder: str | Path) -> dict[str, dict[str, object]]:
    """The methods whose results a folder holds: what ``method.json`` says of each, by the sub-folder's name."""
    found = {}
    for file in sorted(Path(folder).glob(f"*/{_ABOUT}")):
        try:
            content = json.loads(file.read_bytes())
        except ValueError as error:
            raise ProposalError(f"{file}: not JSON that can be read ({error})") from error
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise ProposalError(f"{file}: was not written by this version of `zoo proposals`; use another folder")
        found[file.parent.name] = content
    return found


def _find(folder: Path, method: str | None) -> Path:
    if method is None and (folder / _ABOUT).is_file():
        return folder  # one method's own
    known = methods_in(folder)
    if not known:
        raise ProposalError(f"{folder}: holds no proposals; make them with `zoo proposals --out {folder}`")
    fitting = [name for name, about in known.items() if method in (None, name, about["method"])]
    if len(fitting) != 1:
        wanted = "several methods'" if method is None else f"{len(fitting) or 'no'} methods {method!r}: all"
        raise ProposalError(f"{folder}: holds {wanted} proposals; choose one of its folders {', '.join(known)}")
    return folder / fitting[0]


def _settings(method: ProposalMethod) -> str:
    return json.dumps([_FORMAT, method.name, method.settings], sort_keys=True)
