"""A cluster whose workers and servers are processes of their own, so that one can be killed, and bytes be counted."""

import contextlib
import multiprocessing
import os
import socket
import stat
import time


def start(groups, ps):
    """The cluster's addresses, and a process for each group of tasks; call it before TensorFlow is imported.

    Args:
        groups: of tasks, such as ``[("ps", 0), ("worker", 0)]``.
        ps: how many are servers.
    """
    tasks = [task for group in groups for task in group]
    sockets = {task: socket.socket() for task in tasks}
    for each in sockets.values():
        each.bind(("localhost", 0))
    spec = {}
    for job, index in sorted(tasks):
        spec.setdefault(job, []).append(f"localhost:{sockets[job, index].getsockname()[1]}")
    for each in sockets.values():
        each.close()
    assert len(spec["ps"]) == ps
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=_serve, args=(spec, group), daemon=True) for group in groups]
    for each in processes:
        each.start()
    return spec, processes


def join(spec, shard_bytes=64):
    """The chief's strategy, once all answer."""
    import tensorflow as tf

    for address in (address for job in spec.values() for address in job):
        until = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(address.split(":"), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < until, f"nobody listens at {address}"
                time.sleep(0.1)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(tf.train.ClusterSpec(spec), rpc_layer="grpc")
    partitioner = tf.distribute.experimental.partitioners.MinSizePartitioner(shard_bytes, max_shards=len(spec["ps"]))
    return tf.distribute.ParameterServerStrategy(resolver, variable_partitioner=partitioner)


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
