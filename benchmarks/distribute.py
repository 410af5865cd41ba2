"""What a strategy costs where it brings nothing: one replica against no strategy, in seconds a step.

python benchmarks/distribute.py --write
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import common

# Name -> what it is; each trains in a process of its own.
WAYS = {
    "none": "no strategy",
    "mirrored": "`mirrored`, one device",
    "multi_worker": "`multi_worker`, one worker",
}
MODELS = {
    "resnet20": "ResNet-20, 64 pictures of 32 x 32",
    "detector": "Faster R-CNN (ResNet-18), 2 scenes of 240 x 320",
}
LIMIT = 0.05
STEPS = {"resnet20": 12, "detector": 6}
ROUNDS = 2  # of processes that take turns, so that a machine's moods hit all alike


def data_of(model: str):
    """Training data without files, and the size of a batch."""
    import numpy as np

    from zoo.datasets.class_records import ClassificationDataset
    from zoo.datasets.digits import digit_scenes

    if model == "detector":
        return digit_scenes("train", 2 * STEPS[model]), 2
    count = 64 * STEPS[model]
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)
    names = [str(index) for index in range(count)]
    return ClassificationDataset("noise", tuple("abcdefghij"), np.arange(count) % 10, names, images.__getitem__), 64


def child(path: str, model: str, way: str, epochs: int) -> None:
    """Seconds a step of every epoch but the first, which traces."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if way == "multi_worker":
        from zoo.distribute.launch import free_ports

        cluster = {"worker": [f"localhost:{free_ports(1)[0]}"]}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": 0}})
    from zoo.distribute.strategies import make_strategy

    strategy = make_strategy(way, devices=1 if way == "mirrored" else None)
    import keras

    import zoo
    from zoo.training.history import read_csv

    data, batch_size = data_of(model)
    keras.utils.set_random_seed(0)
    options = {"short": 240, "long": 320} if model == "detector" else {}
    with strategy.scope():
        built = zoo.get("faster_rcnn_resnet18" if options else model, classes=data.classes, **options)
    with tempfile.TemporaryDirectory() as folder:
        zoo.train(
            built, data, out=folder, epochs=epochs, batch_size=batch_size, tensorboard=False, verbose=0, keep="last"
        )
        rows = read_csv(Path(folder) / "history.csv")
    common.report(path, seconds=[row["seconds"] / STEPS[model] for row in rows[1:]])


def main() -> None:
    parser = common.arguments(__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, action="append", help="only this; may be repeated")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--report", help=argparse.SUPPRESS)
    args = parser.parse_args()
    epochs = 1 + (args.repeats or 4)
    if args.child:
        child(args.report, *args.child, epochs)
        return
    common.pin(args.cores)
    rows = []
    for model in args.model or MODELS:
        times = {way: [] for way in WAYS}
        for _ in range(ROUNDS):
            for way in WAYS:
                found = common.run_child(
                    sys.executable, "distribute.py", "--child", model, way, "--repeats", str(epochs - 1)
                )
                times[way] += found.get("seconds", [])
        base = common.median(times["none"])
        for way, text in WAYS.items():
            if not times[way]:
                rows.append((MODELS[model], text, "failed", "-", "-"))
                continue
            extra = common.median(times[way]) / base - 1
            verdict = "-" if way == "none" else "yes" if extra <= LIMIT else "**no**"
            rows.append((MODELS[model], text, common.spread(times[way]), f"{extra:+.1%}", verdict))
    header = ("trained", "way", "a step, ms", "against none", f"at most {LIMIT:.0%} more")
    common.publish("distribute", common.table(header, rows), args.write)


if __name__ == "__main__":
    main()
