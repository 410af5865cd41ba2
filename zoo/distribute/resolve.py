"""Finds the cluster that this process belongs to: in ``TF_CONFIG``, from Slurm, or from Kubernetes."""

from __future__ import annotations

import importlib
import os
import time
from typing import Any

from zoo.distribute.cluster import Cluster, ClusterError, check_cluster, parse_tf_config

SOURCES = ("auto", "tf_config", "slurm", "kubernetes")

# Below the ports that Linux gives out by itself (from 32768), above those of services; every job has its own.
_SLURM_PORTS = (12_000, 20_000)
_KUBERNETES_PORT = 2222


def find_cluster(source: str = "auto", pods: str | None = None, wait: float = 25.0) -> Cluster:
    """The cluster that this process belongs to.

    Args:
        source: ``"tf_config"``, ``"slurm"``, ``"kubernetes"``, or ``"auto"``: ``TF_CONFIG`` if it is set (Kubeflow's
            training operator sets it), else Slurm inside a step of ``srun``.
        pods: for ``"kubernetes"``, the label that selects the workers' pods, such as ``"job-name=cells"``.
        wait: for ``"kubernetes"``, seconds until all pods have to run.

    Raises:
        ClusterError: if there is none, or if it makes no sense.
    """
    if source not in SOURCES:
        raise ClusterError(f"cluster {source!r}; choose one of {', '.join(SOURCES)}")
    if source == "auto":
        source = "tf_config" if "TF_CONFIG" in os.environ else "slurm" if "SLURM_STEP_ID" in os.environ else source
    if source == "tf_config":
        text = os.environ.get("TF_CONFIG", "")
        if not text.strip():
            raise ClusterError("TF_CONFIG is not set; `zoo launch` sets it on one machine, Kubeflow on several")
        return parse_tf_config(text)
    if source == "slurm":
        return slurm_cluster()
    if source == "kubernetes":
        return kubernetes_cluster(_kubernetes_client(), pods, wait)
    raise ClusterError(
        "several workers have to know each other: set TF_CONFIG on each, start them with srun, or try it on this "
        "machine with `zoo launch --workers 2 -- zoo train ...`"
    )


def slurm_cluster() -> Cluster:
    """The tasks of this step of ``srun``, all of them workers, as TensorFlow's ``SlurmClusterResolver`` finds them.

    A node's first worker listens at a port made from the job's number, the others at those that follow. Which
    accelerators a task sees is left to Slurm (``--gpus-per-task``).
    """
    wanted = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE")
    missing = [name for name in wanted if name not in os.environ]
    if missing:
        raise ClusterError(f"{', '.join(missing)} not set: start the workers with srun, inside sbatch or salloc")
    import tensorflow as tf

    first, count = _SLURM_PORTS
    job = os.environ.get("SLURM_JOB_ID", "0")
    try:
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            port_base=first + (int(job) * 16 % count if job.isdigit() else 0),
            # It divides a node's accelerators among its tasks, and fails where there are none: as if each had one.
            gpus_per_node=int(os.environ["SLURM_STEP_NUM_TASKS"]),
            gpus_per_task=1,
            auto_set_gpu=False,
        )
        jobs = resolver.cluster_spec().as_dict()
    except (ValueError, RuntimeError, AssertionError) as error:
        raise ClusterError(f"Slurm's variables make no cluster ({error}): start the workers with srun") from error
    name, index = resolver.get_task_info()
    cluster = check_cluster(jobs, name, index, "Slurm")
    node = os.environ.get("SLURMD_NODENAME", cluster.me.host)
    if node != cluster.me.host:
        # TensorFlow sorts the nodes by their letters, Slurm by their numbers: n9, n10.
        raise ClusterError(
            f"{cluster.me} runs on {node}: TensorFlow takes the nodes {os.environ['SLURM_STEP_NODELIST']} in another "
            "order than Slurm; choose nodes whose numbers have equally many digits, or set TF_CONFIG"
        )
    return cluster


def kubernetes_cluster(client: Any, pods: str | None, wait: float = 25.0) -> Cluster:
    """The pods of an indexed Job, all of them workers, as TensorFlow's ``KubernetesClusterResolver`` finds them.

    The resolver gives the nodes' addresses: the pods need ``hostNetwork: true`` and a node each. (Kubeflow's
    training operator needs none of this: it sets ``TF_CONFIG``.)

    Args:
        client: ``CoreV1Api`` of the package ``kubernetes``.
        pods: label of the pods, such as ``"job-name=cells"``.
        wait: seconds until all of them have to run.
    """
    if not pods:
        raise ClusterError("Kubernetes: say which pods are the workers, such as --pods job-name=cells")
    index = os.environ.get("JOB_COMPLETION_INDEX", "")
    if not index.isdigit():
        raise ClusterError(
            "Kubernetes: JOB_COMPLETION_INDEX is not set, which tells a worker its number; give the Job "
            "`completionMode: Indexed`, or set TF_CONFIG"
        )
    import tensorflow as tf

    resolver = tf.distribute.cluster_resolver.KubernetesClusterResolver(
        {"worker": [pods]}, _KUBERNETES_PORT, override_client=client
    )
    until = time.monotonic() + wait
    while True:
        try:
            found = resolver.cluster_spec().as_dict().get("worker", [])
            break
        except RuntimeError as error:  # a pod that does not run yet
            if time.monotonic() > until:
                raise ClusterError(f"Kubernetes: after {wait:.0f} s, {error}; wait longer with --wait") from error
            time.sleep(min(1.0, wait / 4))
    if not found:
        raise ClusterError(f"Kubernetes: no pod has the label {pods}; give the workers' label with --pods")
    # The resolver sorts by name: job-1-x, job-10-x, job-2-x.
    order = sorted(range(len(found)), key=lambda number: f"{number}-")
    addresses = [found[order.index(number)] for number in range(len(found))]
    return check_cluster({"worker": addresses}, "worker", int(index), "Kubernetes")


def _kubernetes_client() -> Any:
    try:
        package = importlib.import_module("kubernetes")
    except ImportError as error:
        raise ClusterError(
            f"the package kubernetes cannot be imported ({error}); `pip install kubernetes`, or let Kubeflow set "
            "TF_CONFIG"
        ) from error
    try:
        package.config.load_incluster_config()
    except package.config.ConfigException as error:
        raise ClusterError(f"Kubernetes: this is no pod of a cluster ({error}); set TF_CONFIG instead") from error
    return package.client.CoreV1Api()
