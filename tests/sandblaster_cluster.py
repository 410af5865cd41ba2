"""Trains on two workers and two parameter servers of this process, then alone; prints how much the weights differ."""

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from sandblaster_problem import flat_weights, problem
from server_cluster import parameter_servers

from zoo.distribute.sandblaster import train_sandblaster
from zoo.distribute.sandblaster_model import Objective
from zoo.distribute.sandblaster_servers import ServerValues

# Before anything else: variables that were made before TensorFlow joins a cluster are lost.
strategy = parameter_servers(workers=2, ps=2)
model, data = problem()
before = flat_weights(model)
train_sandblaster(model, data, iterations=3)
other, _ = problem()
rows = train_sandblaster(other, data, iterations=3, strategy=strategy)
alone, together = flat_weights(model), flat_weights(other)
report = {
    "shards": len(ServerValues(Objective(other), strategy).values[0].variables),
    "lost": sum(row.lost for row in rows),
    "moved": float(np.abs(alone - before).max()),
    "differs": float(np.abs(alone - together).max()),
}
print(json.dumps(report))
