"""Who takes part: TF_CONFIG, Slurm, Kubernetes; and whether they are there."""

import json
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from zoo.distribute import meeting as meetings
from zoo.distribute.cluster import Cluster, ClusterError, Task, parse_tf_config
from zoo.distribute.launch import free_ports
from zoo.distribute.meeting import _listener, check_port_free, meet, wait_until_open
from zoo.distribute.resolve import find_cluster, kubernetes_cluster, slurm_cluster

TWO = {"worker": ["a:1", "b:2"]}


def config(cluster=TWO, job="worker", index=0) -> str:
    return json.dumps({"cluster": cluster, "task": {"type": job, "index": index}})


def local(count: int, jobs=("worker",)) -> dict[str, tuple[str, ...]]:
    ports = iter(free_ports(count * len(jobs)))
    return {job: tuple(f"localhost:{next(ports)}" for _ in range(count)) for job in jobs}


def test_tf_config_is_read():
    cluster = parse_tf_config(config({"chief": ["c:5"], "worker": ["a:1", "[::1]:2"]}, "worker", 1))
    assert [str(task) for task in cluster.tasks] == ["chief 0 at c:5", "worker 0 at a:1", "worker 1 at [::1]:2"]
    assert (cluster.me.host, cluster.me.port, cluster.is_chief) == ("::1", 2, False)
    assert parse_tf_config(cluster.tf_config()) == cluster
    assert parse_tf_config(config()).is_chief
    assert not parse_tf_config(config({**TWO, "chief": ["c:5"]})).is_chief
    assert parse_tf_config(config({**TWO, "chief": ["c:5"]}, "chief")).is_chief


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{worker", "is no JSON"),
        ("[]", 'has no "cluster"'),
        ('{"cluster": {"worker": ["a:1"]}}', 'has no "task"'),
        (config(index=2), "this process is worker 2; the cluster has worker 0 to 1"),
        (config(index="0"), "this process is worker '0'"),
        (config(index=True), "this process is worker True"),
        (config(job="ps"), "this process is a 'ps'; \"task\" has to name one of worker"),
        (config({"workers": ["a:1"]}), "has a job 'workers'; jobs are chief, worker, ps"),
        (config({"worker": "a:1"}), 'gives worker no list of addresses such as \\["host1:2222"\\]'),
        (config({"worker": []}), "gives worker no list"),
        (config({"worker": ["a"]}), "gives worker 0 the address 'a'; it has to be host:port"),
        (config({"worker": ["a:1", "b:70000"]}), "gives worker 1 the address 'b:70000'"),
        (config({"worker": ["grpc://a:1"]}), "leave out what is before the host's name"),
        (config({"worker": ["a:1", "a:1"]}), "gives worker 0 and worker 1 the same address a:1"),
        (config({"chief": ["a:1", "b:1"], "worker": ["c:1"]}), "has 2 chiefs"),
    ],
)
def test_a_wrong_tf_config_says_what_is_wrong(text, says):
    with pytest.raises(ClusterError, match=says) as error:
        parse_tf_config(text)
    assert '"task": {"type": "worker", "index": 0}' in str(error.value)  # what it has to look like


