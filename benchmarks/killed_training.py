"""Trainings killed without warning (SIGKILL) at random moments and resumed, against the same ones left alone.

The small detector of the tests is trained jointly (with averaging, clipping, accumulation and frozen layers) and by
turns, each in processes of their own that are killed again and again. In the end all weights have to be equal bit for
bit, those of every step of the alternating training included.

    python benchmarks/killed_training.py [--kills 5] [--json FILE]
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

SCRIPT = Path(__file__).resolve().parent.parent / "tests" / "alternating_run.py"
STEPS = ("1-rpn", "2-fast", "3-rpn", "4-fast")
DELAY = 0.05  # seconds that a picture takes to read, so that there are moments to be hit


def start(kind: str, folder: Path) -> subprocess.Popen:
    """A training that goes on where the folder is."""
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, str(SCRIPT), kind, str(folder), str(DELAY)]
    return subprocess.Popen(command, env=quiet, stderr=subprocess.DEVNULL)


def finish(kind: str, folder: Path) -> None:
    """Let a training come to its end."""
    if start(kind, folder).wait() != 0:
        raise SystemExit(f"the {kind} training in {folder} failed; run {SCRIPT} to see why")


def kill_after(kind: str, folder: Path, file: Path, wait: float) -> str:
    """Kill a training so many seconds after it has written a file (anew); says what there was at that moment."""
    before = written(file)
    process = start(kind, folder)
    while written(file) == before:
        if process.poll() is not None:
            raise SystemExit(f"the {kind} training ended before it wrote {file}")
        time.sleep(0.002)
    time.sleep(wait)
    ended = process.poll() is not None
    process.kill()
    process.wait()
    there = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.weights.h5"))
    return "after its end" if ended else f"with {', '.join(there)}"


def written(file: Path) -> int:
    """When a file was written, 0 if it is not there."""
    return file.stat().st_mtime_ns if file.exists() else 0


def same(one: Path, other: Path) -> int:
    """How many arrays two weights files share, if all are equal bit for bit."""
    with h5py.File(one) as a, h5py.File(other) as b:
        names: list[str] = []
        a.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        names = [name for name in names if name != "_state/progress"]
        for name in names:
            if not np.array_equal(a[name][()], b[name][()]):
                raise SystemExit(f"{name} of {one} and {other} differ")
        return len(names)


def main() -> None:
    """Run both kinds and say what was compared."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5, metavar="N", help="of the joint training (5)")
    parser.add_argument("--seed", type=int, default=None, help="of the moments")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    moments, report = random.Random(args.seed), {"kills": []}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for kind in ("joint", "alternating"):
            began = time.perf_counter()
            finish(kind, root / kind)
            print(f"{kind}: unbroken in {time.perf_counter() - began:.0f} s", flush=True)
        for _ in range(args.kills):
            wait = moments.uniform(0, 0.4)
            what = kill_after("joint", root / "killed", root / "killed" / "checkpoint.weights.h5", wait)
            report["kills"].append({"training": "joint", "seconds": round(wait, 3), "found": what})
            print(f"joint: killed {what}", flush=True)
        finish("joint", root / "killed")
        files = ("model.weights.h5", "checkpoint.weights.h5")
        report["joint"] = sum(same(root / "joint" / file, root / "killed" / file) for file in files)
        print(f"joint: {report['joint']} arrays equal bit for bit", flush=True)
        turns = root / "turns"
        for step in STEPS:
            wait = moments.uniform(0, 0.3)
            what = kill_after("alternating", turns, turns / step / "checkpoint.weights.h5", wait)
            report["kills"].append({"training": f"step {step}", "seconds": round(wait, 3), "found": what})
            print(f"step {step}: killed {what}", flush=True)
        finish("alternating", turns)
        places = [Path(step) / file for step in STEPS for file in files] + [Path("model.weights.h5")]
        report["alternating"] = sum(same(root / "alternating" / place, turns / place) for place in places)
        print(f"alternating: {report['alternating']} arrays equal bit for bit", flush=True)
    if args.json is not None:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
