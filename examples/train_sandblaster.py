"""Train a detector or a classifier by Sandblaster L-BFGS: workers compute loss and gradient over all of the data.

    zoo launch --workers 2 --ps 1 -- python examples/train_sandblaster.py --batch 20 --out runs/lbfgs

tries it on one machine: a chief, two workers and one parameter server, all of them this script. With ``--threads 2``
and without ``zoo launch``, threads of one process take the workers' place. On several machines, set TF_CONFIG or use
one of the files in examples/cluster: see docs/distributed.md.
"""

import argparse
from pathlib import Path

import keras

import zoo
from zoo.datasets import load
from zoo.datasets.pipeline import Batches
from zoo.distribute.sandblaster_run import fit_sandblaster
from zoo.distribute.strategies import make_strategy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits:200")
    parser.add_argument("--model", default="faster_rcnn_resnet18")
    parser.add_argument("--threads", type=int, help="no cluster, but so many threads")
    parser.add_argument("--wait", type=float, default=60, help="seconds until all tasks have to be there")
    parser.add_argument("--batch", type=int, default=20, help="pictures of a unit of work")
    parser.add_argument("--passes", type=int, default=10, help="over the data, those of line searches included")
    parser.add_argument("--vectors", choices=("chief", "servers"), help="where L-BFGS's vectors lie (what pays)")
    parser.add_argument("--out", type=Path, default=Path("runs/lbfgs"))
    args = parser.parse_args()

    # Before anything else uses TensorFlow. Only the chief comes back from here.
    strategy = None if args.threads else make_strategy("parameter_server", wait=args.wait)
    data = load(args.data, "train", task=zoo.info(args.model).task)
    keras.utils.set_random_seed(0)
    # Outside the strategy's scope: its servers hold plain copies of the parameters.
    model = zoo.get(args.model, classes=data.classes)
    if hasattr(model, "detect"):
        # Each picture counts once. Not mirrored: the same pictures come in every pass.
        data = Batches(data, args.batch, drop_remainder=False, flip=False)
    fit_sandblaster(
        model,
        data,
        strategy=strategy,
        workers=args.threads or 1,
        out=args.out,
        passes=args.passes,
        batch_size=args.batch,
        weight_decay=5e-4,
        vectors=args.vectors,
        resume=True,
    )


if __name__ == "__main__":
    main()
