"""Who takes part in a distributed training: the addresses of all tasks, and which of them this process is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

# The jobs that TensorFlow's strategies know. A chief is worker 0 under another name, or a coordinator of workers.
JOBS = ("chief", "worker", "ps", "evaluator")
_EXAMPLE = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'


class ClusterError(ValueError):
    """A cluster that cannot work; the message says what is wrong and what to set."""


class WorkerLostError(RuntimeError):
    """Another worker ended in the middle of a training; the message says how to go on."""


@dataclass(frozen=True)
class Task:
    """One process of a cluster: its job, its number within the job, ``"host:port"``."""

    job: str
    index: int
    address: str

    def __str__(self) -> str:
        """As messages name it: ``worker 1 at host2:2222``."""
        return f"{self.job} {self.index} at {self.address}"

    @property
    def host(self) -> str:
        """The name or number before the colon, without the brackets of IPv6."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The number behind the colon."""
        return int(self.address.rpartition(":")[2])


@dataclass(frozen=True)
class Cluster:
    """All tasks, and this process's own.

    Attributes:
        jobs: addresses ``"host:port"`` by job.
        job: of this process.
        index: of this process within its job.
        source: where this was read, for messages: ``"TF_CONFIG"``, ``"Slurm"``, ``"Kubernetes"``.
    """

    jobs: Mapping[str, tuple[str, ...]]
    job: str
    index: int
    source: str = "TF_CONFIG"

    @property
    def tasks(self) -> list[Task]:
        """All tasks, the chief first if there is one."""
        names = sorted(self.jobs, key=lambda job: JOBS.index(job))
        return [Task(job, index, address) for job in names for index, address in enumerate(self.jobs[job])]

    @property
    def me(self) -> Task:
        """This process's task."""
        return Task(self.job, self.index, self.jobs[self.job][self.index])

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the files: the chief or, without one, worker 0."""
        return self.job == "chief" or ("chief" not in self.jobs and self.job == "worker" and self.index == 0)

    def tf_config(self) -> str:
        """The text that ``TF_CONFIG`` has to hold."""
        cluster = {job: list(addresses) for job, addresses in self.jobs.items()}
        return json.dumps({"cluster": cluster, "task": {"type": self.job, "index": self.index}})


def parse_tf_config(text: str) -> Cluster:
    """The cluster that ``TF_CONFIG`` describes; `ClusterError` if it is none.

    >>> cluster = parse_tf_config('{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}}')
    >>> str(cluster.me), cluster.is_chief
    ('worker 1 at b:2', False)
    """
    try:
        config = json.loads(text)
    except ValueError as error:
        raise _wrong(f"is no JSON ({error}): {text[:200]!r}") from error
    if not isinstance(config, dict) or not isinstance(config.get("cluster"), dict) or not config["cluster"]:
        raise _wrong(f'has no "cluster" with the addresses of the tasks: {text[:200]!r}')
    task = config.get("task")
    if not isinstance(task, dict) or "type" not in task or "index" not in task:
        raise _wrong('has no "task" with a "type" and an "index", which say which of the tasks this process is')
    return check_cluster(config["cluster"], task["type"], task["index"], "TF_CONFIG")


def check_cluster(jobs: Mapping[str, object], job: object, index: object, source: str) -> Cluster:
    """A `Cluster` of these parts if they make sense together; else a `ClusterError`."""
    found: dict[str, tuple[str, ...]] = {}
    owners: dict[str, str] = {}
    for name, addresses in jobs.items():
        if name not in JOBS:
            raise _wrong(f"has a job {name!r}; jobs are {', '.join(JOBS)}", source)
        if not isinstance(addresses, (list, tuple)) or not addresses:
            raise _wrong(f'gives {name} no list of addresses such as ["host1:2222"], but {addresses!r}', source)
        for number, address in enumerate(addresses):
            task = f"{name} {number}"
            _check_address(address, task, source)
            if address in owners:
                raise _wrong(f"gives {owners[address]} and {task} the same address {address}", source)
            owners[address] = task
        found[name] = tuple(addresses)
    if len(found.get("chief", ())) > 1:
        raise _wrong(f"has {len(found['chief'])} chiefs; there is one at most", source)
    if job not in found:
        raise _wrong(f'says that this process is a {job!r}; "task" has to name one of {", ".join(found)}', source)
    # true and false are integers in Python.
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(found[job]):
        last = len(found[job]) - 1
        raise _wrong(f"says that this process is {job} {index!r}; the cluster has {job} 0 to {last}", source)
    return Cluster(found, job, index, source)


def _check_address(address: object, task: str, source: str) -> None:
    host, colon, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise _wrong(f"gives {task} the address {address!r}; it has to be host:port, such as host1:2222", source)
    if "/" in host:
        raise _wrong(f"gives {task} the address {address!r}; leave out what is before the host's name", source)


def _wrong(what: str, source: str = "TF_CONFIG") -> ClusterError:
    hint = f"; it has to look like {_EXAMPLE}" if source == "TF_CONFIG" else ""
    return ClusterError(f"{source} {what}{hint}")
