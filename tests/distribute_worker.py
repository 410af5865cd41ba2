"""One of several workers that train what one device has trained; run under ``zoo launch``.

    python distribute_worker.py FOLDER MODEL ...

The chief prints as JSON the largest differences to what ``distribute_mirrored.py`` has kept in FOLDER.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from distribute_models import difference, trained

from zoo.distribute.strategies import make_strategy

strategy = make_strategy("multi_worker", wait=120)
folder = Path(sys.argv[1])
for kind in sys.argv[2:]:
    out = folder / kind / "workers"
    weights = trained(kind, strategy, out, resume=True)
    if strategy.cluster_resolver.task_id == 0:
        print("DIFFERENCE", kind, json.dumps(difference(weights, out, folder / kind / "one")), flush=True)
