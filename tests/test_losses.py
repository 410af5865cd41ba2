"""The four losses and the recall of proposals against scalar loops."""

import math

import numpy as np
import pytest
import reference
import tensorflow as tf

from zoo.heads.losses import head_losses, proposal_recall, rpn_losses, smooth_l1
from zoo.heads.targets import RoITargets, RPNTargets

DEVIATIONS = (0.1, 0.1, 0.2, 0.2)


def smooth(x, sigma):
    x = abs(float(x))
    return 0.5 * (sigma * x) ** 2 if x < 1 / sigma**2 else x - 0.5 / sigma**2


def entropy(logits, label):
    return -math.log(reference.softmax(logits)[int(label)])


def test_smooth_l1_literals():
    found = smooth_l1(tf.constant([0.0, 0.5, -0.5, 1.0, -3.0]))
    assert found.numpy().tolist() == [0, 0.125, 0.125, 0.5, 2.5]
    # sigma 3: quadratic below 1/9.
    found = smooth_l1(tf.constant([0.1, -1 / 9, 1.0]), sigma=3.0)
    np.testing.assert_allclose(found, [0.045, 1 / 18, 1 - 1 / 18], rtol=1e-6)


@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_smooth_l1_and_its_slope_are_continuous(sigma):
    x = tf.constant(np.linspace(-2, 2, 4001), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = smooth_l1(x, sigma)
    np.testing.assert_allclose(y, [smooth(v, sigma) for v in x.numpy()], atol=1e-6)
    slope = tape.gradient(y, x).numpy()
    np.testing.assert_allclose(slope, np.clip(x * sigma * sigma, -1, 1), atol=1e-4)


def rpn_case():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (3, 12, 2)).astype("float32")
    deltas = rng.normal(0, 0.3, (3, 12, 4)).astype("float32")
    index = np.stack([rng.permutation(12)[:6] for _ in range(3)]).astype("int32")
    label = np.array([[1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0], [0] * 6], "float32")
    weight = np.array([[1, 1, 0, 1, 1, 1], [1, 1, 0, 0, 0, 0], [0] * 6], "float32")
    return logits, deltas, RPNTargets(index, label, weight, rng.normal(0, 0.3, (3, 6, 4)).astype("float32"))


def test_rpn_losses_against_loops():
    logits, deltas, targets = rpn_case()
    objectness = box = 0.0
    for i in range(3):
        used = max(targets.weight[i].sum(), 1)
        for s in range(6):
            if targets.weight[i, s]:
                a = targets.index[i, s]
                objectness += entropy(logits[i, a], targets.label[i, s]) / used / 3
                if targets.label[i, s]:
                    box += sum(smooth(v, 3.0) for v in deltas[i, a] - targets.deltas[i, s]) / used / 3
    np.testing.assert_allclose(rpn_losses(logits, deltas, targets), [objectness, box], rtol=1e-5)


def test_rpn_gradient_reaches_the_sampled_anchors_alone():
    logits, deltas, targets = rpn_case()
    logits, deltas = tf.constant(logits), tf.constant(deltas)
    with tf.GradientTape() as tape:
        tape.watch([logits, deltas])
        total = sum(rpn_losses(logits, deltas, targets))
    to_logits, to_deltas = (np.asarray(g) for g in tape.gradient(total, [logits, deltas]))
    sampled, positive = np.zeros((3, 12), bool), np.zeros((3, 12), bool)
    for i in range(3):
        sampled[i, targets.index[i][targets.weight[i] == 1]] = True
        positive[i, targets.index[i][(targets.weight[i] == 1) & (targets.label[i] == 1)]] = True
    np.testing.assert_array_equal(to_logits.any(-1), sampled)
    np.testing.assert_array_equal(to_deltas.any(-1), positive)


def head_case():
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (2, 7, 4)).astype("float32")
    deltas = rng.normal(0, 1, (2, 7, 4, 4)).astype("float32")
    label = np.array([[3, 1, 0, 0, 2, 0, 0], [0] * 7], "int32")
    weight = np.array([[1, 1, 1, 1, 0, 0, 0], [1] * 7], "float32")
    return logits, deltas, RoITargets(None, label, weight, rng.normal(0, 0.1, (2, 7, 4)).astype("float32"))


def test_head_losses_against_loops():
    logits, deltas, targets = head_case()
    kind = box = 0.0
    for i in range(2):
        used = targets.weight[i].sum()
        for r in range(7):
            if targets.weight[i, r]:
                label = targets.label[i, r]
                kind += entropy(logits[i, r], label) / used / 2
                if label:
                    wanted = targets.deltas[i, r] / np.array(DEVIATIONS)
                    box += sum(smooth(v, 1.0) for v in deltas[i, r, label] - wanted) / used / 2
    np.testing.assert_allclose(head_losses(logits, deltas, targets, DEVIATIONS), [kind, box], rtol=1e-5)


def test_head_gradient_reaches_the_own_class_of_the_used_rois_alone():
    logits, deltas, targets = head_case()
    logits, deltas = tf.constant(logits), tf.constant(deltas)
    with tf.GradientTape() as tape:
        tape.watch([logits, deltas])
        total = sum(head_losses(logits, deltas, targets, DEVIATIONS))
    to_logits, to_deltas = (np.asarray(g) for g in tape.gradient(total, [logits, deltas]))
    np.testing.assert_array_equal(to_logits.any(-1), targets.weight == 1)
    assert np.argwhere(to_deltas.any(-1)).tolist() == [[0, 0, 3], [0, 1, 1]]


def test_nothing_sampled_is_zero_and_not_nan():
    logits, deltas, targets = rpn_case()
    nothing = targets._replace(weight=np.zeros_like(targets.weight))
    assert [float(v) for v in rpn_losses(logits, deltas, nothing)] == [0, 0]
    logits, deltas, targets = head_case()
    nothing = targets._replace(weight=np.zeros_like(targets.weight))
    assert [float(v) for v in head_losses(logits, deltas, nothing, DEVIATIONS)] == [0, 0]


def test_large_logits_stay_finite():
    logits, deltas, targets = rpn_case()
    found = rpn_losses(logits * 1000, deltas, targets)
    assert np.isfinite(found).all()


def test_proposal_recall():
    boxes = np.array([[[0, 0, 10, 1], [20, 0, 30, 1], [40, 0, 50, 1]], [[0, 0, 10, 1]] * 3], "float32")
    valid = np.array([[True, True, True], [True, False, False]])
    proposals = np.array([[[0, 0, 5, 1], [20, 0, 24.9, 1], [40, 0, 50, 1]], [[0, 5, 10, 6]] * 3], "float32")
    # Covered by exactly .5; by less; by padding alone; by nothing.
    scores = np.array([[0.9, 0.8, -1], [0.5, 0.5, 0.5]], "float32")
    assert [float(v) for v in proposal_recall(proposals, scores, boxes, valid)] == [0.25, 4]
    assert [float(v) for v in proposal_recall(proposals, scores, boxes, valid, threshold=0.4)] == [0.5, 4]
    scores[0, 2] = 0
    assert [float(v) for v in proposal_recall(proposals, scores, boxes, valid)] == [0.5, 4]
    assert [float(v) for v in proposal_recall(proposals, scores, boxes, valid & False)] == [0, 0]
