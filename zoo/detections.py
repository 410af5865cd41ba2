"""What a detector found in one image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True, eq=False, repr=False)
class Detections:
    """The detections of one image, best first; D of them.

    Attributes:
        boxes: (D, 4) float32, x1 y1 x2 y2 in continuous pixels of the original image.
        scores: (D,) float32 in 0..1.
        classes: (D,) int32, class index (0-based, no background).
        class_names: D names, one per detection.
        size: (height, width) of the original image in pixels; ``None`` if it could not be read.
        path: the image file, if it came from one.
        error: why there are no detections, if the image could not be read; it names the file.

    Example:
        >>> found = Detections([[1, 2, 11, 22]], [0.9], [0], ["cat"], size=(30, 40))
        >>> len(found), found.class_names
        (1, ('cat',))
    """

    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    classes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    class_names: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    path: Path | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        """Bring everything to its declared type, and check that the lengths agree."""
        convert = object.__setattr__  # the dataclass is frozen
        convert(self, "boxes", np.asarray(self.boxes, np.float32).reshape(-1, 4))
        convert(self, "scores", np.asarray(self.scores, np.float32).reshape(-1))
        convert(self, "classes", np.asarray(self.classes, np.int32).reshape(-1))
        convert(self, "class_names", tuple(self.class_names))
        if self.size is not None:
            convert(self, "size", (int(self.size[0]), int(self.size[1])))
        if self.path is not None:
            convert(self, "path", Path(self.path))
        lengths = [len(self.boxes), len(self.scores), len(self.classes), len(self.class_names)]
        if len(set(lengths)) > 1:
            raise ValueError(f"boxes, scores, classes and class_names have {lengths} entries; they must be as many")

    @classmethod
    def from_padded(
        cls,
        boxes: np.ndarray,
        scores: np.ndarray,
        classes: np.ndarray,
        count: int,
        names: Sequence[str],
        size: tuple[int, int],
        path: Path | None = None,
        score_threshold: float = 0.0,
    ) -> Detections:
        """One image's row of a detector's padded output: the first ``count`` of (D, 4), (D,), (D,).

        ``names`` are all class names of the model in index order. Detections below ``score_threshold`` are
        dropped, the others sorted by falling score.
        """
        boxes, scores, classes = (np.asarray(part)[: int(count)] for part in (boxes, scores, classes))
        order = np.argsort(-scores, kind="stable")
        order = order[scores[order] >= score_threshold]
        picked = classes[order].astype(np.int32)
        return cls(boxes[order], scores[order], picked, tuple(names[c] for c in picked), size, path)

    def __len__(self) -> int:
        """Number of detections."""
        return len(self.scores)

    def __repr__(self) -> str:
        """One line: where, how many of each class, or the error."""
        where = f"{self.path}" if self.path is not None else "array"
        if self.error is not None:
            return f"Detections({where}: {self.error})"
        counts = {name: self.class_names.count(name) for name in dict.fromkeys(self.class_names)}
        found = ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing found"
        size = "" if self.size is None else f" {self.size[1]}x{self.size[0]}"
        return f"Detections({where}{size}: {found})"

    def above(self, score: float) -> Detections:
        """Only the detections with at least that score."""
        keep = self.scores >= score
        names = tuple(name for name, kept in zip(self.class_names, keep, strict=True) if kept)
        return Detections(
            self.boxes[keep], self.scores[keep], self.classes[keep], names, self.size, self.path, self.error
        )

    def table(self) -> str:
        """The detections as lines of text, boxes rounded to a tenth of a pixel."""
        if self.error is not None:
            return f"error: {self.error}"
        width = max([5, *(len(name) for name in self.class_names)])
        lines = [f"{'class':<{width}}  score      x1      y1      x2      y2"]
        for name, score, box in zip(self.class_names, self.scores, self.boxes, strict=True):
            lines.append(f"{name:<{width}}  {score:5.3f}" + "".join(f"{side:8.1f}" for side in box))
        return "\n".join(lines) if len(self) else "nothing found"

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON: ``path``, ``size`` as height and width, ``detections``, ``error`` if any."""
        found = [
            {
                "class": name,
                "class_index": int(index),
                "score": round(float(score), 6),
                "box": [round(float(side), 3) for side in box],
            }
            for name, index, score, box in zip(self.class_names, self.classes, self.scores, self.boxes, strict=True)
        ]
        size = None if self.size is None else {"height": self.size[0], "width": self.size[1]}
        plain: dict[str, object] = {"path": None if self.path is None else str(self.path), "size": size}
        plain["detections"] = found
        return plain if self.error is None else {**plain, "error": self.error}

    def draw(self, image: np.ndarray | None = None, path: str | Path | None = None) -> np.ndarray:
        """A picture of the detections, (H, W, 3) uint8 RGB.

        Args:
            image: the image they were found in, (H, W, 3) uint8; read again from ``self.path`` if not given.
            path: where to save the picture, for example ``"found.png"``.
        """
        from zoo.drawing import draw, save_picture

        if self.error is not None:
            raise ValueError(f"there is nothing to draw: {self.error}")
        if image is None:
            if self.path is None:
                raise ValueError("these detections come from an array: give it, as draw(image)")
            from zoo.datasets.images import read_image

            image = read_image(self.path)
        if self.size is not None and tuple(image.shape[:2]) != self.size:
            raise ValueError(
                f"the image is {image.shape[1]}x{image.shape[0]}, the detections are of one of "
                f"{self.size[1]}x{self.size[0]}; give the image they were found in"
            )
        picture = draw(image, self.boxes, self.class_names, self.scores, classes=self.classes, scale="auto")
        if path is not None:
            save_picture(picture, path)
        return picture
