"""``zoo detect``: pictures in, annotated pictures, a table and JSON out."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.cli.console import out, progress, say, table, warn
from zoo.cli.models import add_model_options, describe, trained_model
from zoo.cli.proposal_options import add_proposal_options, detection_proposals

if TYPE_CHECKING:
    from zoo.detections import Detections

_PIECE = 16  # images in memory at once


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add ``detect``."""
    parser = commands.add_parser(
        "detect", help="find objects in pictures", description="Find objects in pictures and draw them."
    )
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="a picture, a folder, a pattern such as 'photos/*.jpg', or digits:N for embedded test scene N",
    )
    add_model_options(parser)
    add_proposal_options(parser, "computed for each picture")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("detections"),
        metavar="DIR",
        help="for the drawn pictures (default: detections/)",
    )
    parser.add_argument("--no-pictures", action="store_true", help="draw nothing")
    parser.add_argument("--score", type=float, default=0.5, metavar="S", help="least score shown (default: .5)")
    parser.add_argument("--batch", type=int, default=1, metavar="B", help="pictures at once (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all detections to this file")
    parser.set_defaults(run=_detect)


@dataclass(frozen=True)
class _Item:
    """One picture to look at: what to call it, and its path or array."""

    name: str
    source: Path | np.ndarray


def _detect(args: argparse.Namespace) -> int:
    from zoo.detectors.threshold import lowered_threshold
    from zoo.files import save_json

    if not 0 <= args.score <= 1:
        raise ValueError(f"--score {args.score:g}: give a number from 0 to 1")
    if args.batch < 1:
        raise ValueError(f"--batch {args.batch}: give a number from 1 on")
    items = [item for text in args.images for item in _expand(text)]
    model = trained_model(args)
    if not hasattr(model, "detect"):
        raise ValueError(
            f"{describe(model)} tells what a picture shows, not where; give a detector, such as `zoo list --task "
            "detection` shows (`zoo eval` measures classifiers)"
        )
    proposals = detection_proposals(args, model)
    given = {} if proposals is None else {"proposals": proposals}
    targets = [None] * len(items) if args.no_pictures else _targets(items, args.out)
    records: list[dict[str, object]] = []
    results: list[tuple[_Item, Detections, Path | None]] = []
    with lowered_threshold(model, args.score), progress("detecting") as bar:
        task = bar.add_task("", total=len(items))
        for start in range(0, len(items), _PIECE):
            piece = items[start : start + _PIECE]
            sources = [item.source for item in piece]
            found = model.detect(sources, score_threshold=args.score, batch_size=args.batch, **given)
            for item, one, target in zip(piece, found, targets[start : start + _PIECE], strict=True):
                if target is not None and one.error is None:
                    one.draw(None if isinstance(item.source, Path) else item.source, path=target)
                shown = target if one.error is None else None
                results.append((item, one, shown))
                picture = {} if shown is None else {"picture": str(shown)}
                records.append({"name": item.name, **one.to_dict(), **picture})
                bar.advance(task)
    if args.json is not None:
        save_json(records, args.json)
    _report(results, args.score)
    if args.json is not None:
        say(f"JSON: {args.json}")
    failed = [one.error for _, one, _ in results if one.error is not None]
    for error in failed:
        warn(f"zoo: {error}")
    if failed and len(results) > 1:
        warn(f"zoo: {len(failed)} of {len(results)} pictures could not be read")
    # The only picture given, and no good: a mistake in the command. Among others: the others' results stand.
    return (2 if len(results) == 1 else 1) if failed else 0


def _report(results: list[tuple[_Item, Detections, Path | None]], score: float) -> None:
    """All boxes of a single picture; a line per picture for several."""
    good = [result for result in results if result[1].error is None]
    if len(results) == 1 and good:
        item, found, _ = good[0]
        height, width = found.size
        say(f"{item.name} ({width}x{height}): {len(found)} found with a score of {score:g} or more")
        say(found.table())
    elif good:
        rows = table("Picture", "Size", "Found", "Classes", right=("Found",))
        for item, found, _ in good:
            counts = [f"{found.class_names.count(name)} {name}" for name in dict.fromkeys(found.class_names)]
            rows.add_row(item.name, f"{found.size[1]}x{found.size[0]}", str(len(found)), ", ".join(counts) or "-")
        out.print(rows)
    for _, _, target in good:
        if target is not None:
            say(f"Picture: {target}")


def _expand(text: str) -> list[_Item]:
    """The pictures that one argument stands for."""
    scene = re.fullmatch(r"digits:(\d+)", text)
    if scene and not Path(text).exists():
        from zoo.datasets.digits import digit_scenes

        number = int(scene[1])
        return [_Item(f"digits-{number}", digit_scenes("test", number + 1).image(number))]
    from zoo.datasets.images import ImageError
    from zoo.inputs import list_sources

    paths = list_sources(text)[0]
    if not paths[0].exists():
        # A mistake in the command: say so before a model is loaded.
        raise ImageError(text, "no such file; give a picture, a folder, a pattern, or digits:N")
    return [_Item(str(path), path) for path in paths]


def _targets(items: list[_Item], folder: Path) -> list[Path]:
    """A PNG file for every picture: none twice, and none of the pictures given, nor called like one beside them."""
    given = {item.source.resolve() for item in items if isinstance(item.source, Path)}
    suffix = "-detections" if folder.resolve() in {path.parent for path in given} else ""
    used: set[str] = set()
    targets = []
    for item in items:
        stem = (item.source.stem if isinstance(item.source, Path) else item.name) + suffix
        name, number = stem, 1
        while name in used or folder.resolve() / f"{name}.png" in given:
            number += 1
            name = f"{stem}-{number}"
        used.add(name)
        targets.append(folder / f"{name}.png")
    return targets
