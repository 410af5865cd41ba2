"""Batches of pictures and boxes for training and evaluation, for TensorFlow or as plain NumPy."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from zoo.datasets.augment import apply
from zoo.datasets.plan import Augmentation, EpochPlan, make_plan
from zoo.datasets.records import DetectionDataset, Sample

if TYPE_CHECKING:
    import tensorflow as tf

Arrays = dict[str, np.ndarray]


class Batches:
    """A data set in batches; the same (seed, epoch, step) gives the same batch on any number of workers.

    Elements are ``(x, y)``. x: ``images`` uint8 (B, H, W, 3), each picture at the top left, zeros to the
    right and below; ``sizes`` int32 (B, 2), the true (height, width); ``image_id`` int32 (B,), the index in
    the data set.
    y: ``boxes`` float32 (B, G, 4) in pixels, zeros where there is none; ``classes`` int32 (B, G), -1 where
    there is no box; ``difficult`` bool (B, G), crowd boxes included. G is the same for all batches.

    Args:
        dataset: what to read.
        batch_size: pictures in a batch (B).
        seed: decides order and augmentation.
        shuffle: new order each epoch.
        flip: mirror half of the pictures left to right.
        max_boxes: G; None is the data set's largest count, at least 1.
        drop_remainder: no batch is short: a last one is filled up with other pictures of the epoch, none is
            left out for ever. False (for evaluation): every picture exactly once, the last batches may be
            short.
        workers: batches prepared at the same time.
        vertical_flip, rotate90, scale_jitter, colour_jitter: see `zoo.datasets.plan.Augmentation`.
        pad_multiple: H and W are rounded up to a multiple of this, so that fewer different shapes occur.
        cache: keep decoded pictures in memory, up to ``cache_bytes``.
        cache_bytes: how much memory ``cache`` may take.

    Example: ``model.fit(batches.dataset(), steps_per_epoch=batches.steps_per_epoch)``.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        batch_size: int = 2,
        seed: int = 0,
        shuffle: bool = True,
        flip: bool = True,
        max_boxes: int | None = None,
        drop_remainder: bool = True,
        workers: int = 2,
        *,
        vertical_flip: bool = False,
        rotate90: bool = False,
        scale_jitter: tuple[float, float] | None = None,
        colour_jitter: float = 0.0,
        pad_multiple: int = 1,
        cache: bool = False,
        cache_bytes: int = 2 << 30,
    ) -> None:
        """Plans the first epoch; reads no picture."""
        for name, value in (("batch_size", batch_size), ("workers", workers), ("pad_multiple", pad_multiple)):
            if value < 1:
                raise ValueError(f"{name} is at least 1, not {value}")
        if not len(dataset):
            raise ValueError(f"{dataset.name}: the data set is empty, there is nothing to put into batches")
        most = dataset.max_boxes
        if max_boxes is not None and max_boxes < most:
            raise ValueError(
                f"max_boxes={max_boxes}, but a picture of {dataset.name} may have {most} boxes; "
                f"give at least {most}, or None"
            )
        self.source = dataset
        self.batch_size, self.seed, self.shuffle = batch_size, seed, shuffle
        self.drop_remainder, self.workers, self.pad_multiple = drop_remainder, workers, pad_multiple
        self.max_boxes = max(1, most) if max_boxes is None else max(1, max_boxes)
        self.augmentation = Augmentation(flip, vertical_flip, rotate90, scale_jitter, colour_jitter)
        self.error: Exception | None = None
        self._sizes = dataset.sizes()
        self._plans: OrderedDict[int, EpochPlan] = OrderedDict()
        self._lock = threading.Lock()
        self._cache = PictureCache(cache_bytes if cache else 0)
        self.steps_per_epoch = len(self._plan(0).batches)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self.steps_per_epoch

    def plan(self, epoch: int) -> list[np.ndarray]:
        """Picture indices of each batch of an epoch (counted from 0)."""
        return self._plan(epoch).batches

    def image_ids(self, epoch: int, step: int) -> list[str]:
        """The names of the pictures in batch ``step`` of ``epoch``."""
        return [self.source.sample(int(index)).image_id for index in self._plan(epoch).batches[step]]

    def batch(self, epoch: int, step: int) -> tuple[Arrays, Arrays]:
        """Batch ``step`` of ``epoch`` as NumPy arrays ``(x, y)``."""
        plan = self._plan(epoch)
        indices = plan.batches[step]
        loaded = []
        for index, change in zip(indices, plan.changes[step], strict=True):
            image, sample = self._load(int(index))
            loaded.append((*apply(change, image, sample.boxes), sample))
        return self._stack(indices, loaded)

    def numpy_batches(self, epoch: int = 0) -> Iterator[tuple[Arrays, Arrays]]:
        """The batches of one epoch, the same as `dataset` gives, without TensorFlow."""
        for step in range(self.steps_per_epoch):
            yield self.batch(epoch, step)

    def dataset(self, start_epoch: int = 0, repeat: bool = True, start_step: int = 0) -> "tf.data.Dataset":
        """The batches as a ``tf.data.Dataset``: without end, or one epoch if ``repeat`` is false.

        ``start_epoch`` and ``start_step`` take up a stopped training where it was. If a picture cannot be
        read, the exception as it was raised is in ``self.error``; TensorFlow passes on its text only.
        """
        import tensorflow as tf

        names = ("images", "sizes", "image_id", "boxes", "classes", "difficult")
        kinds = (tf.uint8, tf.int32, tf.int32, tf.float32, tf.int32, tf.bool)

        def make(number: np.int64) -> list[np.ndarray]:
            epoch, step = divmod(int(number), self.steps_per_epoch)
            try:
                x, y = self.batch(epoch, step)
            except Exception as error:
                self.error = error
                raise
            return [{**x, **y}[name] for name in names]

        def with_shapes(number: "tf.Tensor") -> tuple[dict[str, "tf.Tensor"], dict[str, "tf.Tensor"]]:
            parts = dict(zip(names, tf.numpy_function(make, [number], kinds), strict=True))
            for name, shape in self.shapes().items():
                parts[name].set_shape(shape)
            return {name: parts[name] for name in names[:3]}, {name: parts[name] for name in names[3:]}

        first = start_epoch * self.steps_per_epoch + start_step
        if repeat:
            numbers = tf.data.Dataset.counter(first)
        else:
            numbers = tf.data.Dataset.range(first, (start_epoch + 1) * self.steps_per_epoch)
        batches = numbers.map(with_shapes, num_parallel_calls=self.workers, deterministic=True)
        return batches.prefetch(2)

    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Static shapes of the arrays; None where batches differ."""
        counts = {len(indices) for indices in self._plan(0).batches}
        batch = counts.pop() if len(counts) == 1 else None
        height = width = None
        turned = self.augmentation.rotate90 and self._sizes[0, 0] != self._sizes[0, 1]
        if (self._sizes == self._sizes[0]).all() and not turned and self.augmentation.scale_jitter is None:
            height, width = (self._rounded(int(side)) for side in self._sizes[0])
        boxes = (batch, self.max_boxes)
        return {
            "images": (batch, height, width, 3),
            "sizes": (batch, 2),
            "image_id": (batch,),
            "boxes": (*boxes, 4),
            "classes": boxes,
            "difficult": boxes,
        }

    def _plan(self, epoch: int) -> EpochPlan:
        with self._lock:
            if epoch not in self._plans:
                self._plans[epoch] = make_plan(
                    self._sizes,
                    self.batch_size,
                    self.seed,
                    epoch,
                    self.shuffle,
                    self.drop_remainder,
                    self.augmentation,
                )
                while len(self._plans) > 4:
                    self._plans.popitem(last=False)
            return self._plans[epoch]

    def _load(self, index: int) -> tuple[np.ndarray, Sample]:
        image = self._cache.get(index)
        if image is not None:
            return image, self.source.sample(index)
        image, sample = self.source.load(index)
        self._cache.put(index, image)
        return image, sample

    def _rounded(self, side: int) -> int:
        return -(-side // self.pad_multiple) * self.pad_multiple

    def _stack(self, indices: np.ndarray, loaded: list[tuple[np.ndarray, np.ndarray, Sample]]) -> tuple[Arrays, Arrays]:
        sizes = np.array([image.shape[:2] for image, _, _ in loaded], np.int32)
        height, width = (self._rounded(int(side)) for side in sizes.max(axis=0))
        images = np.zeros((len(loaded), height, width, 3), np.uint8)
        boxes = np.zeros((len(loaded), self.max_boxes, 4), np.float32)
        classes = np.full((len(loaded), self.max_boxes), -1, np.int32)
        difficult = np.zeros((len(loaded), self.max_boxes), bool)
        for row, (image, image_boxes, sample) in enumerate(loaded):
            images[row, : image.shape[0], : image.shape[1]] = image
            boxes[row, : len(image_boxes)] = image_boxes
            classes[row, : len(image_boxes)] = sample.classes
            difficult[row, : len(image_boxes)] = sample.difficult | sample.crowd
        x = {"images": images, "sizes": sizes, "image_id": np.asarray(indices, np.int32)}
        return x, {"boxes": boxes, "classes": classes, "difficult": difficult}


class PictureCache:
    """Decoded pictures by index, until the budget is used up; what came first stays."""

    def __init__(self, budget: int) -> None:
        self._images: dict[int, np.ndarray] = {}
        self._left = budget
        self._lock = threading.Lock()

    def get(self, index: int) -> np.ndarray | None:
        return self._images.get(index)

    def put(self, index: int, image: np.ndarray) -> None:
        with self._lock:
            if index not in self._images and image.nbytes <= self._left:
                self._left -= image.nbytes
                self._images[index] = image
