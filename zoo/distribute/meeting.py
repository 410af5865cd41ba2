"""Finds out whether all tasks of a cluster are there, before TensorFlow waits for them without a word.

Each task listens at its own address, calls all others, and tells whom it takes itself and the cluster for. Nobody
leaves before it has reached all others and all others have reached it; then the ports are free for TensorFlow.
"""

from __future__ import annotations

import contextlib
import errno
import json
import secrets
import socket
import threading
import time
from typing import Any

from zoo.distribute.cluster import Cluster, ClusterError, Task

_CALL = 2.0  # seconds for one attempt to reach a task
_PAUSE = 0.2  # and between two
_LONGEST = 1 << 20  # bytes of a greeting
_GREETING = "zoo-cluster"


def check_port_free(task: Task) -> None:
    """Raise `ClusterError` if this machine already has somebody listening at the task's port."""
    _listener(task).close()


def wait_until_open(tasks: list[Task], wait: float = 25.0) -> None:
    """Return when each of the tasks accepts connections; `ClusterError` that names those that do not.

    For servers that run already, such as parameter servers: nothing is said to them.
    """
    until = time.monotonic() + wait
    missing: dict[Task, str] = {}
    for task in tasks:
        while True:
            try:
                socket.create_connection((task.host, task.port), timeout=_CALL).close()
                break
            except OSError as error:
                if time.monotonic() > until:
                    missing[task] = _reason(error)
                    break
                time.sleep(_PAUSE)
    if missing:
        raise ClusterError(_unreachable(missing, wait))


def meet(cluster: Cluster, wait: float = 25.0) -> None:
    """Return when all tasks of the cluster have reached each other, which has to be within ``wait`` seconds.

    Raises:
        ClusterError: the own port is in use, a task cannot be reached, it takes itself for another, or it has another
            idea of the cluster.

    Example:
        >>> meet(find_cluster())    # doctest: +SKIP
    """
    others = [task for task in cluster.tasks if task != cluster.me]
    meeting = _Meeting(cluster, time.monotonic() + wait)
    with _listener(cluster.me) as listener:
        threads = [threading.Thread(target=meeting.answer, args=(listener,), daemon=True)]
        threads += [threading.Thread(target=meeting.call, args=(task,), daemon=True) for task in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            # A name server that does not answer keeps a thread for as long as it likes.
            thread.join(max(0.0, meeting.until + _CALL - time.monotonic()))
    if meeting.disagreement:
        raise ClusterError(meeting.disagreement)
    missing = {task: meeting.reasons.get(task, "no answer") for task in others if task not in meeting.reached}
    if missing:
        raise ClusterError(_unreachable(missing, wait))
    silent = [str(task) for task in others if task not in meeting.reached_by]
    if silent:
        raise ClusterError(
            f"{', '.join(silent)} answered {cluster.me.job} {cluster.index}, but could not reach it at "
            f"{cluster.me.address} within {wait:.0f} s; check that this address and port can be reached from there"
        )


class _Meeting:
    """What one task has found out so far; shared by its threads."""

    def __init__(self, cluster: Cluster, until: float) -> None:
        self.cluster, self.until = cluster, until
        self.reached: set[Task] = set()
        self.reached_by: set[Task] = set()
        self.reasons: dict[Task, str] = {}
        self.disagreement = ""
        self._others = len(cluster.tasks) - 1
        self._jobs = {job: list(addresses) for job, addresses in cluster.jobs.items()}
        self._token = secrets.token_hex(8)  # tells this process from another that takes itself for the same task
        self._greeting = json.dumps([_GREETING, self._token, self._jobs, cluster.job, cluster.index]).encode()

    @property
    def over(self) -> bool:
        """Whether there is nothing left to wait for."""
        complete = len(self.reached) == len(self.reached_by) == self._others
        return complete or bool(self.disagreement) or time.monotonic() > self.until

    def answer(self, listener: socket.socket) -> None:
        """Answer whoever calls."""
        listener.settimeout(_PAUSE)
        while not self.over:
            with contextlib.suppress(OSError):
                caller, _ = listener.accept()
                threading.Thread(target=self._answer_one, args=(caller,), daemon=True).start()

    def _answer_one(self, caller: socket.socket) -> None:
        with contextlib.suppress(OSError), caller:
            caller.settimeout(_CALL)
            task = self._understand(_read_line(caller))
            caller.sendall(self._greeting + b"\n")
            # The caller closes first: the port is not to be left waiting when TensorFlow wants it.
            caller.recv(1)
            if task == self.cluster.me:
                self.disagreement = (
                    f"two processes take themselves for {task.job} {task.index}; give each process its own "
                    f'"index" in {self.cluster.source}'
                )
            elif task is not None:
                self.reached_by.add(task)

    def call(self, task: Task) -> None:
        """Call ``task`` until it answers."""
        while not self.over:
            try:
                with socket.create_connection((task.host, task.port), timeout=_CALL) as line:
                    line.sendall(self._greeting + b"\n")
                    answer = _read_line(line)
                found = self._understand(answer)
                if found == task:
                    self.reached.add(task)
                    return
                if found is not None:
                    self.disagreement = (
                        f"the process at {task.address} should be {task.job} {task.index}, but takes itself for "
                        f'{found.job} {found.index}; give each process its own "index" in {self.cluster.source}'
                    )
                    return
                self.reasons[task] = "what answers there is no other task of this training"
            except OSError as error:
                self.reasons[task] = _reason(error)
            time.sleep(_PAUSE)

    def _understand(self, line: bytes) -> Task | None:
        """The task that sent a greeting; None if it is no greeting, one's own, or of another cluster."""
        try:
            word, token, jobs, job, index = json.loads(line)
            if word != _GREETING or token == self._token:
                return None
            if jobs != self._jobs:
                self.disagreement = (
                    f"{job} {index} has another cluster in its {self.cluster.source} ({jobs}) than {self.cluster.job} "
                    f"{self.cluster.index} ({self._jobs}); give all tasks the same addresses in the same order"
                )
                return None
            return Task(job, index, self.cluster.jobs[job][index])
        except (ValueError, TypeError, KeyError, IndexError):
            return None


def _listener(task: Task) -> socket.socket:
    try:
        # Without SO_REUSEPORT, which would let two processes share a port.
        family = socket.AF_INET6 if ":" in task.host else socket.AF_INET
        return socket.create_server(("", task.port), family=family, backlog=128)
    except OSError as error:
        what = "is in use on this machine" if error.errno == errno.EADDRINUSE else f"cannot be used ({error})"
        raise ClusterError(
            f"port {task.port} of {task} {what}; end the process that has it (a training that still runs?), or give "
            "this task another port"
        ) from error


def _read_line(line: socket.socket) -> bytes:
    found = b""
    while not found.endswith(b"\n"):
        part = line.recv(4096)
        if not part or len(found) > _LONGEST:
            break
        found += part
    return found


def _reason(error: Any) -> str:
    if isinstance(error, socket.gaierror):
        return "no machine of that name is known"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there"
    return "no answer" if isinstance(error, TimeoutError) else (error.strerror or str(error)).lower()


def _unreachable(missing: dict[Task, str], wait: float) -> str:
    each = ", ".join(f"{task} ({reason})" for task, reason in missing.items())
    return (
        f"not reached within {wait:.0f} s: {each}; start it, check its address and that its port is open, or wait "
        "longer with --wait SECONDS"
    )
