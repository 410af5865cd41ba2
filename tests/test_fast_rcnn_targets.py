"""Fast R-CNN's samples, target statistics and multi-task loss against loops over the paper's rules."""

import math

import numpy as np
import pytest
import reference
from test_losses import entropy, smooth
from test_targets import roi_scene, row
from tiny import tiny_fast

from zoo.heads.postprocess import detections
from zoo.heads.target_statistics import denormalised, normalised, rescaled, target_statistics
from zoo.heads.targets import RoITargets, roi_targets


@pytest.mark.parametrize(("foreground", "hard"), [(100, 300), (5, 300), (100, 30), (0, 7)])
def test_sample_of_a_batch_of_two(foreground, hard):
    """N = 2, R = 128: 64 RoIs of an image, a quarter foreground, background from .1 (section 2.3)."""
    inputs = roi_scene(1, foreground, 100, (4, 6))
    boxes, classes = inputs[2][0][:3], inputs[3][0]
    rng = np.random.default_rng(0)
    aside = boxes[rng.integers(0, 3, hard)]
    aside = aside + rng.uniform(0.4, 0.75, (hard, 1)) * (aside[:, 2:3] - aside[:, :1]) * np.array([1, 0, 1, 0])
    inputs[0] = np.concatenate([inputs[0], np.tile(aside.astype("float32"), (2, 1, 1))], axis=1)
    inputs[1] = np.concatenate([inputs[1], np.full((2, hard), 0.5, "float32")], axis=1)
    overlaps = reference.ious(np.concatenate([inputs[0][0][inputs[1][0] >= 0], boxes]), boxes).max(1)
    eligible = int((overlaps >= 0.5).sum()), int(((overlaps >= 0.1) & (overlaps < 0.5)).sum())
    assert (overlaps < 0.1).sum() > 50, "many proposals touch no object"
    wanted = min(16, eligible[0])
    wanted = wanted, min(64 - wanted, eligible[1])
    assert wanted == {(100, 300): (16, 48), (5, 300): (8, 56)}.get((foreground, hard), wanted)
    found = roi_targets(*inputs, 9, samples=64, background_iou=(0.1, 0.5))
    for i in range(2):
        rois, label, weight, _ = row(found, i)
        used = weight == 1
        assert ((label[used] > 0).sum(), (label[used] == 0).sum()) == wanted
        for roi, kind in zip(rois[used], label[used], strict=True):
            best = reference.ious([roi], boxes)[0]
            if kind:
                assert best.max() >= 0.5
                assert kind == classes[best.argmax()] + 1
            else:
                assert 0.1 <= best.max() < 0.5


def statistics_loop(examples, classes, one=0.0, delta_one=None, mirrored=True):
    """All deltas of a class gathered in a list, every picture once as it is and once mirrored at its width."""
    delta_one = one if delta_one is None else delta_one
    deltas = {k: [] for k in range(classes)}
    for proposals, boxes, labels in examples:
        for flip in (False, True)[: 1 + mirrored]:
            turn = (lambda box: [500 - box[2], box[1], 500 - box[0], box[3]]) if flip else list
            objects = [(turn(box), k) for box, k in zip(boxes, labels, strict=True) if k >= 0]
            for roi in [turn(box) for box in proposals] + [box for box, _ in objects]:
                overlaps = [reference.iou(roi, box, one) for box, _ in objects]
                if overlaps and max(overlaps) >= 0.5:
                    box, k = objects[int(np.argmax(overlaps))]
                    deltas[k].append(reference.encode(box, roi, delta_one))
    return [np.mean(deltas[k], 0) for k in deltas], [np.std(deltas[k], 0) for k in deltas]


def examples(seed=0, pictures=5):
    rng = np.random.default_rng(seed)
    found = []
    for i in range(pictures):
        boxes = reference.random_boxes(rng, 3, 300, 300).astype(float) + np.array([0, 0, 20, 20])
        jitter = rng.uniform(-0.3, 0.3, (60, 4)) * np.tile(boxes[:, 2:] - boxes[:, :2], (20, 2)).reshape(60, 4)
        proposals = np.concatenate([np.tile(boxes, (20, 1)) + jitter, reference.random_boxes(rng, 20, 300, 300)])
        found.append((proposals.astype("float32"), boxes, [0, 1, -1] if i % 2 else [1, 1, 0]))
    return [*found, (found[0][0], np.zeros((0, 4)), np.zeros(0, int))]


@pytest.mark.parametrize("mirrored", [True, False])
@pytest.mark.parametrize(("one", "delta_one"), [(0.0, None), (1.0, None), (1.0, 0.0)])
def test_statistics_against_a_loop(mirrored, one, delta_one):
    options = {"plus_one": one == 1, "deltas_plus_one": None if delta_one is None else delta_one == 1}
    means, deviations = target_statistics(examples(), 2, mirrored=mirrored, **options)
    wanted = statistics_loop(examples(), 2, one, delta_one, mirrored)
    np.testing.assert_allclose(means, wanted[0], atol=1e-6)
    np.testing.assert_allclose(deviations, wanted[1], atol=1e-6)
    assert abs(deviations[0] - deviations[1]).max() > 0.003, "each class has its own"


