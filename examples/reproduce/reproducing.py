"""What the scripts of this folder share: options, the commands they run, and the pages they write.

A script runs ``zoo`` commands, in its own process, and shows each as one would type it. A training that is done is only
measured; one that was broken off goes on. ``--small`` is the same on blood cells, in minutes.
"""

import argparse
import contextlib
import datetime
import functools
import importlib.metadata
import json
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

    from zoo.datasets.proposals import ProposalSource

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
FITTING = "fitting.json"  # in the folder of machines
METHODS = ("selective-fast", "selective-quality", "edge-boxes", "dense")
HOW_TO_GET_VOC = (
    "give --data VOCdevkit/VOC2007; `zoo data get voc2007 --to data` makes data/VOCdevkit, and `zoo data get voc2012 "
    "--to data` adds 2012. Or give --small, for the same on blood cells"
)
NO_CELLS = (
    "--small needs the BCCD data set in the VOC layout: give --data FOLDER, or set ZOO_SHARED_DATA to a folder that "
    "holds it as bccd/ (README.md, 'Layout')"
)
# The small setting. Cells are two or three times as large as digits, from whose detector it starts.
SMALL_MODEL, SMALL_OPTIONS = "fast_rcnn_resnet18", {"short": 192, "long": 256}
SMALL_STEPS, SMALL_BOXES = 120, 300  # batches of a training, and boxes of a picture at test: every picture has so many
# Girshick 2015, section 2.3, for the models of other papers.
PLAIN_RECIPE, PLAIN_STEPS = ("--lr", 0.001, "--drops", 0.75, "--warmup", 0, "--bias-rate", 2), 40_000
SMALL_RECIPE = ("--lr", 0.01, "--clipnorm", 10, "--drops", 0.75)
CAVEAT = (
    f"In small: {SMALL_STEPS} steps on blood cells from the weights of the digits' detector, "
    f"{SMALL_OPTIONS['short']} x {SMALL_OPTIONS['long']} pixels, the first {SMALL_BOXES} boxes of a picture, one "
    "training each and 72 pictures to test: a difference of a few points may be chance, and the same training ends "
    "some points apart each time. Only times of one table that were taken by turns may be compared."
)


