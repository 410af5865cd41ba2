"""Kills a worker of two with ``kill -9``, five times, and compares what comes out with an unbroken training.

    python benchmarks/distribute_faults.py --write

Each time `zoo launch` has to restart the group, which goes on from the last whole epoch; the weights have to be those
of the unbroken run, and no process may be left.
"""

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import common

EPOCHS, BATCH, PICTURES = 6, 16, 96
SAME = 1e-6


def make_data(path: Path) -> Path:
    """Small pictures whose class is their colour, in a .zip of class folders."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(PICTURES):
            image = rng.integers(0, 120, (32, 32, 3)).astype(np.uint8)
            image[..., index % 3] += 100
            encoded = cv2.imencode(".png", image)[1].tobytes()
            archive.writestr(f"colours/train/{['blue', 'green', 'red'][index % 3]}/{index}.png", encoded)
    return path


def start(data: Path, out: Path) -> subprocess.Popen:
    """A training by two workers."""
    training = (
        f"zoo train --strategy multi_worker --wait 120 --data {data} --val-split none --model resnet20 --batch {BATCH} "
        f"--epochs {EPOCHS} --lr 0.05 --keep last --no-tensorboard --quiet --out {out}"
    )
    words = [sys.executable, "-m", "zoo.cli.main", "launch", "--workers", "2", "--", *training.split()]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def workers_of(launcher: subprocess.Popen) -> list[int]:
    """The processes that train, worker 0 first: they were started in this order."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    return sorted(int(pid) for pid in children if b"--strategy" in Path(f"/proc/{pid}/cmdline").read_bytes())


def left_over(out: Path) -> int:
    """Processes that have the folder in their command."""
    found = 0
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += str(out).encode() in file.read_bytes() and int(file.parent.name) != os.getpid()
        except OSError:
            continue
    return found


def weights(out: Path) -> list:
    import numpy as np

    from zoo.weights_io import open_weights

    with open_weights(out / "model.weights.h5") as file:
        return [np.asarray(file[name]) for name in sorted(file)]


def epochs_done(out: Path) -> int:
    """Epochs in the checkpoint."""
    from zoo.training.checkpoint import read_progress

    file = out / "checkpoint.weights.h5"
    return read_progress(file).epoch if file.exists() else 0


def broken_run(data: Path, out: Path, victim: int, after: int, delay: float) -> tuple[int, str, int]:
    """Kill a worker ``delay`` seconds after an epoch; the launcher's status, its log, and the epochs done by then."""
    launcher = start(data, out)
    while epochs_done(out) < after and launcher.poll() is None:
        time.sleep(0.05)
    time.sleep(delay)
    done = epochs_done(out)
    os.kill(workers_of(launcher)[victim], signal.SIGKILL)
    log, _ = launcher.communicate()
    return launcher.returncode, log, done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the table into benchmarks/README.md")
    parser.add_argument("--times", type=int, default=5, help="how often to kill (5)")
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    rng = random.Random(0)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        data = make_data(root / "colours.zip")
        began = time.monotonic()
        log, _ = (launcher := start(data, root / "unbroken")).communicate()
        if launcher.returncode:
            raise SystemExit(log)
        rows.append(("none", "-", "0", f"{time.monotonic() - began:.0f}", "-", left_over(root / "unbroken")))
        expected = weights(root / "unbroken")
        for number in range(args.times):
            out, victim = root / f"broken{number}", number % 2
            began = time.monotonic()
            status, log, done = broken_run(data, out, victim, rng.randrange(1, EPOCHS - 1), rng.uniform(0.0, 0.5))
            if status:
                raise SystemExit(log)
            worst = max(float(abs(a - b).max()) for a, b in zip(weights(out), expected, strict=True))
            restarts = len(re.findall("all are started again", log))
            same = "the same" if worst <= SAME else f"**{worst:.1e}**"
            seconds = f"{time.monotonic() - began:.0f}"
            rows.append((f"worker {victim}", f"epoch {done + 1}", restarts, seconds, same, left_over(out)))
    header = ("killed", "in", "restarts", "seconds", "weights", "processes left")
    steps = PICTURES // BATCH
    text = f"Lost each time: the steps since the last whole epoch, at most {steps} of {steps * EPOCHS}."
    common.publish("distribute_faults", f"{common.table(header, rows)}\n\n{text}", args.write)


if __name__ == "__main__":
    main()
