"""Measures what a training step takes on one device: where an estimate for several starts from."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import keras

from zoo.plan_work import example_batch


@dataclass(frozen=True)
class MeasuredStep:
    """How long a step took.

    Attributes:
        seconds: median.
        fastest: the least.
        slowest: the most.
        device: on what.
    """

    seconds: float
    fastest: float
    slowest: float
    device: str


def measure_step(
    model: keras.Model, batch: int, size: tuple[int, int], repeats: int = 5, warm_up: int = 2
) -> MeasuredStep:
    """Train on random pictures that are in memory already, and stop the time. The model's weights change.

    Args:
        model: any of this package; it is compiled with SGD and momentum.
        batch: pictures a step.
        size: their height and width.
        repeats: steps that are timed.
        warm_up: steps before, the first of which traces.

    Example:
        >>> measure_step(zoo.get("resnet20"), 64, (32, 32)).seconds                           # doctest: +SKIP
        0.061
    """
    if batch < 1 or repeats < 1 or warm_up < 1:
        raise ValueError(f"batch={batch}, repeats={repeats}, warm_up={warm_up}; give at least 1 each")
    loss = {} if hasattr(model, "detect") else {"loss": "sparse_categorical_crossentropy"}
    # A rate at which nothing becomes infinite, which some processors are slow with.
    optimizer = keras.optimizers.SGD(1e-6, momentum=0.9)
    device = _device_name()
    # As `zoo.train` does: XLA is slow on a CPU.
    model.compile(optimizer=optimizer, jit_compile=False if device == "CPU" else "auto", **loss)
    x, y = example_batch(model, batch, size)
    x, y = keras.tree.map_structure(keras.ops.convert_to_tensor, (x, y))
    times = []
    for _ in range(warm_up + repeats):
        began = time.perf_counter()
        model.train_on_batch(x, y)  # gives numbers, so that it is done when it returns
        times.append(time.perf_counter() - began)
    times = times[warm_up:]
    return MeasuredStep(statistics.median(times), min(times), max(times), device)


def _device_name() -> str:
    """``CPU``, or what the accelerator is called."""
    if keras.backend.backend() != "tensorflow":
        return keras.backend.backend()
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU") if gpus else "CPU"
