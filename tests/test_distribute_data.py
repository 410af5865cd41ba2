"""Classification batches that several workers share."""

import numpy as np
import pytest
from test_class_batches import augmentation, photos

from zoo.datasets.class_batches import ClassBatches


@pytest.mark.parametrize("name", ["crop-flip", "alexnet"])
def test_the_parts_are_the_batches_of_one(name):
    whole = ClassBatches(photos(), 6, augmentation(name), seed=3)
    shards = [whole.shard(index, 3) for index in range(3)]
    for epoch in range(2):
        images, labels = whole.batch(epoch, 0)
        parts = [shard.batch(epoch, 0) for shard in shards]
        np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), images)
        np.testing.assert_array_equal(np.concatenate([part[1] for part in parts]), labels)
        assert [name for shard in shards for name in shard.image_ids(epoch, 0)] == whole.image_ids(epoch, 0)
    halves = [shards[1].shard(index, 2) for index in range(2)]
    np.testing.assert_array_equal(np.concatenate([half.batch(1, 0)[0] for half in halves]), shards[1].batch(1, 0)[0])
    with pytest.raises(ValueError, match="a batch of 6 pictures is no multiple of 4 workers"):
        whole.shard(0, 4)
    with pytest.raises(ValueError, match="shard 2 of 2: give 0 to 1"):
        whole.shard(2, 2)


def test_workers_of_a_strategy_get_their_replicas_parts():
    import tensorflow as tf

    whole = ClassBatches(photos(), 4, augmentation("crop-flip"), seed=3)
    replicas = []
    for worker in range(2):
        data = whole.per_worker(tf.distribute.InputContext(2, worker, 4), start_epoch=1, start_step=1)
        assert int(data.cardinality()) == tf.data.INFINITE_CARDINALITY
        assert data.element_spec[0].shape == (1, 32, 32, 3)
        replicas.append(list(data.take(6).as_numpy_iterator()))
    for turn in range(3):
        parts = [replicas[worker][2 * turn + local] for worker in range(2) for local in range(2)]
        images, labels = whole.batch(*divmod(len(whole) + 1 + turn, len(whole)))
        np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), images)
        np.testing.assert_array_equal(np.concatenate([part[1] for part in parts]), labels)


def test_an_error_of_a_part_is_found_at_the_whole():
    import tensorflow as tf

    data = photos()
    data._read = None  # whatever reads a picture now fails
    whole = ClassBatches(data, 4, augmentation("crop-flip"))
    with pytest.raises(tf.errors.OpError):
        next(iter(whole.per_worker(tf.distribute.InputContext(2, 0, 2))))
    assert whole.error is not None
