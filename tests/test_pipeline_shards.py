"""Several workers: their parts are the batches of one, each reads its own pictures only."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from marked import mixed, same

from zoo.datasets.pipeline import Batches

OPTIONS = {"seed": 2, "rotate90": True, "crop": 0.5, "expand": 2.0, "short": (24, 40), "colour_jitter": 0.2}


def joined(parts):
    return tuple(
        {name: np.concatenate([part[half][name] for part in parts]) for name in parts[0][half]} for half in (0, 1)
    )


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_the_parts_are_the_batches_of_one(count):
    whole = Batches(mixed(), 6, **OPTIONS)
    shards = [Batches(mixed(), 6, **OPTIONS).shard(index, count) for index in range(count)]
    for epoch in (0, 3):
        for step in range(len(whole)):
            same(joined([shard.batch(epoch, step) for shard in shards]), whole.batch(epoch, step))
        plans = zip(*(shard.plan(epoch) for shard in shards), strict=True)
        together = [np.concatenate(parts).tolist() for parts in plans]
        assert together == [indices.tolist() for indices in whole.plan(epoch)]
    for shard in shards:
        assert shard.batch_size == 6 // count
        assert len(shard) == shard.steps_per_epoch == len(whole)
        assert shard.shapes()["images"] == (6 // count, None, None, 3)
    assert [name for shard in shards for name in shard.image_ids(1, 0)] == whole.image_ids(1, 0)


def test_each_worker_reads_its_own_pictures():
    data = mixed(12)
    shard = Batches(data, 4, **OPTIONS).shard(1, 2)
    for step in range(len(shard)):
        shard.batch(0, step)
    assert data.reads == 2 * len(shard)


def test_parts_of_parts():
    whole = Batches(mixed(), 6, **OPTIONS)
    quarters = [whole.shard(outer, 3).shard(inner, 2) for outer in range(3) for inner in range(2)]
    same(joined([part.batch(1, 1) for part in quarters]), whole.batch(1, 1))


def test_a_part_leaves_the_whole_as_it_is():
    whole = Batches(mixed(), 6, **OPTIONS)
    before = whole.batch(0, 0)
    whole.shard(1, 2).batch(0, 0)
    assert whole.batch_size == 6
    same(whole.batch(0, 0), before)


@pytest.mark.parametrize(("index", "count"), [(-1, 2), (2, 2), (0, 0)])
def test_parts_that_are_not_there(index, count):
    with pytest.raises(ValueError, match=f"shard {index} of {count}: give 0 to"):
        Batches(mixed(), 6).shard(index, count)


def test_batches_that_cannot_be_shared_out():
    with pytest.raises(ValueError, match="a batch of 6 pictures is no multiple of 4 workers"):
        Batches(mixed(), 6).shard(0, 4)


def test_of_a_short_batch_the_last_workers_get_less():
    for count, expected in ((11, [1, 2, 2, 2, 2, 2]), (8, [0, 0, 2, 2, 2, 2])):
        whole = Batches(mixed(count), 6, drop_remainder=False, **{**OPTIONS, "bucket": False})
        shards = [whole.shard(index, 3) for index in range(3)]
        parts = [[shard.batch(1, step) for shard in shards] for step in range(2)]
        assert sorted(len(x["images"]) for step in parts for x, _ in step) == expected
        # An empty part has the axes of a full one.
        for step, made in enumerate(parts):
            same(joined(made), whole.batch(1, step))


def test_workers_of_a_strategy_get_their_replicas_parts():
    import tensorflow as tf

    whole = Batches(mixed(), 8, **OPTIONS)
    replicas = []
    for worker in range(2):
        data = whole.per_worker(tf.distribute.InputContext(2, worker, 4), start_epoch=1, start_step=1)
        assert int(data.cardinality()) == tf.data.INFINITE_CARDINALITY
        assert data.element_spec[0]["images"].shape[0] == 2
        assert not any(spec.dtype == tf.string for half in data.element_spec for spec in half.values())
        replicas.append(list(data.take(6).as_numpy_iterator()))
    for turn in range(3):
        parts = [replicas[worker][2 * turn + local] for worker in range(2) for local in range(2)]
        epoch, step = divmod(len(whole) + 1 + turn, len(whole))
        same(joined(parts), whole.batch(epoch, step))


def test_a_mirrored_strategy_reads_the_batches_of_one():
    script = Path(__file__).with_name("pipeline_mirrored.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "equal" in done.stdout
