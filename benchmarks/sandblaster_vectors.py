"""Sandblaster's vectors on the chief or on the servers: seconds a pass and bytes to the chief, by size of the model.

python benchmarks/sandblaster_vectors.py --write
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common

SIZES = (10_000, 100_000, 1_000_000, 4_000_000)  # parameters, about
UNITS, ITERATIONS = 10, 8
TESTS = Path(__file__).resolve().parent.parent / "tests"


def child(report: str) -> None:
    """Train every size both ways; a layer that is wide and cheap, so that what is measured is moving its parameters."""
    from zoo.distribute.parameter_servers import server_strategy

    sys.path.insert(0, str(TESTS))
    from server_processes import bytes_received

    strategy = server_strategy(wait=240)
    import keras
    import numpy as np

    from zoo.distribute.observer import Observer
    from zoo.distribute.sandblaster import train_sandblaster

    class Marks(Observer):
        """Time, passes and bytes at the end of each iteration."""

        def __init__(self) -> None:
            self.found, self.passes = [], 0

        def line_search(self, *, evaluations: int, **told: object) -> None:
            self.passes += evaluations
            self.found.append((time.monotonic(), self.passes, bytes_received()))

    rng = np.random.default_rng(0)
    data = [
        (rng.normal(size=(8, 50)).astype("float32"), rng.normal(size=(8, 1)).astype("float32")) for _ in range(UNITS)
    ]
    found = []
    for size in SIZES:
        for vectors in ("chief", "servers"):
            keras.utils.set_random_seed(0)
            wide = keras.layers.Dense(size // 52, activation="tanh")
            model = keras.Sequential([keras.Input((50,)), wide, keras.layers.Dense(1)])
            model.compile(loss="mean_squared_error")
            marks = Marks()
            train_sandblaster(
                model, data, iterations=ITERATIONS, tolerance=0, strategy=strategy, vectors=vectors, observer=marks
            )
            # From the second iteration on: functions are traced before.
            (began, before, came), (ended, after, last) = marks.found[0], marks.found[-1]
            passes = after - before
            found.append([model.count_params(), vectors, passes, (ended - began) / passes, (last - came) / passes])
            print(found[-1], flush=True)
    Path(report).write_text(json.dumps(found))


def main() -> None:
    parser = common.arguments(__doc__.splitlines()[0])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child)
        return
    common.pin(args.cores)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.json"
        command = [
            sys.executable,
            "-m",
            "zoo.cli.main",
            "launch",
            "--workers",
            "2",
            "--ps",
            "2",
            "--restarts",
            "0",
            "--",
        ]
        subprocess.run([*command, sys.executable, __file__, "--child", str(file)], check=True)
        found = json.loads(file.read_text())
    rows = [
        (f"{size:,}", vectors, str(passes), f"{seconds:.2f}", f"{came / 1e6:.1f}")
        for size, vectors, passes, seconds, came in found
    ]
    header = ("parameters", "vectors", "passes", "a pass, s", "to the chief in a pass, MB")
    text = (
        f"Two workers and two servers on one machine, {UNITS} units of 8 examples; line searches are in the passes, "
        "tracing is not.\n\n"
    )
    common.publish("sandblaster_vectors", text + common.table(header, rows), args.write)


if __name__ == "__main__":
    main()
