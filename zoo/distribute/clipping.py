"""Gradient clipping that sees the whole batch's gradient."""

from __future__ import annotations

from typing import Any

import keras


def clip_summed_gradients(optimizer: keras.optimizers.Optimizer) -> None:
    """Make ``optimizer`` clip the sum of all replicas' gradients, once.

    Keras clips each replica's share before the shares are summed: with n replicas, gradients n times as long pass
    through ``global_clipnorm``. The loss is divided by the number of replicas, so that the sum is the gradient of the
    global batch's mean loss, which is what one device clips.
    """
    # With float16 Keras wraps the optimizer in one that scales the loss; the one inside clips.
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if not (optimizer.clipnorm or optimizer.global_clipnorm or optimizer.clipvalue):
        return
    clip, add_up = optimizer._clip_gradients, optimizer._all_reduce_sum_gradients

    def add_up_then_clip(pairs: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        gradients, variables = zip(*add_up(pairs), strict=True)
        return list(zip(clip(list(gradients)), variables, strict=True))

    # Keras 3 has no public place between the two; the versions that this package takes are bounded for that.
    vars(optimizer)["_clip_gradients"] = list
    vars(optimizer)["_all_reduce_sum_gradients"] = add_up_then_clip
