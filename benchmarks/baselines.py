"""The detectors of the Fast R-CNN and Faster R-CNN papers on BCCD, one table: mAP, training time, speed, disk.

    ZOO_SHARED_DATA=DATA python benchmarks/baselines.py --write

Runs the ``zoo`` commands that it prints. What is done is kept in ``runs/baselines.json`` and not done again; a command
that was stopped is begun anew, since its time counts. ``--only fast joint`` runs some of the methods.
"""

import dataclasses
import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import common

# Pictures at half their size, and heads to match, as in peer_training.py.
SMALL = {"head": "fc", "head_units": 256}
PICTURES = {"short": 240, "long": 320}
ANCHORS = {"anchor_sizes": (12, 24, 48, 96), "rpn_channels": 128}
OPTIONS = {
    "rcnn": {**SMALL, "side": 64, "context": 4},
    "sppnet": {**SMALL, **PICTURES},
    "fast_rcnn": {**SMALL, **PICTURES},
    "faster_rcnn": {**SMALL, **PICTURES, **ANCHORS},
}
# What is new in each: the rest comes from the detector of digits that ships, as there is no ImageNet here.
SOURCE, NEW = ("faster_rcnn_resnet18", "digits"), ("rpn/", "head/", "sampling_step", "box_")
STEPS = 600
TRAIN = "train --data {data} --split trainval --val-split none"
SCHEDULE = "--lr 0.01 --schedule cosine --clipnorm 10 --cache --no-tensorboard --quiet"
PROPOSALS = "--proposals {root}/proposals"
CLASSES = ("Platelets", "RBC", "WBC")
TIMED = 8  # pictures


def network(kind: str, **more: object) -> str:
    """The options of ``zoo train`` that name the model and what it starts with."""
    options = {**OPTIONS[kind], **more}
    words = [f"--model {kind}_resnet18 --init-from {{root}}/start-{kind}.weights.h5"]
    words += [f"--option {shlex.quote(f'{name}={value}'.replace(' ', ''))}" for name, value in options.items()]
    return " ".join(words)


