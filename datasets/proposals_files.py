"""Files of proposals for many pictures: ``.npz`` (ours), ``.json`` (COCO's results), ``.mat`` (Girshick's release)."""

import functools
import hashlib
import json
import math
import threading
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from zoo.datasets.proposals import ProposalError, Scored, clipped
from zoo.datasets.proposals_mat import read_mat
from zoo.datasets.records import Sample
from zoo.files import save_atomically

_NAMES_SHOWN = 3
# NumPy reads headers with ast.parse; before Python 3.13 that may fail in several threads at once (cpython gh-106905).
_ONE_AT_A_TIME = threading.Lock()


class ProposalTable:
    """Proposals of many pictures, held in memory.

    Args:
        file: shown in errors.
        found: for each picture's name boxes (P, 4) in continuous pixels, and scores (P,) or None; best first.

    A picture is looked up by its ``image_id``, then by its file's name without and with suffix.
    """

    def __init__(self, file: str | Path, found: Mapping[str, Scored]) -> None:
        """Checks shapes and numbers."""
        self.file, self.found = str(file), {}
        for name, (boxes, scores) in found.items():
            boxes = np.asarray(boxes, np.float32)
            boxes = boxes.reshape(-1, 4) if boxes.size == 0 else boxes
            if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all():
                raise ProposalError(
                    f"{file}: the boxes of image {name} are no (P, 4) finite numbers: shape {boxes.shape}"
                )
            if scores is not None:
                scores = np.asarray(scores, np.float32).reshape(-1)
                if len(scores) != len(boxes) or np.isnan(scores).any():
                    raise ProposalError(f"{file}: image {name} has {len(boxes)} boxes and {len(scores)} scores")
            self.found[name] = (boxes, scores)

    def __len__(self) -> int:
        """How many pictures there are."""
        return len(self.found)

    @functools.cached_property
    def digest(self) -> str:
        """Ten hex digits that tell other boxes, or boxes in another order, from these."""
        found = hashlib.sha256()
        for name, (boxes, _) in sorted(self.found.items()):
            found.update(f"{name} {len(boxes)} ".encode())
            found.update(np.ascontiguousarray(boxes, "<f4"))
        return found.hexdigest()[:10]

    def boxes(self, sample: Sample, image: np.ndarray | None = None) -> np.ndarray:
        """Boxes (P, 4) float32 of the picture, cut off at its borders; ``image`` is not looked at."""
        names = [sample.image_id]
        if sample.path is not None:
            names += [sample.path.stem, sample.path.name]
        name = next((name for name in names if name in self.found), None)
        if name is None:
            known = list(self.found)
            raise ProposalError(
                f"{self.file}: no proposals for image {sample.image_id}; it has those of {len(known)} images"
                + (f" ({', '.join(known[:_NAMES_SHOWN])}, ...)" if known else "")
                + "; give the file of this split, or make it with `zoo proposals`"
            )
        boxes = clipped(self.found[name][0], sample.size)
        return boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]


def read_file(path: str | Path) -> ProposalTable:
    """Read a file of proposals by its suffix; see the module and `zoo.datasets.proposals_mat`.

    Raises:
        ProposalError: it is of another kind, or damaged.
    """
    path = Path(path)
    readers = {".npz": _read_npz, ".json": _read_json, ".mat": read_mat}
    if not path.is_file():
        raise ProposalError(f"{path}: no such file of proposals, nor a folder of `zoo proposals`")
    if path.suffix.lower() not in readers:
        raise ProposalError(
            f"{path}: proposals are read from {', '.join(readers)} files and folders of `zoo proposals`"
        )
    return ProposalTable(path, readers[path.suffix.lower()](path))


def read_files(paths: Sequence[str | Path]) -> ProposalTable:
    """The proposals of several files together, as of the splits of ``07+12``.

    Raises:
        ProposalError: one of them cannot be read, or two have the same picture.
    """
    found: dict[str, Scored] = {}
    homes: dict[str, Path] = {}
    for path in map(Path, paths):
        table = read_file(path)
        twice = next((name for name in table.found if name in found), None)
        if twice is not None:
            raise ProposalError(f"{path} and {homes[twice]} both have proposals for image {twice}; give one of them")
        found |= table.found
        homes |= dict.fromkeys(table.found, path)
    return ProposalTable(",".join(map(str, paths)), found)


