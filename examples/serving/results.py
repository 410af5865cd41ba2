"""What both clients share: their options, and what they do with an answer: print it, and draw it."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageColor, ImageDraw, ImageFont, ImageOps

COLOURS = ("#1e88e5", "#ff7043", "#43be50", "#ff0087", "#ffd21e", "#7800e1", "#00f0ff", "#a55a00")


@dataclass(frozen=True)
class Found:
    """One detection, or, without a box, one class that a whole picture may be.

    ``box`` is x1 y1 x2 y2 in pixels of the picture as a person sees it, turned upright if its EXIF block says so.
    """

    name: str
    score: float
    number: int
    box: tuple[float, float, float, float] | None = None


def add_options(parser: argparse.ArgumentParser) -> None:
    """The pictures, and what both clients can be told about them; where the server is, each asks itself."""
    parser.add_argument("pictures", nargs="+", type=Path, help="JPEG or PNG files")
    parser.add_argument("--model", default="digits", help="its name in models.config (default: digits)")
    parser.add_argument("--score", type=float, default=0.5, metavar="S", help="least score shown (default: .5)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="draw the detections into this folder")
    parser.add_argument("--batch", type=int, default=8, metavar="B", help="pictures a request (default: 8)")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="S", help="seconds a request (default: 60)")


def groups(paths: Sequence[Path], out: Path | None, most: int) -> Iterator[list[tuple[Path, Path | None]]]:
    """Files that go into one request, each with the one that it is drawn into; none without a folder ``out``."""
    drawn = [None] * len(paths) if out is None else targets(paths, out)
    pairs = list(zip(paths, drawn, strict=True))
    for start in range(0, len(pairs), most):
        yield pairs[start : start + most]


def targets(paths: Sequence[Path], out: Path) -> list[Path]:
    """A PNG file in ``out`` for every picture: none twice, and none of the pictures given.

    In a folder that pictures come from all get ``-detections`` behind their names, as of `zoo detect`.
    """
    suffix = "-detections" if out.resolve() in {path.parent.resolve() for path in paths} else ""
    taken = {path.resolve() for path in paths}
    found = []
    for path in paths:
        stem = path.stem + suffix
        target, number = out / f"{stem}.png", 1
        while target.resolve() in taken:
            number += 1
            target = out / f"{stem}-{number}.png"
        taken.add(target.resolve())
        found.append(target)
    return found


def found_in(row: dict[str, Any], classes: Sequence[str], least: float) -> list[Found]:
    """What an answer tells of one picture; ``row`` is that picture's part of every output of ``serve_encoded``."""
    count = int(row.get("num_detections", len(row["scores"])))
    boxes = row.get("boxes", [None] * count)
    triples = list(zip(row["scores"], row["classes"], boxes, strict=False))[:count]
    return [
        Found(classes[int(number)], float(score), int(number), None if box is None else tuple(map(float, box)))
        for score, number, box in triples
        if score >= least
    ]


def report(path: Path, row: dict[str, Any], classes: Sequence[str], least: float, target: Path | None) -> bool:
    """Print what is in one picture, draw it into the file ``target``; whether it could be read."""
    if int(row["status"]) != 0:
        error = row["error"]
        print(f"{path}: {error.decode() if isinstance(error, bytes) else error}", file=sys.stderr)
        return False
    found = found_in(row, classes, least)
    height, width = (int(side) for side in row["sizes"])
    print(f"{path} ({width}x{height}): {len(found)} found")
    for each in found:
        place = "" if each.box is None else "  at " + " ".join(f"{side:.1f}" for side in each.box)
        print(f"  {each.name}  {each.score:.3f}{place}")
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        draw(path, found).save(target)
    return True


def draw(path: Path, found: Sequence[Found]) -> Image.Image:
    """The picture with boxes and names; the best lies on top."""
    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB")
    canvas = ImageDraw.Draw(picture)
    font = ImageFont.load_default(max(12, max(picture.size) // 40))
    line = max(2, max(picture.size) // 300)
    for each in reversed([each for each in found if each.box is not None]):
        x1, y1, x2, y2 = each.box
        colour = COLOURS[each.number % len(COLOURS)]
        canvas.rectangle((x1, y1, max(x1, x2), max(y1, y2)), outline=colour, width=line)
        text = f" {each.name} {each.score:.0%} "
        left, top, right, bottom = canvas.textbbox((x1, y1), text, font=font)
        up = min(bottom - y1, y1)
        canvas.rectangle((left, top - up, right, bottom - up), fill=colour)
        light = sum(part * weight for part, weight in zip(ImageColor.getrgb(colour), (299, 587, 114), strict=True))
        canvas.text((x1, y1 - up), text, fill="black" if light > 120_000 else "white", font=font)
    return picture