def arguments(description: str, models: Sequence[str], **more: dict) -> argparse.Namespace:
    """The options of a script; ``more``: further ones, as `add_argument` takes them."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", help="the folder of VOC 2007; with --small that of BCCD ($ZOO_SHARED_DATA/bccd)")
    parser.add_argument("--small", action="store_true", help=f"on blood cells, with {SMALL_MODEL} and few steps")
    parser.add_argument("--model", nargs="+", help=f"({' '.join(models)}; with --small {SMALL_MODEL})")
    parser.add_argument("--init-from", help="weights to start from (imagenet; with --small the digits' detector's)")
    parser.add_argument("--steps", type=int, help=f"batches of each training (the recipe's; {SMALL_STEPS})")
    parser.add_argument("--proposals", default="selective-fast", help="a method, folder, or files A,B (selective-fast)")
    parser.add_argument("--test-proposals", help="of the test pictures, where these lie elsewhere")
    parser.add_argument("--out", type=Path, help="where trainings are kept (runs/reproduce, or runs/reproduce-small)")
    parser.add_argument("--write", action="store_true", help="write the page to results/")
    for name, options in more.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **options)
    args = parser.parse_args()
    shared = os.environ.get("ZOO_SHARED_DATA")
    if args.small and args.data is None and shared and (Path(shared) / "bccd").is_dir():
        args.data = str(Path(shared) / "bccd")
    if args.data is None:
        parser.error(NO_CELLS if args.small else HOW_TO_GET_VOC)
    args.model = args.model or ([SMALL_MODEL] if args.small else list(models))
    args.out = args.out or Path("runs") / ("reproduce-small" if args.small else "reproduce")
    return args


@dataclass
class Study:
    """One table or figure: the trainings and measurements it consists of.

    Attributes:
        name: of the script and of its page.
        args: what `arguments` gave.
        most: boxes a picture that a method of ``--proposals`` keeps.
        commands: what was run, as one would type it.
    """

    name: str
    args: argparse.Namespace
    most: int = 2000
    commands: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def zoo(self, *words: object) -> None:
        """Run a ``zoo`` command; the script ends if it fails."""
        from zoo.cli.main import main

        self._note(words)
        status = main([str(word) for word in words])
        if status:
            raise SystemExit(f"{self.name}: the command above gave {status}")

    def train(
        self,
        label: str,
        *more: object,
        model: str | None = None,
        start: str | Path | None = None,
        data: str | None = None,
        split: str = "trainval",
        recipe: str | None = "fast-voc07",
        boxes: str | Path | None = None,
    ) -> Path:
        """Train a Fast R-CNN, unless that is done, and give its run folder.

        Args:
            label: the folder's name.
            more: words of ``zoo train``.
            model: the first of ``--model`` by default.
            start: weights to start from; by default what ``--init-from`` says.
            data: other data than ``--data``.
            split: to train on.
            recipe: the paper's schedule, which ``--small`` replaces; None for models of other papers.
            boxes: other proposals than those of ``--proposals``.
        """
        args, run = self.args, self.args.out / label
        steps = args.steps or (SMALL_STEPS if args.small else None)
        words = ["train", "--data", data or args.data, "--split", split, "--val-split", "none"]
        words += ["--model", model or args.model[0], "--init-from", start or self.start()]
        if args.small:
            words += SMALL_RECIPE
        elif recipe is not None:
            words += ["--recipe", recipe]
        else:
            words += PLAIN_RECIPE
            steps = steps or PLAIN_STEPS
        words += [] if steps is None else ["--steps", steps]
        words += self._sizes(more)
        words += ["--proposals", boxes or self.proposals(), *more, "--out", run, "--no-tensorboard", "--quiet"]
        return self.train_once(run, words)

    def train_once(self, run: Path, words: Sequence[object]) -> Path:
        """Run a ``zoo train`` that leaves ``run``, which goes on if it was broken off; it is not done twice."""
        from zoo.training.kinds import kinds_in

        done = run / "model.json"
        if done.is_file():
            self._note(words, "done before")
            then, now = json.loads(done.read_text())["command"], " ".join(map(str, ["zoo", *words]))
            if then.removesuffix(" --resume") != now:
                raise SystemExit(f"{run} was trained otherwise:\n  {then}\nnot\n  {now}\ngive another --out")
        else:
            self.zoo(*words, *(["--resume"] if kinds_in(run) else []))
        return run

    def machines(self, run: Path, *more: object) -> Path:
        """The run with support vector machines for its softmax (``zoo svm``), in a folder beside it.

        It also holds how long that took: `fitting_seconds`.
        """
        from zoo.files import save_json

        folder = run.with_name(f"{run.name}-svm")
        words = ["svm", "--data", self.args.data, "--split", "trainval", "--weights", run, *more]
        words += ["--proposals", self.proposals(), "--out", folder]
        if (folder / FITTING).is_file():
            self._note(words, "done before")
        else:
            begun = time.monotonic()
            self.zoo(*words)
            save_json({"seconds": round(time.monotonic() - begun, 1)}, folder / FITTING)
        return folder

    def measure(
        self, run: Path, *more: object, name: str = "scores", data: str | None = None, split: str = "test"
    ) -> dict:
        """What ``zoo eval`` tells of a Fast R-CNN's run on the test pictures; ``name``: of the file of scores."""
        file = run / f"{name}.json"
        words = ["eval", "--data", data or self.args.data, "--split", split, "--weights", run]
        own = [] if "--proposals" in more else ["--proposals", self.args.test_proposals or self.proposals()]
        if self.args.small and not {"--most-proposals", "--sweep-proposals"} & set(more):
            own += ["--most-proposals", SMALL_BOXES]
        self.zoo(*words, *own, *more, "--json", file)
        return json.loads(file.read_text())

    def rates(self, models: Sequence["keras.Model"], count: int = 5, repeats: int = 3) -> list[float]:
        """Median seconds a picture of Fast R-CNNs, by turns on the first test pictures, their proposals at hand."""
        from zoo.datasets import load

        data, source = load(self.args.data, "test"), self.test_boxes()
        images = [data.image(index) for index in range(count)]
        boxes = [source.boxes(data.sample(index), image) for index, image in enumerate(images)]
        calls = [functools.partial(model.detect, images, proposals=boxes) for model in models]
        return [taken / count for taken in seconds(calls, repeats)]

    def test_boxes(self) -> "ProposalSource":
        """The proposals of the test pictures, as many as `measure` looks at."""
        from zoo.datasets.proposals import open_proposals
        from zoo.datasets.proposals_choice import First

        source = open_proposals(self.args.test_proposals or self.proposals())
        return First(source, SMALL_BOXES if self.args.small else self.most)

    def proposals(self) -> Path | str:
        """The file or folder that ``--proposals`` names, or if it names a method, a folder with its boxes."""
        return self.args.proposals if self.args.proposals not in METHODS else self.boxes_by(self.args.proposals)

    def boxes_by(self, method: str) -> Path:
        """A folder with a method's boxes of all pictures, made now if they are not there; with their recall."""
        folder = self.args.out / f"proposals-{method}-{self.most}"
        for split in ("trainval", "test"):
            report = folder / f"{split}.json"
            words = ["proposals", "--data", self.args.data, "--split", split, "--method", method]
            words += ["--most", self.most, "--out", folder, "--json", report]
            if not report.is_file():
                self.zoo(*words)
            elif self._shown(["zoo", *words]) not in self.commands:
                self._note(words, "done before")
        return folder

    def start(self) -> str | Path:
        """What trainings start from: ``--init-from``, ImageNet's weights, or what stands for them in the small one."""
        if self.args.init_from is not None:
            return self.args.init_from
        return digits_start(self.args.out / "start.weights.h5", self.args.data) if self.args.small else "imagenet"

    def publish(self, title: str, table: str, text: str) -> None:
        """Show the page; with ``--write`` also put it into ``results/``."""
        from zoo.files import save_atomically

        page = self.page(title, table, text)
        print(page)
        if self.args.write:
            target = RESULTS / f"{self.name}.md"
            with save_atomically(target) as aside:
                aside.write_text(page, encoding="utf-8")
            print(f"written to {target.relative_to(HERE.parent.parent)}")

    def page(self, title: str, table: str, text: str) -> str:
        """The page: command, day, time and machine; the table; what it shows; and the commands behind it."""
        now = datetime.datetime.now(datetime.UTC).date().isoformat()
        words = ["python", f"examples/reproduce/{Path(sys.argv[0]).name}", *sys.argv[1:]]
        minutes = (time.monotonic() - self.started) / 60
        return (
            f"# {title}\n\n`{self._shown(words)}`, {now}, {minutes:.1f} minutes (what was trained before is only "
            f"measured)\n\n{machine()}\n\n{table.strip()}\n\n{self._explained(text)}\n\n"
            "```sh\n" + "\n".join(self.commands) + "\n```\n"
        )

    def _explained(self, text: str) -> str:
        trains = any(line.startswith("zoo train ") for line in self.commands)
        return text.strip() + (f"\n\n{CAVEAT}" if self.args.small and trains else "")

    def _sizes(self, more: Sequence[object]) -> list[object]:
        """The small pictures' sizes, where a training does not choose its own."""
        given = [str(word).partition("=")[0] for word in more]
        own = {} if "short" in given or not self.args.small else SMALL_OPTIONS
        return [word for name, value in own.items() for word in ("--option", f"{name}={value}")]

    def _note(self, words: Sequence[object], remark: str = "") -> None:
        line = self._shown(["zoo", *words])
        print(f"$ {line}" + (f"   # {remark}" if remark else ""), flush=True)
        self.commands.append(line)

    def _shown(self, words: Sequence[object]) -> str:
        """As one would type it, without the paths of this machine."""
        line = shlex.join(map(str, words)).replace(str(self.args.data), "$DATA")
        return line.replace(str(self.args.out), "$OUT")


