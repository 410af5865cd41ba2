"""The abstract of Faster R-CNN (Ren 2015): mAP on VOC 2007 test and pictures a second, 300 proposals.

    python examples/reproduce/faster_rcnn.py --data VOCdevkit/VOC2007 --write
    python examples/reproduce/faster_rcnn.py --data VOCdevkit/VOC2007 --weights voc07 --write   # measures only
    ZOO_SHARED_DATA=DATA python examples/reproduce/faster_rcnn.py --small --write               # the shipped detector

``--recipe voc07-alternating`` trains in the paper's four steps.
"""

import functools
import json
from pathlib import Path

from reproducing import Study, arguments, points, seconds, table

import zoo
from zoo.datasets import load

MODELS = ("faster_rcnn_vgg16",)
PAPER = "69.9, 5 a second"
NUMBERS, SMALL_NUMBERS = (300, 100, 50, 10), (300, 30)


def main() -> None:
    args = arguments(
        __doc__.splitlines()[0],
        MODELS,
        weights={"help": "measure these, a name or a path, instead of training"},
        recipe={"default": "voc07-joint", "choices": ("voc07-joint", "voc07-alternating"), "help": "(voc07-joint)"},
    )
    study = Study("faster_rcnn", args)
    if args.small and args.weights is None:
        args.model, args.weights = ["faster_rcnn_resnet18"], "bccd"
    weights = args.weights or trained(study)
    model = () if Path(weights).exists() else ("--model", args.model[0])
    rows = []
    for number in SMALL_NUMBERS if args.small else NUMBERS:
        score = measured(study, weights, number, model)
        rate = speed(study, weights, number)
        rows.append((number, points(score["map"]), f"{1 / rate:.2f}", PAPER if number == 300 else ""))
    header = ("Proposals", "mAP", "Pictures a second", "Paper, VGG-16 on VOC07, K40")
    study.publish(
        "Faster R-CNN, the abstract's figures", table(header, rows), f"{NOTE}\n\n{NOTE_SMALL}" if args.small else NOTE
    )


def trained(study: Study) -> Path:
    """The run folder of the recipe's training; one that was broken off goes on."""
    args, run = study.args, study.args.out / f"{study.args.model[0]}-{study.args.recipe}"
    words = ["train", "--recipe", args.recipe, "--data", args.data, "--split", "trainval", "--val-split", "none"]
    words += ["--model", args.model[0], "--init-from", study.start(), "--out", run, "--quiet"]
    if args.steps is not None:
        # The paper's four steps have 80,000 and 40,000 batches by turns.
        alternating = args.recipe == "voc07-alternating"
        words += ["--alternating", args.steps, max(1, args.steps // 2)] if alternating else ["--steps", args.steps]
    return study.train_once(run, words)


def measured(study: Study, weights: str | Path, number: int, model: tuple[str, ...]) -> dict:
    """What ``zoo eval`` tells of so many proposals."""
    file = study.args.out / f"faster-{number}.json"
    words = ("eval", "--data", study.args.data, "--split", "test", *model, "--weights", weights)
    study.zoo(*words, "--option", f"proposals={number}", "--json", file)
    return json.loads(file.read_text())


def speed(study: Study, weights: str | Path, number: int) -> float:
    """Median seconds of a picture that is decoded already."""
    name = study.args.model[0]
    options = {"proposals": number}
    model = zoo.load(weights, **options) if Path(weights).exists() else zoo.get(name, weights=weights, **options)
    data = load(study.args.data, "test")
    images = [data.image(index) for index in range(5)]
    return seconds([functools.partial(model.detect, images)], repeats=3)[0] / len(images)


NOTE = (
    "The paper: 198 ms a picture in all, of which the proposals take 10. Trained by turns (`--recipe "
    "voc07-alternating`); joint training gives about the same."
)
NOTE_SMALL = (
    "The detector that ships for blood cells (`benchmarks/bccd.py`; 480 x 640 pixels, ResNet-18), since an RPN of 120 "
    "steps would show nothing. It needs fewer proposals than the paper's detector: pictures hold a dozen cells or two. "
    "72 pictures to test: a difference of a point may be chance."
)


if __name__ == "__main__":
    main()
