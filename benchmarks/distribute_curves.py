"""Downpour and Sandblaster beside SGD: loss against examples seen and against time, as DistBelief's figures have it.

    ZOO_SHARED_DATA=DATA python benchmarks/distribute_curves.py --out runs/curves --write

Each curve is trained by a process of its own and kept in a file: what is there is not trained again. All takes less
than half an hour on two cores. ``--only cifar10/sgd`` trains one curve.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import common

CURVES = {
    "sgd": "mirrored SGD, 2 replicas",
    "downpour1": "Downpour, 1 worker",
    "downpour2": "Downpour, 2 workers",
    "downpour4": "Downpour, 4 workers",
    "sandblaster": "Sandblaster L-BFGS, 2 workers",
}
COLOURS = dict(zip(CURVES, ("black", "C0", "C1", "C3", "C2"), strict=True))
AXES = ("pictures seen", "seconds", "processor seconds of all workers")
PICTURE = "distribute_curves.png"


@dataclass(frozen=True)
class Task:
    """One of the two trainings.

    Attributes:
        title: what is trained.
        batch: pictures of a mini-batch, and of a unit of work.
        train: pictures to learn from.
        measured: pictures to learn from, and as many held out, that the loss is measured on.
        epochs: of SGD and Downpour.
        passes: of Sandblaster, which takes fewer but better steps.
        sgd: learning rate, with momentum .9.
        adagrad: learning rate of Downpour.
    """

    title: str
    batch: int
    train: int
    measured: int
    epochs: int
    passes: int
    sgd: float
    adagrad: float


TASKS = {
    "cifar10": Task("CIFAR-10, ResNet with 8 layers", 50, 1000, 300, 15, 30, 0.02, 0.02),
    "digits": Task("Digit scenes, Faster R-CNN of 0.2 M parameters", 4, 100, 24, 12, 24, 0.01, 0.01),
}


def data_of(task: str):
    """Batches to train on, and those that the loss is measured on: learnt from, and held out."""
    import numpy as np

    from zoo.datasets.class_batches import ClassBatches, CropFlip
    from zoo.datasets.class_sources import load_classes
    from zoo.datasets.digits import digit_scenes
    from zoo.datasets.pipeline import Batches

    given = TASKS[task]
    if task == "digits":
        size = (120, 160)
        parts = (digit_scenes("train", given.train, size=size), digit_scenes("test", given.measured, size=size))
        train, held_out = (Batches(part, given.batch, flip=False, max_boxes=8, cache=True) for part in parts)
    else:
        file = Path(os.environ["ZOO_SHARED_DATA"]) / "cifar10.zip"
        whole = ((load_classes(file, "train"), given.train), (load_classes(file, "test"), given.measured))
        parts = (data.subset(np.linspace(0, len(data) - 1, count).astype(int)) for data, count in whole)
        train, held_out = (ClassBatches(part, given.batch, CropFlip(pad=0, flip=False)) for part in parts)
    measured = [[part.batch(0, step) for step in range(given.measured // given.batch)] for part in (train, held_out)]
    return train, measured


def model_of(task: str, classes):
    """The same weights for each curve."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    if task == "cifar10":
        from zoo.backbones.cifar_resnet import cifar_network

        return cifar_network("resnet8", 8, classes, shortcuts=True)
    from zoo.backbones.norm import GroupNorm
    from zoo.detectors.faster_rcnn import FasterRCNN
    from zoo.detectors.preprocessing import Preprocessing

    images = keras.Input((None, None, 3), name="prepared")
    x = images
    for number, width in enumerate((16, 32, 48, 64), start=1):
        x = layers.Conv2D(width, 3, 2, "same", use_bias=False, name=f"conv{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(GroupNorm(8, name=f"norm{number}")(x))
    extractor = keras.Model(images, x, name="extractor")
    pooled = keras.Input((4, 4, 64), name="pooled")
    body = layers.Dense(128, "relu", name="fc")(layers.Flatten(name="flatten")(pooled))
    return FasterRCNN(
        extractor,
        keras.Model(pooled, body, name="body"),
        classes,
        Preprocessing(120, 160, std=(60.0, 60.0, 60.0), name="preprocessing"),
        pool_size=4,
        anchor_sizes=(32, 64, 96),
        rpn_channels=64,
        rpn_samples=64,
        train_proposals=(600, 100),
        test_proposals=(300, 50),
        head_samples=32,
        name="small_faster_rcnn",
    )


class Rows:
    """The points of a curve: examples seen, seconds, processor seconds, loss of pictures learnt from, and held out.

    Measuring is not in the seconds.
    """

    def __init__(self, model, task: str, measured) -> None:
        self.measured, self.rows = measured, []
        self.loss = loss_of(model, task)
        self.clock = [0.0, 0.0]
        self.began = self._now()
        self.add(0)
        self.rows[0][1:3] = self.clock = [0.0, 0.0]

    def add(self, examples: int) -> None:
        """Measure the losses now."""
        now = self._now()
        self.clock = [spent + new - old for spent, new, old in zip(self.clock, now, self.began, strict=True)]
        # In a thread of its own, which is in no strategy's scope: within, losses are divided by the replicas.
        with ThreadPoolExecutor(1) as thread:
            losses = thread.submit(self._losses).result()
        self.rows.append([examples, *(round(each, 2) for each in self.clock), *losses])
        told = ", ".join(f"{loss:.4f}" for loss in losses)
        print(f"{examples} examples, {self.clock[0]:.0f} s ({self.clock[1]:.0f} s of CPU): {told}", flush=True)
        self.began = self._now()

    def _now(self) -> tuple[float, float]:
        # Workers and servers are threads of this process: their time is in it.
        return time.monotonic(), time.process_time()

    def _losses(self) -> list[float]:
        return [sum(self.loss(x, y) for x, y in part) / len(part) for part in self.measured]


def loss_of(model, task: str):
    """What gives the mean loss of a batch, and changes nothing."""
    import numpy as np
    import tensorflow as tf

    if task == "cifar10":

        @tf.function
        def loss(x, y):
            return model.compute_loss(x, y, model(x, training=False), None, training=False)

        return lambda x, y: float(loss(tf.constant(x), tf.constant(y)))
    from zoo.distribute.sandblaster_model import Objective

    # A detector's losses are those of training, of the same samples each time.
    objective = Objective(model)

    def of_detector(x, y) -> float:
        values, state = ([np.asarray(each) for each in part] for part in (objective.trainable, objective.state))
        return float(objective.sums(values, state, x, y, 0)[0]) / len(y["classes"])

    return of_detector


def train(task: str, curve: str) -> list[list[float]]:
    """The points of a curve."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    workers = int(curve.removeprefix("downpour")) if curve.startswith("downpour") else 0
    if workers:
        strategy = local_servers(workers)
    else:
        from zoo.distribute.strategies import make_strategy

        strategy = make_strategy("mirrored", devices=2) if curve == "sgd" else make_strategy()
    import contextlib

    import keras

    given = TASKS[task]
    batches, measured = data_of(task)
    # What lies on servers is made by Downpour, outside the strategy's scope.
    with contextlib.nullcontext() if workers else strategy.scope():
        model = model_of(task, batches.source.classes)
        loss = {} if task == "digits" else {"loss": "sparse_categorical_crossentropy"}
        model.compile(optimizer=keras.optimizers.SGD(given.sgd, momentum=0.9), jit_compile=False, **loss)
    rows = Rows(model, task, measured)
    every = batches.steps_per_epoch
    if workers:
        from zoo.distribute.downpour import train_downpour

        train_downpour(
            model,
            batches,
            strategy,
            steps=given.epochs * every,
            learning_rate=given.adagrad,
            # One worker alone for the first epoch, as the paper's warm start.
            warm_start=every if workers > 1 else 0,
            every=every,
            report=lambda row: rows.add(row.steps * given.batch),
        )
    elif curve == "sandblaster":
        from zoo.distribute.sandblaster import BatchUnits, train_sandblaster

        train_sandblaster(
            model,
            BatchUnits(batches),
            iterations=given.passes,
            passes=given.passes,
            workers=2,
            report=lambda row: rows.add(row.passes * given.train),
        )
    else:
        from zoo.distribute.replicas import Replicas

        replicas = Replicas(model)
        told = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, _: rows.add((epoch + 1) * every * given.batch))
        with replicas.ready(model, batches):
            model.fit(
                replicas.train_data(batches, 0),
                epochs=given.epochs,
                steps_per_epoch=every,
                shuffle=False,
                callbacks=[told],
                verbose=0,
            )
    return rows.rows


def local_servers(workers: int, servers: int = 2):
    """A cluster of threads of this process: the same program as on many machines, without their start."""
    import tensorflow as tf

    from zoo.distribute.launch import free_ports

    addresses = [f"localhost:{port}" for port in free_ports(workers + servers)]
    spec = tf.train.ClusterSpec({"worker": addresses[:workers], "ps": addresses[workers:]})
    config = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=workers + 2)
    for job, count in (("worker", workers), ("ps", servers)):
        for index in range(count):
            # TensorFlow has no way to stop a server: it ends with the process.
            _KEPT.append(tf.distribute.Server(spec, job, index, config=config, protocol="grpc"))
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(spec, rpc_layer="grpc")
    partitioner = tf.distribute.experimental.partitioners.MinSizePartitioner(16 << 10, max_shards=servers)
    return tf.distribute.ParameterServerStrategy(resolver, variable_partitioner=partitioner)


_KEPT: list = []


def draw(found: dict[str, dict[str, list]], path: Path) -> None:
    """Losses against examples, time and processor time, a row of panels for each task; held out dashed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.6 * len(found)), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for (task, curves), panels in zip(
        found.items(), figure.subplots(len(found), len(AXES), squeeze=False), strict=True
    ):
        highest = max(rows[0][3] for rows in curves.values())
        for column, (axes, what) in enumerate(zip(panels, AXES, strict=True)):
            for curve, rows in curves.items():
                points = [row[column] for row in rows]
                axes.plot(points, [row[3] for row in rows], color=COLOURS[curve], label=CURVES[curve], linewidth=1.6)
                axes.plot(points, [row[4] for row in rows], color=COLOURS[curve], linestyle=":", linewidth=1)
            axes.set(xlabel=what, ylabel="loss (dotted: pictures held out)")
            axes.locator_params(axis="x", nbins=6)
            axes.set_ylim(0, 1.1 * highest)
            axes.set_xlim(left=0)
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
        panels[0].set_title(TASKS[task].title, loc="left", fontsize=10)
        panels[0].legend(frameon=False, fontsize=7)
    canvas.print_png(str(path))


