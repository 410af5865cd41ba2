"""Kills processes of distributed trainings with ``kill -9``, each kind five times, and says what was lost.

    python benchmarks/distribute_faults.py --write

Each round is a training under ``zoo launch`` that has to end well, whatever is killed in its middle. Rounds that are
done are kept in ``--folder``: started again, it goes on with the others. About a quarter of an hour on two idle cores,
most of which TensorFlow takes to start.
"""

import argparse
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
import uuid
from pathlib import Path

import common

PICTURES, BATCH = 192, 8
STEPS = PICTURES // BATCH  # of an epoch; units of a pass
EPOCHS = {"mirrored": 20, "downpour": 30}
ITERATIONS = 25
SAME = 1e-6
# Who is killed, in which training.
KINDS = {
    "mirrored worker": ("worker", ("mirrored",)),
    "Downpour worker": ("worker", ("downpour",)),
    "parameter server": ("ps", ("downpour",)),
    "Sandblaster worker, in mid-pass": ("worker", ("sandblaster",)),
    "coordinator": ("chief", ("downpour", "sandblaster")),
}
CHECKPOINTS = {"mirrored": "checkpoint.weights.h5", "downpour": "downpour.npz", "sandblaster": "sandblaster.npz"}
MARK = "ZOO_FAULTS_ROUND"  # inherited by all processes of a round, so that none is overlooked
LIMIT = 600.0  # seconds of a round


def child(training: str, out: str) -> None:
    """One process of a training: a small network learns colours, and goes on where its checkpoint is."""
    from zoo.distribute.strategies import make_strategy

    strategy = make_strategy("multi_worker" if training == "mirrored" else "parameter_server", wait=300)
    import keras
    import numpy as np
    from keras import layers

    import zoo
    from zoo.datasets.class_batches import ClassBatches, CropFlip
    from zoo.datasets.class_records import ClassificationDataset

    labels = np.arange(PICTURES) % 3
    images = np.random.default_rng(0).integers(0, 120, (PICTURES, 32, 32, 3))
    images[np.arange(PICTURES), :, :, labels] += 60
    images = images.astype(np.uint8)
    names = [str(index) for index in range(PICTURES)]
    data = ClassificationDataset("colours", ("red", "green", "blue"), labels, names, images.__getitem__)

    def network() -> keras.Model:
        keras.utils.set_random_seed(0)
        pictures = keras.Input((32, 32, 3))
        x = layers.Rescaling(1 / 64, -1.0)(pictures)
        for number, width in enumerate((8, 16)):
            x = layers.Conv2D(width, 3, 2, activation="relu", name=f"conv{number}")(x)
        x = layers.Dense(3, activation="softmax", name="predictions")(layers.GlobalAveragePooling2D()(x))
        return keras.Model(pictures, x, name="colour_net")

    batches = ClassBatches(data, BATCH, CropFlip(32, 4))
    common_options = {"out": out, "resume": True, "tensorboard": False}
    if training == "mirrored":
        with strategy.scope():
            model = network()
        recipe = zoo.Recipe(learning_rate=0.01)
        epochs = EPOCHS[training]
        zoo.train(model, batches, epochs=epochs, recipe=recipe, verbose=2, keep="last", **common_options)
    elif training == "downpour":
        from zoo.distribute.downpour_run import fit_downpour

        recipe = zoo.Recipe(learning_rate=0.003)
        fit_downpour(network(), batches, strategy=strategy, epochs=EPOCHS[training], recipe=recipe, **common_options)
    else:
        from zoo.distribute.sandblaster_run import fit_sandblaster

        fit_sandblaster(network(), batches, strategy=strategy, iterations=ITERATIONS, **common_options)


