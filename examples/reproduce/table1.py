"""Table 1 of Fast R-CNN (Girshick 2015): average precision on VOC 2007 test, class by class.

    python examples/reproduce/table1.py --data VOCdevkit --write           # with 2012 also the row of 07+12
    ZOO_SHARED_DATA=DATA python examples/reproduce/table1.py --small --write

SPPnet and R-CNN, the table's other rows, are in table 4.
"""

from pathlib import Path

from reproducing import Study, arguments, points, table

MODELS = ("fast_rcnn_vgg16",)
# Mean AP: all of 2007's objects, without the difficult ones, and with 2012's.
PAPER = {"07": 66.9, "07 without difficult": 68.1, "07+12": 70.0}


def main() -> None:
    args = arguments(__doc__.splitlines()[0], MODELS)
    study, model = Study("table1", args), args.model[0]
    made = small_runs(study, model) if args.small else voc_runs(study, model)
    scores = {name: study.measure(run, data=data, split=split) for name, (run, data, split) in made.items()}
    classes = list(next(iter(scores.values()))["ap"])
    rows = [
        (name, points(score["map"]), PAPER.get(name, ""), *(points(score["ap"][each] or 0) for each in classes))
        for name, score in scores.items()
    ]
    shown = table(("Trained on", "mAP", "Paper", *classes), rows)
    study.publish("Table 1: VOC 2007 test", shown, f"{NOTE}\n\n{NOTE_SMALL}" if args.small else NOTE)


def voc_runs(study: Study, model: str) -> dict[str, tuple[Path, str, str]]:
    """By the name of the training set: run folder, data and split to measure on."""
    devkit = Path(study.args.data)
    devkit = devkit.parent if devkit.name == "VOC2007" else devkit
    study.args.data = year = str(devkit / "VOC2007")
    runs = {
        "07": study.train(f"{model}-ordinary", "--difficult", "ordinary", model=model),
        "07 without difficult": study.train(f"{model}-joint", model=model),
    }
    boxes = study.args.proposals
    if boxes.endswith(".mat") and "," not in boxes:
        print(f"{boxes} is of one year: for the row of 07+12 give both files as A,B, a folder or a method")
    elif (devkit / "VOC2012").is_dir():
        own = {"data": str(devkit), "split": "07+12", "recipe": "fast-voc0712"}
        # The method is asked for them: what `Study.proposals` has made is of 2007.
        runs["07+12"] = study.train(f"{model}-07+12", model=model, boxes=boxes, **own)
    else:
        print(f"{devkit} has no VOC2012: the row of 07+12 is left out")
    return {name: (run, year, "test") for name, run in runs.items()}


def small_runs(study: Study, model: str) -> dict[str, tuple[Path, str, str]]:
    """Two training sets, one in the other; BCCD has no objects marked difficult."""
    runs = {
        "train (205 pictures)": study.train(f"{model}-train", model=model, split="train"),
        "trainval (292 pictures)": study.train(f"{model}-joint", model=model),
    }
    return {name: (run, study.args.data, "test") for name, run in runs.items()}


NOTE = (
    "The paper trains on objects marked difficult (row 07) or not; 2012's pictures, twice as many again, bring 3.1 "
    "points in 60,000 instead of 40,000 steps."
)
NOTE_SMALL = (
    "BCCD has no objects marked difficult: the paper's first two rows would be the same. The larger training set holds "
    "42% more pictures, the paper's three times as many. SPPnet and R-CNN in small: `benchmarks/baselines.py`."
)


if __name__ == "__main__":
    main()
