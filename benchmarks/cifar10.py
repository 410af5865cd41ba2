"""He 2016, section 4.2 in short: ResNet-20 and its plain twin on CIFAR-10, trained, measured and drawn.

    ZOO_SHARED_DATA=DATA python benchmarks/cifar10.py --out runs/cifar10 --write

Runs the ``zoo train`` and ``zoo eval`` commands that it prints; finished rounds are only measured, unfinished ones go
on. An epoch of one network takes some four minutes on a core without AVX-512, if ``TF_ENABLE_ONEDNN_OPTS=1`` is set,
so start two of these, each with ``--only`` and a core of its own (``taskset -c``), and then one that measures both.
``--write`` also keeps the curves' numbers, ``--ship`` puts the weights into the package.
"""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from common import HERE, arguments, publish, table

MODELS = ("resnet20", "plain20")
# The paper's recipe, shortened from 64,000 steps (164 epochs). In each round the rate falls from .1 to .001 as a cosine
# (warm restarts, Loshchilov and Hutter 2017), so that there are weights worth having after the first; that and a
# stronger decay make up for some of the time that is missing.
TRAIN = "--recipe cifar10 --schedule cosine --weight-decay 5e-4 --val-split test --val-every 5 --keep last"
ROUNDS = (25, 95)  # epochs
VIEWS = ("centre", "shifts")
# He 2016: table 6, and read off figure 6 (left).
PAPER = {"resnet20": "8.75", "plain20": "about 9.5"}
CURVES = "cifar10_curves.png"


def zoo_command(words: list[str]) -> None:
    subprocess.run([str(Path(sys.executable).with_name("zoo")), *words], check=True)


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/cifar10"), help="folder of the runs (runs/cifar10)")
    parser.add_argument("--only", choices=MODELS, help="one of the networks")
    parser.add_argument("--rounds", type=int, choices=range(1, len(ROUNDS) + 1), default=len(ROUNDS), help="so many")
    parser.add_argument("--ship", action="store_true", help="put the weights into the package")
    args = parser.parse_args()
    shared = os.environ.get("ZOO_SHARED_DATA")
    data = Path(shared or ".") / "cifar10.zip"
    if not shared or not data.is_file():
        raise SystemExit("set ZOO_SHARED_DATA to a folder that holds CIFAR-10 in class folders as cifar10.zip")
    rows, histories = [], {}
    for name in MODELS if args.only is None else (args.only,):
        histories[name] = []
        for number in range(1, args.rounds + 1):
            folder = train(args.out, name, number, str(data))
            histories[name] += history(folder, sum(ROUNDS[: number - 1]))
            errors = {views: score(folder, views, str(data)) for views in VIEWS}
            rows.append(
                [
                    name,
                    str(sum(ROUNDS[:number])),
                    *(f"{errors[views]['top1_error']:.2%}" for views in VIEWS),
                    f"{errors['centre']['top5_error']:.2%}",
                    f"{PAPER[name]}%",
                    f"{sum(row['seconds'] for row in histories[name]) / 60:.0f}",
                ]
            )
        if args.ship:
            ship(name, folder, {views: result["top1_error"] for views, result in errors.items()})
    where = "--data $ZOO_SHARED_DATA/cifar10.zip"
    commands = [
        f"zoo train {where} --model resnet20 {TRAIN} --epochs {ROUNDS[0]} --out runs/cifar10/resnet20/round1",
        f"zoo train {where} --init-from runs/cifar10/resnet20/round1 {TRAIN} --epochs {ROUNDS[1]} "
        "--out runs/cifar10/resnet20/round2",
    ][: args.rounds]
    commands += [f"zoo eval {where} --split test --weights runs/cifar10/resnet20/round{args.rounds} --views shifts"]
    text = (
        "```sh\n" + "\n".join(commands) + "\n```\n\n"
        "Errors of a round's last weights on the 10,000 test pictures, which chose nothing. The paper looks at each "
        "picture once, after 164 epochs. *18 views* are the mean over the picture, moved by up to a pixel and "
        "mirrored. The pictures here are JPEGs with half of the colours' resolution, which the paper's are not:\n\n"
        f"{table(['network', 'epochs', 'top-1 error', '18 views', 'top-5 error', 'paper, top-1', 'minutes'], rows)}\n\n"
        f"![Curves]({CURVES})"
    )
    if args.write:
        from zoo.training.history import write_csv

        draw(histories, HERE / CURVES)
        for name, rows_of_one in histories.items():
            write_csv(rows_of_one, HERE / f"cifar10_{name}.csv")
    publish("cifar10", text, args.write)


def train(out: Path, name: str, number: int, data: str) -> Path:
    """Train ``name`` for round ``number``, unless that is done; gives the folder of the run."""
    folder = out / name / f"round{number}"
    start = ["--model", name] if number == 1 else ["--init-from", str(folder.with_name(f"round{number - 1}"))]
    settings = [*shlex.split(TRAIN), "--epochs", str(ROUNDS[number - 1])]
    trained = folder / "model.json"
    if not trained.is_file():
        zoo_command(["train", "--data", data, *start, *settings, "--out", str(folder), "--resume", "--quiet"])
    recorded = shlex.split(json.loads(trained.read_text())["command"])
    missing = [word for word in settings if word not in recorded]
    if missing:
        raise SystemExit(f"{folder} was trained otherwise: its command lacks {' '.join(missing)}")
    return folder


def score(out: Path, views: str, data: str) -> dict:
    """Measure the weights in ``out``."""
    scores = out / f"scores-{views}.json"
    words = ["eval", "--data", data, "--split", "test", "--weights", str(out), "--views", views]
    zoo_command([*words, "--json", str(scores)])
    return json.loads(scores.read_text())


def history(out: Path, before: int) -> list[dict[str, float]]:
    """The log of a round, its epochs counted from the start of the first: ``before`` it."""
    from zoo.training.history import read_csv

    return [row | {"epoch": row["epoch"] + before} for row in read_csv(out / "history.csv")]


def draw(histories: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Training error (thin, dashed) and test error (bold) by steps, as the paper's figure 6."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for colour, (name, rows) in zip(("tab:red", "tab:blue"), histories.items(), strict=False):
        for key, width, dashes, what in (("top1_error", 1, "--", "training"), ("val_top1_error", 2, "-", "test")):
            known = [(row["epoch"], 100 * row[key]) for row in rows if key in row]  # the test error of every fifth
            axes.plot(*zip(*known, strict=True), color=colour, lw=width, ls=dashes, label=f"{name}, {what}")
    axes.set(xlabel="epoch", ylabel="error (%)", ylim=(0, 40), title="CIFAR-10")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=100)


def ship(name: str, out: Path, errors: dict[str, float]) -> None:
    """Write the weights into the package with a description of how they came to be; ``errors`` by views."""
    import zoo
    from zoo.backbones.cifar_resnet import PREPROCESSING
    from zoo.shipped import describe_shipped
    from zoo.weights_entry import PACKAGED
    from zoo.weights_io import read_meta, save_weights_file

    file = out / "model.weights.h5"
    meta = replace(read_meta(file), command="")  # which holds paths of this machine
    save_weights_file(zoo.get(name, weights=file), PACKAGED / f"{name}_cifar10.weights.h5", meta=meta)
    describe_shipped(
        name,
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
