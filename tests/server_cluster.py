"""Parameter servers and workers within the process of a test."""

import socket

import tensorflow as tf

_servers = []  # TensorFlow has no way to stop one


def parameter_servers(workers: int, ps: int, shard_bytes: int = 64) -> tf.distribute.ParameterServerStrategy:
    """A strategy whose large variables are cut into pieces, on servers that run in threads."""
    sockets = [socket.socket() for _ in range(workers + ps)]
    for each in sockets:
        each.bind(("localhost", 0))
    addresses = [f"localhost:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    spec = tf.train.ClusterSpec({"worker": addresses[:workers], "ps": addresses[workers:]})
    config = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=4)
    for job, count in (("worker", workers), ("ps", ps)):
        for index in range(count):
            _servers.append(tf.distribute.Server(spec, job, index, config=config, protocol="grpc"))
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(spec, rpc_layer="grpc")
    partitioner = tf.distribute.experimental.partitioners.MinSizePartitioner(shard_bytes, max_shards=ps)
    return tf.distribute.ParameterServerStrategy(resolver, variable_partitioner=partitioner)
