"""Trainings killed without warning (SIGKILL) at random moments and resumed, against the same ones left alone.

The small detector of the tests is trained jointly (with averaging, clipping, accumulation and frozen layers) and by
turns, in TensorFlow's deterministic mode. The training, and each step of the one by turns, is killed at five moments,
drawn evenly from its whole length. In the end all weights have to be equal bit for bit, those of every step included,
and so do the optimiser's variables and the seeds in the checkpoints.

    python benchmarks/killed_training.py --write

What is done is kept in ``runs/killed.json``; a call that was stopped goes on where it was.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import common
import h5py
import numpy as np

TESTS = Path(__file__).resolve().parent.parent / "tests"
STEPS = ("1-rpn", "2-fast", "3-rpn", "4-fast")
FILES = ("model.weights.h5", "checkpoint.weights.h5")
KINDS = {"joint": ("",), "alternating": STEPS}
DELAY = 0.05  # seconds that a picture takes to read, so that there are moments to be hit
# Six pictures: epochs of six batches of one, and of three of two.
RPN_STEPS, FAST_STEPS, JOINT_STEPS, EPOCHS = 33, 17, 20, 5
EPOCH_SECONDS = 0.4  # about what they take


def train(kind: str, folder: Path) -> None:
    """The training itself, in a process of its own: goes on where the folder is, and says what it does."""
    import tensorflow as tf

    sys.path.insert(0, str(TESTS))
    from alternating_run import alternating, joint, plan

    tf.config.experimental.enable_op_determinism()
    if kind == "joint":
        print("Step : joint", flush=True)
        joint(folder, delay=DELAY, steps=JOINT_STEPS)
    else:
        lengths = plan(rpn_steps=RPN_STEPS, fast_steps=FAST_STEPS)
        alternating(folder, delay=DELAY, plan=lengths, say=lambda text: print(text, flush=True))


def start(kind: str, folder: Path) -> subprocess.Popen:
    """A training that goes on where the folder is."""
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, __file__, "--train", kind, "--out", str(folder)]
    return subprocess.Popen(command, env=quiet, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def finish(kind: str, folder: Path) -> None:
    """Let a training come to its end."""
    process = start(kind, folder)
    process.communicate()
    if process.returncode:
        raise SystemExit(f"the {kind} training failed; run: {Path(__file__).name} --train {kind} --out {folder}")


def epochs_done(folder: Path) -> int:
    """Whole epochs in a training's checkpoint, from which it would go on."""
    checkpoint = folder / FILES[1]
    if not checkpoint.is_file():
        return 0
    with h5py.File(checkpoint) as file:
        return json.loads(file["_state/progress"][()])["epoch"]


def kill(kind: str, folder: Path, step: str, moment: float, epoch_seconds: float) -> str:
    """Kill a training ``moment`` epochs after the beginning of a step; says what there was at that moment.

    Whole epochs are those of its checkpoint, the rest is that part of ``epoch_seconds``.
    """
    process = start(kind, folder)
    for line in process.stdout:
        # The first line about a step's batches; those before are about proposals and steps that are done.
        if line.startswith(f"Step {step}:") and "done before" not in line and "proposals" not in line:
            break
    else:
        raise SystemExit(f"the {kind} training ended before step {step}")
    while epochs_done(folder / step) < int(moment) and process.poll() is None:
        time.sleep(0.005)
    time.sleep((moment % 1) * epoch_seconds)
    ended = process.poll() is not None
    process.kill()
    process.communicate()
    if ended:
        raise SystemExit(f"step {step} ended before it was to be killed; is DELAY too short?")
    if (folder / step / FILES[0]).is_file():
        return "final weights"
    epochs = epochs_done(folder / step)
    return f"checkpoint of epoch {epochs}" if epochs else "no checkpoint"


