"""Train the detector that ships with the package, on scenes of handwritten digits.

    python examples/train_digits.py --out runs/digits

Takes about forty minutes on two cores, downloads nothing, resumes if it is stopped and started again. With ``--ship``
it also writes the weights, halved to 16 bits, and their measured description into ``zoo/weights``.
"""

import argparse
import csv
from pathlib import Path

import keras

import zoo
from zoo.datasets.digits import CLASSES, digit_scenes
from zoo.datasets.pipeline import Batches
from zoo.processor import instruction_sets, slower_than_float32
from zoo.shipped import describe_shipped
from zoo.training.evaluate import evaluate
from zoo.training.fit import Recipe, train
from zoo.weights_entry import PACKAGED
from zoo.weights_io import load_weights_file, save_weights_file

MODEL = "faster_rcnn_resnet18"
OPTIONS = {
    "short": 288,
    "long": 448,
    # Digits are 24 to 110 pixels high and a third narrower than that.
    "anchor_sizes": (18, 32, 56, 96),
    "anchor_ratios": (1, 2),
    "rpn_channels": 256,
    "head_units": 256,
    "train_proposals": 400,
    "proposals": 100,
    "head_samples": 64,
}
TEST_SCENES = 200


# (steps, learning rate, scenes): fresh scenes for the second round, whose rate starts where the first was half done.
ROUNDS = ((4000, 0.01, digit_scenes("train", 2000)), (3000, 0.005, digit_scenes("train", 3000, seed=1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/digits"), help="folder for weights, logs and curves")
    parser.add_argument("--ship", action="store_true", help="write the weights into the package")
    args = parser.parse_args()

    # Half as long again in 32 bits on a processor that multiplies 16-bit floats; the weights stay in 32 bits.
    slow = slower_than_float32("bfloat16", instruction_sets())
    keras.config.set_dtype_policy("float32" if slow else "mixed_bfloat16")
    keras.utils.set_random_seed(0)
    model = zoo.get(MODEL, classes=CLASSES, **OPTIONS)
    for number, (steps, rate, scenes) in enumerate(ROUNDS, start=1):
        # Mirrored digits are no digits. A checkpoint follows each epoch, of 1,000 or 1,500 steps.
        batches = Batches(scenes, 2, flip=False)
        recipe = Recipe(learning_rate=rate, schedule="cosine", warmup_steps=200, clipnorm=10.0, ema=0.998)
        train(model, batches, out=args.out / f"round{number}", steps=steps, recipe=recipe, resume=True, verbose=2)
    if args.ship:
        ship(model, args.out)


def ship(model, out: Path) -> None:
    """Store the weights in the package, load them back in 32 bits, and measure what users will have."""
    file = PACKAGED / f"{MODEL}_digits.weights.h5"
    PACKAGED.mkdir(exist_ok=True)
    save_weights_file(model, file, dtype="float16")
    keras.config.set_dtype_policy("float32")
    model = zoo.get(MODEL, classes=CLASSES, **OPTIONS)
    load_weights_file(model, file)
    minutes = sum(seconds_of(out / f"round{n}" / "history.csv") for n in range(1, len(ROUNDS) + 1)) / 60
    score = evaluate(model, digit_scenes("test", TEST_SCENES)).result.map
    entry = describe_shipped(
        MODEL,
        "digits",
        classes=CLASSES,
        options=OPTIONS,
        source=f"examples/train_digits.py, {minutes:.0f} minutes on two busy CPU cores",
        measured_score=f"mAP {score:.3f} (VOC07, IoU .5) on {TEST_SCENES} test scenes: "
        f"zoo eval --data digits:{TEST_SCENES} --split test --model {MODEL} --weights digits",
        preprocessing=model.preprocessing.describe(),
    )
    print(f"{entry.file}: {entry.size / 1e6:.1f} MB, {entry.measured_score}")


def seconds_of(history: Path) -> float:
    """Sum of the epochs' seconds."""
    with history.open(encoding="utf-8", newline="") as file:
        return sum(float(row["seconds"]) for row in csv.DictReader(file))


if __name__ == "__main__":
    main()
