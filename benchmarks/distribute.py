"""What a strategy costs where it brings nothing: one replica against no strategy, in seconds a step.

python benchmarks/distribute.py --write
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import common

# Name -> what it is; each trains in a process of its own.
WAYS = {
    "none": "no strategy",
    "timed": "no strategy, its steps timed as `zoo.train` does",
    "mirrored": "`mirrored`, one device",
    "multi_worker": "`multi_worker`, one worker",
}
MODELS = {
    "resnet20": "ResNet-20, 64 pictures of 32 x 32",
    "detector": "Faster R-CNN (ResNet-18), 2 scenes of 240 x 320",
}
LIMIT = 0.05
STEPS = {"resnet20": 8, "detector": 3}  # of a turn: a second or two
# The middle half of single comparisons is some 12% wide: so many bring the median's error to about 1.5%.
ROUNDS = 64


def data_of(model: str):
    """Training data without files, and the size of a batch."""
    import numpy as np

    from zoo.datasets.class_batches import ClassBatches, CropFlip
    from zoo.datasets.class_records import ClassificationDataset
    from zoo.datasets.digits import digit_scenes
    from zoo.datasets.pipeline import Batches

    if model == "detector":
        return Batches(digit_scenes("train", 2 * STEPS[model], size=(240, 320)), 2, flip=False, max_boxes=8, cache=True)
    count = 64 * STEPS[model]
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)
    names = [str(index) for index in range(count)]
    data = ClassificationDataset("noise", tuple("abcdefghij"), np.arange(count) % 10, names, images.__getitem__)
    return ClassBatches(data, 64, CropFlip())


def child(model: str, way: str, rounds: int) -> None:
    """Train an epoch whenever a line comes in, and answer with the seconds that it took."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if way == "multi_worker":
        from zoo.distribute.launch import free_ports

        cluster = {"worker": [f"localhost:{free_ports(1)[0]}"]}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": 0}})
    from zoo.distribute.strategies import make_strategy

    strategy = make_strategy("none" if way == "timed" else way, devices=1 if way == "mirrored" else None)
    import contextlib

    import keras

    import zoo
    from zoo.distribute.replicas import Replicas
    from zoo.distribute.timing import StepTimer

    batches = data_of(model)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        if model == "detector":
            built = zoo.get("faster_rcnn_resnet18", classes=batches.source.classes, short=240, long=320)
        else:
            built = zoo.get(model, classes=batches.source.classes)
        loss = {} if model == "detector" else {"loss": "sparse_categorical_crossentropy"}
        built.compile(optimizer=keras.optimizers.SGD(1e-4, momentum=0.9), jit_compile=False, **loss)

    class Turns(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if not sys.stdin.readline():
                raise SystemExit("nobody asks any more")
            self.began = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            print(json.dumps(time.perf_counter() - self.began), flush=True)

    replicas = Replicas(built)
    timed = StepTimer(batches.batch_size).watch(built) if way == "timed" else contextlib.nullcontext()
    with replicas.ready(built, batches), timed:
        built.fit(
            replicas.train_data(batches, 0),
            epochs=rounds + 1,
            steps_per_epoch=STEPS[model],
            shuffle=False,
            callbacks=[Turns()],
            verbose=0,
        )


def take_turns(model: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of every turn of every way. Only one is at work at a time, and each round begins with another."""
    with tempfile.TemporaryFile("w+") as said:
        workers = {
            way: subprocess.Popen(
                [sys.executable, __file__, "--child", model, way, "--repeats", str(rounds)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            )
            for way in WAYS
        }
        try:
            times = {way: [] for way in WAYS}
            for turn in range(rounds + 1):
                order = list(WAYS)[turn % len(WAYS) :] + list(WAYS)[: turn % len(WAYS)]
                for way in order:
                    seconds = ask(workers[way])
                    if turn:  # the first traces
                        times[way].append(seconds)
            return times
        except (OSError, ValueError) as error:
            said.seek(0)
            raise SystemExit(f"{model}, {way} failed ({error}):\n{said.read()[-3000:]}") from error
        finally:
            for worker in workers.values():
                worker.kill()
                worker.communicate()


def ask(worker: subprocess.Popen) -> float:
    """Have a child take its turn."""
    worker.stdin.write("go\n")
    worker.stdin.flush()
    return float(json.loads(worker.stdout.readline()))


def compare(model: str, times: dict[str, list[float]]) -> list[tuple[str, ...]]:
    """Rows of the table: each turn against that of no strategy in the same round."""
    rows = []
    for way, text in WAYS.items():
        steps = [seconds / STEPS[model] for seconds in times[way]]
        ratios = [ours / theirs - 1 for ours, theirs in zip(times[way], times["none"], strict=True)]
        if way == "none":
            rows.append((MODELS[model], text, common.spread(steps), "-", "-", "-"))
            continue
        low, extra, high = statistics.quantiles(ratios, n=4)
        verdict = "yes" if extra <= LIMIT else "**no**"
        rows.append((MODELS[model], text, common.spread(steps), f"{extra:+.1%}", f"{low:+.1%} to {high:+.1%}", verdict))
    return rows


def main() -> None:
    parser = common.arguments(__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, action="append", help="only this; may be repeated")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    rounds = args.repeats or ROUNDS
    if args.child:
        child(*args.child, rounds)
        return
    common.pin(args.cores)
    rows = [row for model in args.model or MODELS for row in compare(model, take_turns(model, rounds))]
    header = ("trained", "way", "a step, ms", "against none", "middle half", f"at most {LIMIT:.0%} more")
    turns = ", ".join(f"{STEPS[model]} steps ({model})" for model in MODELS)
    text = (
        f"A process for each takes turns of {turns}, {rounds} times; each turn is compared with that of no strategy in "
        "the same round. Median, and the middle half:\n\n"
    )
    common.publish("distribute", text + common.table(header, rows), args.write)


if __name__ == "__main__":
    main()