def test_where_a_cluster_is_looked_for(monkeypatch):
    for name in ("TF_CONFIG", "SLURM_STEP_ID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ClusterError, match="zoo launch --workers 2"):
        find_cluster()
    with pytest.raises(ClusterError, match="TF_CONFIG is not set"):
        find_cluster("tf_config")
    with pytest.raises(ClusterError, match="choose one of auto, tf_config, slurm, kubernetes"):
        find_cluster("lsf")
    monkeypatch.setenv("TF_CONFIG", config(index=1))
    assert find_cluster().index == 1


def slurm(monkeypatch, **changes):
    variables = {
        "SLURM_STEP_ID": "0",
        "SLURM_JOB_ID": "77",
        "SLURM_PROCID": "2",
        "SLURM_STEP_NUM_TASKS": "3",
        "SLURM_STEP_NODELIST": "n[08-09]",
        "SLURM_STEP_TASKS_PER_NODE": "2,1",
        **changes,
    }
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.delenv("SLURMD_NODENAME", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_slurm(monkeypatch):
    slurm(monkeypatch, SLURMD_NODENAME="n09")
    port = 12_000 + 77 * 16
    cluster = find_cluster()
    assert cluster.jobs == {"worker": (f"n08:{port}", f"n08:{port + 1}", f"n09:{port}")}
    assert (cluster.index, cluster.is_chief, cluster.source) == (2, False, "Slurm")


def test_slurm_that_makes_no_cluster(monkeypatch):
    slurm(monkeypatch, SLURM_STEP_NODELIST="n[9-10]", SLURM_PROCID="0", SLURMD_NODENAME="n9")
    with pytest.raises(ClusterError, match=r"runs on n9: TensorFlow takes the nodes .* in another order"):
        slurm_cluster()
    slurm(monkeypatch, SLURM_STEP_TASKS_PER_NODE="nonsense")
    with pytest.raises(ClusterError, match="Slurm's variables make no cluster"):
        slurm_cluster()
    monkeypatch.delenv("SLURM_STEP_NODELIST")
    with pytest.raises(ClusterError, match="SLURM_STEP_NODELIST not set: start the workers with srun"):
        slurm_cluster()


class Pods:
    """What is asked of Kubernetes's client; every look at the pods finds one more of them running."""

    def __init__(self, count: int, running: int):
        self.count, self.running, self.selector = count, running, None

    def list_pod_for_all_namespaces(self, label_selector):
        self.selector, self.running = label_selector, self.running + 1
        return SimpleNamespace(
            items=[
                SimpleNamespace(
                    metadata=SimpleNamespace(name=f"job-{n}-x{n}"),
                    status=SimpleNamespace(phase="Running" if n < self.running else "Pending", host_ip=f"10.0.0.{n}"),
                )
                for n in range(self.count)
            ]
        )


def test_kubernetes(monkeypatch):
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "10")
    pods = Pods(12, running=10)
    cluster = kubernetes_cluster(pods, "job-name=job", wait=1.0)
    # Although job-10 comes before job-2 where names are sorted.
    assert cluster.jobs["worker"] == tuple(f"10.0.0.{n}:2222" for n in range(12))
    assert (cluster.me.address, pods.selector) == ("10.0.0.10:2222", "job-name=job")
    with pytest.raises(ClusterError, match='Pod "job-10-x10" is not running'):
        kubernetes_cluster(Pods(12, running=2), "job-name=job", wait=0.0)
    with pytest.raises(ClusterError, match="no pod has the label job-name=job"):
        kubernetes_cluster(Pods(0, 0), "job-name=job")
    with pytest.raises(ClusterError, match="--pods job-name=cells"):
        kubernetes_cluster(pods, None)
    monkeypatch.delenv("JOB_COMPLETION_INDEX")
    with pytest.raises(ClusterError, match="completionMode: Indexed"):
        kubernetes_cluster(pods, "job-name=job")


def meeting(*clusters: Cluster, wait: float = 60.0) -> list[str]:
    """What the meeting tells each; empty where all went well."""
    told = [""] * len(clusters)

    def attend(place: int) -> None:
        try:
            meet(clusters[place], wait)
        except ClusterError as error:
            told[place] = str(error)

    threads = [threading.Thread(target=attend, args=(place,)) for place in range(len(clusters))]
    for thread in threads:
        thread.start()
        time.sleep(0.1)  # one after the other, as on real machines
    for thread in threads:
        thread.join()
    return told


def test_name_servers_that_do_not_answer_are_not_waited_for_one_by_one(monkeypatch):
    """A time limit of a connection does not count while a name is looked up."""
    cluster = parse_tf_config(config({"worker": [f"localhost:{port}" for port in free_ports(12)]}))

    def silent(*args, **options):
        time.sleep(5)
        raise TimeoutError

    monkeypatch.setattr("zoo.distribute.meeting._CALL", 0.5)
    monkeypatch.setattr("zoo.distribute.meeting.socket.create_connection", silent)
    began = time.monotonic()
    with pytest.raises(ClusterError, match=r"not reached within 0 s: worker 1 .*worker 11"):
        meet(cluster, wait=0.2)
    assert time.monotonic() - began < 3


def test_a_listener_is_of_the_tasks_own_kind_of_address():
    (port,) = free_ports(1)
    for host, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
        if family == socket.AF_INET6 and not socket.has_ipv6:
            continue
        with _listener(Task("worker", 0, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")) as listener:
            assert listener.family == family
            socket.create_connection((host, port), timeout=5).close()


def test_all_meet_and_leave_their_ports_free():
    jobs = local(2, ("worker", "ps"))
    clusters = [Cluster(jobs, job, index) for job in jobs for index in range(2)]
    assert meeting(*clusters) == [""] * 4
    for task in clusters[0].tasks:
        check_port_free(task)


def test_one_that_does_not_come_is_named():
    jobs = local(3)
    started = time.monotonic()
    told = meeting(Cluster(jobs, "worker", 0), Cluster(jobs, "worker", 2), wait=1.0)
    assert time.monotonic() - started < 20
    for text in told:
        assert f"not reached within 1 s: worker 1 at {jobs['worker'][1]} (nobody listens there)" in text
        assert "wait longer with --wait" in text


def test_a_machine_that_is_not_known_is_named():
    jobs = {"worker": (f"localhost:{free_ports(1)[0]}", "no-such-machine.invalid:2222")}
    assert "worker 1 at no-such-machine.invalid:2222 (" in meeting(Cluster(jobs, "worker", 0), wait=0.5)[0]


def test_tasks_that_disagree_are_told_so_at_once():
    jobs = local(2)
    other = {"worker": (*jobs["worker"], "c:1")}
    for text in meeting(Cluster(jobs, "worker", 0), Cluster(other, "worker", 1)):
        assert "has another cluster in its TF_CONFIG" in text


def test_two_that_take_themselves_for_the_same_are_told_so():
    jobs = local(2)
    impostor = meetings._Meeting(Cluster(jobs, "worker", 0), time.monotonic() + 60)
    with socket.create_server(("", int(jobs["worker"][1].split(":")[1]))) as second:
        thread = threading.Thread(target=impostor.answer, args=(second,))
        thread.start()
        assert "should be worker 1, but takes itself for worker 0" in meeting(Cluster(jobs, "worker", 0))[0]
        thread.join()
    assert "two processes take themselves for worker 0" in impostor.disagreement


def test_a_stranger_at_the_address_is_no_task():
    port = free_ports(1)[0]
    with socket.create_server(("", port)) as stranger:
        threading.Thread(target=lambda: stranger.accept()[0].sendall(b"HTTP/1.1 400\r\n\n"), daemon=True).start()
        jobs = {"worker": (f"localhost:{free_ports(1)[0]}", f"localhost:{port}")}
        assert f"worker 1 at localhost:{port} (" in meeting(Cluster(jobs, "worker", 0), wait=0.5)[0]


def test_a_port_in_use_is_told():
    cluster = Cluster(local(1), "worker", 0)
    with socket.create_server(("", cluster.me.port)):
        for attempt in (lambda: meet(cluster), lambda: check_port_free(cluster.me)):
            with pytest.raises(ClusterError, match=rf"port {cluster.me.port} of worker 0 .* is in use on this machine"):
                attempt()
        wait_until_open(cluster.tasks, 1.0)
    with pytest.raises(ClusterError, match=r"not reached within 0 s: worker 0 at .* \(nobody listens there\)"):
        wait_until_open(cluster.tasks, 0.0)
