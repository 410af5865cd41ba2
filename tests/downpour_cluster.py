"""Trains by Downpour on two workers and two parameter servers of this process; prints as JSON what came of it.

Beside it what NumPy makes of the same model, a softmax of one layer, in the same order. Then a Faster R-CNN, layers of
the size that is spread over servers, and what ``zoo train`` calls.
"""

import contextlib
import io
import json
import sys
from pathlib import Path

import cv2
import keras
import numpy as np
from scipy.special import softmax

sys.path.insert(0, str(Path(__file__).parent))
from sandblaster_problem import colour_net
from server_cluster import parameter_servers
from test_train_classifier import data as colours
from test_train_classifier import pictures
from tiny import tiny_detector

import zoo
import zoo.cli.strategy
from zoo import registry
from zoo.cli import console
from zoo.cli.main import main
from zoo.datasets.digits import digit_scenes
from zoo.datasets.pipeline import Batches
from zoo.distribute.downpour import train_downpour
from zoo.distribute.downpour_data import unit_of
from zoo.distribute.downpour_rules import Rule
from zoo.distribute.downpour_run import fit_downpour
from zoo.distribute.observer import Observer
from zoo.distribute.parameter_servers import bytes_of_servers
from zoo.distribute.sandblaster_model import Objective
from zoo.distribute.sandblaster_servers import ServerValues

folder = Path(sys.argv[1])
strategy = parameter_servers(workers=2, ps=2, shard_bytes=16)
rng = np.random.default_rng(0)
data = [(rng.normal(size=(8, 5)).astype("float32"), rng.integers(0, 3, 8)) for _ in range(6)]
ORIGIN = rng.normal(size=(6, 3)).astype("float32")


def model():
    made = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3, activation="softmax")])
    made.compile(loss="sparse_categorical_crossentropy")
    made.set_weights([ORIGIN[:5], ORIGIN[5]])
    return made


def by_hand(rule, rate, n_push, n_fetch, steps, decay=0.0, clip=np.inf, bias_rate=1.0):
    """Downpour with one worker, bias as the last row."""
    servers, squares, pushed = ORIGIN.astype(float), np.zeros((6, 3)), np.zeros((6, 3))
    rates = np.array([1.0] * 5 + [bias_rate])[:, None]
    for step in range(steps):
        if step % n_fetch == 0:
            own, own_squares, now = servers.copy(), squares.copy(), rate(step)
        x, labels = data[unit_of(step, len(data), 0)]
        x = np.hstack([x, np.ones((8, 1))])
        gradient = x.T @ (softmax(x @ own, axis=1) - np.eye(3)[labels]) / 8
        gradient *= min(1.0, clip / np.sqrt((gradient**2).sum()))
        gradient[:5] += decay * own[:5]
        own_squares += gradient**2
        own -= now * rates * gradient / (np.sqrt(own_squares) if rule == "adagrad" else 1)
        pushed += gradient
        if (step + 1) % n_push == 0:
            squares += pushed**2
            servers -= now * rates * pushed / (np.sqrt(squares) if rule == "adagrad" else 1)
            pushed[:] = 0
    return servers


def falling(step):
    return 0.2 / (1.0 + keras.ops.cast(step, "float32"))


def trained(**options):
    """In steps that one worker or the other takes while nobody else does: what comes out is known."""
    made = model()
    rows = train_downpour(made, data, strategy, steps=8, every=4, warm_start=8, **options)
    return np.vstack([made.get_weights()[0], made.get_weights()[1][None]]), rows


report = {}
for rule, n_push, n_fetch in (("sgd", 1, 1), ("adagrad", 2, 2), ("adagrad", 1, 4), ("sgd", 4, 2)):
    found, rows = trained(learning_rate=0.1, rule=rule, n_push=n_push, n_fetch=n_fetch)
    expected = by_hand(rule, lambda step: 0.1, n_push, n_fetch, 8)
    report[f"{rule} {n_push} {n_fetch}"] = float(np.abs(found - expected).max())
found_all, _ = trained(learning_rate=0.1, rule=Rule("sgd", 0.1, 0.3, 2.0), n_fetch=2)
expected = by_hand("sgd", lambda step: 0.1, 1, 2, 8, decay=0.1, clip=0.3, bias_rate=2.0)
report["decay, clipping, biases"] = float(np.abs(found_all - expected).max())
report["rows"] = [[row.steps, row.staleness] for row in rows]
report["moved"] = float(np.abs(found - ORIGIN).max())

file = folder / "downpour.npz"
whole, _ = trained(learning_rate=falling, checkpoint=file)
report["schedule"] = float(np.abs(whole - by_hand("adagrad", lambda step: 0.2 / (1 + step), 1, 1, 8)).max())
half = model()
train_downpour(
    half, data, strategy, steps=4, every=4, warm_start=4, learning_rate=falling, checkpoint=folder / "half.npz"
)
again, rows = trained(learning_rate=falling, checkpoint=folder / "half.npz", resume=True)
report["resumed"] = [float(np.abs(again - whole).max()), [row.steps for row in rows]]
file.write_bytes(file.read_bytes()[:300])
try:
    trained(checkpoint=file, resume=True)
