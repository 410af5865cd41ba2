"""Two replicas read batches by both ways that TensorFlow offers; run by ``test_pipeline_shards.py``."""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

sys.path.insert(0, str(Path(__file__).parent))
from marked import mixed, same

from zoo.datasets.pipeline import Batches

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
batches = Batches(mixed(), 4, crop=0.5, short=(24, 40))


def replicas_of(element) -> list:
    """What each replica got, in order."""
    return [
        tf.nest.map_structure(lambda value, place=place: strategy.experimental_local_results(value)[place], element)
        for place in range(2)
    ]


for data in (
    strategy.distribute_datasets_from_function(batches.per_worker),
    strategy.experimental_distribute_dataset(batches.dataset()),
):
    for step, element in zip(range(len(batches) + 2), data, strict=False):
        parts = replicas_of(element)
        joined = [
            {name: np.concatenate([part[half][name] for part in parts]) for name in parts[0][half]} for half in (0, 1)
        ]
        assert len(parts[0][0]["images"]) == len(parts[1][0]["images"]) == 2
        same(joined, batches.batch(*divmod(step, len(batches))))
print("equal")
