"""``zoo launch``: the log of all, restarts, and nothing left running, whoever is killed."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zoo.cli.main import main
from zoo.distribute.cluster import ClusterError
from zoo.distribute.launch import LaunchPlan, free_ports, runnable
from zoo.distribute.merged_log import MergedLog

# Says where its process is, then does what is asked of it. It starts a process of its own, as a shell does.
WORKER = """
import json, os, subprocess, sys, time
task = json.loads(os.environ["TF_CONFIG"])["task"]
name = f"{task['type']}{task['index']}"
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
folder = sys.argv[1]
with open(f"{folder}/{name}.pids", "a") as file:
    print(os.getpid(), grandchild.pid, os.environ["TF_CONFIG"], file=file)
start = len(open(f"{folder}/{name}.pids").readlines())
print(f"start {start} of {name}", flush=True)
exec(sys.argv[2])
grandchild.kill()
print("end of", name)
"""


@pytest.fixture
def worker(tmp_path):
    """The command of a worker that executes a line of Python."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    return lambda line: [sys.executable, str(script), str(tmp_path), line]


class Started:
    """A launcher in a process of its own."""

    def __init__(self, folder: Path, options: list[str], command: list[str]):
        self.folder = folder
        words = [sys.executable, "-m", "zoo.cli.main", "launch", "--grace", "3", *options, "--", *command]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def pids(self, name: str, start: int = 1, wait: float = 120) -> tuple[int, int]:
        """Of a worker's ``start``-th start: its own and its child's."""
        file = self.folder / f"{name}.pids"
        until = time.monotonic() + wait
        while time.monotonic() < until:
            lines = file.read_text().splitlines() if file.exists() else []
            if len(lines) >= start:
                return tuple(map(int, lines[start - 1].split()[:2]))
            time.sleep(0.02)
        raise AssertionError(f"{name} did not start {start} times")

    def until_there(self, path: Path, wait: float = 120) -> None:
        """Return as soon as a worker has made a file."""
        until = time.monotonic() + wait
        while not path.exists():
            assert self.process.poll() is None, "the launcher has ended"
            assert time.monotonic() < until, f"{path.name} does not come"
            time.sleep(0.02)

    def all_pids(self) -> list[int]:
        """Of all that were ever started."""
        lines = [line for file in self.folder.glob("*.pids") for line in file.read_text().splitlines()]
        return [int(pid) for line in lines for pid in line.split()[:2]]

    def end(self) -> tuple[int, str]:
        """Exit status and log; nothing may be left."""
        log, _ = self.process.communicate(timeout=180)
        none_left(self.all_pids())
        return self.process.returncode, log


def none_left(pids: list[int], wait: float = 60) -> None:
    until = time.monotonic() + wait
    while time.monotonic() < until and any(map(alive, pids)):
        time.sleep(0.05)
    assert not list(filter(alive, pids))