@dataclasses.dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        title: of the row.
        train: commands after each other, without ``zoo``; ``{out}`` is the folder of this method, ``{root}`` that of
            all.
        proposals: whether it looks at selective search's boxes.
        kept: patterns of what the training keeps on disk beside the weights, in ``{out}``.
    """

    title: str
    train: tuple[str, ...]
    proposals: bool
    kept: tuple[str, ...] = ()


METHODS = {
    "rcnn": Method(
        "R-CNN, SVMs and ridge regression",
        (
            f"{TRAIN} {network('rcnn')} {PROPOSALS} --steps {STEPS} --batch 2 {SCHEDULE} --out {{out}}-fine",
            f"svm --data {{data}} --split trainval --weights {{out}}-fine {PROPOSALS} --most-proposals 300 "
            "--fit svms boxes --out {out}",
        ),
        proposals=True,
    ),
    "sppnet": Method(
        "SPPnet",
        (f"{TRAIN} {network('sppnet')} {PROPOSALS} --steps {STEPS} --batch 2 {SCHEDULE} --out {{out}}",),
        proposals=True,
    ),
    "fast": Method(
        "Fast R-CNN",
        (f"{TRAIN} {network('fast_rcnn')} {PROPOSALS} --steps {STEPS} --batch 2 {SCHEDULE} --out {{out}}",),
        proposals=True,
    ),
    "alternating": Method(
        "Faster R-CNN, 4-step alternating",
        (
            f"{TRAIN} {network('faster_rcnn', head_samples=128)} --train-from all "
            f"--alternating {STEPS} {STEPS // 2} {SCHEDULE} --out {{out}}",
        ),
        proposals=False,
        kept=("proposals",),
    ),
    "joint": Method(
        "Faster R-CNN, joint",
        (f"{TRAIN} {network('faster_rcnn', head_samples=64)} --steps {STEPS} --batch 2 {SCHEDULE} --out {{out}}",),
        proposals=False,
    ),
}
PROPOSE = "proposals --data {data} --split {split} --method selective-quality --workers 1 --out {root}/proposals"
EVAL = "eval --data {data} --split test --weights {out}"


class Bench:
    """The folder of all, and what is done."""

    def __init__(self, root: Path) -> None:
        self.root, self.path = root, root.with_suffix(".json")
        self.data = str(Path(os.environ.get("ZOO_SHARED_DATA", "")) / "bccd")
        if not Path(self.data).is_dir():
            raise SystemExit("set ZOO_SHARED_DATA to a folder that holds the BCCD data set in VOC layout as bccd/")
        self.done = json.loads(self.path.read_text()) if self.path.is_file() else {}
        root.mkdir(parents=True, exist_ok=True)

    def keep(self, name: str, value: dict) -> dict:
        """Remember a result, on disk too."""
        self.done[name] = value
        fresh = self.path.with_suffix(".json.new")
        fresh.write_text(json.dumps(self.done, indent=2) + "\n")
        os.replace(fresh, self.path)
        return value

    def zoo(self, words: str) -> dict[str, float]:
        """Run a command; seconds by the clock and of processor time."""
        print(f"zoo {words}", flush=True)
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run([str(Path(sys.executable).with_name("zoo")), *shlex.split(words)])
        if done.returncode:
            raise SystemExit(f"it ended with status {done.returncode}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {"wall": time.perf_counter() - began, "processor": processor}

    def filled(self, words: str, out: Path, **more: str) -> str:
        """A command with this machine's folders."""
        return words.format(data=self.data, root=self.root, out=out, **more)

    def propose(self) -> None:
        """Selective search's boxes of all pictures; what is there is not computed again."""
        for split in ("trainval", "test"):
            name = f"proposals {split}"
            if name in self.done:
                continue
            report = self.root / f"proposals-{split}.json"
            self.zoo(self.filled(PROPOSE, self.root, split=split) + f" --json {report}")
            found = json.loads(report.read_text())
            recall = list(found["recall"].values())[-1]
            own = {"seconds_per_image": found["seconds_per_image"], "boxes": found["proposals_per_image"]}
            self.keep(name, {**own, "recall": recall})

    def start(self) -> None:
        """Weights that all start from: networks of the digits' detector, new last layers."""
        if all((self.root / f"start-{kind}.weights.h5").is_file() for kind in OPTIONS):
            return
        import keras
        import numpy as np

        import zoo
        from zoo.weights_io import save_weights_file, weight_names

        source = weight_names(zoo.get(*SOURCE))
        for kind, options in OPTIONS.items():
            keras.utils.set_random_seed(0)
            model = zoo.get(f"{kind}_resnet18", classes=CLASSES, **options)
            for name, variable in weight_names(model).items():
                if name in source and not name.startswith(NEW):
                    variable.assign(np.asarray(source[name]))
            save_weights_file(model, self.root / f"start-{kind}.weights.h5", meta=model.zoo_meta)

    def method(self, name: str) -> None:
        """Train and measure one method, unless that is done."""
        method, out = METHODS[name], self.root / name
        if method.proposals:
            self.propose()
        self.start()
        if name not in self.done:
            # What a stopped command has left would make the next one shorter.
            for folder in self.root.glob(f"{name}*"):
                shutil.rmtree(folder)
            parts = [self.zoo(self.filled(words, out)) for words in method.train]
            seconds = {kind: sum(part[kind] for part in parts) for kind in ("wall", "processor")}
            self.keep(name, {"seconds": seconds})
        if "map" not in self.done[name]:
            report = out / "scores.json"
            proposals = f" --proposals {self.root}/proposals" if method.proposals else ""
            self.zoo(self.filled(EVAL, out) + proposals + f" --json {report}")
            found = json.loads(report.read_text())
            disk = {
                "weights": size_of(out / "model.weights.h5"),
                "kept": sum(size_of(path) for pattern in method.kept for path in out.glob(pattern)),
            }
            if method.proposals:
                disk["kept"] += size_of(self.root / "proposals")
            measured = {"map": found["map"], "ap": found["ap"], "image": self.speed(out, method.proposals)}
            self.keep(name, {**self.done[name], **measured, "disk": disk})

    def speed(self, out: Path, proposals: bool) -> float:
        """Seconds a picture, the making of proposals apart: median over some, each of which was shown before."""
        import zoo
        from zoo.datasets import load
        from zoo.datasets.proposals import open_proposals

        model, data = zoo.load(out), load(self.data, "test", classes=CLASSES)
        source = open_proposals(self.root / "proposals") if proposals else None
        seconds = []
        for turn in range(2):
            for image in map(data.image, range(TIMED)):
                given = {} if source is None else {"proposals": source(image)}
                began = time.perf_counter()
                model.detect(image, **given)
                if turn:
                    seconds.append(time.perf_counter() - began)
        return common.median(seconds)

    def recalls(self) -> None:
        """Which objects of the test pictures the two kinds of proposals cover, by class; and how large these are."""
        if "recall" in self.done or not ({"joint", "proposals test"} <= self.done.keys()):
            return
        import numpy as np

        import zoo
        from zoo.datasets import load
        from zoo.datasets.proposal_recall import average_recall
        from zoo.datasets.proposals import open_proposals
        from zoo.proposals_of import RPNProposals

        data = load(self.data, "test", classes=CLASSES)
        model = zoo.load(self.root / "joint")
        sources = {"selective search": open_proposals(self.root / "proposals"), "RPN": RPNProposals(model, most=300)}
        found = {name: {} for name in (*sources, "side")}
        boxes = {
            name: [np.asarray(source(data.image(i))) for i in range(len(data))] for name, source in sources.items()
        }
        for number, name in enumerate(CLASSES):
            samples = [only(sample, sample.classes == number) for sample in data.samples]
            sides = [np.sqrt(np.prod(each.boxes[:, 2:] - each.boxes[:, :2], axis=1)) for each in samples]
            found["side"][name] = float(np.median(np.concatenate(sides)))
            for source, given in boxes.items():
                most = max(map(len, given))
                found[source][name] = float(average_recall(given, samples, (most,), (0.5,)).recall[0, 0, 0])
        self.keep("recall", found)


