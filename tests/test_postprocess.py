"""Detections against a loop: softmax, deltas of the class, clipping, threshold, NMS per class, the best D."""

import numpy as np
import pytest
import reference
import tensorflow as tf

from zoo.heads.postprocess import detections

DEVIATIONS = (0.1, 0.1, 0.2, 0.2)
SIZES = np.array([[100, 140], [64, 80]], "int32")


def head_outputs(seed=0, count=40, classes=3):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (2, count, classes + 1)).astype("float32")
    deltas = rng.normal(0, 1.5, (2, count, classes + 1, 4)).astype("float32")
    rois = np.stack([reference.random_boxes(rng, count, size[1], size[0]) for size in SIZES])
    scores = np.where(np.arange(count) < [[count], [count - 9]], 0.5, -1.0).astype("float32")
    rois[1, count - 9 :] = 0
    return logits, deltas, rois, scores


def expected(logits, deltas, rois, scores, size, threshold, iou, most, one=0.0):
    """``[(score, class, box)]`` of one image, best first."""
    probability, out = reference.softmax(logits), []
    for k in range(1, logits.shape[-1]):
        found = []
        for r in range(len(rois)):
            if scores[r] >= 0 and probability[r, k] >= threshold:
                box = reference.decode(deltas[r, k] * np.array(DEVIATIONS), rois[r].astype(float), one)
                found.append((probability[r, k], k - 1, reference.clip(box, size, one)))
        found.sort(key=lambda each: -each[0])
        kept = reference.greedy_nms([f[2] for f in found], [f[0] for f in found], iou, len(found), one)
        out += [found[i] for i in kept]
    return sorted(out, key=lambda each: -each[0])[:most]


@pytest.mark.parametrize(
    ("threshold", "iou", "most", "plus_one"),
    [
        (0.05, 0.3, 100, False),
        (0.2, 0.5, 100, False),
        (0.05, 0.3, 9, False),
        (0, 0.7, 50, False),
        (0.05, 0.3, 100, True),
    ],
)
def test_against_a_loop(threshold, iou, most, plus_one):
    inputs = head_outputs()
    options = {"deviations": DEVIATIONS, "score_threshold": threshold, "nms_iou": iou, "most": most}
    options["plus_one"] = plus_one
    found = {key: np.asarray(value) for key, value in detections(*inputs, SIZES, **options).items()}
    assert {key: value.shape for key, value in found.items()} == {
        "boxes": (2, most, 4),
        "scores": (2, most),
        "classes": (2, most),
        "num_detections": (2,),
    }
    assert found["classes"].dtype == found["num_detections"].dtype == np.int32
    for i in range(2):
        want = expected(*(part[i] for part in inputs), SIZES[i], threshold, iou, most, float(plus_one))
        count = len(want)
        assert count == found["num_detections"][i] > 5
        np.testing.assert_allclose(found["scores"][i, :count], [w[0] for w in want], atol=1e-6)
        assert found["classes"][i, :count].tolist() == [w[1] for w in want]
        np.testing.assert_allclose(found["boxes"][i, :count], [w[2] for w in want], atol=1e-3)
        assert (found["classes"][i, count:] == -1).all()
        assert not found["scores"][i, count:].any()
        assert not found["boxes"][i, count:].any()


def certain(*labels, classes=3):
    """Logits by which each RoI is of the named class."""
    return 8 * np.eye(classes + 1, dtype="float32")[list(labels)][None]


def run(logits, rois, scores=None, size=(100, 100), **options):
    rois = np.array([rois], "float32")
    deltas = np.zeros((1, rois.shape[1], logits.shape[-1], 4), "float32")
    scores = np.ones(rois.shape[:2], "float32") if scores is None else np.array([scores], "float32")
    found = detections(logits, deltas, rois, scores, np.array([size]), deviations=DEVIATIONS, **options)
    return {key: np.asarray(value)[0] for key, value in found.items()}


def test_classes_do_not_suppress_each_other():
    box = [10, 10, 50, 50]
    found = run(certain(1, 2, 2, 3), [box] * 4)
    assert found["num_detections"] == 3
    assert sorted(found["classes"][:3]) == [0, 1, 2]


def test_background_is_no_detection():
    found = run(certain(0, 0, 2), [[0, 0, 9, 9], [20, 20, 40, 40], [50, 50, 70, 70]])
    assert found["num_detections"] == 1
    assert found["classes"].tolist()[:2] == [1, -1]
    assert found["boxes"][0].tolist() == [50, 50, 70, 70]


def test_padding_is_no_detection():
    found = run(certain(1, 1), [[0, 0, 9, 9], [20, 20, 40, 40]], scores=[-1, 0])
    assert found["num_detections"] == 1
    assert found["boxes"][0].tolist() == [20, 20, 40, 40]


def test_nothing_found():
    found = run(certain(0, 0), [[0, 0, 9, 9], [20, 20, 40, 40]])
    assert found["num_detections"] == 0
    assert set(found["classes"]) == {-1}


def test_each_class_has_its_own_deltas():
    logits = certain(1, 2)
    deltas = np.zeros((1, 2, 4, 4), "float32")
    # Of the RoI's own class: half a width to the right, in normalised units, and twice as high.
    deltas[0, 0, 1] = [5, 0, 0, np.log(2) / 0.2]
    deltas[0, 1, 1] = [-50, 9, 9, 9]
    rois = np.array([[[20, 20, 40, 40], [60, 60, 70, 80]]], "float32")
    found = detections(logits, deltas, rois, np.ones((1, 2), "float32"), [[100, 100]], deviations=DEVIATIONS)
    boxes = np.asarray(found["boxes"])[0, :2]
    np.testing.assert_allclose(boxes[boxes[:, 0].argsort()], [[30, 10, 50, 50], [60, 60, 70, 80]], atol=1e-3)


def test_fewer_candidates_than_wanted():
    found = run(certain(1), [[0, 0, 9, 9]], most=7)
    assert found["boxes"].shape == (7, 4)
    assert found["num_detections"] == 1


def test_compiled_with_an_unknown_batch_the_results_have_shapes():
    inputs = head_outputs(3)
    signature = [tf.TensorSpec((None, *part.shape[1:])) for part in inputs] + [tf.TensorSpec((None, 2), tf.int32)]
    compiled = tf.function(lambda *parts: detections(*parts, deviations=DEVIATIONS, most=30), input_signature=signature)
    graph = compiled.get_concrete_function().structured_outputs
    assert {key: tuple(value.shape)[1:] for key, value in graph.items()} == {
        "boxes": (30, 4),
        "scores": (30,),
        "classes": (30,),
        "num_detections": (),
    }
    eager = detections(*inputs, SIZES, deviations=DEVIATIONS, most=30)
    for key, value in compiled(*inputs, SIZES).items():
        np.testing.assert_allclose(value, eager[key], atol=1e-4)
