"""Exported models: does each work, how near is it to its Keras model, how large, how fast, in how much memory.

    python benchmarks/export.py models                      # every registered model in every format
    python benchmarks/export.py models --only "*vgg*" --formats onnx
    python benchmarks/export.py vgg16                       # the large detector at 600 x 800, in all precisions
    python benchmarks/export.py precisions --weights digits runs/bccd

Every step is a process of its own; what is timed runs alone. What is measured is kept in a file (``--out``) at once: a
run that was stopped goes on where it was; errors are tried again, and with ``--again`` everything is.
"""

import fnmatch
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import common

NAMES = {"saved_model": "SavedModel", "onnx": "ONNX", "tflite": "TFLite"}
SUFFIXES = {"saved_model": "", "onnx": ".onnx", "tflite": ".tflite"}
# All that there is, in the order of the tables.
KINDS = (
    ("saved_model", "float32"),
    ("onnx", "float32"),
    ("onnx", "dynamic_int8"),
    ("onnx", "int8"),
    ("tflite", "float32"),
    ("tflite", "float16"),
    ("tflite", "dynamic_int8"),
    ("tflite", "int8"),
)
VGG16 = "faster_rcnn_vgg16"
MODEL_COLUMNS = (
    *("model", "format", "compared", "same", "boxes off by", "scores off by", "MB", "export, s", "export, GiB"),
    *("Keras, ms", "ms", "/ Keras", "use, GiB"),
)
# The limits that the project has set itself: of ONNX's time against Keras', and of converting it.
SLOWER, SECONDS, MEMORY = 1.1, 60.0, 6.0
TOGETHER = 2  # exports at once in the table of models; they use little more than one core each


class Results:
    """What was measured so far, in a JSON file: an entry a section, what is exported, format and precision."""

    def __init__(self, path: Path, again: bool) -> None:
        self.path, self.again = path, again
        self.found: dict[str, dict] = json.loads(path.read_text()) if path.exists() else {}

    def once(self, key: str, measure) -> dict:
        """What is kept under ``key``; if there is nothing, or an error, what ``measure()`` gives."""
        if self.lacks(key):
            self.keep(key, measure())
        return self.found[key]

    def lacks(self, key: str) -> bool:
        """Whether ``key`` has to be measured."""
        return self.again or "error" in self.found.get(key, {"error": ""})

    def keep(self, key: str, entry: dict) -> None:
        """Write ``entry`` down under ``key``."""
        print(f"{key} ... {entry.get('error', 'done')}", file=sys.stderr, flush=True)
        self.found[key] = entry
        self.path.parent.mkdir(parents=True, exist_ok=True)
        aside = self.path.with_suffix(".new")
        aside.write_text(json.dumps(self.found, indent=1))
        os.replace(aside, self.path)


def ours(*words: object) -> dict:
    return common.run_child(sys.executable, "export_ours.py", *map(str, words))


def measure(source: list[str], kind: tuple[str, str], repeats: int, rounds: int, score: bool = False) -> dict:
    """One format of what `measure_all` measures."""
    return measure_all(source, [kind], repeats, rounds, score)[kind]


