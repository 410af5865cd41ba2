"""External proposals: boxes that may hold an object, from a method, a file or a folder of results.

A *method* is a callable from a picture, uint8 RGB (H, W, 3), to boxes (P, 4) float32 in continuous pixels, best first;
its ``name`` and ``settings`` say what it does, so that results can be kept (`zoo.datasets.proposals_cache`). A
*source* gives the boxes of one picture of a data set; `zoo.datasets.pipeline.Batches` reads proposals from one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from zoo.datasets.records import DetectionDataset, Sample

Scored = tuple[np.ndarray, np.ndarray | None]


class ProposalError(ValueError):
    """Proposals that cannot be read, or that are missing for a picture; the message names the file and the picture."""


class ProposalMethod(Protocol):
    """What proposes boxes for a picture.

    Attributes:
        name: short, fit for a folder's name: "selective-fast".
        settings: all that the boxes depend on, ready for JSON.
    """

    name: str
    settings: dict[str, object]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Boxes (P, 4) float32 of ``image`` uint8 RGB (H, W, 3), best first."""

    def scored(self, image: np.ndarray) -> Scored:
        """The same boxes, and their scores (P,) float32, which fall; None where the method gives none."""


class ProposalSource(Protocol):
    """Where the proposals of a data set's pictures come from."""

    def boxes(self, sample: Sample, image: np.ndarray) -> np.ndarray:
        """Boxes (P, 4) float32 of the picture ``image`` with ground truth ``sample``, best first.

        Raises:
            ProposalError: there are none for this picture.
        """


class Computed:
    """Proposals computed whenever they are asked for: for a few pictures, or a quick method.

    >>> from zoo.datasets.proposals_dense import DenseBoxes
    >>> source = Computed(DenseBoxes(most=100))
    """

    def __init__(self, method: ProposalMethod) -> None:
        """Computes nothing yet."""
        self.method = method

    def boxes(self, sample: Sample, image: np.ndarray) -> np.ndarray:
        """What the method proposes for ``image``."""
        return self.method(image)


class Gathered(Sequence):
    """The proposals of every picture of a data set, read one at a time: what the measures of recall take.

    Args:
        source: where they come from.
        data: the pictures; item ``i`` reads picture ``i``.
    """

    def __init__(self, source: ProposalSource, data: DetectionDataset) -> None:
        """Reads nothing."""
        self._source, self._data = source, data

    def __len__(self) -> int:
        """How many pictures there are."""
        return len(self._data)

    def __getitem__(self, index: int) -> np.ndarray:
        """Boxes (P, 4) of picture ``index``."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self._data.name}: no picture {index}; it has {len(self)}")
        image, sample = self._data.load(index)
        return self._source.boxes(sample, image)


def open_proposals(path: str | Path | Sequence[str | Path], method: str | None = None) -> ProposalSource:
    """Proposals that lie on disk.

    Args:
        path: a folder that ``zoo proposals`` wrote, one method's sub-folder of it, or a file: ``.mat`` (Girshick's
            release of selective search), ``.npz`` (see `zoo.datasets.proposals_files`) or ``.json`` (COCO's results).
            Of files there may be several, as of the splits of a union: a sequence, or a text with commas between them.
        method: which of the methods in a folder, by its name or the name of its sub-folder; None where it holds one.

    Raises:
        ProposalError: it is none of these, or cannot be read.
    """
    if isinstance(path, str) and "," in path and not Path(path).exists():
        path = path.split(",")
    if not isinstance(path, str | Path):
        from zoo.datasets.proposals_files import read_files

        if method is not None or not path:
            raise ProposalError("give at least one file; method= chooses within a folder of `zoo proposals`")
        return read_files(path)
    path = Path(path)
    if path.is_dir():
        from zoo.datasets.proposals_cache import ProposalFolder

        return ProposalFolder(path, method)
    if method is not None:
        raise ProposalError(f"{path}: method= chooses within a folder of `zoo proposals`; this is none")
    from zoo.datasets.proposals_files import read_file

    return read_file(path)


def tidy(boxes: np.ndarray, least: float = 0.0) -> np.ndarray:
    """Which of the boxes (P, 4) are of use: their indices, in the order given.

    Those with a side below ``least`` pixels or no area, and repeated ones (the first stays), are left out: 2,000
    places are dear.

    >>> tidy(np.array([[0, 0, 9, 9], [0, 0, 3, 9], [0, 0, 9, 9.0]]), 4)
    array([0])
    """
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    big = np.flatnonzero((sides >= least).all(axis=1) & (sides > 0).all(axis=1))
    _, first = np.unique(boxes[big], axis=0, return_index=True)
    return big[np.sort(first)]


def clipped(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes (P, 4) float32, cut off at the borders of a picture of ``size`` (height, width)."""
    height, width = size
    return np.clip(np.asarray(boxes, np.float32).reshape(-1, 4), 0, np.array([width, height] * 2, np.float32))


def ranked(boxes: np.ndarray, seed: int) -> np.ndarray:
    """An order (P,) for boxes without scores: large ones rather early, but mixed with small ones.

    Uijlings 2013 (section 3.3, "Combining locations") orders regions by a random number in [0, 1] times their place
    in the hierarchy, of which the whole picture is the top. Here the place is that by falling area: regions grow as
    they are merged. The order depends on the set of boxes and the seed alone, not on the order given.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    places = np.lexsort((*boxes.T, -area))
    value = np.random.Generator(np.random.Philox(seed)).random(len(boxes)) * np.arange(1, len(boxes) + 1)
    return places[np.argsort(value, kind="stable")]