def start(training: str, out: Path, mark: str) -> subprocess.Popen:
    """The training, with its log in a file beside ``out``."""
    servers = 0 if training == "mirrored" else 1
    launch = ["launch", "--workers", "2", "--ps", str(servers), "--log", f"{out}.log", "--"]
    command = [sys.executable, __file__, "--child", training, str(out)]
    return subprocess.Popen(
        [sys.executable, "-m", "zoo.cli.main", *launch, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        env={**os.environ, MARK: mark},
    )


def processes(mark: str) -> dict[int, tuple[str, int] | None]:
    """All of a round that run: their job and number, None for those that have none."""
    found = {}
    for file in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = dict(item.split("=", 1) for item in file.read_text().split("\0") if "=" in item)
            if variables.get(MARK) != mark or (file.parent / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                continue
            task = json.loads(variables.get("TF_CONFIG", "{}")).get("task")
            found[int(file.parent.name)] = (task["type"], task["index"]) if task else None
        except (OSError, ValueError):
            continue
    return found


def done_in(training: str, out: Path) -> int:
    """Epochs or iterations in the checkpoint."""
    file = out / CHECKPOINTS[training]
    if not file.exists():
        return 0
    if training == "mirrored":
        from zoo.training.checkpoint import read_progress

        return read_progress(file).epoch
    if training == "downpour":
        from zoo.distribute.downpour import steps_in

        return steps_in(file) // STEPS
    from zoo.distribute.sandblaster_state import iterations_in

    return iterations_in(file)


def weights(out: Path) -> list:
    import numpy as np

    from zoo.weights_io import open_weights

    with open_weights(out / "model.weights.h5") as file:
        return [np.asarray(file[name]) for name in sorted(file)]


def wait_for(launcher: subprocess.Popen, condition, began: float) -> bool:
    """Whether the condition came true before the launcher ended or the time was up."""
    while not (found := condition()) and launcher.poll() is None and time.monotonic() - began < LIMIT:
        time.sleep(0.02)
    return bool(found)


def one_round(kind: str, number: int, folder: Path) -> dict:
    """Kill the one in question somewhere in the middle, and see how it ends."""
    job, trainings = KINDS[kind]
    training = trainings[number % len(trainings)]
    rng = random.Random(f"{kind} {number}")
    out = folder / f"{kind.split(',')[0].replace(' ', '-').lower()}-{number}-{uuid.uuid4().hex[:6]}"
    victim = (job, rng.randrange(2) if job == "worker" else 0)
    after = rng.randrange(1, 8)
    began, mark = time.monotonic(), uuid.uuid4().hex
    launcher = start(training, out, mark)
    try:
        if not wait_for(launcher, lambda: done_in(training, out) >= after, began):
            return {"ended": f"before the kill: {tail(out)}"}
        time.sleep(rng.uniform(0.0, 0.3))
        at = done_in(training, out)
        pid = next((pid for pid, task in processes(mark).items() if task == victim), None)
        if pid is None:
            return {"ended": f"before the kill: {tail(out)}"}
        os.kill(pid, signal.SIGKILL)
        wait_for(launcher, lambda: launcher.poll() is not None, began)
        seconds = time.monotonic() - began
        status = launcher.poll()
    finally:
        if launcher.poll() is None:
            launcher.send_signal(signal.SIGTERM)
        launcher.wait()
    log = Path(f"{out}.log").read_text()
    if "killed by SIGKILL" not in log:
        return {"ended": f"the kill of {pid} came too late: {tail(out)}"}
    return {
        "training": training,
        "ended": "well" if status == 0 else f"status {status}: {tail(out)}",
        "killed": f"{victim[0]} {victim[1]}",
        "after": at,
        "restarts": log.count("started again"),
        "all": log.count("all are started again"),
        "resumed": [int(each) for each in re.findall(r"npz: (\d+)", log)],
        "seconds": round(seconds, 1),
        "load": os.getloadavg()[0],
        "left": len(processes(mark)),
        "out": str(out),
    }


def tail(out: Path) -> str:
    """The end of a log."""
    file = Path(f"{out}.log")
    return " / ".join(file.read_text().splitlines()[-3:])[-400:] if file.exists() else "no log"


def unbroken(training: str, folder: Path) -> Path:
    """The folder of a training that nothing happens to, for comparison."""
    out = folder / f"unbroken-{training}"
    if not (out / "model.weights.h5").exists():
        launcher = start(training, out, uuid.uuid4().hex)
        if launcher.wait():
            raise SystemExit(f"the unbroken training failed: {tail(out)}")
    return out


def lost(found: dict, folder: Path) -> str:
    """What a round has lost, and how its result shows it."""
    import numpy as np

    training, out = found["training"], Path(found["out"])
    if training == "downpour":
        from zoo.distribute.downpour import steps_in

        total = STEPS * EPOCHS[training]
        missing = total - steps_in(out / CHECKPOINTS[training])
        if missing:
            return f"**{missing} steps**"
        return (
            f"fewer than {STEPS} of {total} steps, since the checkpoint" if found["all"] else "none: all steps counted"
        )
    pairs = zip(weights(out), weights(unbroken(training, folder)), strict=True)
    worst = max(float(np.abs(one - other).max()) for one, other in pairs)
    if training == "mirrored":
        same = "the weights of an unbroken run" if worst <= SAME else f"**weights differ by {worst:.1e}**"
        return f"fewer than {STEPS} of {STEPS * EPOCHS[training]} steps, since the checkpoint; {same}"
    what = f"less than one of {ITERATIONS} iterations, since the checkpoint" if found["all"] else "none"
    return f"{what}; {'the weights of an unbroken run' if worst <= 1e-4 else f'**weights differ by {worst:.1e}**'}"


def table(results: dict, folder: Path) -> str:
    """A row for each kind, and for each training of a coordinator."""
    rows = []
    for kind, (_, trainings) in KINDS.items():
        for training in trainings:
            rounds = [
                each for name, each in results.items() if name.startswith(kind) and each.get("training") == training
            ]
            well = [each for each in rounds if each["ended"] == "well"]
            if not rounds:
                continue
            name = kind if len(trainings) == 1 else f"{kind} of {training.capitalize()}"
            if not well:
                rows.append((name, f"0 of {len(rounds)}", "-", "-", "-", "-"))
                continue
            seconds = [each["seconds"] for each in well]
            rows.append(
                (
                    name,
                    f"{len(well)} of {len(rounds)}",
                    "all" if any(each["all"] for each in well) else "it alone",
                    "; ".join(sorted({lost(each, folder) for each in well})),
                    f"{statistics.median(seconds):.0f} ({max(seconds):.0f})",
                    max(each["left"] for each in rounds),
                )
            )
    header = ("killed", "finished", "started again", "lost", "seconds (most)", "processes left")
    loads = [each["load"] for each in results.values() if "load" in each]
    busy = f"Seconds are of whole rounds; the machine's load was {statistics.median(loads):.0f} meanwhile."
    return f"{common.table(header, rows)}\n\n{busy}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the table into benchmarks/README.md")
    parser.add_argument("--times", type=int, default=5, help="how often to kill (5)")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only this; may be repeated")
    parser.add_argument("--folder", type=Path, default=Path("runs/faults"), help="where rounds are kept (runs/faults)")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if args.child:
        child(*args.child)
        return
    folder = args.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "rounds.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    for number in range(args.times):
        for kind in args.kind or KINDS:
            name = f"{kind} {number}"
            if results.get(name, {}).get("ended") == "well":
                continue
            results[name] = one_round(kind, number, folder)
            print(name, {key: value for key, value in results[name].items() if key != "out"}, flush=True)
            fresh = file.with_suffix(".new")
            fresh.write_text(json.dumps(results, indent=2))
            os.replace(fresh, file)
    common.publish("distribute_faults", table(results, folder), args.write)
    failed = [name for name, each in results.items() if each["ended"] != "well" or each["left"]]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
