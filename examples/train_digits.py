"""Train the detector that ships with the package, on scenes of handwritten digits.

    python examples/train_digits.py --out runs/digits

Takes about half an hour on two cores, downloads nothing, resumes if it is stopped and started again. With ``--ship``
it also writes the weights, halved to 16 bits, and their measured description into ``zoo/weights``.
"""

import argparse
import time
from pathlib import Path

import keras

import zoo
from zoo.datasets.digits import CLASSES, digit_scenes
from zoo.datasets.pipeline import Batches
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/digits"), help="folder for weights, logs and curves")
    parser.add_argument("--steps", type=int, default=4000, help="batches of two scenes (4000)")
    parser.add_argument("--ship", action="store_true", help="write the weights into the package")
    args = parser.parse_args()

    # Half as long again in 32 bits on a processor that multiplies 16-bit floats; the weights stay in 32 bits.
    keras.config.set_dtype_policy("mixed_bfloat16")
    keras.utils.set_random_seed(0)
    model = zoo.get(MODEL, classes=CLASSES, **OPTIONS)
    # Mirrored digits are no digits. An epoch is 1,000 steps; a checkpoint follows each.
    scenes = Batches(digit_scenes("train", 2000), 2, flip=False)
    recipe = Recipe(learning_rate=0.01, schedule="cosine", warmup_steps=200, clipnorm=10.0, ema=0.998)
    started = time.time()
    train(model, scenes, out=args.out, steps=args.steps, recipe=recipe, resume=True, verbose=2)
    minutes = (time.time() - started) / 60
    if args.ship:
        ship(model, args, minutes)


def ship(model, args: argparse.Namespace, minutes: float) -> None:
    """Store the weights in the package, load them back in 32 bits, and measure what users will have."""
    file = PACKAGED / f"{MODEL}_digits.weights.h5"
    PACKAGED.mkdir(exist_ok=True)
    save_weights_file(model, file, dtype="float16")
    keras.config.set_dtype_policy("float32")
    model = zoo.get(MODEL, classes=CLASSES, **OPTIONS)
    load_weights_file(model, file)
    score = evaluate(model, digit_scenes("test", TEST_SCENES)).result.map
    entry = describe_shipped(
        MODEL,
        "digits",
        classes=CLASSES,
        options=OPTIONS,
        source=f"examples/train_digits.py --steps {args.steps}: {minutes:.0f} minutes on two CPU cores",
        measured_score=f"mAP {score:.3f} (VOC07, IoU .5) on {TEST_SCENES} test scenes: "
        f"zoo eval --data digits:{TEST_SCENES} --split test --model {MODEL} --weights digits",
        preprocessing=model.preprocessing.describe(),
    )
    print(f"{entry.file}: {entry.size / 1e6:.1f} MB, {entry.measured_score}")


if __name__ == "__main__":
    main()
