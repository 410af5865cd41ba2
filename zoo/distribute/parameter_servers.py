"""Clusters with parameter servers: a chief that coordinates, workers that compute, servers that keep the parameters.

All processes run the same command. The chief goes on with it; workers and servers do what the chief tells them, until
it is gone.
"""

from __future__ import annotations

import ctypes
import os
import re
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from zoo.distribute.cluster import Cluster, ClusterError, Task, WorkerLostError
from zoo.distribute.meeting import check_port_free, meet
from zoo.distribute.resolve import find_cluster
from zoo.distribute.strategies import check_backend

if TYPE_CHECKING:
    import tensorflow as tf

SHARD_BYTES = 256 << 10  # variables are cut into pieces that have at least so many
_START = 300.0  # seconds that TensorFlow may take to start on all tasks, once these have met
_GONE = 30.0  # seconds without an answer after which the chief has ended
_LOOK, _CALL = 1.0, 2.0  # seconds between two questions, and for an answer
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # what a client of HTTP/2, and so of gRPC, begins with
# How TensorFlow says with whom it could not talk, and that a process started anew does not have what the old one had.
_RPC = "GRPC error information from remote target /job:{}"
_FORGOTTEN = ("unknown device", "Unable to find the relevant tensor remote_handle", "Primary device is not remote")
_EXAMPLE = "zoo launch --workers 2 --ps 1 -- zoo train --strategy parameter_server ..."


def server_strategy(
    cluster: Cluster | None = None, wait: float = 25.0, shard_bytes: int = SHARD_BYTES
) -> tf.distribute.ParameterServerStrategy:
    """The strategy, on the chief; a worker or a server serves until the chief has ended, and then exits with status 0.

    Args:
        cluster: by default what `find_cluster` finds; see `with_roles` for one without servers.
        wait: seconds until all tasks have to be there.
        shard_bytes: the least size of a piece; variables of twice that are spread over the servers.

    Make it before anything else uses TensorFlow, and the model after it, outside its scope.

    Raises:
        ClusterError: a cluster without chief, workers or servers; tasks that do not find each other; a port in use.

    Example:
        >>> strategy = server_strategy(wait=60)                          # doctest: +SKIP
        >>> model = zoo.get("faster_rcnn_resnet18", classes=classes)     # doctest: +SKIP
    """
    cluster = cluster or find_cluster(wait=wait)
    join_servers(cluster, wait)
    return take_part(cluster, shard_bytes)


def with_roles(cluster: Cluster, servers: int | None) -> Cluster:
    """The cluster whose first task coordinates and whose last ``servers`` keep the parameters, if all are workers.

    Slurm and an indexed Job of Kubernetes know workers only.

    >>> cluster = Cluster({"worker": ("a:1", "b:1", "c:1", "d:1")}, "worker", 3, "Slurm")
    >>> made = with_roles(cluster, 1)
    >>> made.jobs, str(made.me)
    ({'chief': ('a:1',), 'worker': ('b:1', 'c:1'), 'ps': ('d:1',)}, 'ps 0 at d:1')
    """
    if servers is None:
        return cluster
    if set(cluster.jobs) != {"worker"}:
        raise ClusterError(
            f"{cluster.source} says itself which tasks are servers ({', '.join(cluster.jobs)}); leave out --ps"
        )
    addresses = cluster.jobs["worker"]
    if servers < 1 or len(addresses) < servers + 2:
        raise ClusterError(
            f"{servers} parameter servers of {len(addresses)} tasks: at least 1 has to be a server, 1 a worker, and "
            "the first coordinates"
        )
    first = len(addresses) - servers
    jobs = {"chief": addresses[:1], "worker": addresses[1:first], "ps": addresses[first:]}
    job, index = next(
        (job, group.index(cluster.me.address)) for job, group in jobs.items() if cluster.me.address in group
    )
    return Cluster(jobs, job, index, cluster.source)


def check_servers(cluster: Cluster) -> None:
    """Raise a `ClusterError` unless there are a chief, workers and servers, and nothing else."""
    found = ", ".join(f"{job} ({len(addresses)})" for job, addresses in cluster.jobs.items())
    missing = [job for job in ("chief", "worker", "ps") if job not in cluster.jobs]
    if missing:
        what = {"chief": "chief that coordinates", "worker": "workers", "ps": "parameter servers (ps)"}
        hint = ", or say how many of the tasks are servers with --ps" if set(cluster.jobs) == {"worker"} else ""
        raise ClusterError(
            f"{cluster.source} has no {' and no '.join(what[job] for job in missing)}, only {found}; with parameter "
            f"servers all three are needed: try it with `{_EXAMPLE}`{hint}"
        )
    if len(cluster.jobs) > 3:
        raise ClusterError(f"{cluster.source} has {found}; with parameter servers only chief, worker and ps take part")


def join_servers(cluster: Cluster, wait: float = 25.0) -> None:
    """Meet the other tasks, without TensorFlow, so that what is wrong is told soon.

    A worker that is started again while the training runs meets nobody: the chief takes it back by itself.
    """
    check_servers(cluster)
    chief = _chief(cluster)
    if cluster.me != chief and speaks_grpc(chief):
        check_port_free(cluster.me)
        return
    meet(cluster, wait)


