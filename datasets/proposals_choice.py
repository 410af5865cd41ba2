"""Choosing external proposals: methods by name, the first so many, and whether every picture has some."""

from concurrent.futures import ThreadPoolExecutor
from os import cpu_count

import numpy as np

from zoo.datasets.proposals import Computed, ProposalError, ProposalMethod, ProposalSource
from zoo.datasets.proposals_cache import ProposalFolder, method_key
from zoo.datasets.proposals_files import ProposalTable
from zoo.datasets.records import DetectionDataset, Sample

METHODS = ("selective-fast", "selective-quality", "edge-boxes", "dense")
DEFAULT_METHOD = "selective-fast"  # what `FastRCNN.detect` proposes by
_SHOWN = 3


def named_method(name: str, most: int = 2000) -> ProposalMethod:
    """A method with its usual settings.

    Args:
        name: one of ``METHODS``.
        most: boxes a picture.

    >>> named_method("dense", 100)(np.zeros((64, 64, 3), np.uint8)).shape
    (100, 4)
    """
    if name not in METHODS:
        raise ValueError(f"there is no proposal method {name!r}; choose {', '.join(METHODS)}")
    if name == "dense":
        from zoo.datasets.proposals_dense import DenseBoxes

        return DenseBoxes(most=most)
    if name == "edge-boxes":
        from zoo.datasets.proposals_edges import EdgeBoxes

        return EdgeBoxes(most=most)
    from zoo.datasets.proposals_selective import SelectiveSearch

    return SelectiveSearch(name.removeprefix("selective-"), most=most)


class First:
    """The first proposals of another source, at most so many of a picture (Girshick 2015, figure 3).

    >>> from zoo.datasets.proposals_dense import DenseBoxes
    >>> source = First(Computed(DenseBoxes()), 300)
    """

    def __init__(self, source: ProposalSource, most: int) -> None:
        """``most`` is at least 1."""
        if most < 1:
            raise ValueError(f"the number of proposals is at least 1, not {most}")
        self.source, self.most = source, most

    def boxes(self, sample: Sample, image: np.ndarray) -> np.ndarray:
        """Boxes (P, 4) of the picture, P up to ``most``."""
        return self.source.boxes(sample, image)[: self.most]


def source_name(source: ProposalSource) -> str:
    """What tells proposals from others, wherever they lie: a method and its settings, or files' names and boxes.

    >>> from zoo.datasets.proposals_dense import DenseBoxes
    >>> source_name(First(Computed(DenseBoxes()), 300))
    'dense-a44f65f1ad, first 300'
    """
    if isinstance(source, First):
        return f"{source_name(source.source)}, first {source.most}"
    if isinstance(source, Computed):
        return method_key(source.method)
    if isinstance(source, ProposalFolder):
        return source.path.resolve().name
    if isinstance(source, ProposalTable):
        names = [file.replace("\\", "/").rpartition("/")[2] for file in source.file.split(",")]
        return f"{','.join(names)} ({len(source)} pictures, {source.digest})"
    return type(source).__name__


def check_proposals(source: ProposalSource, data: DetectionDataset) -> None:
    """See that every picture has proposals, rather than find out in the middle of a training.

    Reads the pictures of a folder of `zoo proposals`, which are found by what they show; those of a file by name.

    Raises:
        ProposalError: there are none for some of the pictures, or they cannot be read; the first ones are named.
    """
    while isinstance(source, First):
        source = source.source
    if isinstance(source, Computed):
        return

    def missing(index: int) -> ProposalError | None:
        try:
            if isinstance(source, ProposalTable):
                source.boxes(data.sample(index))
            else:
                image, sample = data.load(index)
                source.boxes(sample, image)
        except ProposalError as error:
            return error
        return None

    with ThreadPoolExecutor(cpu_count()) as pool:
        wrong = [(index, error) for index, error in enumerate(pool.map(missing, range(len(data)))) if error is not None]
    if wrong:
        names = ", ".join(data.sample(index).image_id for index, _ in wrong[:_SHOWN])
        names += ", ..." if len(wrong) > _SHOWN else ""
        raise ProposalError(
            f"{data.name}: {len(wrong)} of {len(data)} pictures have no proposals that can be read ({names}); "
            f"{wrong[0][1]}"
        )
