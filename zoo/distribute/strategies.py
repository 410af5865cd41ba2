"""Makes the ``tf.distribute`` strategy of a training."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from zoo.distribute.cluster import Cluster, ClusterError
from zoo.distribute.meeting import meet
from zoo.distribute.resolve import find_cluster

if TYPE_CHECKING:
    import tensorflow as tf

STRATEGIES = ("none", "mirrored", "multi_worker", "parameter_server")


def make_strategy(
    name: str = "none", devices: int | None = None, cluster: Cluster | None = None, wait: float = 25.0
) -> tf.distribute.Strategy:
    """The strategy of that name. Build the model under its ``scope()``; `zoo.train` then does the rest.

    Args:
        name: ``"none"`` for TensorFlow's default, one device; ``"mirrored"`` for the devices of this machine;
            ``"multi_worker"`` for all devices of several processes or machines, which train in step;
            ``"parameter_server"`` for Downpour and Sandblaster, see
            `zoo.distribute.parameter_servers.server_strategy`: only the chief comes back from here, and it builds its
            model outside the scope.
        devices: for ``"mirrored"``, how many: the first of the GPUs or, without GPUs, so many logical devices on the
            CPU, for trying it. All GPUs by default.
        cluster: for the last two; by default what `find_cluster` finds.
        wait: for the last two, seconds until all tasks have to be there.

    Make it before anything else uses TensorFlow.

    Raises:
        ClusterError: for the last two, if the tasks do not find each other within ``wait`` seconds, or the own port
            is in use.

    Example:
        >>> strategy = make_strategy("mirrored")                                              # doctest: +SKIP
        >>> with strategy.scope():                                                            # doctest: +SKIP
        ...     model = zoo.get("faster_rcnn_vgg16", classes=data.classes)
        >>> zoo.train(model, data, batch_size=8, epochs=10, out="runs/mirrored")              # doctest: +SKIP
    """
    if name not in STRATEGIES:
        raise ValueError(f"strategy {name!r}; choose one of {', '.join(STRATEGIES)}")
    if devices is not None and name != "mirrored":
        raise ValueError(f"devices={devices}: for the strategy mirrored only; {name} takes all that it sees")
    if name == "multi_worker":
        join_workers(cluster or find_cluster(wait=wait), wait)
        return multi_worker_strategy()
    if name == "parameter_server":
        from zoo.distribute.parameter_servers import server_strategy

        return server_strategy(cluster, wait)
    check_backend(name)
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(_devices(devices)) if name == "mirrored" else tf.distribute.get_strategy()


def join_workers(cluster: Cluster, wait: float = 25.0) -> None:
    """Meet the other workers of ``cluster`` and set ``TF_CONFIG``, without TensorFlow, which waits for hours."""
    strange = sorted(set(cluster.jobs) - {"chief", "worker"})
    if strange:
        raise ClusterError(
            f"{cluster.source} has {', '.join(strange)}, but with the strategy multi_worker all tasks are workers (one "
            "of them may be the chief)"
        )
    meet(cluster, wait)
    os.environ["TF_CONFIG"] = cluster.tf_config()


def multi_worker_strategy() -> tf.distribute.MultiWorkerMirroredStrategy:
    """The strategy of workers that have met; `make_strategy` calls it after `join_workers`."""
    check_backend("multi_worker")
    import tensorflow as tf

    kinds = tf.distribute.experimental.CommunicationImplementation
    kind = kinds.AUTO if tf.config.list_physical_devices("GPU") else kinds.RING
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(
            communication_options=tf.distribute.experimental.CommunicationOptions(implementation=kind)
        )
    except RuntimeError as error:
        raise ClusterError(
            f"TensorFlow cannot join the cluster ({error}); make the strategy before anything else uses TensorFlow"
        ) from error


def check_backend(name: str) -> None:
    """Raise unless Keras runs on TensorFlow, or the strategy is none."""
    import keras

    if name != "none" and keras.backend.backend() != "tensorflow":
        raise ValueError(f"strategy {name!r} is TensorFlow's; unset KERAS_BACKEND={keras.backend.backend()}")


def _devices(count: int | None) -> list[str]:
    import tensorflow as tf

    if count is not None and count < 1:
        raise ValueError(f"devices={count}; give at least 1")
    gpus = len(tf.config.list_physical_devices("GPU"))
    if gpus:
        if (count or 1) > gpus:
            raise ValueError(f"devices={count}, but this machine shows {gpus} GPUs; give at most {gpus}")
        return [f"GPU:{number}" for number in range(count or gpus)]
    cpu, logical = tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * (count or 1)
    try:
        tf.config.set_logical_device_configuration(cpu, logical)
    except RuntimeError as error:
        if len(tf.config.list_logical_devices("CPU")) < len(logical):
            raise ValueError(
                f"devices={count}: TensorFlow has divided the CPU already; make the strategy before anything else "
                "uses TensorFlow"
            ) from error
    return [f"CPU:{number}" for number in range(len(logical))]
