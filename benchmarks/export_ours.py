"""The part of ``benchmarks/export.py`` that needs this package, in processes of their own: it starts them.

``keras`` times the Keras model, ``make`` exports it, ``score`` measures a detector on a data set.
"""

import json
import os
from pathlib import Path

import common
import numpy as np

SCENES = 200
PROPOSALS = 300  # that a Fast R-CNN is given, as many as a Faster R-CNN makes
RCNN_PROPOSALS = 20  # each goes through the whole network of an R-CNN
_RCNN_SMALLEST = 48.0
_REPRESENTATIVE = 100
_FEW = 12  # for random weights
_SIDE = 224  # of what a classifier that takes any size is shown, by its artifact, too
_COMPARED = 8


def pixels(side: int | None) -> np.ndarray:
    """Coloured squares, uint8: ``(1, side, side, 3)`` for a classifier, ``(1, 375, 500, 3)`` for a detector."""
    from vgg16_ours import image

    if side is None:
        return image()
    cell = -(-side // 8)
    cells = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3))
    return np.ascontiguousarray(np.kron(cells, np.ones((1, cell, cell, 1), "int")).astype("uint8")[:, :side, :side])


def build(name: str):
    """The model with seeded weights, and inputs by name; scores are spread as in a trained model."""
    import keras
    from vgg16_ours import find_scales

    import zoo

    keras.utils.set_random_seed(0)
    model = zoo.get(name)
    if zoo.info(name).task != "detection":
        picture = pixels(model.input_shape[1] or _SIDE)
        sharpen(model, picture)
        return model, {"images": picture}
    inputs = with_proposals(model, pixels(None))
    if len(inputs) == 1:
        find_scales(model, inputs["images"])
    else:
        spread_head(model, inputs)
    return model, inputs


def with_proposals(model, picture: np.ndarray) -> dict[str, np.ndarray]:
    """The inputs by name: a Fast R-CNN is given proposals, too."""
    from zoo.datasets.proposals_dense import DenseBoxes

    if hasattr(model, "rpn"):
        return {"images": picture}
    return {"images": picture, "proposals": DenseBoxes(most=most_proposals(model))(picture[0])[None]}


def most_proposals(model) -> int:
    """How many boxes of a picture a detector without an RPN is given."""
    from zoo.detectors.rcnn import RCNN

    return RCNN_PROPOSALS if isinstance(model, RCNN) else PROPOSALS


def spread_head(model, inputs: dict[str, np.ndarray]) -> None:
    """Scale the last layers of a Fast R-CNN, as ``find_scales`` does for a Faster R-CNN."""
    import tensorflow as tf

    @tf.function  # called outright, a network keeps what all of its layers gave: 12 GiB for an R-CNN with ResNet-152
    def head_vectors():
        raw = model._look(inputs, training=False)
        return model.head.body(model._pool(raw, raw["proposals"])[0], training=False)

    vectors = np.asarray(head_vectors())
    for layer, wanted in ((model.head.score, 2.0), (model.head.loc, 1.0)):
        if layer is None:  # an R-CNN's boxes are left where they are unless it is asked otherwise
            continue
        layer.kernel.assign(layer.kernel * (wanted / float(np.std(vectors @ np.asarray(layer.kernel)))))