def save_npz(path: str | Path, found: Mapping[str, Scored]) -> Path:
    """Write proposals as one ``.npz``: the boxes of all pictures one after the other.

    Arrays: ``image_id`` (N,) text; ``ends`` (N,) int64, where each picture's boxes end; ``boxes`` (M, 4) float32;
    ``scores`` (M,) float32, if there are any.

    Args:
        path: the file.
        found: for each picture's name boxes and scores or None; scores for all pictures or for none.
    """
    path = Path(path)
    if path.suffix.lower() != ".npz":
        raise ValueError(f"{path}: give a name that ends in .npz, by which it is read again")
    table = ProposalTable(path, found).found
    scores = [scores for _, scores in table.values()]
    if any(each is None for each in scores) and not all(each is None for each in scores):
        raise ValueError(f"{path}: some pictures' proposals have scores and some have none")
    arrays = {
        "image_id": np.array(list(table), np.str_),
        "ends": np.cumsum([len(boxes) for boxes, _ in table.values()], dtype=np.int64),
        "boxes": np.concatenate([np.zeros((0, 4), np.float32), *(boxes for boxes, _ in table.values())]),
    }
    if table and scores[0] is not None:
        arrays["scores"] = np.concatenate(scores)
    with save_atomically(path) as aside:
        np.savez_compressed(aside, **arrays)
    return path


def save_json(path: str | Path, found: Mapping[str, Scored]) -> Path:
    """Write COCO's results: a list of ``image_id``, ``category_id`` 1, ``bbox`` [x, y, width, height], ``score``.

    Names that are numbers become numbers, as COCO's are. Without scores, 1 for the first, 1/2 for the second and so on.
    """
    path = Path(path)
    rows = []
    for name, (boxes, scores) in ProposalTable(path, found).found.items():
        number = int(name) if name.isascii() and name.isdecimal() and str(int(name)) == name else name
        scores = 1 / np.arange(1, len(boxes) + 1) if scores is None else scores
        sides = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        for box, score in zip(sides.tolist(), scores.tolist(), strict=True):
            rows.append({"image_id": number, "category_id": 1, "bbox": box, "score": score})
    with save_atomically(path) as aside:
        aside.write_text(json.dumps(rows), encoding="utf-8")
    return path


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an ``.npz``; nothing is unpickled.

    Raises:
        ProposalError: it is damaged, or holds other things than arrays of numbers and text.
    """
    try:
        with _ONE_AT_A_TIME, np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ProposalError(f"{path}: cannot be read as .npz ({error}); make it anew") from error


def _read_npz(path: Path) -> dict[str, Scored]:
    arrays = read_arrays(path)
    missing = {"image_id", "ends", "boxes"} - set(arrays)
    if missing:
        raise ProposalError(
            f"{path}: has the arrays {', '.join(arrays) or 'none'}; a file of proposals has image_id, ends, boxes and, "
            "if there are any, scores"
        )
    names, ends, boxes = (arrays[name] for name in ("image_id", "ends", "boxes"))
    scores = arrays.get("scores")
    whole = names.ndim == ends.ndim == 1 and len(names) == len(ends) and names.dtype.kind == "U"
    whole = whole and ends.dtype.kind in "iu" and boxes.ndim == 2 and boxes.dtype.kind == "f"
    if not whole or np.diff(ends, prepend=0).min(initial=0) < 0 or (ends[-1] if len(ends) else 0) != len(boxes):
        raise ProposalError(
            f"{path}: {len(names)} image_id, {len(ends)} ends and {len(boxes)} boxes do not fit together"
        )
    if scores is not None and scores.shape != (len(boxes),):
        raise ProposalError(f"{path}: {len(boxes)} boxes, but scores of shape {scores.shape}")
    starts = [0, *ends.tolist()]
    pieces = [slice(first, last) for first, last in zip(starts, ends.tolist(), strict=False)]
    return {
        str(name): (boxes[piece], None if scores is None else scores[piece])
        for name, piece in zip(names, pieces, strict=True)
    }


def _read_json(path: Path) -> dict[str, Scored]:
    try:
        rows = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ProposalError(f"{path}: not JSON that can be read ({error})") from error
    if not isinstance(rows, list):
        raise ProposalError(f"{path}: COCO's results are a list of objects with image_id, bbox and score")
    found: dict[str, list[tuple[float, ...]]] = {}
    for at, row in enumerate(rows):
        row = row if isinstance(row, dict) else {}
        name, box, score = (row.get(key) for key in ("image_id", "bbox", "score"))
        numbers = [*box, score] if isinstance(box, list) else []
        if not isinstance(name, str | int) or len(numbers) != 5 or not all(map(_is_number, numbers)):
            raise ProposalError(
                f"{path}: entry {at} needs image_id, bbox [x, y, width, height] and score, has {str(rows[at])[:200]}"
            )
        found.setdefault(str(name), []).append(tuple(numbers))
    return {name: _best_first(np.array(each, np.float64)) for name, each in found.items()}


def _best_first(rows: np.ndarray) -> Scored:
    """From (P, 5): x, y, width, height and score."""
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    return np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1), rows[:, 4]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
