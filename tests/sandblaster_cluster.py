"""Trains on two workers and two parameter servers, then by threads of this process; prints as JSON how much differs.

With the vectors on the chief and on the servers; there also with a worker killed in the middle of a pass, broken off
and resumed, and with the bytes counted that come to the chief.
"""

import json
import os
import signal
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import server_processes

# Before TensorFlow is imported; the second worker is to die.
spec, processes = server_processes.start([[("ps", 0), ("ps", 1), ("worker", 0)], [("worker", 1)]], 2)

import keras  # noqa: E402
import numpy as np  # noqa: E402
from sandblaster_problem import flat_weights, problem  # noqa: E402

from zoo.distribute.observer import Observer  # noqa: E402
from zoo.distribute.parameter_servers import coordinator_of  # noqa: E402
from zoo.distribute.sandblaster import train_sandblaster  # noqa: E402
from zoo.distribute.sandblaster_model import Objective  # noqa: E402
from zoo.distribute.sandblaster_servers import ServerValues, hosts_of  # noqa: E402
from zoo.distribute.server_slots import Slots  # noqa: E402
from zoo.distribute.server_vectors import ServerVectors  # noqa: E402

# Before anything else: variables that were made before TensorFlow joins a cluster are lost.
strategy = server_processes.join(spec)
ITERATIONS, report = 5, {}


class Killer(Observer):
    """Kills the second worker when it has done a unit of the second pass."""

    def __init__(self):
        self.passes, self.units, self.killed_after, self.later = 0, 0, None, set()

    def pass_done(self, **told):
        self.passes, self.units = self.passes + 1, 0

    def unit_done(self, *, worker, **told):
        self.units += 1
        if self.killed_after is not None:
            self.later.add(worker)
        elif self.passes >= 1 and worker == "worker 1":
            self.killed_after = self.units
            os.kill(processes[1].pid, signal.SIGKILL)


def trained(**options):
    """Weights, and what the rows say."""
    model, data = problem()
    rows = train_sandblaster(model, data, **{"iterations": ITERATIONS, **options})
    return flat_weights(model), rows


def apart(weights, rows, end=ITERATIONS):
    """How much losses differ from those of one process, at most, and weights, if ``end`` is where these are known."""
    losses = [abs(row.loss - alone_rows[row.iteration].loss) for row in rows]
    return {
        "weights": float(np.abs(weights - alone).max()) if end == ITERATIONS else 0.0,
        "losses": max(losses),
        "rows": len(rows),
    }


def wide(vectors, iterations):
    """Bytes that come to the chief in a training, and how many parameters the model has."""
    keras.utils.set_random_seed(0)
    layers = [keras.Input((5,)), keras.layers.Dense(10_000, activation="tanh"), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(loss="mean_squared_error")
    data = [(np.full((2, 5), 0.1 * n, "float32"), np.ones((2, 1), "float32")) for n in range(6)]
    # All vectors come at the end, once, for the model.
    before = server_processes.bytes_received()
    rows = train_sandblaster(model, data, iterations=iterations, strategy=strategy, vectors=vectors)
    return {
        "bytes": server_processes.bytes_received() - before,
        "passes": rows[-1].passes,
        "parameters": model.count_params(),
    }


before = flat_weights(problem()[0])
alone, alone_rows = trained()
report["moved"] = float(np.abs(alone - before).max())
decay = {"weight_decay": 0.3, "iterations": 1, "strategy": strategy}
chief, servers = (trained(vectors=each, **decay)[1] for each in ("chief", "servers"))
report["decay"] = abs(chief[1].loss - servers[1].loss)
report["chief"] = apart(*trained(strategy=strategy, vectors="chief"))
report["servers"] = apart(*trained(strategy=strategy, vectors="servers"))

with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "half.npz"
    half = {"iterations": 3, "save_every": 2, "checkpoint": file}
    trained(strategy=strategy, vectors="servers", **half)
    for name, vectors, last in (("resumed", "servers", 4), ("crossed", "chief", 5)):
        resumed = {"vectors": vectors, "iterations": last, "checkpoint": file, "resume": True}
        report[name] = apart(*trained(strategy=strategy, **resumed), end=last)

# The operators beside NumPy's, on servers that have pieces of one variable and wholes of others.
objective = Objective(problem()[0])
values = ServerValues(objective, strategy)
space = ServerVectors(values.values, coordinator_of(strategy))
report["hosts"] = hosts_of(strategy)
report["shards"] = len(values.values[0].variables)
report["devices"] = [each.backing_device for each in space.put(objective.vector()).pieces]
one, two = np.random.default_rng(0).normal(size=(2, space.size))
there, other = space.put(one), space.put(two)
pairs = [(there + other, one + two), (there - other, one - two), (2.5 * there, 2.5 * one), (there * other, one * two)]
pairs += [(-there, -one), (abs(there), abs(one)), (there / 3, one / 3), (np.float64(2) * there, 2 * one)]
report["operators"] = max(float(np.abs(np.asarray(mine) - theirs).max()) for mine, theirs in pairs)
report["numbers"] = [abs(there @ other - one @ two), abs(there.max() - one.max())]
bad = one.copy()
bad[3] = np.nan
report["nan"] = bool(np.isnan(abs(space.put(bad)).max()))
space.assign(there)
values = [np.ravel(each) for each in map(np.asarray, values.read()[0])]
report["assigned"] = float(np.abs(np.concatenate(values) - one).max())

# What a worker that was taken for dead writes late is not counted.
slots, gradients = Slots(space, 1, "float32"), objective.split(one)
old, new = slots.ticket(), slots.ticket()
slots.write(slots.handles(0), gradients, new)
taken = slots.take(0, new)
report["slot"] = [float(np.abs(np.asarray(taken) - one).max()), slots.take(0, old) is None]
slots.write(slots.handles(0), [0 * each for each in gradients], old)
report["late"] = [slots.take(0, new) is None, float(np.abs(np.asarray(taken) - one).max())]
slots.write(slots.handles(0), gradients, new)
slots._slots[0][1].assign(0 * slots._slots[0][1])
report["torn"] = slots.take(0, new) is None

for vectors in ("chief", "servers"):
    wide(vectors, 1)  # what is sent once
    report[f"{vectors} bytes"] = wide(vectors, 3)

killer = Killer()
found = trained(strategy=strategy, vectors="servers", observer=killer)
report["killed"] = {**apart(*found), "after": killer.killed_after, "later": sorted(killer.later)}
processes[1].join(10)
report["status"] = processes[1].exitcode
print(json.dumps(report))
