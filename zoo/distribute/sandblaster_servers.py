"""Sandblaster's workers as processes of a cluster: parameters on its servers, units through its coordinator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from zoo.distribute.clock import when
from zoo.distribute.observer import Observer
from zoo.distribute.parameter_servers import bytes_of_servers, coordinator_of, fetched, naming_lost_servers
from zoo.distribute.sandblaster_model import Draw, Objective, Prepare, examples_of, given_to, to_sums
from zoo.distribute.sandblaster_pool import UnitSums, Worker
from zoo.distribute.server_slots import Slots, slot_type
from zoo.distribute.server_vectors import ServerVector, ServerVectors


class ServerValues:
    """A model's parameters and state as plain variables on parameter servers.

    Args:
        objective: its model was built outside the strategy's scope, because Keras's variables cannot be sharded.
        strategy: with a ``variable_partitioner`` large parameters are spread over the servers.

    Attributes:
        values: one for each trainable variable, in one piece or in shards along the first axis.
        state: one for each of the others.
    """

    def __init__(self, objective: Objective, strategy: tf.distribute.ParameterServerStrategy) -> None:
        """Copies the model's."""
        with strategy.scope():
            self.values = [tf.Variable(np.asarray(each)) for each in objective.trainable]
            self.state = [tf.Variable(np.asarray(each), trainable=False) for each in objective.state]

    def read(self) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """All of them, whole: here or, in a function that is scheduled, on a worker."""
        return [tf.convert_to_tensor(each) for each in self.values], [tf.convert_to_tensor(each) for each in self.state]


def server_workers(
    objective: Objective,
    data: Sequence[tuple[Any, Any]],
    strategy: tf.distribute.ParameterServerStrategy,
    observer: Observer | None = None,
    vectors: Literal["chief", "servers"] = "chief",
) -> tuple[dict[str, Worker], Prepare, ServerVectors | None]:
    """As many workers as the strategy's cluster has, and what brings a point to its servers.

    Each of them stands for whatever process TensorFlow gives a unit to: one that dies has its unit computed by another,
    and takes part again when it is back. The coordinator reads the data and sends each unit along with its number: a
    process needs nothing of its own, and for pictures that is far less than the gradient that comes back. A server that
    dies ends the pass with a `WorkerLostError`; start again with ``resume``.

    With ``vectors="servers"`` a point is a `ServerVector`, of which the servers set their own parameters, and the
    gradient of a unit goes from the worker to the servers (see `Slots`). What comes back to the coordinator is then the
    loss, the state and a detector's proposals.

    Args:
        objective: its model was built after the strategy was made (TensorFlow joins the cluster then, and loses what
            was there before), and outside its scope.
        data: one ``(x, y)`` for each unit.
        strategy: see `ServerValues`.
        observer: is told where the parameters lie.
        vectors: where gradients are added up.

    Returns:
        The workers, what prepares a point for them, and where the vectors lie (None: here).
    """
    coordinator = coordinator_of(strategy)
    servers = ServerValues(objective, strategy)
    if observer is not None:
        observer.placed(servers=bytes_of_servers(servers.values))

    count = workers_of_cluster()
    space = ServerVectors(servers.values, coordinator) if vectors == "servers" else None
    slots = space and Slots(space, count, slot_type([each.dtype for each in servers.values]))

    def prepare(x: np.ndarray | ServerVector, draw: Draw | None) -> Draw:
        if space is not None:
            space.assign(x)
        with naming_lost_servers(coordinator):
            if space is None:
                for variable, value in zip(servers.values, objective.split(x), strict=True):
                    variable.assign(value)
            for variable, value in zip(servers.state, objective.state, strict=True):
                variable.assign(np.asarray(value))
        return draw or Draw()

    @tf.function(reduce_retracing=True, autograph=False)
    def sums(x: Any, y: Any, unit: Any, number: Any, kept: Any, handles: Any, ticket: Any) -> Any:
        began = when([unit])
        with tf.control_dependencies([began]):
            values, state = servers.read()
        fetched = when([state, values])
        loss, gradients, *rest = objective.sums(values, state, x, y, unit, number, kept)
        done = when([gradients, loss])
        if slots is not None:
            slots.write(handles, gradients, ticket)
            gradients = []
        worker = tf.distribute.coordinator.experimental_get_current_worker_index()
        return (loss, gradients, *rest), fetched - began, done - fetched, worker

    def work(draw: Draw, unit: int, slot: int) -> UnitSums:
        (x, y), number, kept = given_to(data, unit, draw)
        args = (x, y, tf.constant(unit), number, kept)
        while True:  # until somebody has done it who lives to tell
            ticket = None if slots is None else slots.ticket()
            own = ([], None) if slots is None else (slots.handles(slot), ticket)
            result = fetched(coordinator.schedule(sums, args=args + own))
            gradient = None if result is None or slots is None else slots.take(slot, ticket)
            if result is not None and (slots is None or gradient is not None):
                break
        found, fetch, compute, worker = result
        told = {"worker": f"worker {int(worker)}", "fetch": float(fetch), "compute": float(compute)}
        part = to_sums(found, examples_of(x), **told)
        return part if gradient is None else replace(part, gradient=gradient)

    return {f"worker {number}": partial(work, slot=number) for number in range(count)}, prepare, space


def workers_of_cluster() -> int:
    """How many workers there are in the cluster that TensorFlow has joined."""
    return sum("/job:worker/" in device.name for device in tf.config.list_logical_devices("CPU"))


def hosts_of(strategy: tf.distribute.ParameterServerStrategy) -> int:
    """How many machines the workers and servers of a cluster are on, by the names in its addresses."""
    # The public property is None for this strategy.
    jobs = strategy._cluster_resolver.cluster_spec().as_dict().values()
    return len({address.rpartition(":")[0] for addresses in jobs for address in addresses})