except ValueError as error:
    report["damaged"] = str(error)


class Told(Observer):
    """Keeps all that it is told."""

    def __init__(self):
        self.pushes, self.servers, self.reads = [], {}, 0

    def placed(self, *, servers):
        self.servers = servers

    def waited(self, *, seconds):
        self.reads += 1

    def pushed(self, **told):
        self.pushes.append(told)


told = Told()
rows = train_downpour(half, data, strategy, steps=48, every=12, learning_rate=0.1, observer=told)
report["apart"] = [[row.steps, row.loss, row.staleness] for row in rows]
report["pushed"] = {name: sum(each[name] for each in told.pushes) for name in ("steps", "examples")}
report["pushed"]["workers"] = sorted({each["worker"] for each in told.pushes})
report["seconds"] = {name: [each[name] for each in told.pushes] for name in ("fetch", "compute", "push")}
report["shards"] = [len(getattr(each, "variables", [each])) for each in ServerValues(Objective(half), strategy).values]

# Layers such as VGG's fc6 and fc7, a hundredth as large: servers get whole rows of both, and alike many.
wide = keras.Sequential([keras.Input((96,)), keras.layers.Dense(64), keras.layers.Dense(64, use_bias=False)])
wide.compile(loss="mean_squared_error")
values = ServerValues(Objective(wide), strategy).values
report["wide"] = [[list(part.shape) for part in getattr(each, "variables", [each])] for each in values]
report["bytes"] = bytes_of_servers(values)


class Asked:
    """Batches that remember which were asked for."""

    steps_per_epoch = 3

    def __init__(self):
        self.asked = []

    def batch(self, epoch, step):
        self.asked.append([epoch, step])
        return data[step]


asked = Asked()
train_downpour(model(), asked, strategy, steps=7, every=3, observer=(told := Told()))
report["asked"] = asked.asked
report["told"] = [told.servers, told.reads]

# A Faster R-CNN; all pictures padded to one size, so that its steps are traced once.
scenes = digit_scenes("train", 8)
detector = tiny_detector(scenes.classes)
detector.compile()
batches = Batches(scenes, 2, flip=False, short=64, long=96, pad_multiple=96)
rows = train_downpour(detector, batches, strategy, steps=24, every=4, learning_rate=0.01)
report["detector"] = [row.loss for row in rows]


def fit(epochs, **changes):
    """A classifier trained into a folder, as `zoo train` does it."""
    made, lines = colour_net(), []
    options = {"recipe": zoo.Recipe(learning_rate=0.1, schedule="constant"), "tensorboard": False, **changes}
    rows = fit_downpour(
        made,
        colours(),
        colours(9, 1),
        strategy=strategy,
        out=folder / "fit",
        epochs=epochs,
        batch_size=8,
        say=lines.append,
        **options,
    )
    return made, lines, rows


_, lines, _ = fit(1)
kept, more, rows = fit(3, resume=True)
loaded = colour_net()
zoo.weights_io.load_weights_file(loaded, folder / "fit" / "model.weights.h5")
report["fit"] = {
    "lines": lines + more,
    "steps": [row.steps for row in rows],
    "loaded": max(float(np.abs(a - b).max()) for a, b in zip(kept.get_weights(), loaded.get_weights(), strict=True)),
    "log": (folder / "fit" / "history.csv").read_text().splitlines(),
    "files": sorted(each.name for each in (folder / "fit").iterdir()),
}
for name, changes in {"again": {}, "changed": {"resume": True, "n_push": 2}}.items():
    try:
        fit(3, **changes)
    except ValueError as error:
        report["fit"][name] = str(error)

# The command, on the cluster that has been joined already.


def colour_model(classes=None):
    """Of three classes."""
    return colour_net()


for number, picture in enumerate(pictures(14)[0]):
    path = folder / "data" / "train" / ("blue", "green", "red")[number % 3] / f"{number}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture[..., ::-1])
zoo.list_models()
registry.register(task="classification", paper="Nobody 2000", summary="Colours.")(colour_model)
zoo.cli.strategy.join_cluster = lambda args: strategy
words = ["train", "--data", str(folder / "data"), "--val-split", "none", "--model", "colour_model", "--batch", "4"]
report["commands"] = {}
for name, options in {
    "parameter_server": "--epochs 2 --optimizer sgd --lr 0.1 --n-fetch 3 --warm-start 2",
    "sandblaster": "--epochs 4 --memory 3 --copies 1 --vectors servers --save-every 2",
}.items():
    out = folder / name
    said = io.StringIO()
    with contextlib.redirect_stdout(said), console.out.capture() as captured:
        status = main([*words, *options.split(), "--strategy", name, "--no-tensorboard", "--out", str(out)])
    report["commands"][name] = [status, captured.get(), (out / "model.json").is_file()]
print(json.dumps(report))
