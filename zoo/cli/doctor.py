"""``zoo doctor``: what is wrong with a data set, and what is in it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli.console import import_tensorflow_quietly, out, progress, say, table
from zoo.cli.data import DATA_HELP, add_reading_options
from zoo.cli.models import add_option

if TYPE_CHECKING:
    from zoo.datasets.anchor_fit import AnchorPlan
    from zoo.datasets.doctor import Examination

_SHOWN = 10  # findings of a kind on the screen
_OPTIONS = {"anchor_sizes": "sizes", "anchor_ratios": "ratios", "short": "short", "long": "long", "stride": "stride"}


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add ``doctor``."""
    parser = commands.add_parser(
        "doctor",
        help="examine a data set",
        description="Read a whole data set, pictures and all, and say what would hurt a training: broken files and "
        "boxes, leaks between splits, classes with few objects, anchors that do not fit. The exit status is 1 if "
        "there are errors.",
    )
    parser.add_argument("data", metavar="DATA", help=DATA_HELP)
    parser.add_argument("--split", action="append", default=[], help="only this split; may be repeated")
    add_reading_options(parser)
    parser.add_argument("--model", metavar="NAME", help="try this detector's anchors and size on the boxes")
    parser.add_argument("--weights", metavar="RUN", type=Path, help="those of a run folder of `zoo train`")
    add_option(parser, f"other anchors, as 'anchor_sizes=(24, 48, 96)'; may be repeated; names: {', '.join(_OPTIONS)}")
    parser.add_argument("--show", type=int, default=_SHOWN, metavar="N", help=f"findings of a kind shown ({_SHOWN})")
    parser.add_argument("--workers", type=int, metavar="N", help="threads that read pictures (one per processor)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to this file")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write a page with plots and pictures of the worst cases"
    )
    parser.set_defaults(run=_doctor, tensorflow=False)


def _doctor(args: argparse.Namespace) -> int:
    from zoo.datasets.doctor import examine
    from zoo.files import save_atomically, save_json

    plan = _plan(args)
    with progress("reading") as bar:
        task = bar.add_task("", total=None)
        found = examine(
            args.data,
            args.split,
            args.classes,
            args.images,
            plan,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            workers=args.workers,
        )
    # Files first: a pipe that closes early ends the printing.
    if args.json is not None:
        save_json(found.to_dict() | {"command": args.command_line}, args.json)
    if args.html is not None:
        from zoo.reports.doctor_html import page

        with save_atomically(args.html) as aside:
            aside.write_text(page(found, args.command_line), encoding="utf-8")
    _print(found, args.show)
    for title, path in (("JSON", args.json), ("Page", args.html)):
        if path is not None:
            say(f"{title}: {path}")
    return 1 if found.has_errors else 0


def _print(found: Examination, shown: int) -> None:
    from zoo.reports import doctor_text

    for line in doctor_text.summary(found):
        say(line)
    say("")
    for line in doctor_text.findings(found, shown):
        say(line)
    say("")
    numbers = ("Objects", "Share", "Pictures", "Difficult", "Crowds")
    rows = table("Class", *numbers, right=numbers)
    for row in doctor_text.class_rows(found):
        rows.add_row(*row)
    out.print(rows)
    say("")
    numbers = ("Mean IoU", "IoU .5", "IoU .7", "Mean in", ".5 in", ".7 in")
    rows = table("", "Anchors (in: those inside the picture alone)", *numbers, right=numbers)
    for row in doctor_text.anchor_rows(found):
        rows.add_row(*row)
    out.print(rows)
    if options := doctor_text.options(found):
        say(f"Suggested: {options}")


def _plan(args: argparse.Namespace) -> AnchorPlan:
    """The anchors of ``--model`` or of a run, changed by ``--option``."""
    from zoo.datasets.anchor_fit import AnchorPlan

    options: dict[str, Any] = {}
    model = args.model
    if args.weights is not None:
        from zoo.weights_io import meta_path, read_meta

        run = args.weights / "model.weights.h5" if args.weights.is_dir() else args.weights
        meta = read_meta(run)
        if meta is None:
            raise ValueError(
                f"--weights {args.weights}: there is no {meta_path(run)}; give a run folder of `zoo train`"
            )
        model, options = model or meta.model, dict(meta.options)
    if model is not None:
        import_tensorflow_quietly()  # the registry needs it to know its models
        import zoo

        options = dict(zoo.info(model).options) | options
        if "anchor_sizes" not in options:
            raise ValueError(f"--model {model}: has no anchors; give a detector")
    given = dict(args.option)
    unknown = [name for name in given if name not in _OPTIONS]
    if unknown:
        raise ValueError(f"--option {unknown[0]}: the doctor knows {', '.join(_OPTIONS)}")
    chosen = {_OPTIONS[name]: value for name, value in (options | given).items() if name in _OPTIONS}
    for name in ("sizes", "ratios"):
        if name in chosen:
            value = chosen[name]
            chosen[name] = tuple(value) if isinstance(value, tuple | list) else (value,)
    try:
        return AnchorPlan(**chosen)
    except TypeError as error:
        raise ValueError(f"--option: {error}") from error
