"""Batches of equally large pictures and their labels for training classifiers."""

import copy
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from zoo.datasets import feed
from zoo.datasets.class_records import ClassificationDataset
from zoo.datasets.feed import calls_from_tensorflow
from zoo.datasets.pipeline import PictureCache

if TYPE_CHECKING:
    import tensorflow as tf


class Augment(Protocol):
    """Makes pictures equally large, and changes them at random.

    Attributes:
        size: side of what comes out, in pixels.
    """

    size: int

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(size, size, 3) uint8 of ``image`` (H, W, 3); all that is random comes from ``rng``."""


@dataclass(frozen=True)
class CropFlip:
    """Random crops of a padded picture, half of them mirrored (He 2016, section 4.2: pad 4, crop 32, flip).

    Attributes:
        size: side of the crop, in pixels.
        pad: pixels added on each side before cropping.
        fill: colour of the padding, RGB; the training set's mean, which the network sees as zero.
        flip: mirror left to right, half of the time.
    """

    size: int = 32
    pad: int = 4
    fill: tuple[int, int, int] = (0, 0, 0)
    flip: bool = True

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A changed copy, (size, size, 3) uint8, of ``image`` (H, W, 3)."""
        height, width = image.shape[0] + 2 * self.pad, image.shape[1] + 2 * self.pad
        if min(height, width) < self.size:
            raise ValueError(f"a picture of {image.shape[1]} x {image.shape[0]} is too small for crops of {self.size}")
        top, left = rng.integers(0, (height - self.size + 1, width - self.size + 1))
        canvas = np.empty((height, width, 3), np.uint8)
        canvas[:] = self.fill
        canvas[self.pad : height - self.pad, self.pad : width - self.pad] = image
        crop = canvas[top : top + self.size, left : left + self.size]
        # Drawn even when it is not used, so that the crops do not depend on it.
        mirror = rng.random() < 0.5 and self.flip
        return crop[:, ::-1] if mirror else crop


class ClassBatches:
    """Pictures and labels in batches; the same (seed, epoch, step) gives the same batch on any number of workers.

    Elements are ``(images (B, S, S, 3) uint8, labels (B,) int32)``. Every batch is full; what is left over at the
    end of an epoch's order is left out of that epoch.

    Args:
        dataset: what to read.
        batch_size: B.
        augment: changes a picture to (S, S, 3): `CropFlip`, `zoo.datasets.class_augment.ScaleCrop`, or your own.
        seed: decides order and changes.
        workers: batches prepared at the same time.
        cache_bytes: decoded pictures are kept in memory up to this size.
    """

    def __init__(
        self,
        dataset: ClassificationDataset,
        batch_size: int,
        augment: Augment,
        seed: int = 0,
        workers: int = 2,
        cache_bytes: int = 2 << 30,
    ) -> None:
        """Reads no picture."""
        if not 1 <= batch_size <= len(dataset):
            raise ValueError(f"batch_size={batch_size}; give 1 to {len(dataset)}, the pictures of {dataset.name}")
        if workers < 1:
            raise ValueError(f"workers is at least 1, not {workers}")
        self.source, self.batch_size, self.augment = dataset, batch_size, augment
        self.seed, self.workers = seed, workers
        self.steps_per_epoch = len(dataset) // batch_size
        self.error: Exception | None = None
        self._cache = PictureCache(cache_bytes)
        self._orders: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()
        self._global_size, self._rows = batch_size, slice(0, batch_size)
        self._whole = self

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self.steps_per_epoch

    @property
    def settings(self) -> dict[str, object]:
        """What decides the batches, beside data, seed and size; of an augmentation of your own only its name."""
        known = repr(self.augment) if is_dataclass(self.augment) else type(self.augment).__name__
        return {"augmentation": known}

    def image_ids(self, epoch: int, step: int) -> list[str]:
        """The names of the pictures in batch ``step`` of ``epoch``."""
        return [self.source.image_ids[index] for index in self._indices(epoch, step)]

    def batch(self, epoch: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Batch ``step`` of ``epoch``, both counted from 0."""
        indices = self._indices(epoch, step)
        # A generator for each place in the batch, so that a shard draws what the whole batch would.
        draws = np.random.Philox(np.random.SeedSequence([self.seed, epoch, step]))
        generators = (np.random.Generator(draws.jumped(self._rows.start + row)) for row in range(len(indices)))
        images = np.stack(
            [self.augment(self._image(int(index)), rng) for index, rng in zip(indices, generators, strict=True)]
        )
        return images, self.source.labels[indices]

    def numpy_batches(self, epoch: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The batches of one epoch, the same as ``dataset`` gives, without TensorFlow."""
        for step in range(self.steps_per_epoch):
            yield self.batch(epoch, step)

    def dataset(self, start_epoch: int = 0, repeat: bool = True, start_step: int = 0) -> "tf.data.Dataset":
        """The batches as a ``tf.data.Dataset``: without end, or one epoch if ``repeat`` is false.

        ``start_epoch`` and ``start_step`` take up a stopped training where it was. If a picture cannot be read, the
        exception as it was raised is in ``self.error``.
        """
        import tensorflow as tf

        side, calls = self.augment.size, calls_from_tensorflow()

        def make(number: np.int64) -> tuple[np.ndarray, np.ndarray]:
            try:
                with calls:
                    return self.batch(*divmod(int(number), self.steps_per_epoch))
            except Exception as error:
                self._whole.error = error
                raise

        def with_shapes(number: "tf.Tensor") -> tuple["tf.Tensor", "tf.Tensor"]:
            images, labels = tf.numpy_function(make, [number], (tf.uint8, tf.int32))
            images.set_shape((self.batch_size, side, side, 3))
            labels.set_shape((self.batch_size,))
            return images, labels

        first, last = start_epoch * len(self) + start_step, (start_epoch + 1) * len(self)
        numbers = tf.data.Dataset.counter(first) if repeat else tf.data.Dataset.range(first, last)
        return numbers.map(with_shapes, num_parallel_calls=self.workers, deterministic=True).prefetch(2)

    def shard(self, index: int, count: int) -> "ClassBatches":
        """Part ``index`` of ``count`` of every batch, for one of ``count`` workers that train together.

        Their parts, put together in order, are the batches of this one; each reads only its own pictures.
        """
        part = copy.copy(self)
        part.batch_size, part._rows = feed.part_of_batch(self.batch_size, self._rows, index, count)
        return part

    def per_worker(
        self, context: "tf.distribute.InputContext", start_epoch: int = 0, start_step: int = 0
    ) -> "tf.data.Dataset":
        """What one worker of a ``tf.distribute`` strategy reads: its part of each batch, one replica's at a time.

        Without end, from ``start_step`` of ``start_epoch``. No worker reads what is another's.
        """
        mine = self.shard(context.input_pipeline_id, context.num_input_pipelines)
        return feed.for_replicas(mine.dataset(start_epoch, True, start_step), context, self.batch_size)

    def _indices(self, epoch: int, step: int) -> np.ndarray:
        with self._lock:
            if epoch not in self._orders:
                seed = np.random.SeedSequence([self.seed, epoch])
                self._orders[epoch] = np.random.Generator(np.random.Philox(seed)).permutation(len(self.source))
                while len(self._orders) > 4:
                    self._orders.popitem(last=False)
            order = self._orders[epoch]
        return order[step * self._global_size : (step + 1) * self._global_size][self._rows]

    def _image(self, index: int) -> np.ndarray:
        image = self._cache.get(index)
        if image is None:
            image = self.source.image(index)
            self._cache.put(index, image)
        return image
