"""A cluster whose workers and servers are processes of their own, so that one can be killed, and bytes be counted."""

import contextlib
import multiprocessing
import os
import socket
import stat

from zoo.distribute.cluster import Task
from zoo.distribute.launch import free_ports
from zoo.distribute.meeting import wait_until_open


def start(groups, ps):
    """The cluster's addresses, and a process for each group of tasks; call it before TensorFlow is imported.

    Args:
        groups: of tasks, such as ``[("ps", 0), ("worker", 0)]``.
        ps: how many are servers.
    """
    tasks = sorted(task for group in groups for task in group)
    spec = {}
    for (job, _), port in zip(tasks, free_ports(len(tasks)), strict=True):
        spec.setdefault(job, []).append(f"localhost:{port}")
    assert len(spec["ps"]) == ps
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=_serve, args=(spec, group), daemon=True) for group in groups]
    for each in processes:
        each.start()
    return spec, processes


def join(spec, shard_bytes=64):
    """The chief's strategy, once all answer."""
    from server_cluster import strategy_of

    wait_until_open([Task(job, index, each) for job in spec for index, each in enumerate(spec[job])], wait=120)
    return strategy_of(spec, shard_bytes)


def bytes_received():
    """Bytes that have come to this process over the TCP connections that it has open (Linux)."""
    total = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the folder itself, which is closed by now
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                with socket.socket(fileno=os.dup(int(name))) as line:
                    if line.type == socket.SOCK_STREAM and line.family in (socket.AF_INET, socket.AF_INET6):
                        information = line.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
                        total += int.from_bytes(information[128:136], "little")  # tcpi_bytes_received
    return total


def _serve(spec, group):
    import tensorflow as tf

    config = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=4)
    servers = [
        tf.distribute.Server(tf.train.ClusterSpec(spec), *task, config=config, protocol="grpc") for task in group
    ]
    servers[0].join()
