"""Train a detector or a classifier on one device.

    python examples/train_one_device.py --data digits:200 --model faster_rcnn_resnet18 --out runs/one

``train_mirrored.py`` and ``train_multi_worker.py`` are the same for several devices: they differ in two lines.
"""

import argparse
from pathlib import Path

import keras

import zoo
from zoo.datasets import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits:200")
    parser.add_argument("--model", default="faster_rcnn_resnet18")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/one"))
    args = parser.parse_args()

    data = load(args.data, "train", task=zoo.info(args.model).task)
    keras.utils.set_random_seed(0)
    model = zoo.get(args.model, classes=data.classes)
    zoo.train(model, data, out=args.out, epochs=args.epochs, batch_size=args.batch, resume=True)


if __name__ == "__main__":
    main()