def digits_start(path: Path, data: str) -> Path:
    """Convolutions and dense layers of the shipped digits' detector in a new Fast R-CNN.

    They stand for ImageNet's weights, which the small runs do without: learnt on other pictures, class layers new.
    """
    if path.is_file():
        return path
    import keras

    import zoo
    from zoo.datasets import load
    from zoo.weights_io import save_weights_file

    keras.utils.set_random_seed(0)
    digits = zoo.get("faster_rcnn_resnet18", weights="digits")
    units = digits.zoo_meta.options["head_units"]
    model = zoo.get(SMALL_MODEL, classes=load(data, "trainval").classes, head_units=units)
    for part in ("extractor", "head.body"):
        source, target = digits, model
        for name in part.split("."):
            source, target = getattr(source, name), getattr(target, name)
        target.set_weights(source.get_weights())
    return save_weights_file(model, path, meta=model.zoo_meta)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table, its columns aligned so that it reads well in a terminal too."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def points(share: float) -> str:
    """Average precision as the papers print it, in hundredths."""
    return f"{100 * share:.1f}"


def machine() -> str:
    """One line: processor, cores, memory, system, versions."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line for line in lines if line.startswith("model name")).split(":", 1)[1].strip()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    software = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("tensorflow", "keras"))
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB; {platform.system()}, {software}"


def seconds(calls: Sequence[Callable[[], object]], repeats: int = 5) -> list[float]:
    """Median seconds of each call; they take turns after a first one each that is not counted."""
    taken: list[list[float]] = [[] for _ in calls]
    for turn in range(repeats + 1):
        for call, times in zip(calls, taken, strict=True):
            begun = time.perf_counter()
            call()
            if turn:
                times.append(time.perf_counter() - begun)
    return [statistics.median(times) for times in taken]


def training_seconds(run: Path) -> float:
    """Seconds of all epochs of a run."""
    header, *lines = (run / "history.csv").read_text().splitlines()
    column = header.split(",").index("seconds")
    return sum(float(line.split(",")[column]) for line in lines)


def fitting_seconds(folder: Path) -> float:
    """Seconds that `Study.machines` took, in this run of the script or an earlier one."""
    return json.loads((folder / FITTING).read_text())["seconds"]
