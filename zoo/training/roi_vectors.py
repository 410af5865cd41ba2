"""What a trained detector's last layers see of boxes in pictures: the vectors (fc7) that SVMs are trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from zoo.any_size import predict_any_size
from zoo.datasets.proposals import ProposalSource
from zoo.datasets.records import DetectionDataset
from zoo.detectors.fast_rcnn import FastRCNN

_FEWEST, _MULTIPLE = 8, 128


@dataclass(frozen=True, eq=False)
class Picture:
    """A training picture.

    Attributes:
        key: tells it from the others, and from its mirror image.
        image: uint8 RGB (H, W, 3).
        objects: (G, 4), boxes in continuous pixels.
        classes: (G,).
        proposals: (P, 4).
    """

    key: tuple[int, bool]
    image: np.ndarray
    objects: np.ndarray
    classes: np.ndarray
    proposals: np.ndarray

    @property
    def mirrored(self) -> Picture:
        """The same picture, left and right exchanged."""
        width = self.image.shape[1]

        def turned(boxes: np.ndarray) -> np.ndarray:
            return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)

        image = np.ascontiguousarray(self.image[:, ::-1])
        return Picture((self.key[0], True), image, turned(self.objects), self.classes, turned(self.proposals))


def pictures(
    data: DetectionDataset, proposals: ProposalSource, most: int, *, difficult: bool, mirrored: bool
) -> Iterator[Picture]:
    """Every picture of ``data`` with at most ``most`` proposals, in its order.

    Args:
        data: pictures and objects.
        proposals: where proposals come from.
        most: proposals of a picture, the first ones.
        difficult: whether objects marked difficult, and crowds, count; otherwise it is as if they were not there.
        mirrored: each is followed by its mirror image.
    """
    for index in range(len(data)):
        image, sample = data.load(index)
        counts = np.full(len(sample), True) if difficult else ~(sample.difficult | sample.crowd)
        boxes = np.asarray(proposals.boxes(sample, image), np.float32).reshape(-1, 4)[:most]
        picture = Picture((index, False), image, sample.boxes[counts], sample.classes[counts], boxes)
        yield picture
        if mirrored:
            yield picture.mirrored


class RoIVectors:
    """Vectors of boxes in a picture, as the detector's class layer gets them at test.

    Args:
        model: a Fast R-CNN, SPPnet or R-CNN.

    Example: ``RoIVectors(zoo.load("runs/fast"))(image, boxes).shape`` is ``(len(boxes), 4096)`` for VGG-16.
    """

    def __init__(self, model: keras.Model) -> None:
        if not isinstance(model, FastRCNN):
            raise ValueError(f"{model.name} is no Fast R-CNN, SPPnet or R-CNN: it has no vectors of given boxes")
        self.model, self._alone = model, _Alone(model)

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return int(self.model.head.body.output_shape[-1])

    def __call__(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Vectors (P, F) float32 of boxes (P, 4) in continuous pixels of ``image``, uint8 RGB (H, W, 3)."""
        count = len(boxes)
        if count == 0:
            return np.zeros((0, self.width), np.float32)
        # Few different lengths, so that JAX compiles the network few times.
        padded = np.zeros((_length(count), 4), np.float32)
        padded[:count] = boxes
        found = predict_any_size(self._alone, {"images": np.ascontiguousarray(image)[None], "proposals": padded[None]})
        return np.asarray(found)[0, :count]


class _Alone(keras.Model):
    """From a picture and proposals to vectors, compiled apart from the detector."""

    def __init__(self, detector: FastRCNN) -> None:
        super().__init__(name="vectors", autocast=False)
        self.detector = detector
        self.supports_jit = detector.supports_jit

    def call(self, inputs, training=None):
        """``(B, P, F)`` float32."""
        raw = self.detector._look(inputs, training=False)
        pooled = self.detector._pool(raw, raw["proposals"])
        vectors = self.detector.head.body(ops.reshape(pooled, (-1, *pooled.shape[2:])), training=False)
        shape = (*ops.shape(pooled)[:2], vectors.shape[-1])
        return ops.reshape(ops.cast(vectors, "float32"), shape)


def _length(count: int) -> int:
    """The next power of two up to 128, then the next multiple of that."""
    if count > _MULTIPLE:
        return -(-count // _MULTIPLE) * _MULTIPLE
    return max(_FEWEST, 1 << (count - 1).bit_length())
