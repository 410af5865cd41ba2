"""Train a detector or a classifier on all GPUs of this machine, or on logical devices of its CPU.

    python examples/train_mirrored.py --devices 2 --batch 4 --out runs/mirrored

A batch is that of all devices together: the weights come out as on one device.
"""

import argparse
from pathlib import Path

import keras

import zoo
from zoo.datasets import load
from zoo.distribute.strategies import make_strategy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits:200")
    parser.add_argument("--model", default="faster_rcnn_resnet18")
    parser.add_argument("--devices", type=int, help="all GPUs by default")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/mirrored"))
    args = parser.parse_args()

    # Before anything else uses TensorFlow.
    strategy = make_strategy("mirrored", devices=args.devices)
    data = load(args.data, "train", task=zoo.info(args.model).task)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = zoo.get(args.model, classes=data.classes)
    zoo.train(model, data, out=args.out, epochs=args.epochs, batch_size=args.batch, resume=True)


if __name__ == "__main__":
    main()
