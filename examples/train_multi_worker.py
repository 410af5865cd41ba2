"""Train a detector or a classifier on several machines; the same script runs on each.

    zoo launch --workers 2 -- python examples/train_multi_worker.py --batch 4 --out runs/workers

tries it on one machine. On several, set TF_CONFIG or start it with srun: see docs/distributed.md. ``--out`` has to be a
folder that all machines share. ``resume=True`` lets the group go on where it was when a machine has failed.
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
    parser.add_argument("--wait", type=float, default=60, help="seconds until all workers have to be there")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/workers"))
    args = parser.parse_args()

    # Before anything else uses TensorFlow.
    strategy = make_strategy("multi_worker", wait=args.wait)
    data = load(args.data, "train", task=zoo.info(args.model).task)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = zoo.get(args.model, classes=data.classes)
    zoo.train(model, data, out=args.out, epochs=args.epochs, batch_size=args.batch, resume=True, verbose=2)


if __name__ == "__main__":
    main()
