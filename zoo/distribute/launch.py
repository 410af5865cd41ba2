"""Runs a cluster on this machine: starts its processes, watches them, restarts what dies."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from zoo.distribute.cluster import Cluster, ClusterError
from zoo.distribute.guard import CANNOT_START
from zoo.distribute.merged_log import MergedLog
from zoo.distribute.processes import Child, Children

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PASSED_ON = (signal.SIGUSR1, signal.SIGUSR2)  # Slurm's and others' warnings
_PORTS = range(20_000, 30_000)  # below those that systems give out by themselves
_MISTAKE = 2  # exit status of a mistake in the command: it would be made again
_LOOK = 0.1  # seconds between two looks at the children


@dataclass(frozen=True)
class LaunchPlan:
    """What to run.

    Attributes:
        command: of every process; ``zoo`` is this installation's.
        workers: how many.
        ps: parameter servers; with them there is also a chief, which coordinates.
        restarts: how often something may be restarted.
        gpus: of each worker, in the order of ``CUDA_VISIBLE_DEVICES`` if that is set, else of their numbers; 0 leaves
            it to the command. A chief and parameter servers get none.
        grace: seconds that processes have to end by themselves.
        log: file that the merged log is appended to, besides standard output.
    """

    command: tuple[str, ...]
    workers: int = 2
    ps: int = 0
    restarts: int = 3
    gpus: int = 0
    grace: float = 10.0
    log: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        if not self.command:
            raise ClusterError("give the command to run: zoo launch --workers 2 -- zoo train ...")
        for name, least in (("workers", 1), ("ps", 0), ("restarts", 0), ("gpus", 0)):
            if getattr(self, name) < least:
                raise ClusterError(f"{name} is at least {least}, not {getattr(self, name)}")
        if len(self.devices) < self.workers * self.gpus:
            raise ClusterError(
                f"{self.workers} workers of {self.gpus} GPUs each, but CUDA_VISIBLE_DEVICES names "
                f"{len(self.devices)}: {','.join(self.devices) or 'none'}; take fewer, or name more there"
            )

    @property
    def devices(self) -> list[str]:
        """The GPUs to share out, as CUDA names them: those that the launcher itself was given, or the first ones."""
        given = os.environ.get("CUDA_VISIBLE_DEVICES")
        if given is None:
            return [str(number) for number in range(self.workers * self.gpus)]
        return [name.strip() for name in given.split(",") if name.strip()]

    @property
    def names(self) -> list[tuple[str, int]]:
        """Job and number of each process."""
        chief = [("chief", 0)] if self.ps else []
        return chief + [("worker", n) for n in range(self.workers)] + [("ps", n) for n in range(self.ps)]


def launch(plan: LaunchPlan) -> int:
    """Run the cluster to its end and give its exit status: 0, a failed process's, or 128 + a signal's number.

    Without parameter servers, the death of any worker ends the others, who could not go on, and all are started
    again. With them a worker is replaced alone; the death of a server or of the chief restarts all. ``zoo train`` is
    then told to ``--resume``; a script of your own has to go on by itself. No process is left behind.

    Example:
        >>> launch(LaunchPlan(("zoo", "train", "--strategy", "multi_worker", ...)))    # doctest: +SKIP
    """
    log = MergedLog(max(len(f"{job} {index}") for job, index in plan.names), plan.log)
    with ExitStack() as stack:
        stack.callback(log.close)
        signals = stack.enter_context(_Signals())
        children = stack.enter_context(Children(log))
        return _Launch(plan, log, children, signals).run()


class _Signals:
    """Collects the signals that this process gets, while it is in force."""

    def __init__(self) -> None:
        self.stop: signal.Signals | None = None
        self.count = 0
        self.passed_on: list[signal.Signals] = []

    def __enter__(self) -> _Signals:
        handlers = dict.fromkeys(_SIGNALS, self._stop) | dict.fromkeys(_PASSED_ON, self._pass_on)
        self._before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: object) -> None:
        self.stop, self.count = signal.Signals(number), self.count + 1

    def _pass_on(self, number: int, frame: object) -> None:
        self.passed_on.append(signal.Signals(number))


class _Launch:
    """One call of `launch`."""

    def __init__(self, plan: LaunchPlan, log: MergedLog, children: Children, signals: _Signals) -> None:
        self.plan, self.log, self.children, self.signals = plan, log, children, signals
        self.running: dict[tuple[str, int], Child] = {}
        self.restarts = 0
        self.replaced: set[tuple[str, int]] = set()  # workers that were started again alone
        self.jobs: dict[str, tuple[str, ...]] = {}

    def run(self) -> int:
        self._start_all()
        # What has to end well for the whole to end well.
        ends = {task for task in self.plan.names if task[0] == ("chief" if self.plan.ps else "worker")}
        while True:
            if self.signals.stop is not None:
                return self._stop()
            while self.signals.passed_on:
                self.children.send(list(self.running.values()), self.signals.passed_on.pop(0))
            status = {task: child.status for task, child in self.running.items()}
            if all(status.get(task) == 0 for task in ends):
                self._say(f"all done{self._after_restarts()}")
                self.children.end(list(self.running.values()), self.plan.grace)
                return 0
            failed = {task: code for task, code in status.items() if code}
            if failed and (code := self._mend(failed)) is not None:
                return code
            time.sleep(_LOOK)

    def _mend(self, failed: dict[tuple[str, int], int]) -> int | None:
        """Restart what has to be; the exit status if that is not to be."""
        # Whoever a signal killed is the cause: the others fail because they miss it.
        task, code = min(failed.items(), key=lambda item: item[1] > 0)
        name = f"{task[0]} {task[1]}"
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"failed with status {code}"
        mistake = code in (_MISTAKE, CANNOT_START)
        # A worker that died while the cluster was starting finds nobody when it is started again, and says the same.
        lost = mistake and task in self.replaced
        alone = bool(self.plan.ps) and task[0] == "worker" and not lost
        if (mistake and not lost) or self.restarts >= self.plan.restarts:
            why = "a mistake in the command" if mistake and not lost else "no restart is left"
            self._say(f"{name} {how}: {why}{self._after_restarts()}; ending the others")
            self.children.end(list(self.running.values()), self.plan.grace)
            return 128 - code if code < 0 else code
        self.restarts += 1
        what = "it is" if alone else "all are"
        self._say(f"{name} {how}; {what} started again (restart {self.restarts} of {self.plan.restarts})")
        if alone:
            self.children.end([self.running[task]], self.plan.grace)
            self.replaced.add(task)
            self._start(*task)
        else:
            self.children.end(list(self.running.values()), self.plan.grace)
            self._start_all()
        return None

    def _start_all(self) -> None:
        addresses = iter(f"localhost:{port}" for port in free_ports(len(self.plan.names)))
        jobs: dict[str, tuple[str, ...]] = {}
        for job, _ in self.plan.names:
            jobs[job] = (*jobs.get(job, ()), next(addresses))
        self.jobs = jobs
        self.replaced.clear()
        self._say(f"cluster {json.dumps(jobs)}")
        for task in self.plan.names:
            self._start(*task)

    def _start(self, job: str, index: int) -> None:
        environment = {"TF_CONFIG": Cluster(self.jobs, job, index).tf_config()}
        if self.plan.gpus:
            mine = slice(index * self.plan.gpus, (index + 1) * self.plan.gpus)
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(self.plan.devices[mine] if job == "worker" else ())
        command = runnable(self.plan.command, resume=self.restarts > 0)
        self.running[job, index] = self.children.start(f"{job} {index}", command, environment)

    def _stop(self) -> int:
        """Pass the signal on; a second one kills."""
        number, alive = self.signals.stop, list(self.running.values())
        self._say(f"{number.name}: ending all")
        self.children.send(alive, number)
        until = time.monotonic() + self.plan.grace
        while self.signals.count < 2 and time.monotonic() < until and any(child.status is None for child in alive):
            time.sleep(_LOOK)
        self.children.end(alive, 0.0)
        return 128 + number

    def _say(self, text: str) -> None:
        self.log.say("launch", text)

    def _after_restarts(self) -> str:
        return f" after {self.restarts} restart{'s' if self.restarts > 1 else ''}" if self.restarts else ""


def runnable(command: Sequence[str], resume: bool = False) -> list[str]:
    """The command as it is started: ``zoo`` by this interpreter; ``zoo train`` told to go on if ``resume``.

    >>> runnable(["zoo", "train", "--out", "runs/a"], resume=True)[1:]
    ['-m', 'zoo.cli.main', 'train', '--out', 'runs/a', '--resume']
    """
    command = list(command)
    if Path(command[0]).name != "zoo":
        return command
    if resume and command[1:2] == ["train"] and "--resume" not in command:
        command.append("--resume")
    return [sys.executable, "-m", "zoo.cli.main", *command[1:]]


def free_ports(count: int) -> list[int]:
    """So many different ports at which nobody listens on this machine now."""
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        if len(found) == count:
            return found
        try:
            socket.create_server(("", port)).close()
        except OSError:
            continue
        found.append(port)
    raise ClusterError(f"no {count} free ports from {_PORTS.start} to {_PORTS.stop - 1} on this machine")
