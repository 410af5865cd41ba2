"""Batches of pictures and boxes for training and evaluation, for TensorFlow or as plain NumPy."""

import copy
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from zoo.datasets import feed
from zoo.datasets.crops import draw_window
from zoo.datasets.plan import Augmentation, EpochPlan, make_plan, picture_rng
from zoo.datasets.prepare import Steps, plan_steps, prepare, prepare_with, prepared_size
from zoo.datasets.proposals import ProposalSource
from zoo.datasets.proposals_choice import source_name
from zoo.datasets.records import DetectionDataset, Sample

if TYPE_CHECKING:
    import tensorflow as tf

Arrays = dict[str, np.ndarray]


class Batches:
    """A data set in batches; the same (seed, epoch, step) gives the same batch on any number of workers.

    Elements are ``(x, y)``. x: ``images`` uint8 (B, H, W, 3), each picture at the top left, zeros to the
    right and below; ``sizes`` int32 (B, 2), the true (height, width); ``image_id`` int32 (B,), the index in
    the data set; with ``short`` also ``prepared_sizes`` int32 (B, 2), at which a model is to see the pictures
    instead of resizing them by its own rule: the same as ``sizes``; with ``proposals`` also ``proposals`` float32
    (B, P, 4), boxes in pixels that follow every change as the objects' do, zeros where there are no more, and
    ``num_proposals`` int32 (B,).
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
        vertical_flip, rotate90, scale_jitter, colour_jitter, expand, crop: see `zoo.datasets.plan.Augmentation`.
        short: resize each picture so that its short side is this, as a model with the same numbers would (which
            then leaves it alone). Several: one of them is drawn for each batch, for training at several scales.
            Detections come in pixels of the resized pictures: for evaluation leave it to the model.
        long: greatest long side with ``short``, no more than the model's own; 2000 for Fast R-CNN's five scales.
        bucket: keep wide and tall pictures apart, so that little is padded; without it, and without ``shuffle``,
            pictures come in the data set's own order.
        pad_multiple: H and W are rounded up to a multiple of this, so that fewer different shapes occur.
        cache: keep decoded pictures in memory, up to ``cache_bytes``.
        cache_bytes: how much memory ``cache`` may take.
        proposals: where external proposals come from, see `zoo.datasets.proposals`; None for none.
        most_proposals: P; of each picture the first so many that are left are kept, in the source's order.

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
        expand: float = 1.0,
        crop: float = 1.0,
        short: int | Sequence[int] | None = None,
        long: int = 1000,
        bucket: bool = True,
        pad_multiple: int = 1,
        cache: bool = False,
        cache_bytes: int = 2 << 30,
        proposals: ProposalSource | None = None,
        most_proposals: int = 2000,
    ) -> None:
        """Plans the first epoch; reads no picture."""
        least_one = {"batch_size": batch_size, "workers": workers, "pad_multiple": pad_multiple}
        for name, value in {**least_one, "most_proposals": most_proposals}.items():
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
        self.augmentation = Augmentation(flip, vertical_flip, rotate90, scale_jitter, colour_jitter, expand, crop)
        self.shorts, self.long, self.bucket = _short_sides(short, long), long, bucket
        self.proposals, self.most_proposals = proposals, most_proposals
        self.error: Exception | None = None
        self._sizes = dataset.sizes()
        self._plans: OrderedDict[int, EpochPlan] = OrderedDict()
        self._lock = threading.Lock()
        self._cache = PictureCache(cache_bytes if cache else 0)
        self._global_size, self._rows = batch_size, slice(None)
        self.steps_per_epoch = len(self._plan(0).batches)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self.steps_per_epoch

    @property
    def settings(self) -> dict[str, object]:
        """What decides the batches, beside data, seed and size: another run gets the same ones if these are equal."""
        own = {"short": self.shorts, "long": self.long, "bucket": self.bucket, "pad_multiple": self.pad_multiple}
        if self.proposals is not None:
            own |= {"proposals": source_name(self.proposals), "most_proposals": self.most_proposals}
        return {**vars(self.augmentation), **own, "shuffle": self.shuffle, "objects": self.source.objects}

    def plan(self, epoch: int) -> list[np.ndarray]:
        """Picture indices of each batch of an epoch (counted from 0)."""
        return [indices[self._rows] for indices in self._plan(epoch).batches]

    def image_ids(self, epoch: int, step: int) -> list[str]:
        """The names of the pictures in batch ``step`` of ``epoch``."""
        indices = self._plan(epoch).batches[step][self._rows]
        return [self.source.sample(int(index)).image_id for index in indices]

    def batch(self, epoch: int, step: int) -> tuple[Arrays, Arrays]:
        """Batch ``step`` of ``epoch`` as NumPy arrays ``(x, y)``."""
        indices = self._plan(epoch).batches[step]
        steps = [self._steps(epoch, step, row) for row in range(len(indices))]
        # Of the whole batch, also where only a part of it is wanted: the parts are padded alike.
        canvas = tuple(self._rounded(int(side)) for side in np.max([each.size for each in steps], axis=0))
        return self._stack(indices[self._rows], steps[self._rows], canvas)

    def numpy_batches(self, epoch: int = 0) -> Iterator[tuple[Arrays, Arrays]]:
        """The batches of one epoch, the same as `dataset` gives, without TensorFlow."""
        for step in range(self.steps_per_epoch):
            yield self.batch(epoch, step)

    def dataset(self, start_epoch: int = 0, repeat: bool = True, start_step: int = 0) -> "tf.data.Dataset":
        """The batches as a ``tf.data.Dataset``: without end, or one epoch if ``repeat`` is false.

        ``start_epoch`` and ``start_step`` take up a stopped training where it was. If a picture cannot be
        read, the exception as it was raised is in ``self.error``; TensorFlow passes on its text only.
        """
        return feed.as_dataset(self, start_epoch, repeat, start_step)

    def shard(self, index: int, count: int) -> "Batches":
        """Part ``index`` of ``count`` of every batch, for one of ``count`` workers that train together.

        Their parts, put together in order, are the batches of this one, padding included; each reads only its
        own pictures. Of a short batch (``drop_remainder=False``) the last workers may get less, or nothing.

        >>> from zoo.datasets.digits import digit_scenes
        >>> batches = Batches(digit_scenes("train", 4), batch_size=4)
        >>> batches.plan(0)[0].tolist(), batches.shard(1, 2).plan(0)[0].tolist()
        ([1, 2, 3, 0], [3, 0])
        """
        part = copy.copy(self)
        part.batch_size, part._rows = feed.part_of_batch(self.batch_size, self._rows, index, count)
        return part

    def per_worker(
        self, context: "tf.distribute.InputContext", start_epoch: int = 0, start_step: int = 0
    ) -> "tf.data.Dataset":
        """What one worker of a ``tf.distribute`` strategy reads: its part of each batch, one replica's at a time.

        Without end, from ``start_step`` of ``start_epoch``. No worker reads what is another's.

        Example: ``model.fit(strategy.distribute_datasets_from_function(batches.per_worker), steps_per_epoch=...)``.
        """
        return feed.per_worker(self, context, start_epoch, start_step)

    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Static shapes of the arrays; None where batches differ."""
        counts = {len(indices) for indices in self.plan(0)}
        batch = counts.pop() if len(counts) == 1 else None
        height = width = None
        change = self.augmentation
        first = [int(side) for side in self._sizes[0]]
        varied = change.scale_jitter is not None or change.windows or len(set(self.shorts)) > 1
        if (self._sizes == first).all() and not varied and not (change.rotate90 and first[0] != first[1]):
            size = prepared_size(*first, self.shorts[0], self.long) if self.shorts else first
            height, width = (self._rounded(side) for side in size)
        boxes = (batch, self.max_boxes)
        shapes = {"images": (batch, height, width, 3), "sizes": (batch, 2), "image_id": (batch,)}
        if self.shorts:
            shapes["prepared_sizes"] = (batch, 2)
        if self.proposals is not None:
            shapes |= {"proposals": (batch, self.most_proposals, 4), "num_proposals": (batch,)}
        return {**shapes, "boxes": (*boxes, 4), "classes": boxes, "difficult": boxes}

    def _plan(self, epoch: int) -> EpochPlan:
        with self._lock:
            if epoch not in self._plans:
                self._plans[epoch] = make_plan(
                    self._sizes,
                    self._global_size,
                    self.seed,
                    epoch,
                    self.shuffle,
                    self.drop_remainder,
                    self.augmentation,
                    self.shorts,
                    self.bucket,
                )
                while len(self._plans) > 4:
                    self._plans.popitem(last=False)
            return self._plans[epoch]

    def _steps(self, epoch: int, step: int, row: int) -> Steps:
        plan = self._plan(epoch)
        index, window = int(plan.batches[step][row]), None
        size = tuple(int(side) for side in self._sizes[index])
        if self.augmentation.windows:
            sample = self.source.sample(index)
            rng = picture_rng(self.seed, epoch, step, row)
            objects = sample.boxes[~sample.crowd]
            window = draw_window(rng, size, objects, self.augmentation.expand, self.augmentation.crop)
        return plan_steps(size, window, plan.changes[step][row], plan.shorts[step], self.long)

    def _load(self, index: int) -> tuple[np.ndarray, Sample]:
        image = self._cache.get(index)
        if image is not None:
            return image, self.source.sample(index)
        image, sample = self.source.load(index)
        if image.shape[:2] != tuple(self._sizes[index]):
            raise ValueError(f"{sample.image_id}: the picture has shape {image.shape}, its sample says {sample.size}")
        self._cache.put(index, image)
        return image, sample

    def _rounded(self, side: int) -> int:
        return -(-side // self.pad_multiple) * self.pad_multiple

    def _stack(self, indices: np.ndarray, steps: list[Steps], canvas: tuple[int, int]) -> tuple[Arrays, Arrays]:
        count = len(indices)
        images = np.zeros((count, *canvas, 3), np.uint8)
        boxes = np.zeros((count, self.max_boxes, 4), np.float32)
        classes = np.full((count, self.max_boxes), -1, np.int32)
        difficult = np.zeros((count, self.max_boxes), bool)
        places = self.most_proposals if self.proposals is not None else 0
        proposals, num_proposals = np.zeros((count, places, 4), np.float32), np.zeros(count, np.int32)
        for row, (index, each) in enumerate(zip(indices, steps, strict=True)):
            image, sample = self._load(int(index))
            shown = images[row, : each.size[0], : each.size[1]]
            if self.proposals is None:
                image_boxes, kept = prepare(each, image, sample, shown)
            else:
                found = self.proposals.boxes(sample, image)
                image_boxes, kept, found = prepare_with(each, image, sample, found, shown)
                num_proposals[row] = min(len(found), places)
                proposals[row, : num_proposals[row]] = found[:places]
            boxes[row, : len(image_boxes)] = image_boxes
            classes[row, : len(image_boxes)] = sample.classes[kept]
            difficult[row, : len(image_boxes)] = (sample.difficult | sample.crowd)[kept]
        sizes = np.array([each.size for each in steps], np.int32).reshape(-1, 2)
        x = {"images": images, "sizes": sizes, "image_id": np.asarray(indices, np.int32)}
        if self.shorts:
            x["prepared_sizes"] = sizes.copy()
        if self.proposals is not None:
            x |= {"proposals": proposals, "num_proposals": num_proposals}
        return x, {"boxes": boxes, "classes": classes, "difficult": difficult}


def _short_sides(short: int | Sequence[int] | None, long: int) -> tuple[int, ...]:
    sides = () if short is None else tuple(int(side) for side in np.atleast_1d(short))
    if short is not None and not (sides and all(0 < side <= long for side in sides)):
        raise ValueError(f"short is one or several sides from 1 to long={long} pixels, not {short}")
    return sides


class PictureCache:
    """Decoded pictures by index, until the budget is used up; what came first stays."""

    def __init__(self, budget: int) -> None:
        """``budget`` is in bytes."""
        self._images: dict[int, np.ndarray] = {}
        self._left = budget
        self._lock = threading.Lock()

    def get(self, index: int) -> np.ndarray | None:
        """The picture, or None."""
        return self._images.get(index)

    def put(self, index: int, image: np.ndarray) -> None:
        """Keep the picture if there is room."""
        with self._lock:
            if index not in self._images and image.nbytes <= self._left:
                self._left -= image.nbytes
                self._images[index] = image