def only(sample, chosen):
    """A sample with some of its boxes."""
    kept = {name: getattr(sample, name)[chosen] for name in ("boxes", "classes", "difficult", "crowd")}
    return dataclasses.replace(sample, **kept, areas=None if sample.areas is None else sample.areas[chosen])


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return path.stat().st_size if path.is_file() else sum(each.stat().st_size for each in path.rglob("*.*"))


def tell(done: dict) -> str:
    """The table, of what is there."""
    rows, missing = [], []
    for name, method in METHODS.items():
        run = done.get(name, {})
        if "map" not in run:
            missing.append(method.title)
            continue
        propose = done["proposals test"]["seconds_per_image"] if method.proposals else 0.0
        rows.append(
            [
                method.title,
                f"**{run['map']:.3f}**",
                *(f"{run['ap'][each]:.3f}" for each in CLASSES),
                f"{run['seconds']['wall'] / 60:.1f} ({run['seconds']['processor'] / 60:.1f})",
                f"{run['image']:.3f}",
                f"{run['image'] + propose:.2f}",
                f"{run['disk']['kept'] / 1e6:.1f}",
                f"{run['disk']['weights'] / 1e6:.1f}",
            ]
        )
    header = ["method", "mAP", *CLASSES, "training, minutes (of processor)", "s a picture", "with proposals"]
    parts = [common.table([*header, "kept for training, MB", "weights, MB"], rows)]
    if "proposals test" in done:
        found = done["proposals test"]
        parts.append(
            f"Proposals: selective search, quality mode, {found['boxes']:.0f} boxes a picture in "
            f"{found['seconds_per_image']:.2f} s on one core; recall at IoU .5 {found['recall']['0.5']:.3f}."
        )
    if "recall" in done:
        found = done["recall"]
        rows = [
            [name, f"{found['side'][name]:.0f}", *(f"{found[each][name]:.3f}" for each in ("selective search", "RPN"))]
            for name in CLASSES
        ]
        parts.append(
            "Objects covered at IoU .5, by selective search's boxes and by 300 of the jointly trained RPN; the median "
            "side (root of the area) is in pixels of the picture, twice those that the networks see:\n\n"
            + common.table(["class", "side", "selective search", "RPN"], rows)
        )
    if missing:
        parts.append(f"Not run yet: {', '.join(missing)}.")
    return "\n\n".join(parts)


def main() -> None:
    parser = common.arguments(__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/baselines"), help="folder; results beside it")
    parser.add_argument("--only", nargs="+", choices=tuple(METHODS), default=tuple(METHODS), help="methods to run")
    parser.add_argument("--tell", action="store_true", help="run nothing; tell what is there")
    args = parser.parse_args()
    common.pin(args.cores)
    bench = Bench(args.out)
    for name in () if args.tell else args.only:
        bench.method(name)
    if not args.tell:
        bench.recalls()
    common.publish("baselines", tell(bench.done), args.write)


if __name__ == "__main__":
    main()
