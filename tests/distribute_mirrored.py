"""Trains on one device and on several logical ones, and compares; run by ``test_distribute_training.py``.

    python distribute_mirrored.py FOLDER REPLICAS [MODEL ...]

One process for each number of replicas: TensorFlow gives its groups of devices out once. What one device does is kept
in FOLDER. Prints as JSON the largest differences to it, whether two replicas' dropout masks differ, and what a loss
that overflows on one of them does.
"""

import json
import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

sys.path.insert(0, str(Path(__file__).parent))
from distribute_models import MODELS, difference, trained

from zoo.distribute.clipping import clip_summed_gradients
from zoo.distribute.loss_scale import agree_on_overflow
from zoo.distribute.steps import own_draws
from zoo.distribute.strategies import make_strategy

folder, replicas = Path(sys.argv[1]), int(sys.argv[2])
several = make_strategy("mirrored", devices=replicas)
report = {}
for kind in sys.argv[3:] or MODELS:
    found = report[kind] = {}
    kept = folder / kind / "one"
    began = time.process_time()
    if not kept.exists():
        weights = trained(kind, make_strategy("none"), kept)
        start = MODELS[kind]()[0].weights
        moved = [
            np.abs(each - np.asarray(old)).max() for each, old in zip(weights, start, strict=True) if old.trainable
        ]
        found["moved"] = float(max(moved))
        np.savez(kept / "weights.npz", *weights)
    whole = folder / kind / f"replicas{replicas}"
    # Four replicas take long to trace: what is special to validation shows with two.
    found["differs"] = difference(trained(kind, several, whole, validate=replicas == 2), whole, kept)
    print(kind, f"{time.process_time() - began:.0f} s of CPU", file=sys.stderr)

with several.scope():
    dropout = keras.layers.Dropout(0.5, seed=1)
    model = keras.Sequential([keras.Input((64,)), dropout])
    with own_draws(model):
        ones = np.ones((1, 64), "float32")
        runs = [several.run(dropout, (ones,), {"training": True}) for _ in range(2)]
masks = [{mask.numpy().tobytes() for mask in several.experimental_local_results(run)} for run in runs]
report["masks"] = [len(each) for each in masks] + [len(masks[0] | masks[1])]

# Three batches that want [w, w] to be 0; in the second, the loss of the last picture alone has no end.
wanted = np.zeros((3, 2 * replicas, 1), "float32")
wanted[1, -1] = np.inf
with several.scope():
    linear = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
    linear.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1, global_clipnorm=1.0)), "mse")
    linear.optimizer.build(linear.trainable_variables)
clip_summed_gradients(linear.optimizer)
agree_on_overflow(linear.optimizer)
linear.fit(tf.data.Dataset.from_tensor_slices((np.ones((3, 2 * replicas, 2)), wanted)), verbose=0)
report["overflow"] = [*np.ravel(linear.get_weights()[0]).tolist(), int(np.asarray(linear.optimizer.iterations.value))]
print(json.dumps(report))
