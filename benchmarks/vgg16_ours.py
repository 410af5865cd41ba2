"""Our part of ``benchmarks/vgg16_detect.py``, which starts it: the detector in a process of its own.

``stages`` times the detector, the bare networks and every stage in turn; ``detector`` does nothing but detect, so that
its peak memory is the detector's.
"""

import json

import common
import numpy as np


def image() -> np.ndarray:
    """Coloured squares, uint8 ``(1, 375, 500, 3)``: a usual size in PASCAL VOC, which is prepared to 600 x 800."""
    cells = np.random.default_rng(0).integers(0, 256, (1, 15, 20, 3))
    return np.kron(cells, np.ones((1, 25, 25, 1), "int")).astype("uint8")


def output_layers(model) -> dict:
    """The four last layers, and the deviation their outputs should have.

    He initialisation on pixels of 0-255 saturates every score, which would make all boxes tie. Scaled, scores spread
    and boxes move about as in a trained detector, and more detections pass the threshold.
    """
    return {
        "score": (model.rpn.score, 2.0),
        "loc": (model.rpn.loc, 0.3),
        "class": (model.head.score, 2.0),
        "box": (model.head.loc, 1.0),
    }


def build(scales: dict[str, float] | None):
    """The seeded detector; without ``scales`` its outputs are unscaled."""
    import keras

    import zoo

    keras.utils.set_random_seed(0)
    model = zoo.get("faster_rcnn_vgg16")
    for name, scale in (scales or {}).items():
        kernel = output_layers(model)[name][0].kernel
        kernel.assign(kernel * scale)
    return model


def find_scales(model, pixels: np.ndarray) -> dict[str, float]:
    """Scale the output layers in place to the wanted deviations, and say by how much."""
    import tensorflow as tf

    scales = {}

    def spread(name: str, inputs):
        layer, wanted = output_layers(model)[name]
        scales[name] = wanted / float(tf.math.reduce_std(layer(inputs)))
        layer.kernel.assign(layer.kernel * scales[name])

    prepared = model.preprocessing(pixels)[0]
    hidden = model.rpn.conv(model.extractor(prepared))
    spread("score", hidden)
    spread("loc", hidden)
    raw = model._propose(pixels, training=False)
    pooled = model.roi_pool(raw["features"], raw["proposals"])
    vectors = model.head.body(pooled[0])
    spread("class", vectors)
    spread("box", vectors)
    return scales


def stages(model, pixels: np.ndarray) -> tuple[dict, dict]:
    """Compiled functions without arguments for the detector, the bare networks and each stage; and what they gave."""
    import tensorflow as tf

    from zoo.detectors.faster_rcnn import DELTA_DEVIATIONS
    from zoo.heads import anchors as anchor_boxes
    from zoo.heads.postprocess import detections
    from zoo.heads.proposals import propose

    def proposals(logits, deltas, sizes, features):
        rows, columns = features.shape[1:3]
        anchors = anchor_boxes.grid(model.cell_anchors, rows, columns, model.stride)
        before, after = model.test_proposals
        least = model.proposal_min_size
        return propose(logits, deltas, anchors, sizes, before_nms=before, after_nms=after, min_size=least)

    def post(logits, deltas, rois, roi_scores, sizes):
        return detections(
            logits,
            deltas,
            rois,
            roi_scores,
            sizes,
            deviations=DELTA_DEVIATIONS,
            score_threshold=model.score_threshold,
            nms_iou=model.nms_iou,
            most=model.max_detections,
        )

    def bare(prepared, pooled):
        rpn = model.rpn(model.extractor(prepared, training=False))
        # One after the other, as in a detector.
        with tf.control_dependencies(rpn):
            pooled = tf.identity(pooled)
        return rpn, model.head(pooled, training=False)

    calls, kept = {}, {}

    def stage(name: str, function, *inputs):
        compiled = tf.function(function)
        calls[name] = lambda: compiled(*inputs)
        kept[name] = compiled(*inputs)
        return kept[name]

    prepared, sizes, _ = stage("preprocessing (uint8 375 x 500)", lambda x: model.preprocessing(x), tf.constant(pixels))
    features = stage("backbone", lambda x: model.extractor(x, training=False), prepared)
    logits, deltas = stage("RPN convolutions", lambda x: model.rpn(x), features)
    rois, scores = stage("proposals (17,100 anchors, 6000 to 300)", proposals, logits, deltas, sizes, features)
    pooled = stage("RoI pooling", lambda x, y: model.roi_pool(x, y), features, rois)
    head = stage("fully connected layers", lambda x: model.head(x, training=False), pooled)
    found = stage("post-processing (NMS in 20 classes)", post, *head, rois, scores, sizes)
    calls = {"detector": lambda: model.predict_on_batch(pixels), **calls}
    stage("bare", bare, prepared, pooled)
    return calls, {"prepared": prepared, "rois": rois, "scores": scores, "found": found}


def main() -> None:
    parser = common.child_arguments(__doc__)
    parser.add_argument("what", choices=("stages", "detector"))
    parser.add_argument("--scales", type=json.loads)
    args = parser.parse_args()
    pixels = image()
    model = build(args.scales)
    if args.what == "detector":
        built = common.peak_memory()
        times = common.timed({"seconds": lambda: model.predict_on_batch(pixels)}, args.repeats)
        common.report(args.report, **times, built=built, peak=common.peak_memory())
        return
    scales = find_scales(model, pixels)
    calls, kept = stages(model, pixels)
    times = common.timed(calls, args.repeats)
    np.savez(args.inputs, prepared=kept["prepared"], rois=kept["rois"][0])
    common.report(
        args.report,
        detector=times.pop("detector"),
        bare=times.pop("bare"),
        stages=times,
        scales=scales,
        proposals=int(np.sum(kept["scores"] >= 0)),
        detections=int(kept["found"]["num_detections"][0]),
        prepared=list(kept["prepared"].shape[1:3]),
    )


if __name__ == "__main__":
    main()
