"""Parameter servers and workers within the process of a test."""

import tensorflow as tf

from zoo.distribute.launch import free_ports

_servers = []  # TensorFlow has no way to stop one


def parameter_servers(workers: int, ps: int, shard_bytes: int = 64) -> tf.distribute.ParameterServerStrategy:
    """A strategy whose large variables are cut into pieces, on servers that run in threads."""
    addresses = [f"localhost:{port}" for port in free_ports(workers + ps)]
    spec = {"worker": addresses[:workers], "ps": addresses[workers:]}
    cluster = tf.train.ClusterSpec(spec)
    config = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=4)
    for job, count in (("worker", workers), ("ps", ps)):
        for index in range(count):
            _servers.append(tf.distribute.Server(cluster, job, index, config=config, protocol="grpc"))
    return strategy_of(spec, shard_bytes)


def strategy_of(spec: dict[str, list[str]], shard_bytes: int = 64) -> tf.distribute.ParameterServerStrategy:
    """The chief's strategy for a cluster that answers, given its addresses."""
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(tf.train.ClusterSpec(spec), rpc_layer="grpc")
    partitioner = tf.distribute.experimental.partitioners.MinSizePartitioner(shard_bytes, max_shards=len(spec["ps"]))
    return tf.distribute.ParameterServerStrategy(resolver, variable_partitioner=partitioner)