def sharpen(model, picture: np.ndarray) -> None:
    """Give a classifier statistics for its normalisation, and logits of deviation 2.

    Untrained, the deepest networks overflow, and others think all classes equally probable: nothing to compare. What
    residual branches add is made small, as it is in trained networks (He 2016, section 4.2 and figure 7); else 101
    layers make of one level in one pixel in thousands another picture. The plain twins, which have none, get kernels
    near the identity, and biases that leave most rectifiers open: of .001 grey levels, 110 random layers make .04 of
    a probability.
    """
    import keras

    from zoo.backbones.cifar_resnet import recursion

    normal = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    sums = [layer for layer in model.layers if isinstance(layer, keras.layers.Add)]
    for layer in sums:
        # The branch is the later of the two, behind the shortcut.
        last = layer.input[1]._keras_history.operation
        last.gamma.assign(last.gamma * 0.1)
    if normal and not sums:
        open_up(model, normal)
    kept = [layer.momentum for layer in normal]
    for layer in normal:
        layer.momentum = 0.0
    # Half of them shaded: one picture in all places would have no variance behind the pooling.
    batch = np.concatenate([picture, picture // 2, picture[:, ::-1], 255 - picture]).astype("float32")
    if normal:
        model(batch, training=True)
    for layer, momentum in zip(normal, kept, strict=True):
        layer.momentum = momentum
    (*_, dense) = (layer for layer in model.layers if isinstance(layer, keras.layers.Dense))
    with recursion(20 * len(model.layers)):
        body = keras.Model(model.inputs[0], dense.input)
    vectors = body(batch, training=False)
    spread = float(np.std(np.asarray(vectors) @ np.asarray(dense.kernel), axis=1).mean())
    dense.kernel.assign(dense.kernel * (2.0 / spread))


def open_up(model, normal: list) -> None:
    """Give a plain network kernels near the identity, and leave most of its rectifiers open."""
    import keras

    for layer in normal:
        layer.beta.assign(layer.beta + 2.0)
    for layer in model.layers:
        if not isinstance(layer, keras.layers.Conv2D) or layer.strides != (1, 1):
            continue
        kernel = np.array(layer.kernel)
        if kernel.shape[2] == kernel.shape[3]:
            kernel *= 0.1
            kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] += np.eye(kernel.shape[2])
            layer.kernel.assign(kernel)


def trained(weights: str):
    """A trained detector, its test set, and pictures that its training saw."""
    import zoo
    from zoo.datasets.digits import digit_scenes

    if weights == "digits":
        model = zoo.get("faster_rcnn_resnet18", weights="digits")
        return model, digit_scenes("test", SCENES), digit_scenes("train", _REPRESENTATIVE)
    model = zoo.load(weights)
    folder = Path(os.environ["ZOO_SHARED_DATA"]) / "bccd"
    test, train = (zoo.datasets.load(folder, split, classes=model.classes) for split in ("test", "trainval"))
    return model, test, train


def pictures(data, most: int) -> list[np.ndarray]:
    """At most so many pictures, evenly spaced."""
    return [data.load(int(i))[0] for i in np.linspace(0, len(data) - 1, min(most, len(data))).round()]


def make(args) -> dict:
    """Export; the peak is that of the whole process, with the Keras model in it and the comparison."""
    import time

    import zoo
    from zoo.datasets.digits import digit_scenes
    from zoo.datasets.proposals_dense import DenseBoxes

    options: dict = {}
    if args.weights:
        model, test, train = trained(args.weights)
        options["images"] = pictures(test, _COMPARED)
    else:
        model, _ = build(args.model)
        train = None
        if most_proposals(model) == RCNN_PROPOSALS:
            options["proposals"] = DenseBoxes(smallest=_RCNN_SMALLEST, step=0.5, most=RCNN_PROPOSALS)
    if args.precision != "float32":
        options |= {"precision": args.precision, "most_lost": 1.0}
    if args.precision == "int8":
        options["representative"] = pictures(train or digit_scenes("train", _FEW), _REPRESENTATIVE)
    built = common.peak_memory()
    start = time.perf_counter()
    exported = getattr(zoo.export, args.format)(model, args.artifact, **options)
    seconds = time.perf_counter() - start
    kept = ("compared", "tied", "worst_box", "worst_score", "bytes", "map_lost", "runtime")
    report = {name: exported.report[name] for name in kept if name in exported.report}
    report["matched"] = sum(entry["matched"] for entry in exported.report["images"])
    return {
        **report,
        "artifact": str(exported.path),
        "seconds": seconds,
        "built": built,
        "peak": common.peak_memory(),
        "parameters": model.count_params(),
    }


def keras_times(args) -> dict:
    if args.weights:
        model, test, _ = trained(args.weights)
        inputs = with_proposals(model, test.load(0)[0][None])
    else:
        model, inputs = build(args.model)
    np.savez(args.inputs, **inputs)
    given = inputs if len(inputs) > 1 else inputs["images"]
    if not hasattr(model, "preprocessing"):
        given = given.astype("float32")
    times = common.timed({"seconds": lambda: model.predict_on_batch(given)}, args.repeats)
    return {**times, "peak": common.peak_memory(), "parameters": model.count_params()}


def score(args) -> dict:
    import zoo

    model, test, _ = trained(args.weights)
    detector = model if args.artifact is None else zoo.export.open_artifact(args.artifact)
    measured = zoo.evaluate(detector, test, batch_size=1)
    ap = dict(zip(measured.result.classes, map(float, measured.result.ap), strict=True))
    return {"map": float(measured.result.map), "ap": ap, "images": len(test)}


def main() -> None:
    parser = common.child_arguments(__doc__)
    parser.add_argument("what", choices=("keras", "make", "score"))
    parser.add_argument("--model")
    parser.add_argument("--weights")
    parser.add_argument("--format")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--artifact", type=Path)
    args = parser.parse_args()
    found = {"keras": keras_times, "make": make, "score": score}[args.what](args)
    common.report(args.report, **json.loads(json.dumps(found)))


if __name__ == "__main__":
    main()
