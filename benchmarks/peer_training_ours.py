"""Our part of ``benchmarks/peer_training.py``, which starts it: the same jobs as the peer's, and the data for both.

``prepare`` writes the settings, the pictures and, for each seed, the weights that both sides start from.
"""

import csv
import json
import shutil
import time

import common
import numpy as np
from peers import train_child

SEEDS = (0, 1, 2)
MODEL = "faster_rcnn_resnet18"
# Small pictures, and anchors, heads and samples to match: what two cores can train six times.
OPTIONS = {
    "short": 240,
    "long": 320,
    "anchor_sizes": (12, 24, 48, 96),
    "rpn_channels": 128,
    "head_units": 256,
    "head_samples": 64,
    "train_proposals": 300,
}
STEPS, BATCH, WARMUP = 400, 2, 20
RECIPE = {"learning_rate": 0.01, "schedule": "cosine", "clipnorm": 10.0, "warmup_steps": WARMUP}
CHECKED_STEPS, CHECKED_PICTURES = 3, 4


# What is new in the start weights: the rest is the digits' detector's, so that few steps suffice.
NEW = ("rpn/", "head/")


def build(seed: int):
    """The untrained detector of a seed."""
    import keras

    import zoo

    keras.utils.set_random_seed(seed)
    return zoo.get(MODEL, classes=("Platelets", "RBC", "WBC"), **OPTIONS)


def data(args, split: str):
    """A split of the data set."""
    from zoo.datasets import load

    return load(args.data, split, classes=("Platelets", "RBC", "WBC"))


def recipe(seed: int, **changes):
    """How both sides step the weights."""
    import zoo

    return zoo.Recipe(**{**RECIPE, "seed": seed, **changes})


