"""What both sides of ``benchmarks/peer_training.py`` share: arguments, the settings, and waiting for their turn.

Uses the standard library alone.
"""

import argparse
import json
import sys
import time
from pathlib import Path

JOBS = ("prepare", "train", "speed", "check")
CHECKED_RATE = 0.001  # learning rate of the steps that are compared


def arguments(description: str) -> argparse.Namespace:
    """Which job to do and where: what ``prepare`` has left is in ``--folder``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("job", choices=JOBS)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", help="prepare: the data set")
    parser.add_argument("--report", help="where to write the results as JSON")
    return parser.parse_args()


def settings_in(folder: Path, name: str = "settings.json") -> dict:
    """The settings of both trainings."""
    return json.loads((folder / name).read_text())


class Turns:
    """Lets a training run some steps and wait until it is told to go on, so that two take turns on one machine.

    A line on standard input is the number of steps to run next; for each one comes back on standard output: seconds by
    the clock and of processor time. The end of the input ends the process.
    """

    def __init__(self) -> None:
        self._left, self._began = 0, None

    def before_step(self) -> None:
        """Call it before each step."""
        if not self._left:
            if self._began is not None:
                wall, processor = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
                print(json.dumps({"wall": wall, "processor": processor}), flush=True)
            line = sys.stdin.readline()
            if not line.strip():
                sys.exit(0)
            self._left = int(line)
            self._began = time.perf_counter(), time.process_time()
        self._left -= 1
