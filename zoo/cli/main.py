"""Entry point of ``zoo``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from zoo import __version__
from zoo.cli import (
    compress,
    convert,
    data_commands,
    detect,
    doctor,
    evaluate,
    export,
    launch,
    models,
    plan,
    proposals,
    serve,
    svm,
    train,
)
from zoo.cli.console import import_tensorflow_quietly, warn
from zoo.distribute.cluster import WorkerLostError

_EXAMPLES = """examples:
  zoo list vgg                                      models with vgg in their name
  zoo doctor VOC_FOLDER --html report.html          what is wrong with a data set
  zoo detect digits:5                               the shipped detector on an embedded test scene
  zoo detect photos/ --weights runs/cells           your own detector on a folder
  zoo train --data VOC_FOLDER --model NAME --minutes 30 --out runs/cells
  zoo eval --data VOC_FOLDER --split test --weights runs/cells
  zoo proposals --data VOC_FOLDER --split trainval --method selective-fast --out proposals
  zoo compress runs/voc runs/small --energy .9      thinner dense layers
  zoo plan --model NAME --step-time .25 --bandwidth 25    what more devices would bring
  zoo export runs/cells cells.onnx                  for other programs, compared with the model
  zoo serve                                         the shipped detector on http://127.0.0.1:8501/

exit status: 0 all went well, 1 something could not be read or the training failed, 2 a mistake in the command
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands."""
    parser = argparse.ArgumentParser(
        prog="zoo",
        description="Object detection in pictures: find, train and measure detectors.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"zoo {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    parts = (
        models,
        detect,
        train,
        plan,
        launch,
        evaluate,
        data_commands,
        proposals,
        doctor,
        compress,
        svm,
        convert,
        export,
        serve,
    )
    for part in parts:
        part.add_commands(commands)
    for command in commands.choices.values():
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(arguments)
    args.command_line = " ".join(["zoo", *arguments])
    try:
        if getattr(args, "tensorflow", True):
            import_tensorflow_quietly()
        return args.run(args)
    except KeyboardInterrupt:
        warn("stopped")
        return 130
    except (ArithmeticError, WorkerLostError) as error:
        if args.debug:
            raise
        warn(f"zoo: {error}")
        return 1
    except (ValueError, OSError) as error:
        if args.debug:
            raise
        warn(f"zoo: error: {error}")
        return 2


if __name__ == "__main__":
    sys.exit(main())
