"""Clusters with parameter servers: who is what, what cannot work, and the command."""

import json
import re
import socket
import threading
import time

import pytest

from zoo.cli.main import build_parser, main
from zoo.distribute.cluster import Cluster, ClusterError, Task, WorkerLostError, parse_tf_config
from zoo.distribute.launch import free_ports
from zoo.distribute.parameter_servers import (
    check_servers,
    fetched,
    join_servers,
    naming_lost_servers,
    speaks_grpc,
    with_roles,
)


def cluster(job="chief", index=0, **jobs) -> Cluster:
    return Cluster(jobs or {"chief": ("a:1",), "worker": ("b:1", "b:2"), "ps": ("c:1",)}, job, index)


def test_tasks_of_slurm_get_roles():
    tasks = ("n1:1", "n1:2", "n2:1", "n2:2", "n3:1")
    found = [with_roles(Cluster({"worker": tasks}, "worker", place, "Slurm"), 2) for place in range(5)]
    assert all(each.jobs == {"chief": tasks[:1], "worker": tasks[1:3], "ps": tasks[3:]} for each in found)
    assert [(each.job, each.index) for each in found] == [
        ("chief", 0),
        ("worker", 0),
        ("worker", 1),
        ("ps", 0),
        ("ps", 1),
    ]
    assert with_roles(cluster(), None) == cluster()
    with pytest.raises(ClusterError, match=r"TF_CONFIG says itself which tasks are servers \(chief, worker, ps\)"):
        with_roles(cluster(), 1)
    for servers in (0, 4):
        with pytest.raises(ClusterError, match=f"{servers} parameter servers of 5 tasks: at least 1"):
            with_roles(Cluster({"worker": tasks}, "worker", 0, "Slurm"), servers)


@pytest.mark.parametrize(
    ("jobs", "says"),
    [
        ({"worker": ["h:1", "h:2"]}, r"no chief that coordinates and no parameter servers \(ps\), only worker \(2\)"),
        ({"worker": ["h:1", "h:2"]}, r"zoo launch --workers 2 --ps 1 -- .* with --ps$"),
        ({"worker": ["h:1"], "chief": ["h:2"]}, r"no parameter servers \(ps\), only worker \(1\), chief \(1\)"),
        ({"chief": ["h:1"], "ps": ["h:2"]}, "has no workers"),
        ({"chief": ["h:1"], "worker": ["h:2"], "ps": ["h:3"], "evaluator": ["h:4"]}, "only chief, worker and ps take"),
    ],
)
def test_clusters_that_cannot_work(jobs, says):
    job = next(iter(jobs))
    found = parse_tf_config(json.dumps({"cluster": jobs, "task": {"type": job, "index": 0}}))
    with pytest.raises(ClusterError, match=says):
        check_servers(found)


def test_who_speaks_grpc():
    """TensorFlow's server does; what listens while tasks meet does not, nor whoever says nothing."""
    port, silent = free_ports(2)
    assert not speaks_grpc(Task("chief", 0, f"localhost:{port}"))
    with socket.create_server(("", silent)):
        began = time.monotonic()
        assert not speaks_grpc(Task("chief", 0, f"localhost:{silent}"))
        assert time.monotonic() - began < 30
    import tensorflow as tf

    server = tf.distribute.Server(tf.train.ClusterSpec({"chief": [f"localhost:{port}"]}), "chief", 0, protocol="grpc")
    assert speaks_grpc(Task("chief", 0, f"localhost:{port}"))
    del server


def test_tasks_meet_and_who_is_started_again_need_not():
    ports = free_ports(4)
    jobs = {"chief": (f"localhost:{ports[0]}",), "worker": (f"localhost:{ports[1]}",), "ps": (f"localhost:{ports[2]}",)}
    errors = []

    def join(job):
        try:
            join_servers(Cluster(jobs, job, 0), 20)
        except ClusterError as error:
            errors.append(error)

    threads = [threading.Thread(target=join, args=(job,)) for job in jobs]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    assert not errors
    began = time.monotonic()
    with pytest.raises(ClusterError, match=rf"not reached within 1 s: .*worker 0 at localhost:{ports[1]}"):
        join_servers(Cluster(jobs, "chief", 0), 1)
    assert time.monotonic() - began < 30
    import tensorflow as tf

    jobs["chief"] = (f"localhost:{ports[3]}",)
    spec = tf.train.ClusterSpec({job: list(addresses) for job, addresses in jobs.items()})
    server = tf.distribute.Server(spec, "chief", 0, protocol="grpc")
    join_servers(Cluster(jobs, "worker", 0), 1)
    with (
        socket.create_server(("", ports[1])),
        pytest.raises(ClusterError, match=f"port {ports[1]} of worker 0 .* is in use"),
    ):
        join_servers(Cluster(jobs, "worker", 0), 1)
    del server


