"""Faster R-CNN on BCCD, trained with this package and with a plain PyTorch implementation: mAP and steps a second.

    ZOO_SHARED_DATA=DATA python benchmarks/peer_training.py --peer-python peers/bin/python --write

Both sides have the same networks, data, schedule, sampling rules and, seed by seed, the same start weights; each has
its own code for all of it, and random numbers of its own. First it is checked that from the same weights, pictures and
random numbers the same losses, gradients, steps and detections come. What is done is kept in ``runs/peer.json`` and not
done again, so that the whole can be stopped and continued.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import common
import numpy as np

SIDES = {"zoo": "peer_training_ours.py", "torch": "peers/train_torch.py"}
SEEDS = (0, 1, 2)
# Norm of the difference that float32 explains, as a share of the norm of an array. Gradients below a ReLU whose input
# is zero but for rounding differ by what comes through it, or does not.
TOLERANCE = {"logits": 1e-4, "deltas": 1e-4, "loss": 1e-4, "gradient": 1e-2, "after": 1e-4}
# Of boxes, and the share of them that may be others: which of two equal scores (proposals may be pooled from the same
# cells) comes first, and suppresses the other, is a matter of taste.
PIXELS, SCORE, OTHERS = 0.05, 1e-3, 0.03


class Bench:
    """The folder of the trainings, and what is done of them."""

    def __init__(self, args):
        self.folder, self.results, self.cores = args.out, args.out.with_suffix(".json"), args.cores
        self.python = {"zoo": sys.executable, "torch": args.peer_python or sys.executable}
        self.data = str(Path(os.environ.get("ZOO_SHARED_DATA", "")) / "bccd")
        if not Path(self.data).is_dir():
            raise SystemExit("set ZOO_SHARED_DATA to a folder that holds the BCCD data set in VOC layout as bccd/")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.done = json.loads(self.results.read_text()) if self.results.is_file() else {}

    def keep(self, name: str, value: dict) -> dict:
        """Remember a result, on disk too."""
        self.done[name] = value
        fresh = self.results.with_suffix(".json.new")
        fresh.write_text(json.dumps(self.done, indent=2) + "\n")
        os.replace(fresh, self.results)
        return value

    def words(self, job: str, seed: int = 0) -> list[str]:
        """Arguments of a child."""
        return [
            job,
            "--folder",
            str(self.folder),
            "--seed",
            str(seed),
            "--threads",
            str(self.cores),
            "--data",
            self.data,
        ]

    def child(self, who: str, job: str, seed: int = 0) -> dict:
        """Do a job in a process of its own."""
        found = common.run_child(self.python[who], SIDES[who], *self.words(job, seed))
        if "error" in found:
            raise SystemExit(f"{who}, {job}: {found['error']}")
        return found

    def prepare(self) -> None:
        """Pictures and start weights, once."""
        if not (self.folder / "settings.json").is_file():
            print("pictures, start weights", flush=True)
            self.child("zoo", "prepare")

    def check(self) -> dict:
        """Compare what both sides make of the same; a difference that float32 does not explain is an error."""
        found = {who: self.child(who, "check")["detections"] for who in SIDES}
        arrays = {who: np.load(self.folder / f"check-{who}.npz") for who in SIDES}
        if set(arrays["zoo"].files) != set(arrays["torch"].files):
            raise SystemExit(f"not the same: {sorted(set(arrays['zoo'].files) ^ set(arrays['torch'].files))}")
        worst, gradients = {}, []
        for name in arrays["zoo"].files:
            ours, theirs = as_peers(name, arrays["zoo"][name]), arrays["torch"][name]
            kind = name.split("/")[0]
            if ours.shape != theirs.shape:
                raise SystemExit(f"{name}: {ours.shape} and {theirs.shape}")
            difference = float(np.linalg.norm(ours - theirs) / max(np.linalg.norm(theirs), 1e-9))
            worst[kind] = max(worst.get(kind, (0.0, "")), (difference, name))
            if kind == "gradient":
                gradients.append(difference)
        for kind, (difference, name) in worst.items():
            print(f"{kind}: {difference:.1e} ({name}; allowed {TOLERANCE[kind]:.0e})")
        wrong = [name for kind, (difference, name) in worst.items() if not difference <= TOLERANCE[kind]]
        proposals = [np.load(self.folder / f"check-{name}.npz") for name in ("given", "proposals")]
        pairs = [tuple(each[name] for each in proposals) for name in proposals[1].files]
        others = {
            "proposals": statistics.mean(unmatched(ours, theirs) for ours, theirs in pairs),
            "detections": statistics.mean(map(other_detections, found["zoo"], found["torch"])),
        }
        for kind, share in others.items():
            print(f"{kind}: {share:.2%} are others")
            wrong += [kind] if share > OTHERS else []
        if wrong:
            raise SystemExit(f"the two differ: {', '.join(wrong)}")
        differences = {kind: difference for kind, (difference, _) in worst.items()}
        count = sum(len(each["scores"]) for each in found["zoo"])
        differences["least gradient"] = min(gradients)
        return self.keep("check", {**differences, "others": others, "count": count})

    def train(self) -> None:
        """All trainings that are not done yet, and their mAP."""
        for seed in SEEDS:
            for who in SIDES:
                name = f"{who}-{seed}"
                if name in self.done:
                    continue
                found = self.child(who, "train", seed)
                scores = judged(found.pop("detections"), self.data)
                print(f"{name}: mAP {scores['map']:.3f}, {found}", flush=True)
                self.keep(name, {**found, **scores})

    def speed(self, turns: int, steps: int) -> dict:
        """Seconds a step, by turns: both processes are there all the time, one of them waits."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        environment = {**os.environ, "PYTHONPATH": str(common.HERE), "TF_CPP_MIN_LOG_LEVEL": "3"}
        children, found = {}, {who: {"wall": [], "processor": []} for who in SIDES}
        everywhere = os.sched_getaffinity(0)
        try:
            common.pin(self.cores)  # threads that read pictures count too
            for who, script in SIDES.items():
                command = [self.python[who], str(common.HERE / script), *self.words("speed")]
                children[who] = subprocess.Popen(command, env=environment, **pipes)
            os.sched_setaffinity(0, everywhere)
            for turn in range(-1, turns):
                for who, child in children.items():
                    child.stdin.write(f"{steps}\n")
                    child.stdin.flush()
                    line = child.stdout.readline()
                    if not line:
                        raise SystemExit(f"{who} ended while its speed was measured; run {SIDES[who]} to see why")
                    if turn >= 0:
                        for kind, seconds in json.loads(line).items():
                            found[who][kind].append(seconds / steps)
        finally:
            for child in children.values():
                child.kill()
                child.wait()
        return self.keep("speed", {**found, "steps": steps})