def described(model) -> dict:
    """All that the peer has to know of a model."""
    from zoo.training.schedule import COSINE_END

    preprocessing, plain = model.preprocessing, recipe(0)
    same = ("classes", "anchor_sizes", "anchor_ratios", "rpn_channels", "rpn_samples", "train_proposals")
    more = ("test_proposals", "proposal_min_size", "head_samples", "head_foreground", "score_threshold", "nms_iou")
    found = {name: getattr(model, name) for name in (*same, *more, "max_detections")}
    found |= {name: getattr(preprocessing, name) for name in ("short", "long", "mean", "std")}
    cells = (preprocessing.short // model.stride) * (preprocessing.long // model.stride)
    found |= {"anchors": cells * len(model.cell_anchors), "proposal_nms": 0.7}
    found |= {"head_units": model.head.body.output_shape[-1], "rate_end": COSINE_END}
    found |= {name: getattr(plain, name) for name in ("learning_rate", "momentum", "weight_decay", "clipnorm")}
    return {**found, "warmup": WARMUP, "steps": STEPS, "batch": BATCH}


def arrays_of(model) -> dict[str, np.ndarray]:
    """A model's weights by name, without the counter of steps."""
    from zoo.weights_io import weight_names

    named = weight_names(model).items()
    return {name: np.asarray(variable, np.float32) for name, variable in named if name != "sampling_step"}


def prepare(args) -> None:
    """Write what both sides read."""
    for split, name in (("trainval", "train"), ("test", "test")):
        source = data(args, split)
        boxes = np.zeros((len(source), source.max_boxes, 4), np.float32)
        classes = np.full(boxes.shape[:2], -1, np.int32)
        for row in range(len(source)):
            sample = source.sample(row)
            if not len(sample) or (sample.difficult | sample.crowd).any():
                raise SystemExit(f"{sample.image_id}: the peer expects objects, none of them difficult")
            boxes[row, : len(sample)], classes[row, : len(sample)] = sample.boxes, sample.classes
        images = np.stack([source.image(row) for row in range(len(source))])
        np.savez(args.folder / f"data-{name}.npz", images=images, boxes=boxes, classes=classes)
    import zoo

    known = arrays_of(zoo.get(MODEL, "digits"))
    for seed in SEEDS:
        own = arrays_of(build(seed))
        mixed = {name: array if name.startswith(NEW) else known[name] for name, array in own.items()}
        np.savez(args.folder / f"start-{seed}.npz", **mixed)
    # Last: where it is, all is.
    (args.folder / "settings.json").write_text(json.dumps(described(build(0)), indent=2) + "\n")
    common.report(args.report, done=True)


def started(args):
    """The detector with the start weights of ``--seed``, and its batches."""
    from zoo.datasets.pipeline import Batches
    from zoo.weights_io import weight_names

    model = build(args.seed)
    with np.load(args.folder / f"start-{args.seed}.npz") as arrays:
        for name, variable in weight_names(model).items():
            if name in arrays:
                variable.assign(arrays[name])
    return model, Batches(data(args, "trainval"), BATCH, args.seed, cache=True)


def detections(model, images: np.ndarray) -> list[dict[str, list]]:
    """Detections in each of ``(N, H, W, 3)``, ready for JSON."""
    found = model.detect(list(images), batch_size=4)
    return [
        {"boxes": each.boxes.tolist(), "scores": each.scores.tolist(), "classes": each.classes.tolist()}
        for each in found
    ]


def train(args) -> None:
    """Train from the start weights of ``--seed``, then detect in the test pictures."""
    import zoo

    model, batches = started(args)
    out, began = args.folder / f"zoo-{args.seed}", time.process_time()
    shutil.rmtree(out, ignore_errors=True)  # of a training that was stopped: the time of the whole counts
    options = {"keep": "last", "tensorboard": False, "verbose": 0}
    zoo.train(model, batches, out=out, steps=STEPS, recipe=recipe(args.seed), **options)
    processor = time.process_time() - began
    with open(out / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    seconds = {"wall": sum(float(row["seconds"]) for row in rows), "processor": processor}
    with np.load(args.folder / "data-test.npz") as arrays:
        found = detections(model, arrays["images"])
    common.report(args.report, seconds=seconds, loss=float(rows[-1]["loss"]), detections=found)


def speed(args) -> None:
    """Train, with ``fit``, while it is this side's turn."""
    import keras

    from zoo.training.optimizer import make_optimizer

    turns = train_child.Turns()

    class Gate(keras.callbacks.Callback):
        """Waits before each step."""

        def on_train_batch_begin(self, batch, logs=None):
            turns.before_step()

    model, batches = started(args)
    model.compile(optimizer=make_optimizer(model, recipe(args.seed), RECIPE["learning_rate"]), jit_compile=False)
    feed = {"steps_per_epoch": batches.steps_per_epoch, "epochs": 10_000, "shuffle": False}
    model.fit(batches.dataset(), **feed, callbacks=[Gate()], verbose=0)


def check(args) -> None:
    """What comes of the start weights and two pictures: outputs, losses, gradients, weights after some steps."""
    import tensorflow as tf

    from zoo.heads.sampling import uniform
    from zoo.training.optimizer import make_optimizer
    from zoo.weights_io import weight_names

    args.seed = 0
    model, _ = started(args)
    indices = np.array([3, 120], np.int32)
    with np.load(args.folder / "data-train.npz") as arrays:
        images, boxes, classes = (arrays[name][indices] for name in ("images", "boxes", "classes"))
    sizes = np.array([image.shape[:2] for image in images], np.int32)
    x, y = {"images": images, "sizes": sizes, "image_id": indices}, {"boxes": boxes, "classes": classes}
    with tf.GradientTape() as tape:
        raw = model(x, training=True)
        loss = model.compute_loss(x, y, raw, training=True)
    variables = [variable.value for variable in model.trainable_variables]
    of = {
        variable.path: gradient
        for variable, gradient in zip(model.trainable_variables, tape.gradient(loss, variables), strict=True)
    }
    names = {name: variable for name, variable in weight_names(model).items() if name != "sampling_step"}
    results = {f"gradient/{name}": np.asarray(of[variable.path]) for name, variable in names.items()}
    results |= {"logits": np.asarray(raw["rpn_logits"]), "deltas": np.asarray(raw["rpn_deltas"])}
    # The steps are counted from 1.
    counts = {"rpn": len(raw["anchors"]), "roi": model.train_proposals[1] + classes.shape[1]}
    given = {
        f"chance_{kind}": np.stack(
            [np.asarray(uniform(indices, step + 1, counts[kind], salt)) for step in range(CHECKED_STEPS)]
        )
        for kind, salt in (("rpn", 1), ("roi", 2))
    }
    model.sampling_step.assign(0)
    # Keras decays weights outside of the momentum, whose sum holds the learning rates of their times; PyTorch does
    # neither. Without decay, and at one rate, the two are the same.
    optimizer = make_optimizer(model, recipe(0, weight_decay=0.0), train_child.CHECKED_RATE)
    model.compile(optimizer=optimizer, jit_compile=False)
    for step in range(CHECKED_STEPS):
        raw = model(x, training=True)
        for row, scores in enumerate(np.asarray(raw["proposal_scores"])):
            given[f"proposals/{step}/{row}"] = np.asarray(raw["proposals"])[row][scores >= 0]
        for tracker in model.trackers.values():
            tracker.reset_state()
        model.train_on_batch(x, y)
        for name in ("rpn_objectness", "rpn_box", "head_class", "head_box"):
            results[f"loss/{step}/{name}"] = np.float32(model.trackers[name].result())
    results |= {f"after/{name}": np.asarray(variable) for name, variable in names.items()}
    np.savez(args.folder / "check-zoo.npz", **results)
    np.savez(args.folder / "check-given.npz", indices=indices, **given)
    common.report(args.report, detections=trained(args))


def trained(args) -> list[dict[str, list]]:
    """What the weights that ship detect; also writes them for the peer, with their settings."""
    import zoo

    model = zoo.get(MODEL, "bccd")
    settings = {**described(model), "pictures": CHECKED_PICTURES}
    (args.folder / "settings-trained.json").write_text(json.dumps(settings, indent=2) + "\n")
    np.savez(args.folder / "trained.npz", **arrays_of(model))
    with np.load(args.folder / "data-test.npz") as arrays:
        return detections(model, arrays["images"][:CHECKED_PICTURES])


def main() -> None:
    args = train_child.arguments(__doc__)
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(args.threads)
    tf.config.threading.set_inter_op_parallelism_threads(args.threads)
    {"prepare": prepare, "train": train, "speed": speed, "check": check}[args.job](args)


if __name__ == "__main__":
    main()