def same(one: Path, other: Path) -> int:
    """How many arrays two weights files share, if all are equal bit for bit."""
    with h5py.File(one) as a, h5py.File(other) as b:
        names: tuple[list[str], list[str]] = [], []
        for file, found in zip((a, b), names, strict=True):
            # The progress holds seconds.
            file.visititems(
                lambda name, item, found=found: (
                    found.append(name) if isinstance(item, h5py.Dataset) and name != "_state/progress" else None
                )
            )
        if names[0] != names[1] or not names[0]:
            raise SystemExit(f"{one} and {other} hold other arrays")
        for name in names[0]:
            if a[name].dtype != b[name].dtype or not np.array_equal(a[name][()], b[name][()]):
                raise SystemExit(f"{name} of {one} and {other} differ")
        return len(names[0])


def moments(step: str, kills: int, seed: int) -> list[float]:
    """So many moments, in epochs from the beginning of a step, in order."""
    drawn = random.Random(f"{seed}-{step}")
    return sorted(drawn.uniform(0, EPOCHS + 0.3) for _ in range(kills))


class Bench:
    """The folder of the trainings, and what is done of them."""

    def __init__(self, folder: Path, kills: int, seed: int) -> None:
        self.folder, self.path, self.number, self.seed = folder, folder.with_suffix(".json"), kills, seed
        asked = {"kills": kills, "seed": seed}
        self.done = json.loads(self.path.read_text()) if self.path.is_file() else {}
        if self.done.get("asked") != asked:
            shutil.rmtree(folder, ignore_errors=True)
            self.done = {"asked": asked}
        folder.mkdir(parents=True, exist_ok=True)

    def keep(self, name: str, value: object) -> None:
        """Remember a result, on disk too."""
        self.done[name] = value
        fresh = self.path.with_suffix(".json.new")
        fresh.write_text(json.dumps(self.done, indent=2) + "\n")
        os.replace(fresh, self.path)

    def kills(self, kind: str, step: str) -> None:
        """All kills of a step that are not done yet."""
        name = step or kind
        done = self.done.get(name, [])
        for moment in moments(name, self.number, self.seed)[len(done) :]:
            found = kill(kind, self.folder / f"killed-{kind}", step, moment, EPOCH_SECONDS)
            done = [*done, {"epoch": round(moment, 2), "found": found}]
            self.keep(name, done)
            print(f"{name}: killed after {moment:.2f} epochs, with {found}", flush=True)

    def run(self) -> None:
        """Both kinds: unbroken, killed, compared."""
        for kind, steps in KINDS.items():
            whole, broken = self.folder / f"unbroken-{kind}", self.folder / f"killed-{kind}"
            if not (whole / FILES[0]).is_file():
                finish(kind, whole)
            for step in steps:
                self.kills(kind, step)
            finish(kind, broken)
            places = [Path(step) / file for step in steps for file in FILES] + [Path(FILES[0])]
            count = sum(same(whole / place, broken / place) for place in dict.fromkeys(places))
            self.keep(f"{kind} arrays", count)
            print(f"{kind}: {count} arrays equal bit for bit", flush=True)


def tell(done: dict) -> str:
    """The table."""
    rows = []
    for kind, steps in KINDS.items():
        for step in steps:
            kills = done[step or kind]
            name = f"by turns, step {step}" if step else kind
            rows.append([name, *(f"{each['epoch']:.2f}: {each['found']}" for each in kills)])
    count = max(len(row) for row in rows) - 1
    total = sum(len(row) - 1 for row in rows)
    return (
        f"{total} kills. After the last one all arrays (weights, momentum, averages, gradients, seeds) were equal bit "
        f"for bit to those of trainings left alone: {done['joint arrays']} of the joint training, "
        f"{done['alternating arrays']} of the one by turns. Moments are in epochs from the beginning of the step, "
        "drawn at random, each with what the folder held when the process was gone:\n\n"
        + common.table(["training", *(f"kill {number + 1}" for number in range(count))], rows)
    )


def main() -> None:
    parser = common.arguments(__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=5, metavar="N", help="of each training and step (5)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, default=Path("runs/killed"), help="folder; results beside it (runs/killed)")
    parser.add_argument("--train", choices=tuple(KINDS), help="only train, in --out; what this script starts itself")
    args = parser.parse_args()
    if args.train:
        train(args.train, args.out)
        return
    common.pin(args.cores)
    bench = Bench(args.out, args.kills, args.seed)
    bench.run()
    common.publish("killed_training", tell(bench.done), args.write)


if __name__ == "__main__":
    main()