def as_peers(name: str, array: np.ndarray) -> np.ndarray:
    """Our kernels and their gradients in PyTorch's order (see ``as_torch`` in ``peers/train_networks.py``)."""
    if not name.endswith("/kernel"):
        return array
    if name.endswith("fc6/kernel"):
        array = array.reshape(7, 7, -1, array.shape[-1]).transpose(2, 0, 1, 3).reshape(array.shape)
    return array.transpose((3, 2, 0, 1) if array.ndim == 4 else (1, 0))


def unmatched(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Share of our boxes ``(N, 4)`` that are not among theirs."""
    away = np.abs(ours[:, None] - theirs[None]).max(axis=2).min(axis=1)
    return float((away > PIXELS).mean())


def other_detections(ours: dict, theirs: dict) -> float:
    """Share of our detections that have no counterpart of theirs with the same class, box and score."""
    if not ours["scores"]:
        return float(bool(theirs["scores"]))
    # A pixel more for a class or a tolerance of scores.
    rows = [
        np.column_stack([each["boxes"], np.array(each["classes"]), np.array(each["scores"]) * (PIXELS / SCORE)])
        for each in (ours, theirs)
    ]
    return unmatched(*rows)


def judged(detections: list[dict], data: str) -> dict:
    """VOC 2007's mAP and APs on the test pictures, of either side's detections."""
    from zoo.datasets import load
    from zoo.datasets.voc_metrics import evaluate_voc

    triples = [
        (np.array(each["boxes"]).reshape(-1, 4), np.array(each["scores"]), np.array(each["classes"], int))
        for each in detections
    ]
    found = evaluate_voc(triples, load(data, "test", classes=("Platelets", "RBC", "WBC"))).to_dict()
    return {"map": found["map"], "ap": found["ap"]}


def tell(done: dict, settings: dict) -> str:
    """The tables, of what is there."""
    runs = {who: {seed: done[f"{who}-{seed}"] for seed in SEEDS if f"{who}-{seed}" in done} for who in SIDES}
    names = {"zoo": "zoo (TensorFlow)", "torch": "plain PyTorch"}
    parts = [
        f"{settings['steps']} steps of {settings['batch']} pictures at {settings['short']} x {settings['long']}, "
        "float32; VOC 2007 metric on the 72 test pictures, IoU above .5:"
    ]
    rows = []
    for who, found in runs.items():
        for seed, run in found.items():
            aps = [f"{value:.3f}" for value in run["ap"].values()]
            minutes = [f"{run['seconds'][kind] / 60:.1f}" for kind in ("wall", "processor")]
            rows.append([names[who], seed, f"**{run['map']:.3f}**", *aps, *minutes])
    if rows:
        header = ["who", "seed", "mAP", "Platelets", "RBC", "WBC", "minutes", "of processor"]
        parts += [common.table(header, rows), "The clock's minutes depend on what else ran; the others do not."]
    if all(len(found) == len(SEEDS) for found in runs.values()):
        maps = {who: [run["map"] for run in found.values()] for who, found in runs.items()}
        spread = max(maps["torch"]) - min(maps["torch"])
        below = statistics.mean(maps["torch"]) - statistics.mean(maps["zoo"])
        verdict = "met" if below <= spread else "**not met**"
        parts.append(
            f"Means {statistics.mean(maps['zoo']):.3f} and {statistics.mean(maps['torch']):.3f}. The aim, not below "
            f"the peer's mean by more than its spread over the seeds ({spread:.3f}), is {verdict}."
        )
    else:
        parts.append(f"Of {len(SEEDS)} seeds each, {len(runs['zoo'])} and {len(runs['torch'])} are done.")
    if "speed" in done:
        parts.append(speed_table(done["speed"], names))
    if "check" in done:
        parts.append(checked(done["check"]))
    return "\n\n".join(parts)


def speed_table(found: dict, names: dict[str, str]) -> str:
    """Steps a second, side by side."""
    rows = []
    for who, name in names.items():
        wall, processor = (common.median(found[who][kind]) for kind in ("wall", "processor"))
        rows.append([name, f"{1 / wall:.2f}", f"{1 / min(found[who]['wall']):.2f}", f"{processor:.3f}"])
    ratio = [theirs / ours for ours, theirs in zip(found["zoo"]["processor"], found["torch"]["processor"], strict=True)]
    header = ["who", "steps a second", "in the fastest turn", "seconds of processor a step"]
    return (
        f"Training steps in {len(ratio)} turns of {found['steps']}:\n\n{common.table(header, rows)}\n\n"
        f"Peer's processor time by ours: {common.median(ratio):.2f} ({min(ratio):.2f} to {max(ratio):.2f})."
    )


def checked(found: dict) -> str:
    """What was compared."""
    return (
        "From the same weights, pictures and random numbers both give the same, but for rounding: RPN outputs to "
        f"{max(found['logits'], found['deltas']):.0e} of their norm, losses of three steps to {found['loss']:.0e}, "
        f"gradients to {found['gradient']:.0e} (that much where one ReLU's input is zero but for rounding; above that "
        f"{found['least gradient']:.0e}), weights after the steps to {found['after']:.0e}. "
        f"{found['others']['proposals']:.1%} of the proposals are others, and {found['others']['detections']:.1%} of "
        f"{found['count']} detections with the weights `bccd`: two proposals that are pooled from the same cells have "
        "the same score, and either may suppress the other."
    )


def main() -> None:
    parser = common.arguments(__doc__.splitlines()[0])
    parser.set_defaults(cores=1)
    parser.add_argument("--out", type=Path, default=Path("runs/peer"), help="folder; results beside it (runs/peer)")
    parser.add_argument("--only", choices=("check", "train", "speed", "tell"), help="one part of it")
    parser.add_argument("--turns", type=int, default=10, help="of the speed")
    parser.add_argument("--steps", type=int, default=10, help="in a turn")
    args = parser.parse_args()
    bench = Bench(args)
    bench.prepare()
    if args.only == "check" or (args.only is None and "check" not in bench.done):
        bench.check()
    if args.only in (None, "train"):
        bench.train()
    if args.only == "speed" or (args.only is None and "speed" not in bench.done):
        bench.speed(args.turns, args.steps)
    settings = json.loads((bench.folder / "settings.json").read_text())
    common.publish("peer_training", tell(bench.done, settings), args.write)


if __name__ == "__main__":
    main()