def alive(pid: int) -> bool:
    """Whether it runs; a dead process that nobody has asked after does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_one_log_and_one_cluster(tmp_path, worker):
    log = tmp_path / "logs" / "all.log"
    # The chief's end is everyone's: it waits until all have spoken.
    line = "import glob; open(f'{folder}/{name}.ready', 'w').close()\n"
    line += "while name == 'chief0' and len(glob.glob(f'{folder}/*.ready')) < 4: time.sleep(0.02)"
    started = Started(tmp_path, ["--workers", "2", "--ps", "1", "--log", str(log)], worker(line))
    status, text = started.end()
    assert status == 0
    assert log.read_text() == text
    for name in ("chief 0", "worker 0", "worker 1", "ps 0"):
        assert f"{name:8} | start 1 of {name.replace(' ', '')}" in text
    clusters = {file.name: json.loads(file.read_text().split(maxsplit=2)[2]) for file in tmp_path.glob("*.pids")}
    assert len({json.dumps(each["cluster"]) for each in clusters.values()}) == 1
    cluster = clusters["ps0.pids"]["cluster"]
    assert {job: len(addresses) for job, addresses in cluster.items()} == {"chief": 1, "worker": 2, "ps": 1}
    assert len({address for addresses in cluster.values() for address in addresses}) == 4


def test_workers_are_restarted_together_and_on_other_ports(tmp_path, worker):
    started = Started(tmp_path, ["--workers", "2"], worker("time.sleep(300 if start == 1 else 0)"))
    started.pids("worker0")
    os.kill(started.pids("worker1")[0], signal.SIGKILL)
    status, text = started.end()
    assert status == 0
    assert "worker 1 was killed by SIGKILL; all are started again (restart 1 of 3)" in text
    assert "all done after 1 restart" in text
    for name in ("worker0", "worker1"):
        configs = [line.split(maxsplit=2)[2] for line in (tmp_path / f"{name}.pids").read_text().splitlines()]
        assert len(configs) == len(set(configs)) == 2


def test_with_parameter_servers_a_worker_is_restarted_alone(tmp_path, worker):
    wait = "while name == 'chief0' and not os.path.exists(folder + '/go'): time.sleep(0.05)\n"
    line = "time.sleep(0.1 if name == 'chief0' else 300)"
    started = Started(tmp_path, ["--workers", "2", "--ps", "1"], worker(wait + line))
    for name in ("chief0", "worker0", "ps0"):
        started.pids(name)
    os.kill(started.pids("worker1")[0], signal.SIGKILL)
    started.pids("worker1", start=2)
    os.kill(started.pids("ps0")[0], signal.SIGKILL)
    for name, start in (("chief0", 2), ("worker0", 2), ("worker1", 3), ("ps0", 2)):
        started.pids(name, start)
    (tmp_path / "go").touch()
    status, text = started.end()
    assert status == 0
    assert "worker 1 was killed by SIGKILL; it is started again (restart 1 of 3)" in text
    assert "ps 0 was killed by SIGKILL; all are started again (restart 2 of 3)" in text


@pytest.mark.parametrize(
    ("line", "options", "expected", "says"),
    [
        ("sys.exit(3)", ["--restarts", "1"], 3, "no restart is left after 1 restart"),
        ("sys.exit(2) if name == 'worker1' else time.sleep(300)", [], 2, "worker 1 failed with status 2: a mistake"),
    ],
)
def test_what_is_not_started_again(tmp_path, worker, line, options, expected, says):
    status, text = Started(tmp_path, ["--workers", "2", *options], worker(line)).end()
    assert (status, says in text) == (expected, True), text


def test_a_replaced_worker_that_finds_nobody_is_no_mistake(tmp_path, worker):
    """It died while the cluster started; alone it cannot meet the others any more, and says so with status 2."""
    line = "time.sleep(300) if start < 2 or name != 'worker1' else sys.exit(2 if start == 2 else 0)"
    line = f"sys.exit(0) if start == 2 and name == 'chief0' else None\n{line}"
    started = Started(tmp_path, ["--workers", "2", "--ps", "1"], worker(line))
    for name in ("chief0", "worker0", "ps0"):
        started.pids(name)
    os.kill(started.pids("worker1")[0], signal.SIGKILL)
    status, text = started.end()
    assert status == 0, text
    assert "worker 1 was killed by SIGKILL; it is started again (restart 1 of 3)" in text
    assert "worker 1 failed with status 2; all are started again (restart 2 of 3)" in text


def test_workers_share_the_gpus_that_the_launcher_was_given(tmp_path, worker, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5,7,MIG-a,9")
    line = "print('sees', os.environ['CUDA_VISIBLE_DEVICES'], flush=True)"
    status, text = Started(tmp_path, ["--workers", "2", "--gpus", "2"], worker(line)).end()
    assert status == 0
    assert "worker 0 | sees 3,5\n" in text
    assert "worker 1 | sees 7,MIG-a\n" in text
    with pytest.raises(ClusterError, match=r"3 workers of 2 GPUs each, but CUDA_VISIBLE_DEVICES names 5: 3,5,7,MIG-a"):
        LaunchPlan(("true",), workers=3, gpus=2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert LaunchPlan(("true",), workers=3, gpus=2).devices == list("012345")


def test_a_full_disk_ends_the_log_and_not_the_training(tmp_path):
    log = MergedLog(8, tmp_path / "all.log")

    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    good = io.BytesIO()
    log._streams[:] = [Full(), good]
    for line in ("one", "two"):
        log.say("launch", line)
    assert good.getvalue().splitlines() == [b"launch   | one", b"launch   | two"]


def test_a_command_that_is_not_there(tmp_path):
    status, text = Started(tmp_path, ["--workers", "1"], ["no-such-program"]).end()
    assert status == 127
    assert "no-such-program: No such file or directory" in text


def test_signals_are_passed_on(tmp_path, worker):
    catch = "import signal; signal.signal({0}, lambda *_: (print('caught', flush=True), sys.exit(0)))\n"
    line = catch.format("signal.SIGTERM") + "open(f'{folder}/{name}.ready', 'w').close(); time.sleep(300)"
    started = Started(tmp_path, ["--workers", "2", "--grace", "60"], worker(line))
    for name in ("worker0", "worker1"):
        started.until_there(tmp_path / f"{name}.ready")
    started.process.send_signal(signal.SIGTERM)
    status, text = started.end()
    assert status == 128 + signal.SIGTERM
    assert text.count("| caught") == 2


def test_a_second_signal_does_not_wait(tmp_path, worker):
    line = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); open(f'{folder}/deaf', 'w').close()"
    started = Started(tmp_path, ["--workers", "1", "--grace", "200"], worker(f"{line}; time.sleep(300)"))
    started.until_there(tmp_path / "deaf")
    started.process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert started.process.poll() is None
    started.process.send_signal(signal.SIGINT)
    assert started.end()[0] == 128 + signal.SIGINT  # within its time, which is shorter than the grace


def test_nothing_is_left_when_the_launcher_is_killed(tmp_path, worker):
    """The watcher ends what the launcher can no longer end, processes of processes included."""
    line = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(300)"
    started = Started(tmp_path, ["--workers", "2", "--ps", "1"], worker(line))
    for name in ("chief0", "worker0", "worker1", "ps0"):
        started.pids(name)
    started.process.kill()
    started.end()


def test_nothing_is_left_when_the_watcher_is_killed_too(tmp_path, worker):
    """Linux ends the children themselves."""
    started = Started(tmp_path, ["--workers", "2"], worker("time.sleep(300)"))
    pids = [started.pids(name) for name in ("worker0", "worker1")]
    children = Path(f"/proc/{started.process.pid}/task/{started.process.pid}/children").read_text().split()
    watcher = next(pid for pid in children if b"watch" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(int(watcher), signal.SIGKILL)
    started.process.kill()
    started.process.communicate()
    none_left([pid for pid, _ in pids])
    for _, grandchild in pids:  # which only the watcher could have known
        os.kill(grandchild, signal.SIGKILL)


def test_commands_and_mistakes(capsys):
    assert runnable(["zoo", "train", "--resume"], resume=True)[3:] == ["train", "--resume"]
    assert runnable(["zoo", "eval"], resume=True)[3:] == ["eval"]
    assert runnable(["python", "own.py"], resume=True) == ["python", "own.py"]
    assert len(set(free_ports(5))) == 5
    with pytest.raises(ClusterError, match="workers is at least 1, not 0"):
        LaunchPlan(("true",), workers=0)
    assert main(["launch", "--workers", "2"]) == 2
    assert "give the command to run: zoo launch --workers 2 -- zoo train" in capsys.readouterr().err
