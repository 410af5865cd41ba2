"""Trains a tiny detector on one device and on two logical ones, and compares; run by ``test_detect.py``."""

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

sys.path.insert(0, str(Path(__file__).parent))
from tiny import tiny_detector

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


def data() -> tf.data.Dataset:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 40, (4, 2, 2))
    x = {
        "images": rng.integers(0, 256, (4, 64, 80, 3)).astype("uint8"),
        "sizes": np.full((4, 2), (64, 80), "int32"),
        "image_id": np.arange(4, dtype="int32"),
    }
    y = {
        "boxes": np.concatenate([corners, corners + 20], axis=-1).astype("float32"),
        "classes": rng.integers(0, 2, (4, 2)).astype("int32"),
    }
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(4, drop_remainder=True).repeat(5)


def trained(strategy) -> list[np.ndarray]:
    with strategy.scope():
        model = tiny_detector()
        model.compile(optimizer=keras.optimizers.SGD(0.05, momentum=0.9))
        model.fit(data(), epochs=1, verbose=0)
        return [np.asarray(v) for v in model.weights]


one = trained(tf.distribute.OneDeviceStrategy("CPU:0"))
two = trained(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
worst = max(np.abs(a - b).max() for a, b in zip(one, two, strict=True))
assert worst < 1e-5, worst
print("equal to", worst)