def measure_all(
    source: list[str], kinds: list[tuple[str, str]], repeats: int, rounds: int, score: bool = False, together: int = 1
) -> dict[tuple[str, str], dict]:
    """Export, so many ``together``; then in turns time the Keras model, and each artifact in its runtime alone."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder) / "inputs.npz"

        def make(kind: tuple[str, str]) -> dict:
            form, precision = kind
            path = Path(folder) / f"{form}_{precision}{SUFFIXES[form]}"
            words = ("--format", form, "--precision", precision, "--artifact", path)
            return ours("make", *source, *words) | {"rounds": []}

        with ThreadPoolExecutor(together) as pool:
            found = dict(zip(kinds, pool.map(make, kinds), strict=True))
        timing = ("--inputs", str(inputs), "--repeats", str(repeats))
        for _ in range(rounds if any("error" not in entry for entry in found.values()) else 0):
            keras = ours("keras", *source, *timing)
            for (form, _), entry in found.items():
                if "error" in entry:
                    continue
                alone = common.run_child(sys.executable, "export_alone.py", form, entry["artifact"], *timing)
                entry["rounds"].append({"keras": keras, "alone": alone})
                failed = [each["error"] for each in (keras, alone) if "error" in each]
                if failed:
                    entry["error"] = failed[0]
        for entry in found.values():
            if score and "error" not in entry:
                entry |= ours("score", *source, "--artifact", entry["artifact"])
    return found


def ratio(entry: dict) -> float:
    """The artifact's time over the Keras model's."""
    return common.median(
        [common.median(each["alone"]["seconds"]) / common.median(each["keras"]["seconds"]) for each in entry["rounds"]]
    )


def seconds_of(entry: dict, who: str) -> float:
    return common.median([common.median(each[who]["seconds"]) for each in entry["rounds"]])


def peak_of(entry: dict, who: str) -> float:
    return max(each[who]["peak"] for each in entry["rounds"])


def models(args, results: Results) -> None:
    """All models in all formats."""
    code = "import zoo; print(*zoo.list_models())"
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    kinds = [kind for kind in KINDS if kind[1] == "float32" and kind[0] in args.formats]
    for name in fnmatch.filter(listed, args.only):
        missing = [kind for kind in kinds if results.lacks(f"models/{name}/{kind[0]}")]
        found = measure_all(["--model", name], missing, args.repeats or 5, 1, together=TOGETHER)
        for (form, _), entry in found.items():
            results.keep(f"models/{name}/{form}", entry)
    rows, works, tried = [], 0, 0
    for name in listed:
        for form, _ in kinds:
            entry = results.found.get(f"models/{name}/{form}")
            if entry is None:
                continue
            tried += 1
            works += "error" not in entry
            rows.append([f"`{name}`", NAMES[form], *row(entry)])
    text = (
        f"{works} of {tried} exports work, of {len(listed)} models. Random weights, batch 1; detectors look at a "
        "picture of 375 x 500 pixels, prepared to 600 x 800, with 300 proposals (R-CNN: 20, each warped to the "
        "network's size); classifiers at one of their own size. "
        "*Compared*: detections, or probabilities, of the Keras model on scenes of digits in three sizes; so many "
        "are the same in the artifact, the others are ties. *Off by*: the largest difference of a box in pixels "
        "and of a score. *Export* is the process that exports, with TensorFlow, the Keras model and the comparison "
        f"in it, {TOGETHER} of them at once; what is timed runs alone. *Use* is the peak memory of a process that has "
        "the runtime alone.\n\n"
        + common.table(
            MODEL_COLUMNS,
            rows,
        )
    )
    common.publish("export", text, args.write)


def row(entry: dict) -> list[str]:
    """What the table of models tells of one export."""
    if "error" in entry:
        return [f"**fails**: {entry['error']}", *[""] * 10]
    return [
        str(entry["compared"]),
        str(entry["matched"]),
        f"{entry['worst_box']:.1e}" if entry["worst_box"] else "-",
        f"{entry['worst_score']:.1e}",
        f"{entry['bytes'] / 1e6:.1f}",
        f"{entry['seconds']:.0f}",
        f"{entry['peak']:.1f}",
        *(f"{seconds_of(entry, who) * 1000:.1f}" for who in ("keras", "alone")),
        f"{ratio(entry):.2f}",
        f"{peak_of(entry, 'alone'):.2f}",
    ]


def vgg16(args, results: Results) -> None:
    """The large detector in everything there is."""
    rows, found = [], {}
    for kind in KINDS:
        if kind[0] not in args.formats:
            continue
        key = f"vgg16/{kind[0]}/{kind[1]}"
        entry = results.once(key, lambda kind=kind: measure(["--model", VGG16], kind, args.repeats or 5, 3))
        what = [NAMES[kind[0]], kind[1]]
        if "error" in entry:
            rows.append([*what, f"**fails**: {entry['error']}", *[""] * 6])
            continue
        found[kind] = entry
        rows.append(
            [
                *what,
                f"{ratio(entry):.3f}",
                *(f"{seconds_of(entry, who):.3f}" for who in ("alone", "keras")),
                f"{peak_of(entry, 'alone'):.2f}",
                f"{entry['bytes'] / 1e6:.0f}",
                f"{entry['seconds']:.1f}",
                f"{entry['peak']:.2f}",
            ]
        )
    text = []
    if ("onnx", "float32") in found:
        one = found["onnx", "float32"]
        text.append(
            f"**ONNX Runtime takes {ratio(one):.3f} times as long as Keras** (the aim is at most {SLOWER}); writing "
            f"and comparing the file takes {one['seconds']:.1f} s and {one['peak']:.2f} GiB, with the Keras model in "
            f"memory (the aims are {SECONDS:.0f} s and {MEMORY:.0f} GB)."
        )
    exact = {kind: entry for kind, entry in found.items() if kind[1] == "float32"}
    for what, among in (("float32", exact), ("any precision", found)):
        if among:
            best = min(among, key=lambda kind: ratio(among[kind]))
            text.append(f"The fastest in {what}: {NAMES[best[0]]}, {best[1]}, {ratio(among[best]):.3f} of Keras' time.")
    text.append(
        f"`{VGG16}` with random weights, a picture of 375 x 500 prepared to 600 x 800, 300 proposals, batch 1; three "
        "rounds of Keras and the artifact in turns, each in a process of its own. Memory as in the table above."
    )
    header = ["format", "precision", "/ Keras", "s", "Keras, s", "use, GiB", "MB", "export, s", "export, GiB"]
    common.publish("export_vgg16", "\n\n".join([*text, common.table(header, rows)]), args.write)


def precisions(args, results: Results) -> None:
    """What fewer bits cost, and bring."""
    text = []
    for weights in args.weights:
        name = "digits" if weights == "digits" else "BCCD"
        source = ["--weights", weights]
        base = results.once(f"precisions/{name}/keras", lambda source=source: ours("score", *source))
        if "error" in base:
            sys.exit(f"{weights}: {base['error']}")
        rows = [["Keras", "float32", f"{base['map']:.4f}", *[""] * 5]]
        for kind in KINDS:
            key = f"precisions/{name}/{kind[0]}/{kind[1]}"
            call = lambda source=source, kind=kind: measure(source, kind, args.repeats or 9, 1, score=True)  # noqa: E731
            entry = results.once(key, call) if kind[0] in args.formats else None
            if entry is None:
                continue
            if "error" in entry:
                rows.append([NAMES[kind[0]], kind[1], f"**fails**: {entry['error']}", *[""] * 5])
                continue
            rows.append(
                [
                    NAMES[kind[0]],
                    kind[1],
                    f"{entry['map']:.4f}",
                    f"{base['map'] - entry['map']:+.4f}",
                    f"{entry['bytes'] / 1e6:.1f}",
                    f"{seconds_of(entry, 'alone') * 1000:.1f}",
                    f"{ratio(entry):.2f}",
                    f"{peak_of(entry, 'alone'):.2f}",
                ]
            )
        header = ["format", "precision", "mAP", "lost", "MB", "ms", "/ Keras", "use, GiB"]
        text.append(f"{name}, {base['images']} test pictures, VOC 2007 metric:\n\n{common.table(header, rows)}")
    common.publish("export_precisions", "\n\n".join(text), args.write)


def main() -> None:
    parser = common.arguments(__doc__.splitlines()[0])
    parser.add_argument("what", choices=("models", "vgg16", "precisions"))
    parser.add_argument("--only", default="*", metavar="PATTERN", help="which of the registered models")
    parser.add_argument("--formats", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument(
        "--weights", nargs="+", default=["digits"], help="precisions: digits, and a run folder that learned BCCD"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/export.json"), help="what was measured so far")
    parser.add_argument("--again", action="store_true", help="measure what is there already, too")
    args = parser.parse_args()
    common.pin(args.cores)
    results = Results(args.out, args.again)
    {"models": models, "vgg16": vgg16, "precisions": precisions}[args.what](args, results)


if __name__ == "__main__":
    main()
