"""What the benchmarks share: the machine, timing, child processes, tables, and this folder's README.

Uses the standard library alone, so that a peer's interpreter can import it too.
"""

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
README = HERE / "README.md"
# glibc gives large blocks back to the system and fetches them anew for every tensor. These keep them, in large pages.
LARGE_PAGES = "glibc.malloc.mmap_threshold=34359738368:glibc.malloc.trim_threshold=34359738368:glibc.malloc.hugetlb=1"


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--write", action="store_true", help="put the tables into benchmarks/README.md")
    parser.add_argument("--repeats", type=int, default=None, help="timed calls; the median is reported")
    parser.add_argument("--cores", type=int, default=2, help="processor cores to use (default 2)")
    parser.add_argument("--peer-python", help="interpreter in which the peers are installed; without it, none runs")
    return parser


def pin(cores: int) -> None:
    """Keep this process and its children on so many cores. Call it before importing TensorFlow, PyTorch etc."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def versions(*packages: str) -> str:
    """``name version`` of each package that is installed here."""
    found = []
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return ", ".join(found)


def machine() -> str:
    """One line: processor, cores in use, memory, system, Python and TensorFlow."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line for line in lines if line.startswith("model name")).split(":", 1)[1].strip()
    used = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    software = versions("tensorflow", "keras", "numpy")
    return (
        f"{model}, {used} of {os.cpu_count()} cores, {memory:.0f} GiB; {platform.system()}, "
        f"Python {platform.python_version()}, {software}"
    )


def peak_memory() -> float:
    """The most memory this process has held so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 2**30


def timed(calls: dict[str, Callable], repeats: int, warm_up: int = 2) -> dict[str, list[float]]:
    """Seconds of every call of every function. They take turns, so that a machine's moods hit all alike."""
    times = {name: [] for name in calls}
    for turn in range(-warm_up, repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn >= 0:
                times[name].append(time.perf_counter() - start)
    return times


def median(seconds: Sequence[float]) -> float:
    """The median; reported rather than the mean because interruptions only ever add."""
    return statistics.median(seconds)


def spread(seconds: Sequence[float], unit: str = "ms") -> str:
    """``median (fastest)`` for people."""
    factor, digits = (1000.0, 1) if unit == "ms" else (1.0, 3)
    return f"{median(seconds) * factor:.{digits}f} ({min(seconds) * factor:.{digits}f})"


def run_child(python: str, script: str, *args: str, large_pages: bool = False) -> dict:
    """Run a script of this folder in its own process and read what it passed to :func:`report`.

    A script that fails gives ``{"error": last line of its messages}``: peers are optional.
    """
    environment = {**os.environ, "PYTHONPATH": str(HERE), "TF_CPP_MIN_LOG_LEVEL": "2"}
    if large_pages:
        environment["GLIBC_TUNABLES"] = LARGE_PAGES
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "report.json"
        done = subprocess.run(
            [python, str(HERE / script), *args, "--report", str(out)],
            env=environment,
            capture_output=True,
            text=True,
        )
        if done.returncode == 0 and out.exists():
            return json.loads(out.read_text())
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    print(f"{script} failed:\n{done.stderr}", file=sys.stderr)
    return {"error": lines[-1]}


def child_arguments(description: str) -> argparse.ArgumentParser:
    """A parser with the options that every child has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--report", required=True, help="where to write the results as JSON")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--inputs", help="an .npz that parent and child share")
    return parser


def report(path: str, **results) -> None:
    """A child's results, for :func:`run_child`."""
    Path(path).write_text(json.dumps(results))


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A markdown table, its columns aligned so that it reads well in a terminal too."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def command() -> str:
    """The command that is running, without the paths of this machine."""
    words = ["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]
    if "--peer-python" in words:
        words[words.index("--peer-python") + 1] = "peers/bin/python"
    return shlex.join(words)


def publish(section: str, text: str, write: bool) -> None:
    """Print results; with ``write`` also put them between the README's markers for the section."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    text = f"`{command()}`, {today}\n\n{machine()}\n\n{text.strip()}\n"
    print(text)
    if not write:
        return
    begin, end = f"<!-- {section}:begin -->", f"<!-- {section}:end -->"
    old = README.read_text()
    if old.count(begin) != 1 or old.count(end) != 1 or old.index(begin) > old.index(end):
        raise SystemExit(f"{README.name} needs exactly one {begin} and, after it, one {end}")
    head, tail = old.split(begin)[0], old.split(end)[1]
    fresh = README.with_suffix(".md.new")
    fresh.write_text(f"{head}{begin}\n{text}{end}{tail}")
    os.replace(fresh, README)
    print(f"written to benchmarks/{README.name}")
