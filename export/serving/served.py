"""The artifact behind the server, and what clients are told of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from zoo.export.runners import Artifact
from zoo.export.serving.limits import Limits
from zoo.export.serving.pictures import Wanted
from zoo.export.serving.proposals import PROPOSALS, Propose, filled_up

# A picture that an any-size model is warmed up with.
_SIZE = (480, 640)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Tensor:
    """An input or output: its type, and its shape with -1 where it varies."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Served:
    """A model under a name.

    Attributes:
        artifact: from :func:`zoo.export.open_artifact`.
        name: in addresses.
        version: in addresses and answers.
        outputs: of the artifact, by name.
        propose: what proposes boxes for pictures that come without, if anything does.
    """

    artifact: Artifact
    name: str
    version: str
    outputs: dict[str, Tensor]
    propose: Propose | None = None

    @classmethod
    def prepare(cls, artifact: Artifact, name: str | None = None, propose: Propose | None = None) -> Served:
        """Run ``artifact`` once, so that it is warm and its outputs are known.

        Args:
            artifact: what to serve.
            name: by default the model's own.
            propose: for a Fast R-CNN: from an image ``(H, W, 3)`` uint8 RGB to boxes ``(P, 4)`` in its pixels, best
                first, for pictures that come without; such as :func:`zoo.datasets.proposals_choice.named_method`
                gives. Without it every request has to bring proposals along.

        Raises:
            ValueError: the name cannot stand in an address, or the model finds its own proposals.
        """
        if propose is not None and artifact.proposals is None:
            raise ValueError(
                f"{artifact.metadata['model']} finds its own proposals; propose= (--proposals) is for a Fast R-CNN"
            )
        name = name or re.sub(r"[^A-Za-z0-9._-]+", "-", artifact.metadata["model"]).lstrip("-._") or "model"
        if not _NAME.fullmatch(name):
            raise ValueError(f"name={name!r}: give letters, digits, '.', '_' and '-', beginning with a letter or digit")
        grey = np.full((*(artifact.size or _SIZE), 3), 127, np.uint8)
        given = grey[None].astype(artifact.metadata["input"]["dtype"])
        if artifact.proposals is not None:
            # The method too: what it needs may not be installed.
            boxes = [[0, 0, grey.shape[1], grey.shape[0]]] if propose is None else propose(grey)
            given = {"images": given, "proposals": filled_up(boxes, artifact.proposals)[None]}
        outputs = {
            key: Tensor(str(value.dtype), (-1, *value.shape[1:]))
            for key, value in artifact.predict_on_batch(given).items()
        }
        versioned = artifact.format == "saved_model" and artifact.path.name.isdecimal()
        return cls(artifact, name, artifact.path.name if versioned else "1", outputs, propose)

    @property
    def dtype(self) -> str:
        """Of images as numbers."""
        return self.artifact.metadata["input"]["dtype"]

    @property
    def images(self) -> Tensor:
        """The input of images as numbers."""
        height, width = self.artifact.size or (-1, -1)
        return Tensor(self.dtype, (-1, height, width, 3))

    @property
    def proposals(self) -> dict[str, Tensor]:
        """The input of boxes by its name; nothing for a model that finds its own."""
        return {} if self.artifact.proposals is None else {PROPOSALS: Tensor("float32", (-1, -1, 4))}

    @property
    def method(self) -> str | None:
        """What proposes boxes for pictures that come without, in words."""
        return None if self.propose is None else getattr(self.propose, "name", "a function")

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in index order."""
        return self.artifact.classes

    @property
    def task(self) -> str:
        """``"detection"`` or ``"classification"``."""
        return self.artifact.metadata["task"]

    def wanted(self, limits: Limits) -> Wanted:
        """What pictures of requests have to be, and bring along."""
        return Wanted(
            self.dtype,
            self.artifact.size,
            limits.max_pixels,
            self.artifact.proposals,
            limits.max_proposals,
            self.propose is not None,
        )
