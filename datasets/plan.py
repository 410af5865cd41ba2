"""Which pictures make up which batch, and how each is changed: arithmetic on (seed, epoch), no pixels."""

from dataclasses import dataclass

import numpy as np

from zoo.datasets.augment import Change


@dataclass(frozen=True)
class Augmentation:
    """What may be changed at random; the defaults change nothing.

    Attributes:
        flip: mirror left to right, half of the time.
        vertical_flip: the same top to bottom (right for microscopes and satellites, wrong for street scenes).
        rotate90: turn by a random multiple of 90 degrees.
        scale_jitter: range of a factor on height and width, drawn evenly on a logarithmic scale. A model that
            scales every picture to one short side undoes it.
        colour_jitter: contrast changes by up to this share, brightness by up to this share of 128 levels.
    """

    flip: bool = False
    vertical_flip: bool = False
    rotate90: bool = False
    scale_jitter: tuple[float, float] | None = None
    colour_jitter: float = 0.0

    def __post_init__(self) -> None:
        """Refuse ranges that mean nothing."""
        if self.scale_jitter is not None and not 0 < self.scale_jitter[0] <= self.scale_jitter[1]:
            raise ValueError(
                f"scale_jitter is (smallest, largest) with 0 < smallest <= largest, not {self.scale_jitter}"
            )
        if not 0 <= self.colour_jitter < 1:
            raise ValueError(f"colour_jitter is a share from 0 to below 1, not {self.colour_jitter}")


@dataclass(frozen=True)
class EpochPlan:
    """One epoch: ``batches[k]`` are the picture indices of batch k, ``changes[k]`` what happens to each."""

    batches: list[np.ndarray]
    changes: list[list[Change]]


def make_plan(
    sizes: np.ndarray,
    batch_size: int,
    seed: int,
    epoch: int,
    shuffle: bool,
    fill: bool,
    augmentation: Augmentation,
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
    """
    order_rng, change_rng = (
        np.random.Generator(np.random.Philox(child)) for child in np.random.SeedSequence([seed, epoch]).spawn(2)
    )
    batches: list[np.ndarray] = []
    for bucket in buckets(sizes):
        order = order_rng.permutation(bucket) if shuffle else bucket
        if fill and (short := -len(order) % batch_size):
            order = np.concatenate([order, np.resize(order, short)])
        batches += [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if shuffle:
        batches = [batches[place] for place in order_rng.permutation(len(batches))]
    return EpochPlan(batches, [_draw(augmentation, len(batch), change_rng) for batch in batches])


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
