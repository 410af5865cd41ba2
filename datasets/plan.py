"""Which pictures make up which batch, and how each is changed: arithmetic on (seed, epoch), no pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoo.datasets.augment import Change

# A canvas of this factor has 64 times the pixels.
_MOST_EXPAND = 8


@dataclass(frozen=True)
class Augmentation:
    """What may be changed at random; the defaults change nothing.

    Attributes:
        flip: mirror left to right, half of the time.
        vertical_flip: the same top to bottom (right for microscopes and satellites, wrong for street scenes).
        rotate90: turn by a random multiple of 90 degrees.
        scale_jitter: range of a factor on height and width, drawn evenly on a logarithmic scale. A model that
            scales every picture to one short side undoes it, unless the batches tell it the sizes: see ``short``
            of `zoo.datasets.pipeline.Batches`.
        colour_jitter: contrast changes by up to this share, brightness by up to this share of 128 levels.
        expand: half of the pictures are placed on a canvas larger by up to this factor (see `zoo.datasets.crops`).
        crop: pictures are cut to parts whose sides are at least this share; 1 cuts nothing.
    """

    flip: bool = False
    vertical_flip: bool = False
    rotate90: bool = False
    scale_jitter: tuple[float, float] | None = None
    colour_jitter: float = 0.0
    expand: float = 1.0
    crop: float = 1.0

    def __post_init__(self) -> None:
        """Refuse ranges that mean nothing."""
        if self.scale_jitter is not None and not 0 < self.scale_jitter[0] <= self.scale_jitter[1]:
            raise ValueError(
                f"scale_jitter is (smallest, largest) with 0 < smallest <= largest, not {self.scale_jitter}"
            )
        if not 0 <= self.colour_jitter < 1:
            raise ValueError(f"colour_jitter is a share from 0 to below 1, not {self.colour_jitter}")
        if not 1 <= self.expand <= _MOST_EXPAND:
            raise ValueError(f"expand is a factor from 1 (no zooming out) to {_MOST_EXPAND}, not {self.expand}")
        if not 0 < self.crop <= 1:
            raise ValueError(f"crop is the least share of a side, above 0 to 1 (no cropping), not {self.crop}")

    @property
    def windows(self) -> bool:
        """Whether pictures are zoomed out or cropped."""
        return self.expand > 1 or self.crop < 1


@dataclass(frozen=True)
class EpochPlan:
    """One epoch: ``batches[k]`` are the picture indices of batch k, ``changes[k]`` what happens to each.

    ``shorts[k]`` is the short side to which its pictures are resized, or None.
    """

    batches: list[np.ndarray]
    changes: list[list[Change]]
    shorts: list[int | None]


def make_plan(
    sizes: np.ndarray,
    batch_size: int,
    seed: int,
    epoch: int,
    shuffle: bool,
    fill: bool,
    augmentation: Augmentation,
    shorts: Sequence[int] = (),
    bucket: bool = True,
) -> EpochPlan:
    """Plan one epoch.

    Wide and tall pictures never share a batch, so that padding stays small. Every picture comes at least
    once. With ``fill`` all batches are full: the last one of a bucket is filled up from the start of the
    bucket's order. Without it the last one is short and every picture comes exactly once. How many batches
    there are does not depend on the epoch.

    Args:
        sizes: (N, 2) heights and widths.
        batch_size: pictures in a batch.
        seed: with ``epoch`` decides everything.
        epoch: counted from 0.
        shuffle: new order of pictures and batches each epoch; otherwise the data set's order, bucket by
            bucket.
        fill: whether every batch is full.
        augmentation: what may be changed.
        shorts: one of these is drawn for each batch; empty for none.
        bucket: whether wide and tall pictures are kept apart; without it, all pictures are one bucket.
    """
    order_rng, change_rng, short_rng = (
        np.random.Generator(np.random.Philox(child)) for child in np.random.SeedSequence([seed, epoch]).spawn(3)
    )
    batches: list[np.ndarray] = []
    for members in buckets(sizes) if bucket else [np.arange(len(sizes))]:
        order = order_rng.permutation(members) if shuffle else members
        if fill and (short := -len(order) % batch_size):
            order = np.concatenate([order, np.resize(order, short)])
        batches += [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if shuffle:
        batches = [batches[place] for place in order_rng.permutation(len(batches))]
    drawn = [int(shorts[place]) for place in short_rng.integers(len(shorts), size=len(batches))] if shorts else None
    changes = [_draw(augmentation, len(batch), change_rng) for batch in batches]
    return EpochPlan(batches, changes, drawn or [None] * len(batches))


def picture_rng(seed: int, epoch: int, step: int, row: int) -> np.random.Generator:
    """The generator for one picture of one batch, independent of all others and of what `make_plan` draws."""
    # make_plan's generators are the children (0,), (1,) and (2,) of the same seed.
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch], spawn_key=(3, step, row))))


def buckets(sizes: np.ndarray) -> list[np.ndarray]:
    """Indices of the pictures at least as wide as tall, then of the others; no empty bucket."""
    wide = sizes[:, 1] >= sizes[:, 0]
    return [found for found in (np.flatnonzero(wide), np.flatnonzero(~wide)) if len(found)]


def _draw(augmentation: Augmentation, count: int, rng: np.random.Generator) -> list[Change]:
    """Changes for the pictures of one batch. The draws do not depend on what is switched on."""
    draws = rng.random((count, 6))
    # Wide pictures become tall ones for the whole batch or not at all: see make_plan on padding.
    sideways = rng.random() < 0.5
    low, high = np.log(augmentation.scale_jitter or (1.0, 1.0))
    jitter = augmentation.colour_jitter
    return [
        Change(
            scale=float(np.exp(low + (high - low) * row[0])) if augmentation.scale_jitter else 1.0,
            mirror=bool(augmentation.flip and row[1] < 0.5),
            upside_down=bool(augmentation.vertical_flip and row[2] < 0.5),
            quarter_turns=(2 * int(row[3] < 0.5) + int(sideways)) if augmentation.rotate90 else 0,
            contrast=float(1 + jitter * (2 * row[4] - 1)),
            brightness=float(128 * jitter * (2 * row[5] - 1)),
        )
        for row in draws
    ]
