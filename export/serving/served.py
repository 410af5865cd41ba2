"""The artifact behind the server, and what clients are told of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from zoo.export.runners import Artifact
from zoo.export.serving.pictures import Wanted

# A picture that an any-size model is warmed up with.
_SIZE = (480, 640)
# Of a Fast R-CNN.
NEEDS_PROPOSALS = (
    "{} looks at proposals that other programs make, and requests to `zoo serve` hold pictures alone; serve its "
    "SavedModel by TensorFlow Serving (docs/tensorflow_serving.md), or a Faster R-CNN, which finds its own"
)
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
    """

    artifact: Artifact
    name: str
    version: str
    outputs: dict[str, Tensor]

    @classmethod
    def prepare(cls, artifact: Artifact, name: str | None = None) -> Served:
        """Run ``artifact`` once, so that it is warm and its outputs are known.

        Args:
            artifact: what to serve.
            name: by default the model's own.

        Raises:
            ValueError: the name cannot stand in an address, or the model looks at proposals of others.
        """
        if artifact.proposals is not None:
            raise ValueError(NEEDS_PROPOSALS.format(artifact.metadata["model"]))
        name = name or re.sub(r"[^A-Za-z0-9._-]+", "-", artifact.metadata["model"]).lstrip("-._") or "model"
        if not _NAME.fullmatch(name):
            raise ValueError(f"name={name!r}: give letters, digits, '.', '_' and '-', beginning with a letter or digit")
        grey = np.full((1, *(artifact.size or _SIZE), 3), 127, artifact.metadata["input"]["dtype"])
        outputs = {
            key: Tensor(str(value.dtype), (-1, *value.shape[1:]))
            for key, value in artifact.predict_on_batch(grey).items()
        }
        versioned = artifact.format == "saved_model" and artifact.path.name.isdecimal()
        return cls(artifact, name, artifact.path.name if versioned else "1", outputs)

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
    def classes(self) -> tuple[str, ...]:
        """Class names in index order."""
        return self.artifact.classes

    @property
    def task(self) -> str:
        """``"detection"`` or ``"classification"``."""
        return self.artifact.metadata["task"]

    def wanted(self, max_pixels: int) -> Wanted:
        """What pictures of requests have to be."""
        return Wanted(self.dtype, self.artifact.size, max_pixels)
