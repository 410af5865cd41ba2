"""One of several workers that train what one device has trained; run under ``zoo launch``.

    python distribute_worker.py FOLDER MODEL ...

In the second epoch of the first training worker 1 kills itself, once. The chief prints as JSON the largest differences
to what ``distribute_mirrored.py`` has kept in FOLDER.
"""

import json
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from distribute_models import difference, trained

from zoo.distribute.strategies import make_strategy
from zoo.training import fit
from zoo.training.stop_on_nan import StopOnNan

strategy = make_strategy("multi_worker", wait=120)
folder, number = Path(sys.argv[1]), strategy.cluster_resolver.task_id
killed = folder / "killed"


class Killed(StopOnNan):
    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        if number == 1 and epoch == 1 and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)


fit.StopOnNan = Killed
for kind in sys.argv[2:]:
    out = folder / kind / "workers"
    weights = trained(kind, strategy, out, resume=True)
    if number == 0:
        print("DIFFERENCE", kind, json.dumps(difference(weights, out, folder / kind / "one")), flush=True)
