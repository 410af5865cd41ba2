"""Trains by Downpour on two workers and two parameter servers of this process; prints as JSON what came of it.

Beside it what NumPy makes of the same model, a softmax of one layer, in the same order.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
from scipy.special import softmax

sys.path.insert(0, str(Path(__file__).parent))
from server_cluster import parameter_servers

from zoo.distribute.downpour import _unit, train_downpour
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


def by_hand(rule, rate, n_push, n_fetch, steps):
    """Downpour with one worker, bias as the last row."""
    servers, squares, pushed = ORIGIN.astype(float), np.zeros((6, 3)), np.zeros((6, 3))
    for step in range(steps):
        if step % n_fetch == 0:
            own, own_squares, now = servers.copy(), squares.copy(), rate(step)
        x, labels = data[_unit(step, len(data), 0)]
        x = np.hstack([x, np.ones((8, 1))])
        gradient = x.T @ (softmax(x @ own, axis=1) - np.eye(3)[labels]) / 8
        own_squares += gradient**2
        own -= now * gradient / (np.sqrt(own_squares) if rule == "adagrad" else 1)
        pushed += gradient
        if (step + 1) % n_push == 0:
            squares += pushed**2
            servers -= now * pushed / (np.sqrt(squares) if rule == "adagrad" else 1)
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

rows = train_downpour(half, data, strategy, steps=48, every=12, learning_rate=0.1)
report["apart"] = [[row.steps, row.loss, row.staleness] for row in rows]
report["shards"] = [len(getattr(each, "variables", [each])) for each in ServerValues(Objective(half), strategy).values]
print(json.dumps(report))