WORKER = (
    "Socket closed\nAdditional GRPC error information from remote target /job:worker/replica:0/task:0 while calling"
)
SERVER = WORKER.replace("/job:worker", "/job:ps")


def test_a_result_that_died_with_its_worker_is_none():
    import tensorflow as tf

    class Remote:
        def __init__(self, error):
            self.error = error

        def fetch(self):
            raise self.error

    forgotten = f"Unable to find the relevant tensor remote_handle: Op ID: 7. {WORKER}"
    for kind, text in (("Unavailable", WORKER), ("Aborted", WORKER), ("InvalidArgument", forgotten)):
        assert fetched(Remote(getattr(tf.errors, f"{kind}Error")(None, None, text))) is None
    for kind, text in (("Unavailable", SERVER), ("Unavailable", WORKER + SERVER), ("InvalidArgument", WORKER)):
        with pytest.raises(getattr(tf.errors, f"{kind}Error")):
            fetched(Remote(getattr(tf.errors, f"{kind}Error")(None, None, text)))


def test_a_lost_server_is_told_in_a_sentence():
    import tensorflow as tf

    class Coordinator:
        def __init__(self, error):
            self.error = error

        def join(self):
            raise self.error

    lost, own = tf.errors.UnavailableError(None, None, SERVER), tf.errors.InvalidArgumentError(None, None, "bad box")
    cancelled = tf.errors.CancelledError(None, None, "aborted")
    for raised, kept in ((lost, own), (cancelled, lost)):
        with (
            pytest.raises(WorkerLostError, match=r"^parameter server 0 has ended \(Socket closed\); .* resume"),
            naming_lost_servers(Coordinator(kept)),
        ):
            raise raised
    # Others were cancelled because of it.
    with pytest.raises(tf.errors.InvalidArgumentError, match="bad box"), naming_lost_servers(Coordinator(own)):
        raise cancelled


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--strategy mirrored --n-push 2", "--n-push goes with --strategy parameter_server, not with mirrored"),
        ("--strategy sandblaster --warm-start 9", "--warm-start goes with --strategy parameter_server"),
        ("--strategy parameter_server --copies 2", "--copies goes with --strategy sandblaster"),
        ("--strategy parameter_server --vectors servers", "--vectors goes with --strategy sandblaster"),
        ("--ps 1", "--ps goes with --strategy parameter_server or sandblaster, not with none"),
        ("--strategy parameter_server --momentum 0.5", "--momentum: not with .* late gradients act like momentum"),
        ("--strategy parameter_server --minutes 5", "--minutes: not with .* length in --epochs or --steps"),
        ("--strategy sandblaster --lr 0.1", "--lr: not with --strategy sandblaster: a line search finds"),
        ("--strategy sandblaster --recipe voc07", "--recipe: not with --strategy sandblaster"),
        ("--strategy sandblaster --precision mixed_float16", "which scales no loss"),
    ],
)
def test_options_that_do_not_go_together(capsys, tmp_path, monkeypatch, options, says):
    monkeypatch.setenv("TF_CONFIG", "never looked at")
    words = ["train", "--data", "digits:4", "--model", "faster_rcnn_resnet18", "--out", str(tmp_path)]
    assert main([*words, *options.split()]) == 2
    assert re.search(says, capsys.readouterr().err.replace("\n", " "))


@pytest.mark.parametrize("strategy", ["parameter_server", "sandblaster"])
def test_the_command_tells_a_wrong_cluster_soon(monkeypatch, capsys, tmp_path, strategy):
    config = {"cluster": {"worker": ["localhost:2222", "localhost:2223"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    words = ["train", "--strategy", strategy, "--data", "digits:4", "--out", str(tmp_path)]
    began = time.monotonic()
    assert main([*words, "--model", "faster_rcnn_resnet18"]) == 2
    assert time.monotonic() - began < 30
    assert "TF_CONFIG has no chief" in capsys.readouterr().err


def test_the_help_has_all_strategies():
    text = next(a for a in build_parser()._actions if a.dest == "command").choices["train"].format_help()
    for word in ("parameter_server", "sandblaster", "--n-push", "--n-fetch", "--optimizer", "--warm-start", "--ps"):
        assert word in text
