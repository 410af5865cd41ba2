"""Train a detector or a classifier by Downpour SGD: workers train at their own pace, servers keep the parameters.

    zoo launch --workers 2 --ps 1 -- python examples/train_downpour.py --batch 2 --out runs/downpour

tries it on one machine: a chief, two workers and one parameter server, all of them this script. On several machines,
set TF_CONFIG or use one of the files in examples/cluster: see docs/distributed.md. Only the chief reads data and writes
to ``--out``. ``resume=True`` lets the training go on where it was when a server has died.
"""

import argparse
from pathlib import Path

import keras

import zoo
from zoo.datasets import load
from zoo.distribute.downpour_run import fit_downpour
from zoo.distribute.strategies import make_strategy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits:200")
    parser.add_argument("--model", default="faster_rcnn_resnet18")
    parser.add_argument("--wait", type=float, default=60, help="seconds until all tasks have to be there")
    parser.add_argument("--batch", type=int, default=2, help="pictures of one worker's batch")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--n-push", type=int, default=1, help="batches between two pushes of gradients")
    parser.add_argument("--n-fetch", type=int, default=1, help="batches between two fetches of parameters")
    parser.add_argument("--out", type=Path, default=Path("runs/downpour"))
    args = parser.parse_args()

    # Before anything else uses TensorFlow. Only the chief comes back from here: a worker or a server does what the
    # chief tells it, and ends when the chief has ended.
    strategy = make_strategy("parameter_server", wait=args.wait)
    data = load(args.data, "train", task=zoo.info(args.model).task)
    keras.utils.set_random_seed(0)
    # Outside the strategy's scope, unlike with other strategies: its servers hold plain copies of the parameters.
    model = zoo.get(args.model, classes=data.classes)
    fit_downpour(
        model,
        data,
        strategy=strategy,
        out=args.out,
        epochs=args.epochs,
        batch_size=args.batch,
        recipe=zoo.Recipe(learning_rate=0.001, clipnorm=10.0),
        rule="adagrad",
        n_push=args.n_push,
        n_fetch=args.n_fetch,
        # The first steps change much: they are taken by one worker alone.
        warm_start=20,
        resume=True,
    )


if __name__ == "__main__":
    main()
