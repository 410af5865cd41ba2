"""``zoo launch``: a cluster on this machine, for one command."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add ``launch``."""
    parser = commands.add_parser(
        "launch",
        help="run a command in several processes on this machine that train together",
        usage="zoo launch [--workers N] [--ps N] [options] -- COMMAND ...",
        description="Start a cluster on this machine: free ports, TF_CONFIG for each process, one log. What dies is "
        "started again; nothing is left running.",
        epilog="example: zoo launch --workers 2 -- zoo train --strategy multi_worker --data digits --model NAME --out "
        "runs/two --quiet",
    )
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="worker processes (2)")
    parser.add_argument("--ps", type=int, default=0, metavar="N", help="parameter servers, and a chief with them (0)")
    parser.add_argument("--restarts", type=int, default=3, metavar="N", help="how often to start again (3)")
    parser.add_argument("--gpus", type=int, default=0, metavar="N", help="GPUs of each worker, in order")
    parser.add_argument("--grace", type=float, default=10.0, metavar="S", help="seconds to end by themselves (10)")
    parser.add_argument("--log", type=Path, metavar="FILE", help="append the log of all to this file too")
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND", help="after --, what each process runs")
    parser.set_defaults(run=_launch, tensorflow=False)


def _launch(args: argparse.Namespace) -> int:
    from zoo.distribute.launch import LaunchPlan, launch

    words = args.words[1:] if args.words[:1] == ["--"] else args.words
    return launch(
        LaunchPlan(
            tuple(words), args.workers, args.ps, restarts=args.restarts, gpus=args.gpus, grace=args.grace, log=args.log
        )
    )
