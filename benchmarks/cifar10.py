"""He 2016, section 4.2 in short: ResNet-20 and its plain twin on CIFAR-10, trained, measured and drawn.

    ZOO_SHARED_DATA=DATA python benchmarks/cifar10.py --out runs/cifar10 --write

Runs the ``zoo train`` and ``zoo eval`` commands that it prints; finished run folders are only measured, unfinished ones
go on. Takes more than four hours on two cores, three if both trainings are started by hand on a core each. ``--ship``
then puts the residual network's weights into the package.
"""

import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from common import HERE, arguments, publish, table

MODELS = ("resnet20", "plain20")
# The paper's recipe, shortened from 64,000 steps (164 epochs). A cosine and a stronger decay make up for some of that.
TRAIN = (
    "--recipe cifar10 --epochs 110 --schedule cosine --weight-decay 5e-4 "
    "--precision mixed_bfloat16 --val-split test --keep last"
)
VIEWS = ("centre", "shifts")
# He 2016: table 6, and read off figure 6 (left).
PAPER = {"resnet20": "8.75", "plain20": "about 9.5"}
CURVES = "cifar10_curves.png"


def zoo_command(words: list[str]) -> None:
    subprocess.run([str(Path(sys.executable).with_name("zoo")), *words], check=True)


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/cifar10"), help="folder of the runs (runs/cifar10)")
    parser.add_argument("--ship", action="store_true", help="put the weights of resnet20 into the package")
    args = parser.parse_args()
    shared = os.environ.get("ZOO_SHARED_DATA")
    data = Path(shared or ".") / "cifar10.zip"
    if not shared or not data.is_file():
        raise SystemExit("set ZOO_SHARED_DATA to a folder that holds CIFAR-10 in class folders as cifar10.zip")
    for name in MODELS:
        train(args.out / name, name, str(data))
    results = {name: {views: score(args.out / name, views, str(data)) for views in VIEWS} for name in MODELS}
    rows = [
        [
            name,
            *(f"{result[views]['top1_error']:.2%}" for views in VIEWS),
            f"{result['centre']['top5_error']:.2%}",
            f"{PAPER[name]}%",
            f"{sum(row['seconds'] for row in history(args.out / name)) / 60:.0f}",
        ]
        for name, result in results.items()
    ]
    text = (
        f"```sh\nzoo train --data $ZOO_SHARED_DATA/cifar10.zip --model resnet20 {TRAIN} --out runs/cifar10/resnet20\n"
        "zoo eval --data $ZOO_SHARED_DATA/cifar10.zip --split test --weights runs/cifar10/resnet20 --views shifts\n"
        "```\n\n"
        "Errors of the last weights on the 10,000 test pictures, which chose nothing. The paper looks at each picture "
        "once. *18 views* are the mean over the picture, moved by up to a pixel and mirrored. The pictures here are "
        "JPEGs with half of the colours' resolution, which the paper's are not:\n\n"
        f"{table(['network', 'top-1 error', '18 views', 'top-5 error', 'paper, top-1', 'minutes'], rows)}\n\n"
        f"![Curves]({CURVES})"
    )
    if args.write:
        draw({name: history(args.out / name) for name in MODELS}, HERE / CURVES)
    publish("cifar10", text, args.write)
    if args.ship:
        ship(args.out / "resnet20", {views: result["top1_error"] for views, result in results["resnet20"].items()})


def train(out: Path, name: str, data: str) -> None:
    """Train ``name`` unless that is done."""
    trained = out / "model.json"
    if not trained.is_file():
        words = ["train", "--data", data, "--model", name, *shlex.split(TRAIN)]
        zoo_command([*words, "--out", str(out), "--resume", "--quiet"])
    recorded = shlex.split(json.loads(trained.read_text())["command"])
    missing = [word for word in shlex.split(TRAIN) if word not in recorded]
    if missing:
        raise SystemExit(f"{out} was trained otherwise: its command lacks {' '.join(missing)}")


def score(out: Path, views: str, data: str) -> dict:
    """Measure the weights in ``out``."""
    scores = out / f"scores-{views}.json"
    words = ["eval", "--data", data, "--split", "test", "--weights", str(out), "--views", views]
    zoo_command([*words, "--json", str(scores)])
    return json.loads(scores.read_text())


def history(out: Path) -> list[dict[str, float]]:
    with open(out / "history.csv", newline="", encoding="utf-8") as file:
        return [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)]


def draw(histories: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Training error (thin, dashed) and test error (bold) by steps, as the paper's figure 6."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for colour, (name, rows) in zip(("tab:red", "tab:blue"), histories.items(), strict=True):
        epochs = [row["epoch"] for row in rows]
        axes.plot(
            epochs, [100 * row["top1_error"] for row in rows], color=colour, lw=1, ls="--", label=f"{name}, training"
        )
        axes.plot(epochs, [100 * row["val_top1_error"] for row in rows], color=colour, lw=2, label=f"{name}, test")
    axes.set(xlabel="epoch", ylabel="error (%)", ylim=(0, 40), title="CIFAR-10")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=100)


def ship(out: Path, errors: dict[str, float]) -> None:
    """Copy the weights into the package with a description of how they came to be; ``errors`` by views."""
    import zoo
    from zoo.backbones.cifar_resnet import PREPROCESSING
    from zoo.shipped import describe_shipped
    from zoo.weights_entry import PACKAGED
    from zoo.weights_io import read_meta

    target = PACKAGED / "resnet20_cifar10.weights.h5"
    shutil.copyfile(out / "model.weights.h5", target)
    meta = read_meta(target)
    describe_shipped(
        "resnet20",
        "cifar10",
        classes=meta.classes,
        options={},
        source=f"trained from scratch on CIFAR-10 (Krizhevsky 2009) by benchmarks/cifar10.py, zoo {zoo.__version__}",
        measured_score=f"top-1 error {errors['centre']:.2%} on the 10,000 test pictures, {errors['shifts']:.2%} over "
        "18 shifted and mirrored views (benchmarks/cifar10.py)",
        preprocessing=PREPROCESSING,
    )


if __name__ == "__main__":
    main()