def first_and_last(task: str, curves: dict[str, list]) -> list[list[str]]:
    """Rows of the table."""
    made = []
    for curve, rows in curves.items():
        seen, seconds, processor, *_ = rows[-1]
        made.append([task, CURVES[curve], f"{seen:,}", f"{seconds:.0f}", f"{processor:.0f}"])
        made[-1] += [f"{loss:.3f}" for loss in (rows[0][3], rows[-1][3], rows[-1][4], min(row[4] for row in rows))]
    return made


def main() -> None:
    parser = common.arguments(__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/curves"), help="folder of the curves (runs/curves)")
    parser.add_argument("--only", action="append", help="TASK/CURVE; may be repeated")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        began = time.monotonic()
        rows = train(*args.child)
        file = args.out / f"{args.child[0]}-{args.child[1]}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_suffix(".new")
        aside.write_text(json.dumps({"settings": settings(args.child[0]), "rows": rows}))
        os.replace(aside, file)
        print(f"{file.name}: {time.monotonic() - began:.0f} s with everything", flush=True)
        os._exit(0)  # servers that nobody can stop
    if not (Path(os.environ.get("ZOO_SHARED_DATA", ".")) / "cifar10.zip").is_file():
        raise SystemExit("set ZOO_SHARED_DATA to a folder that holds CIFAR-10 in class folders as cifar10.zip")
    common.pin(args.cores)
    wanted = [(task, curve) for task in TASKS for curve in CURVES]
    if args.only:
        unknown = set(args.only) - {"/".join(each) for each in wanted}
        if unknown:
            raise SystemExit(f"no curve {', '.join(sorted(unknown))}; there are {', '.join(map('/'.join, wanted))}")
        wanted = [each for each in wanted if "/".join(each) in args.only]
    for task, curve in wanted:
        if rows_of(args.out, task, curve) is None:
            print(f"{task}/{curve}", flush=True)
            words = [sys.executable, __file__, "--child", task, curve, "--out", str(args.out)]
            subprocess.run(words, check=True)
    found = {task: {curve: rows_of(args.out, task, curve) for curve in CURVES} for task in TASKS}
    found = {task: {curve: rows for curve, rows in curves.items() if rows} for task, curves in found.items()}
    found = {task: curves for task, curves in found.items() if curves}
    picture = args.out / PICTURE
    draw(found, picture)
    rows = [row for task, curves in found.items() for row in first_and_last(task, curves)]
    header = ("task", "trained by", "pictures seen", "seconds", "of CPU", "loss before", "after", "held out", "lowest")
    text = f"{common.table(header, rows)}\n\n![Loss against pictures seen and against time]({PICTURE})"
    common.publish("distribute_curves", text, args.write)
    if args.write:
        (common.HERE / PICTURE).write_bytes(picture.read_bytes())


def settings(task: str) -> dict:
    """What a curve was trained with: one of other settings is trained anew."""
    return vars(TASKS[task])


def rows_of(folder: Path, task: str, curve: str) -> list | None:
    """The points of a curve that has been trained, or nothing."""
    file = folder / f"{task}-{curve}.json"
    if not file.is_file():
        return None
    kept = json.loads(file.read_text())
    return kept["rows"] if kept["settings"] == settings(task) else None


if __name__ == "__main__":
    main()