def take_part(cluster: Cluster, shard_bytes: int = SHARD_BYTES) -> tf.distribute.ParameterServerStrategy:
    """After `join_servers`: the chief's strategy, or a worker's or server's work and then the end of the process."""
    if cluster.job != "chief":
        _serve(cluster)
    others = [task for task in cluster.tasks if task.job != "chief"]
    check_backend("parameter_server")
    import tensorflow as tf

    until = time.monotonic() + _START
    while silent := [str(task) for task in others if not speaks_grpc(task)]:
        if time.monotonic() > until:
            raise ClusterError(
                f"{', '.join(silent)} did not start TensorFlow's server within {_START:.0f} s; look at the log there"
            )
        time.sleep(_LOOK)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({job: list(addresses) for job, addresses in cluster.jobs.items()}),
        task_type="chief",
        task_id=0,
        rpc_layer="grpc",
    )
    partitioner = tf.distribute.experimental.partitioners.MinSizePartitioner(
        shard_bytes, max_shards=len(cluster.jobs["ps"])
    )
    try:
        return tf.distribute.ParameterServerStrategy(resolver, variable_partitioner=partitioner)
    except RuntimeError as error:
        raise ClusterError(
            f"TensorFlow cannot join the cluster ({error}); make the strategy before anything else uses TensorFlow"
        ) from error


def _serve(cluster: Cluster) -> NoReturn:
    import tensorflow as tf

    # TensorFlow's own advice for machines with few cores: a worker may wait for others in all threads.
    threads = max(os.cpu_count() or 1, len(cluster.jobs["worker"]) + 1)
    config = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=threads)
    config.gpu_options.allow_growth = True
    spec = tf.train.ClusterSpec({job: list(addresses) for job, addresses in cluster.jobs.items()})
    try:
        server = tf.distribute.Server(spec, cluster.job, cluster.index, config=config, protocol="grpc")
    except tf.errors.OpError as error:
        raise ClusterError(f"{cluster.me}: TensorFlow's server does not start ({error.message})") from error
    print(f"{cluster.me} serves", flush=True)
    chief = _chief(cluster)
    seen, last = False, time.monotonic()
    while time.monotonic() - last < (_GONE if seen else _START):
        if speaks_grpc(chief):
            seen, last = True, time.monotonic()
        time.sleep(_LOOK)
    del server
    if not seen:
        raise WorkerLostError(f"{chief} met the others, but did not start within {_START:.0f} s; look at its log")
    print(f"{chief} has ended", flush=True)
    # TensorFlow has no way to stop a server; what else runs in this process belongs to it.
    sys.stdout.flush()
    os._exit(0)


def speaks_grpc(task: Task) -> bool:
    """Whether TensorFlow listens at the task's address: it answers as every server of HTTP/2 does, with its settings.

    The sockets of `zoo.distribute.meeting` do not.
    """
    try:
        with socket.create_connection((task.host, task.port), timeout=_CALL) as line:
            line.settimeout(_CALL)
            line.sendall(_PREFACE)
            return line.recv(9)[3:4] == b"\x04"
    except OSError:
        return False


def bytes_of_servers(variables: Iterable[Any]) -> dict[str, int]:
    """Bytes of parameters on each server, by ``"ps 0"``; variables in pieces count where these lie.

    >>> bytes_of_servers(ServerValues(objective, strategy).values)    # doctest: +SKIP
    {'ps 0': 268435456, 'ps 1': 268435456}
    """
    from zoo.distribute.downpour_rules import shards

    found: dict[str, int] = {}
    for part in (part for variable in variables for part in shards(variable)):
        _, _, task = part.device.partition("/job:")
        name = f"{task.partition('/')[0]} {task.partition('/task:')[2].partition('/')[0]}"
        found[name] = found.get(name, 0) + part.dtype.size * int(part.shape.num_elements())
    return dict(sorted(found.items()))


def coordinator_of(strategy: tf.distribute.ParameterServerStrategy) -> tf.distribute.coordinator.ClusterCoordinator:
    """The strategy's coordinator.

    It is never taken apart: when Python ends, TensorFlow's own way to do so waits for ever for a worker that has died.
    """
    import tensorflow as tf

    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(coordinator))
    return coordinator


def fetched(remote: Any) -> Any:
    """What a worker has computed, brought here; None if the worker died after it was done, and its result with it.

    TensorFlow gives a dead worker's work to others, but what it had finished it only has in its own memory.
    """
    import tensorflow as tf

    try:
        return remote.fetch()
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.InvalidArgumentError) as error:
        text = str(error)
        own = isinstance(error, tf.errors.InvalidArgumentError) and not any(each in text for each in _FORGOTTEN)
        if own or _RPC.format("worker") not in text or _RPC.format("ps") in text:
            raise
        return None


@contextmanager
def naming_lost_servers(coordinator: tf.distribute.coordinator.ClusterCoordinator) -> Iterator[None]:
    """Turn what TensorFlow says when a parameter server is gone into a `WorkerLostError`."""
    import tensorflow as tf

    gone = (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.FailedPreconditionError,
        tf.errors.CancelledError,
    )
    try:
        yield
    except gone as error:
        cause: Exception = error
        if isinstance(error, tf.errors.CancelledError):
            # Cancelled because of another's error, which the coordinator keeps.
            try:
                coordinator.join()
            except Exception as first:
                cause = first
        if not isinstance(cause, gone):
            raise cause from error
        server = re.search(r"/job:ps/replica:\d+/task:(\d+)", str(cause))
        which = "a parameter server" if server is None else f"parameter server {server[1]}"
        reason = str(cause).strip().partition("\n")[0][:300]
        raise WorkerLostError(
            f"{which} has ended ({reason}); start the cluster again and resume: what was done since the last "
            "checkpoint is lost"
        ) from cause


def _chief(cluster: Cluster) -> Task:
    return next(task for task in cluster.tasks if task.job == "chief")
