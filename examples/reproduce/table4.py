"""Table 4 of Fast R-CNN (Girshick 2015): time to train and to test, with and without truncated SVD.

python examples/reproduce/table4.py --data VOCdevkit/VOC2007 --others rcnn_caffenet sppnet_vgg16 --write
ZOO_SHARED_DATA=DATA python examples/reproduce/table4.py --small --write
"""

import keras
import numpy as np
from reproducing import Study, arguments, fitting_seconds, points, seconds, table, training_seconds

import zoo

MODELS = ("fast_rcnn_caffenet", "fast_rcnn_vgg16")
NAMES = {"fast_rcnn_caffenet": "S", "fast_rcnn_vgg_m": "M", "fast_rcnn_vgg16": "L"}
RANKS = {"fc6": 1024, "fc7": 256}
# Hours of training, seconds a picture, the same with SVD (K40), mAP, with SVD.
PAPER = {
    "S": ("1.2", "0.10", "0.06", "57.1", "56.5"),
    "M": ("2.0", "0.15", "0.08", "59.2", "58.7"),
    "L": ("9.5", "0.32", "0.22", "66.9", "66.6"),
}
# The same without SVD.
OTHERS = {
    "R-CNN, S": ("22", "9.8", "58.5"),
    "R-CNN, M": ("28", "12.1", "60.2"),
    "R-CNN, L": ("84", "47.0", "66.0"),
    "SPPnet, L": ("25", "2.3", "63.1"),
}
HEADER = ("Model", "Training, hours", "Test, s a picture", "With SVD", "mAP", "With SVD", "Paper: the same")
STEPS = 40_000


def main() -> None:
    others = {"nargs": "+", "default": [], "help": "R-CNNs and SPPnets to train and test too (none)"}
    args = arguments(__doc__.splitlines()[0], MODELS, others=others)
    study = Study("table4", args)
    rows = [trained(study, model) for model in args.model] + [other(study, model) for model in args.others]
    if args.small:
        rows += [timed(name) for name in NAMES]
    for name, (hours, rate, score) in OTHERS.items():
        rows.append((f"the paper's {name}", "", "", "", "", "", f"{hours}, {rate}, -, {score}, -"))
    study.publish("Table 4: time", table(HEADER, rows), f"{NOTE}\n\n{NOTE_SMALL}" if args.small else NOTE)


def trained(study: Study, model: str) -> tuple[object, ...]:
    """A model that is trained, and what SVD makes of it."""
    run = study.train(f"{model}-joint", model=model)
    small = study.args.out / f"{model}-svd"
    if not (small / "model.weights.h5").is_file():
        dense = ("--fc6", RANKS["fc6"], "--fc7", RANKS["fc7"]) if not study.args.small else ("--fc6", 16, "--fc7", 16)
        study.zoo("compress", run, small, *dense, "--repeats", 0)
    scores = [study.measure(each)["map"] for each in (run, small)]
    rates = study.rates([zoo.load(each) for each in (run, small)])
    hours = training_seconds(run) / 3600
    return (
        f"{model}, trained",
        f"{hours:.2f}",
        *(f"{rate:.3f}" for rate in rates),
        *map(points, scores),
        told(model),
    )


def other(study: Study, model: str) -> tuple[object, ...]:
    """An R-CNN or SPPnet: trained, then its machines and its regression of boxes; the test is timed in ``zoo eval``."""
    run = study.train(model, model=model, recipe=None)
    fitted = study.machines(run, "--fit", "svms", "boxes")
    hours = (training_seconds(run) + fitting_seconds(fitted)) / 3600
    score = study.measure(fitted)
    return model, f"{hours:.2f}", f"{score['seconds'] / score['images']:.3f}", "-", points(score["map"]), "-", ""


def timed(model: str) -> tuple[object, ...]:
    """The paper's networks with random weights: times alone, on a grey picture and 2000 random boxes."""
    keras.utils.clear_session()
    rng = np.random.default_rng(0)
    image = np.full((600, 800, 3), 128, np.uint8)
    corners = np.sort(rng.random((2000, 2, 2), np.float32) * np.float32([800, 600]), axis=1)
    boxes = corners.reshape(-1, 4) + np.float32([0, 0, 16, 16])
    models = [zoo.get(model, ranks=ranks) for ranks in (None, RANKS)]
    rates = seconds([lambda m=m: m.detect(image, proposals=boxes) for m in models], repeats=2)
    hours = "not measured" if model == "fast_rcnn_vgg16" else f"{step_seconds(models[0]) * STEPS / 3600:.0f} (*)"
    return f"{model} ({NAMES[model]}), random", hours, *(f"{rate:.2f}" for rate in rates), "-", "-", told(model)


def step_seconds(model: keras.Model) -> float:
    """Seconds of a training step of two pictures of 600 x 800."""
    model.compile(optimizer=keras.optimizers.SGD(1e-6, momentum=0.9))
    boxes = np.tile(np.float32([[[100, 100, 400, 400], [300, 200, 700, 500]]]), (2, 1, 1))
    spread = boxes[:, :1] + np.linspace(0, 60, 2000, dtype=np.float32)[None, :, None]
    x = {
        "images": np.full((2, 600, 800, 3), 128, np.uint8),
        "image_id": np.arange(2, dtype=np.int32),
        "proposals": np.minimum(spread, np.float32([800, 600, 800, 600])),
    }
    y = {"boxes": boxes, "classes": np.zeros((2, 2), np.int32)}
    return seconds([lambda: model.train_on_batch(x, y)], repeats=2)[0]


def told(model: str) -> str:
    """What the paper's table has for a model."""
    return ", ".join(PAPER[NAMES[model]]) if model in NAMES else ""


NOTE = (
    "The paper (Nvidia K40): test times without proposals; SVD takes more than 30% off them for at most .6 points. "
    "R-CNN trains 8.8 to 18.3 times as long as Fast R-CNN and tests 80 to 146 times as long."
)
NOTE_SMALL = (
    "The first row is trained; those of S, M and L have random weights, on which times do not depend, a picture of 600 "
    "x 800 and 2000 boxes. (*) 40,000 times a step of two such pictures. R-CNN and SPPnet in small: "
    "`benchmarks/baselines.py`."
)


if __name__ == "__main__":
    main()
