"""Learn blood cells from scratch: train on BCCD's trainval split, measure on its test split, report.

    ZOO_SHARED_DATA=DATA python benchmarks/bccd.py --out runs/bccd --write

Runs the ``zoo train`` and ``zoo eval`` commands that it prints; a finished run folder is only measured. Unlike the
other benchmarks it takes about an hour on two cores. ``--ship`` then puts the weights, in half precision, into the
package and measures them again.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from common import HERE, arguments, publish, table

# All that distinguishes this training from the defaults; see the README for why.
TRAIN = (
    "--split trainval --val-split none --model faster_rcnn_resnet18 "
    "--precision mixed_bfloat16 "
    '--option short=480 --option long=640 --option "anchor_sizes=(24,48,96,192)" --option rpn_channels=256 '
    "--option train_proposals=600 "
    "--minutes 57 --batch 2 --lr 0.01 --schedule cosine --clipnorm 10 --ema 0.998 "
    "--vertical-flip --rotate90 --colour-jitter 0.2 --cache"
)
CURVES = "bccd_curves.png"
# The metric's own threshold first; the looser one tells objects not found from boxes not tight enough.
IOUS = (0.5, 0.4)


def zoo_command(words: list[str]) -> None:
    subprocess.run([str(Path(sys.executable).with_name("zoo")), *words], check=True)


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/bccd"), help="run folder (runs/bccd)")
    parser.add_argument("--ship", action="store_true", help="put the weights into the package")
    args = parser.parse_args()
    shared = os.environ.get("ZOO_SHARED_DATA")
    if not shared or not (Path(shared) / "bccd").is_dir():
        raise SystemExit("set ZOO_SHARED_DATA to a folder that holds the BCCD data set in VOC layout as bccd/")
    data = str(Path(shared) / "bccd")

    trained = args.out / "model.json"
    if not trained.is_file():
        zoo_command(["train", "--data", data, *shlex.split(TRAIN), "--out", str(args.out), "--resume", "--quiet"])
    recorded = shlex.split(json.loads(trained.read_text())["command"])
    missing = [word for word in shlex.split(TRAIN) if word not in recorded]
    if missing:
        raise SystemExit(f"{args.out} was trained otherwise: its command lacks {' '.join(missing)}")
    results = {}
    for iou in IOUS:
        scores = args.out / f"scores-{iou}.json"
        measure = ["--data", data, "--split", "test", "--weights", str(args.out), "--iou", str(iou)]
        zoo_command(["eval", *measure, "--json", str(scores)])
        results[iou] = json.loads(scores.read_text())
    seconds, epochs = length_of(args.out / "history.csv")
    rows = [[name, *(f"{results[iou]['ap'][name]:.3f}" for iou in IOUS)] for name in results[IOUS[0]]["ap"]]
    rows.append(["**mAP**", *(f"**{results[iou]['map']:.3f}**" for iou in IOUS)])
    text = (
        f"```sh\nzoo train --data $ZOO_SHARED_DATA/bccd {TRAIN} --out runs/bccd\n"
        "zoo eval --data $ZOO_SHARED_DATA/bccd --split test --weights runs/bccd\n```\n\n"
        f"No pretrained weights; {seconds / 60:.0f} minutes of training ({epochs} epochs) on two cores, with other "
        "work running beside it. 72 test pictures, VOC 2007 metric (eleven points), by the IoU "
        "that a detection has to exceed:\n\n"
        f"{table(['class', *(f'AP, IoU {iou}' for iou in IOUS)], rows)}\n\n"
        f"{results[IOUS[0]]['images_per_second']:.2f} pictures a second when measured.\n\n"
        f"![Curves]({CURVES})"
    )
    publish("bccd", text, args.write)
    if args.write:
        shutil.copyfile(args.out / "curves.png", HERE / CURVES)
    if args.ship:
        ship(args.out, data, f"{seconds / 60:.0f}")


def ship(out: Path, data: str, minutes: str) -> None:
    """Copy the weights into the package, in half precision, measure that file, and describe it."""
    from dataclasses import replace

    import zoo
    from zoo.shipped import describe_shipped
    from zoo.weights_entry import PACKAGED
    from zoo.weights_io import read_meta, save_weights_file

    name = "faster_rcnn_resnet18"
    target = PACKAGED / f"{name}_bccd.weights.h5"
    meta = read_meta(out / "model.weights.h5")
    # The folders of the machine that trained are nobody's business.
    train = f"zoo train --data $ZOO_SHARED_DATA/bccd {TRAIN} --out runs/bccd"
    save_weights_file(zoo.load(out), target, "float16", replace(meta, command=train))
    scores = out / "scores-shipped.json"
    zoo_command(["eval", "--data", data, "--split", "test", "--weights", str(target), "--json", str(scores)])
    result = json.loads(scores.read_text())
    entry = describe_shipped(
        name,
        "bccd",
        classes=meta.classes,
        options=dict(meta.options),
        source=f"benchmarks/bccd.py: trained from scratch on BCCD (MIT), {minutes} minutes on two busy CPU cores",
        measured_score=f"mAP {result['map']:.3f} (VOC07, IoU .5) on the 72 test pictures (benchmarks/bccd.py)",
        preprocessing=zoo.load(target).preprocessing.describe(),
    )
    print(f"{target.name}: {entry.size / 1e6:.1f} MB, {entry.measured_score}")


def length_of(history: Path) -> tuple[float, int]:
    """Seconds and number of all epochs."""
    header, *lines = history.read_text().splitlines()
    column = header.split(",").index("seconds")
    return sum(float(line.split(",")[column]) for line in lines), len(lines)


if __name__ == "__main__":
    main()
