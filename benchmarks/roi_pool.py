"""RoI max pooling: our layer against other ways to do it, on a 38 x 50 x 512 map, in one run.

Example:
    python benchmarks/roi_pool.py --peer-python peers/bin/python
"""

import math
import sys
import tempfile
from pathlib import Path

import common
import numpy as np

ROWS, COLUMNS, CHANNELS = 38, 50, 512
SIZE, STRIDE = 7, 16
FORWARD, BACKWARD = 300, 128


def random_rois(count: int, seed: int = 0) -> np.ndarray:
    """Boxes ``(count, 4)`` like an RPN's: sides of 32-700 pixels, height / width 1/2 to 2, clipped to 600 x 800."""
    rng = np.random.default_rng(seed)
    side = np.exp(rng.uniform(math.log(32), math.log(700), count))
    ratio = np.exp2(rng.uniform(-1, 1, count))
    width, height = side / np.sqrt(ratio), side * np.sqrt(ratio)
    x, y = rng.uniform(0, 16 * COLUMNS, count), rng.uniform(0, 16 * ROWS, count)
    boxes = np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=1)
    return np.clip(boxes, 0, [800, 600, 800, 600]).astype("float32")


def make_inputs() -> dict[str, np.ndarray]:
    """Features and the gradient from above, channels last, and the RoIs."""
    rng = np.random.default_rng(1)
    return {
        "features": rng.standard_normal((1, ROWS, COLUMNS, CHANNELS), "float32"),
        "rois": random_rois(FORWARD)[None],
        "upstream": rng.standard_normal((1, BACKWARD, SIZE, SIZE, CHANNELS), "float32"),
    }


def gather_pool(features, rois):
    """The layer's forward pass with the gradient that TensorFlow derives: through four gathers and the tables."""
    from keras import ops

    from zoo.heads.roi_bins import roi_bins
    from zoo.heads.window_max import bin_windows, levels_for, window_tables

    levels = tuple(levels_for(math.ceil((cells + 1) / SIZE) + 1) for cells in (ROWS, COLUMNS))
    flat = ops.reshape(rois, (-1, 4))
    bins = roi_bins(flat, ROWS, COLUMNS, SIZE, STRIDE)
    image = ops.zeros((flat.shape[0],), "int32")
    windows, empty = bin_windows(bins, image, (1, ROWS, COLUMNS), *levels)
    table = window_tables(features, *levels)
    a, b, c, d = (ops.take(table, place, axis=0) for place in windows)
    pooled = ops.maximum(ops.maximum(a, b), ops.maximum(c, d))
    return ops.where(empty[..., None], 0.0, pooled)[None]


def crop_pool(features, rois):
    """The customary stand-in: resample every RoI to 14 x 14, then 2 x 2 maxima. Not RoI pooling, but near."""
    import tensorflow as tf

    x1, y1, x2, y2 = tf.unstack(rois[0] / STRIDE, axis=-1)
    scale = tf.constant([ROWS - 1, COLUMNS - 1] * 2, "float32")
    boxes = tf.stack([y1, x1, y2, x2], axis=-1) / scale
    crops = tf.image.crop_and_resize(features, boxes, tf.zeros(tf.shape(boxes)[:1], "int32"), [2 * SIZE] * 2)
    return tf.nn.max_pool2d(crops, 2, 2, "VALID")[None]


def our_calls(inputs: dict[str, np.ndarray]) -> dict:
    """Compiled functions without arguments: ``{(who, "forward" | "backward"): function}``."""
    import tensorflow as tf

    from zoo.heads.roi_pool import RoIMaxPool

    features, upstream = tf.constant(inputs["features"]), tf.constant(inputs["upstream"])
    many, few = tf.constant(inputs["rois"]), tf.constant(inputs["rois"][:, :BACKWARD])
    layer = RoIMaxPool(SIZE, STRIDE, max_cells=63, clipped=True)
    unknown = [tf.TensorSpec((None, None, None, CHANNELS)), tf.TensorSpec((None, None, 4))]

    def forward(pool, rois, signature=None):
        compiled = tf.function(pool, input_signature=signature)
        return lambda: compiled(features, rois)

    def backward(pool):
        @tf.function
        def both(features, rois, upstream):
            with tf.GradientTape() as tape:
                tape.watch(features)
                pooled = pool(features, rois)
            return pooled, tape.gradient(pooled, features, upstream)

        return lambda: both(features, few, upstream)[1]

    return {
        ("ours", "forward"): forward(lambda f, r: layer(f, r), many),
        ("ours, any size", "forward"): forward(lambda f, r: layer(f, r), many, unknown),
        ("ours", "backward"): backward(lambda f, r: layer(f, r, training=True)),
        ("gathers", "forward"): forward(gather_pool, many),
        ("gathers", "backward"): backward(gather_pool),
        ("crops", "forward"): forward(crop_pool, many),
        ("crops", "backward"): backward(crop_pool),
    }


NAMES = {
    "ours": "`RoIMaxPool`, sizes known when compiled",
    "ours, any size": "`RoIMaxPool`, one graph for all sizes",
    "gathers": "the same tables, gradient derived through the gathers",
    "crops": "`crop_and_resize` 14 x 14, then maxima: **another function**",
}


def main() -> None:
    parser = common.arguments(__doc__)
    args = parser.parse_args()
    repeats = args.repeats or 25
    common.pin(args.cores)
    inputs = make_inputs()
    times, outputs = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        shared = Path(folder) / "inputs.npz"
        np.savez(shared, **inputs)
        for script in ("torchvision", "onnx") if args.peer_python else ():
            given = ["--inputs", str(shared), "--repeats", str(repeats)]
            found = common.run_child(args.peer_python, f"peers/roi_pool_{script}.py", *given)
            if "error" in found:
                print(f"left out: {script}: {found['error']}")
                continue
            NAMES[script] = found["name"]
            with np.load(shared.with_name(f"{script}.npz")) as arrays:
                for kind in arrays:
                    times[script, kind], outputs[script, kind] = found[kind], arrays[kind]
    calls = our_calls(inputs)
    outputs.update({key: np.asarray(call()) for key, call in calls.items()})
    times.update(common.timed(calls, repeats))
    publish(times, outputs, args.write)


def difference(outputs: dict, who: str, kind: str) -> float | None:
    """Largest absolute difference from our layer's output or gradient."""
    if (who, kind) not in outputs:
        return None
    return float(np.abs(outputs[who, kind] - outputs["ours", kind]).max())


def publish(times: dict, outputs: dict, write: bool) -> None:
    kinds = ("forward", "backward")
    rows, wrong = [], []
    for who, name in NAMES.items():
        found = {kind: difference(outputs, who, kind) for kind in kinds}
        spent = [common.spread(times[who, kind]) if (who, kind) in times else "-" for kind in kinds]
        rows.append([name, *spent, *("-" if value is None else f"{value:.1g}" for value in found.values())])
        # A maximum is a maximum; a gradient is a sum, whose order may differ.
        if who != "crops" and ((found["forward"] or 0) > 0 or (found["backward"] or 0) > 1e-5):
            wrong.append(name)
    header = [
        "way",
        f"{FORWARD} RoIs forward, ms",
        f"{BACKWARD} RoIs forward + backward, ms",
        "largest difference from ours",
        "of the gradient",
    ]
    lines = [f"{ROWS} x {COLUMNS} x {CHANNELS} map, {SIZE} x {SIZE} bins.", "", common.table(header, rows)]
    common.publish("roi_pool", "\n".join(lines), write)
    if wrong:
        sys.exit(f"not equal to ours: {wrong}")


if __name__ == "__main__":
    main()