def test_a_class_that_is_not_there_and_one_without_spread():
    box = np.array([[10.0, 10, 30, 30]])
    means, deviations = target_statistics([(box, box, [1])], 3)
    assert means.tolist() == [[0] * 4] * 3
    np.testing.assert_allclose(deviations, [[0.1, 0.1, 0.2, 0.2], [0.001] * 4, [0.1, 0.1, 0.2, 0.2]], rtol=1e-6)
    with pytest.raises(ValueError, match="no picture has an object"):
        target_statistics([(box, box, [-1])], 3)


def test_normalised_targets_have_mean_0_and_deviation_1():
    means, deviations = target_statistics(examples(), 2, mirrored=False)
    deltas, labels = [], []
    for proposals, boxes, kinds in examples():
        objects = boxes[np.array(kinds, int) >= 0]
        kinds = [k for k in kinds if k >= 0]
        for roi in [*proposals.astype(float), *objects]:
            overlaps = [reference.iou(roi, box) for box in objects]
            if overlaps and max(overlaps) >= 0.5:
                deltas.append(reference.encode(objects[int(np.argmax(overlaps))], roi))
                labels.append(kinds[int(np.argmax(overlaps))] + 1)
    label = np.array([labels], "int32")
    targets = RoITargets(None, label, None, np.array([deltas], "float32"))
    found = np.asarray(normalised(targets, means, deviations).deltas)
    for k in (1, 2):
        own = found[label == k]
        assert len(own) > 20
        np.testing.assert_allclose(own.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(own.std(0), 1, atol=1e-5)
    # At test the outputs of each class are turned back by its own numbers.
    outputs = np.repeat(found[:, :, None], 3, axis=2)
    back = np.asarray(denormalised(outputs, means, deviations))
    own = np.take_along_axis(back, label[..., None, None], axis=2)[:, :, 0]
    np.testing.assert_allclose(own, [deltas], atol=1e-5)
    np.testing.assert_array_equal(back[:, :, 0], outputs[:, :, 0])


def test_a_rescaled_regression_means_the_same():
    rng = np.random.default_rng(0)
    kernel, bias, x = rng.normal(size=(5, 12)), rng.normal(size=12), rng.normal(size=(7, 5))
    before, after = ((rng.normal(size=(2, 4)), rng.uniform(0.1, 2, (2, 4))) for _ in range(2))
    new_kernel, new_bias = rescaled(kernel, bias, before, after)

    def meant(kernel, bias, means, deviations):
        out = (x @ kernel + bias).reshape(7, 3, 4)
        return [
            [[out[i, k, c] * deviations[k - 1, c] + means[k - 1, c] for c in range(4)] for k in (1, 2)]
            for i in range(7)
        ]

    np.testing.assert_allclose(meant(new_kernel, new_bias, *after), meant(kernel, bias, *before), atol=1e-5)


def batch():
    """Two pictures, jittered proposals around their objects, padding in the second."""
    rng = np.random.default_rng(5)
    truth = np.array(
        [[[8, 8, 40, 40], [50, 10, 90, 50], [0, 0, 0, 0]], [[20, 30, 52, 60], [0, 0, 30, 30], [0] * 4]], "float32"
    )
    near = np.repeat(truth[:, :2], 15, axis=1) + rng.uniform(-7, 7, (2, 30, 4))
    far = np.stack([reference.random_boxes(rng, 20, 95, 63) for _ in range(2)])
    x = {
        "images": rng.integers(0, 256, (2, 64, 96, 3)).astype("uint8"),
        "image_id": np.array([0, 7], "int32"),
        "proposals": np.clip(np.concatenate([near, far], axis=1), 0, [96, 64, 96, 64]).astype("float32"),
        "num_proposals": np.array([50, 42], "int32"),
    }
    return x, {"boxes": truth, "classes": np.array([[0, 1, -1], [1, 0, -1]], "int32")}


@pytest.mark.parametrize("convention", ["continuous", "caffe", "fast-rcnn"])
def test_multi_task_loss_against_a_loop(convention):
    """The model's loss from its own samples, whose deltas are computed anew: L_cls + lambda [u >= 1] L_loc."""
    x, y = batch()
    model = tiny_fast(convention=convention, box_weight=0.7)
    model.measure_targets([(x, y)])
    model.head.loc.kernel.assign(np.random.default_rng(1).normal(0, 0.3, model.head.loc.kernel.shape))
    one, delta_one = float(convention != "continuous"), float(convention == "caffe")
    last = np.array([0, 0, one, one])

    means, deviations = (np.asarray(each, float) for each in (model.box_means, model.box_deviations))
    given = [(x["proposals"][i][: x["num_proposals"][i]] - last, y["boxes"][i] - last, y["classes"][i]) for i in (0, 1)]
    wanted = statistics_loop(given, 2, one, delta_one)
    np.testing.assert_allclose(means, wanted[0], atol=1e-4)
    np.testing.assert_allclose(deviations, np.maximum(wanted[1], 1e-3), atol=1e-4)

    raw = model(x, training=True)
    loss = float(model.compute_loss(x, y, raw, training=True))
    proposals, scores = np.asarray(raw["proposals"]), np.asarray(raw["proposal_scores"])
    sample = roi_targets(
        proposals, scores, (y["boxes"] - last).astype("float32"), y["classes"], x["image_id"], 1,
        samples=16, background_iou=(0.1, 0.5), plus_one=one == 1,
    )  # fmt: skip
    logits, deltas = (np.asarray(part) for part in model.head(model._pool(raw, sample.rois)))
    kind = box = 0.0
    for i in range(2):
        rois, label, weight, _ = row(sample, i)
        assert 0 < (label > 0).sum() <= 4
        used = weight.sum()
        truth = y["boxes"][i].astype(float) - last
        for r in np.nonzero(weight)[0]:
            kind += entropy(logits[i, r], label[r]) / used / 2
            if label[r]:
                best = int(np.argmax([reference.iou(rois[r], b, one) for b in truth[:2]]))
                delta = np.array(reference.encode(truth[best], rois[r].astype(float), delta_one))
                delta = (delta - means[label[r] - 1]) / deviations[label[r] - 1]
                box += sum(smooth(v, 1.0) for v in deltas[i, r, label[r]] - delta) / used / 2
    assert box > 0.01
    np.testing.assert_allclose(float(model.trackers["head_class"].result()), kind, rtol=1e-4)
    np.testing.assert_allclose(float(model.trackers["head_box"].result()), box, rtol=1e-3)
    np.testing.assert_allclose(loss, kind + 0.7 * box, rtol=1e-3)


@pytest.mark.parametrize("convention", ["continuous", "caffe", "fast-rcnn"])
def test_detections_against_a_loop(convention):
    """Deltas are turned back by the class's statistics and applied to the proposals in the original's pixels."""
    x, _ = batch()
    x["proposals"][0, 0] = [-5, -5, 200, 30]  # beyond the border
    rng = np.random.default_rng(2)
    model = tiny_fast(convention=convention, score_threshold=0.2, nms_iou=0.4)
    model.head.score.kernel.assign(rng.normal(0, 1.0, model.head.score.kernel.shape))
    model.head.loc.kernel.assign(rng.normal(0, 0.7, model.head.loc.kernel.shape))
    model.set_target_statistics(rng.normal(0, 0.1, (2, 4)), rng.uniform(0.05, 0.3, (2, 4)), new=True)
    means, deviations = (np.asarray(each, float) for each in (model.box_means, model.box_deviations))
    one, delta_one = float(convention != "continuous"), float(convention == "caffe")

    raw = model(x, training=True)
    logits, deltas = (np.asarray(part) for part in model.head(model._pool(raw, raw["proposals"])))
    found = {key: np.asarray(value) for key, value in model(x).items()}
    for i in range(2):
        probability, expected = reference.softmax(logits[i]), []
        for k in (1, 2):
            scored = []
            for r in range(x["num_proposals"][i]):
                if probability[r, k] >= 0.2:
                    roi = np.array(reference.clip(x["proposals"][i, r].astype(float), (64, 96))) - [0, 0, one, one]
                    delta = deltas[i, r, k] * deviations[k - 1] + means[k - 1]
                    box = reference.clip(reference.decode(delta, roi, delta_one), (64, 96), one)
                    scored.append((probability[r, k], k - 1, box))
            scored.sort(key=lambda each: -each[0])
            kept = reference.greedy_nms([s[2] for s in scored], [s[0] for s in scored], 0.4, 99, one)
            expected += [scored[j] for j in kept]
        expected = sorted(expected, key=lambda each: -each[0])[:20]
        count = int(found["num_detections"][i])
        assert count == len(expected) > 4
        np.testing.assert_allclose(found["scores"][i, :count], [e[0] for e in expected], atol=1e-5)
        assert found["classes"][i, :count].tolist() == [e[1] for e in expected]
        boxes = np.array([e[2] for e in expected]) + np.array([0, 0, one, one])
        np.testing.assert_allclose(found["boxes"][i, :count], boxes, atol=1e-2)


def test_deltas_may_have_widths_of_their_own():
    logits, rois = np.array([[[0.0, 9.0]]], "float32"), np.array([[[10, 10, 19, 19]]], "float32")
    deltas = np.array([[[[0] * 4, [0.5, 0, math.log(2), 0]]]], "float32")
    options = {"deviations": (1.0,) * 4, "plus_one": True}
    args = (logits, deltas, rois, np.ones((1, 1), "float32"), [[99, 99]])
    assert np.asarray(detections(*args, **options)["boxes"])[0, 0].tolist() == [10, 10, 30, 20]
    found = detections(*args, deltas_plus_one=False, **options)
    # Nine wide: half of it to the right of 14.5 is 19, and nine to each side.
    np.testing.assert_allclose(np.asarray(found["boxes"])[0, 0], [10, 10, 28, 19], atol=1e-4)
