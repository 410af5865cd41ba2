"""``zoo plan``: what a training would gain from more devices."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli.console import out, say, table
from zoo.cli.models import add_option

if TYPE_CHECKING:
    from zoo.plan import Estimate, Link
    from zoo.plan_measure import MeasuredStep
    from zoo.plan_work import Workload

_SETUPS = ("mirrored", "parameter_server")


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add ``plan``."""
    parser = commands.add_parser(
        "plan",
        help="estimate a training on several devices",
        description="Estimate step time, memory and efficiency on several devices, from the model's own work and what "
        "a step takes on one device. docs/planning.md tells the formulas and what they leave out.",
        epilog="example: zoo plan --model faster_rcnn_vgg16 --batch 2 --step-time 0.25 --devices 2 4 8 --bandwidth 25",
    )
    parser.add_argument("--model", metavar="NAME", required=True, help="a name that `zoo list` shows")
    add_option(parser, "an option of the model as a Python value; may be repeated")
    parser.add_argument("--train-from", metavar="LAYER", help="freeze all layers before this one, or train all")
    parser.add_argument(
        "--size", type=int, nargs=2, metavar=("H", "W"), help="height and width of the pictures (the model's own)"
    )
    parser.add_argument("--batch", type=int, default=1, metavar="B", help="pictures a step of one device (1)")
    step = parser.add_mutually_exclusive_group(required=True)
    step.add_argument("--step-time", type=float, metavar="S", help="seconds that one device takes for such a step")
    step.add_argument("--measure", action="store_true", help="measure that here, on random pictures")
    group = parser.add_argument_group("devices")
    group.add_argument("--strategy", choices=_SETUPS, default=_SETUPS[0], help="(mirrored)")
    group.add_argument(
        "--devices", type=int, nargs="+", default=[1, 2, 4, 8, 16], metavar="N", help="how many (1 2 4 8 16)"
    )
    group.add_argument(
        "--bandwidth", type=float, required=True, metavar="GBIT", help="Gbit/s of a device's link, each way"
    )
    group.add_argument("--latency", type=float, default=50.0, metavar="US", help="microseconds of a message (50)")
    group.add_argument("--slots", type=int, default=1, metavar="N", help="numbers a parameter of the optimiser (1)")
    only = parser.add_argument_group("with mirrored")
    only.add_argument(
        "--overlap",
        type=float,
        metavar="SHARE",
        help="gradients are exchanged during this part of the way back: 0 (none) to 1 (0)",
    )
    only.add_argument(
        "--fixed-batch", action="store_true", help="--batch is that of all devices together, each gets its part"
    )
    only = parser.add_argument_group("with parameter_server")
    only.add_argument("--servers", type=int, metavar="M", help="parameter servers (1)")
    only.add_argument("--n-push", type=int, metavar="N", help="mini-batches between two pushes (1)")
    only.add_argument("--n-fetch", type=int, metavar="N", help="mini-batches between two fetches (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to this file")
    parser.set_defaults(run=_plan)


def _plan(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    import zoo
    from zoo.files import save_json
    from zoo.plan import Link
    from zoo.plan_measure import measure_step
    from zoo.plan_work import count_work

    _check_options(args)
    link = Link.of_gigabits(args.bandwidth, args.latency, args.overlap or 0.0)
    model = zoo.get(args.model, **dict(args.option))
    if args.train_from not in (None, "all"):
        from zoo.training.freeze import freeze_before

        freeze_before(model, args.train_from)
    work = count_work(model, None if args.size is None else tuple(args.size))
    measured = measure_step(model, args.batch, work.size) if args.measure else None
    step = args.step_time if measured is None else measured.seconds
    estimates = [_estimate(args, work, step, devices, link) for devices in args.devices]
    _print(args, work, step, measured, estimates)
    if args.json is not None:
        macs = {"forward_macs": work.forward_macs, "training_macs": work.training_macs}
        record = {
            "command": args.command_line,
            "model": {**asdict(work), **macs, "activation_bytes": work.activation_bytes},
            "step": {
                "seconds": step,
                "pictures": args.batch,
                "measured": None if measured is None else asdict(measured),
            },
            "link": {"bytes_per_s": link.bandwidth, "latency_s": link.latency, "overlap": link.overlap},
            "strategy": args.strategy,
            "estimates": [asdict(each) for each in estimates],
        }
        save_json(record, args.json)
        say(f"JSON: {args.json}")
    return 0


def _check_options(args: argparse.Namespace) -> None:
    servers = {"--servers": args.servers, "--n-push": args.n_push, "--n-fetch": args.n_fetch}
    ring = {"--overlap": args.overlap, "--fixed-batch": args.fixed_batch or None}
    other = servers if args.strategy == "mirrored" else ring
    asked = [name for name, value in other.items() if value is not None]
    if asked:
        goes = "parameter_server" if args.strategy == "mirrored" else "mirrored"
        raise ValueError(f"{', '.join(asked)}: with --strategy {goes} only")


def _estimate(args: argparse.Namespace, work: Workload, step: float, devices: int, link: Link) -> Estimate:
    from zoo.plan import mirrored, parameter_servers

    if args.strategy == "mirrored":
        return mirrored(work, step, args.batch, devices, link, fixed=args.fixed_batch, slots=args.slots)
    given = {"servers": args.servers, "n_push": args.n_push, "n_fetch": args.n_fetch}
    options = {name: 1 if value is None else value for name, value in given.items()}
    return parameter_servers(work, step, args.batch, devices, link=link, slots=args.slots, **options)


def _print(
    args: argparse.Namespace, work: Workload, step: float, measured: MeasuredStep | None, estimates: list[Estimate]
) -> None:
    height, width = work.size
    say(
        f"{work.model}, pictures of {height} x {width}: {work.parameters / 1e6:.1f} M parameters, "
        f"{work.forward_macs / 1e9:.2f} GMAC forward, {work.training_macs / 1e9:.2f} GMAC in training; "
        f"{_size(work.gradient_bytes)} of gradients, {_size(work.activation_bytes)} of layers' outputs"
    )
    if work.uncounted:
        say(f"Not counted, of kinds unknown here: {', '.join(work.uncounted)}")
    how = (
        "given"
        if measured is None
        else f"measured here, {measured.device}; {measured.fastest:.3g} to {measured.slowest:.3g}"
    )
    speed = work.training_flops * args.batch / step / 1e9
    say(f"One device: {step:.3g} s a step of {args.batch} ({how}), {speed:,.0f} GFLOP/s")
    servers = args.strategy == "parameter_server"
    columns = ["devices", "step, ms", "compute", "exchange", "pictures/s", "speed-up", "efficiency", "memory"]
    columns += ["server", "staleness", "limit"] if servers else ["pictures", "limit"]
    rows = table(*columns, right=tuple(columns[:-1]))
    for each in estimates:
        cells = [each.devices, *(f"{1e3 * s:.1f}" for s in (each.step_s, each.compute_s, each.exchange_s))]
        cells += [f"{each.pictures_per_s:.1f}", f"{each.speedup:.2f}", f"{each.efficiency:.0%}"]
        cells.append(_size(each.device_bytes))
        cells += [_size(each.server_bytes), f"{each.staleness:.1f}"] if servers else [each.pictures]
        rows.add_row(*map(str, cells), each.limit)
    out.print(rows)


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
