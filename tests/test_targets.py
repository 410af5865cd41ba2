"""Targets of the RPN and the box head against loops over the papers' rules, and the fairness of the samples."""

import numpy as np
import pytest
import reference
import tensorflow as tf

from zoo.heads import anchors as anchor_boxes
from zoo.heads.targets import match, roi_targets, rpn_labels, rpn_targets


def labels(anchors, boxes, valid, size, **options):
    found = rpn_labels(np.array(anchors, "float32"), np.array([boxes], "float32"), np.array([valid]), [size], **options)
    return [np.asarray(part)[0].tolist() for part in found]


def labels_loop(anchors, boxes, size, positive, negative, one=0.0):
    """Ren 2015, section 3.1.2, on one image without padding."""
    overlaps = reference.ious(anchors, boxes, one)
    inside = [a[0] >= 0 and a[1] >= 0 and a[2] + one <= size[1] and a[3] + one <= size[0] for a in anchors]
    out = []
    for i, ok in enumerate(inside):
        best = max(overlaps[i], default=-1)
        claimed = False
        for g in range(len(boxes)):
            highest = max(overlaps[k, g] for k in range(len(anchors)) if inside[k])
            claimed |= overlaps[i, g] == highest and highest > 0
        out.append(-1 if not ok else 1 if best >= positive or claimed else 0 if best < negative else -1)
    return out


@pytest.mark.parametrize(("seed", "one"), [(0, 0.0), (1, 0.0), (2, 0.0), (3, 0.0), (0, 1.0), (1, 1.0)])
def test_rpn_labels_against_a_loop(seed, one):
    rng = np.random.default_rng(seed)
    cell = np.array([[-8, -8, 24, 24], [0, 0, 16, 16], [-8, 0, 24, 16]], "float32")
    anchors = np.asarray(anchor_boxes.grid(cell, 6, 8, 16))
    sizes = np.array([[96, 128], [70, 90]])
    boxes = np.zeros((2, 9, 4), "float32")
    counts = (6, 3)
    for i, count in enumerate(counts):
        boxes[i, :count] = reference.random_boxes(rng, count, sizes[i, 1] - 1, sizes[i, 0] - 1, whole=True)
        boxes[i, 0] = anchors[[9, 28][i]] + np.array([0, 0, 1, 1])
    valid = np.arange(9)[None] < np.array(counts)[:, None]
    boxes[:, 7] = anchors[40]  # padding may hold anything
    found, matched = map(np.asarray, rpn_labels(anchors, boxes, valid, sizes, plus_one=one == 1))
    for i, count in enumerate(counts):
        expected = labels_loop(anchors, boxes[i, :count], sizes[i], 0.7, 0.3, one)
        assert found[i].tolist() == expected
        assert {-1, 0, 1} == set(expected)
        positive = found[i] == 1
        best = reference.ious(anchors, boxes[i, :count], one).argmax(1)
        assert matched[i][positive].tolist() == best[positive].tolist()


def test_every_anchor_that_ties_for_an_object_is_positive():
    # Two anchors overlap the object by 1/3 each, a third by less.
    anchors = [[0, 0, 16, 16], [16, 0, 32, 16], [0, 2, 16, 18], [60, 60, 76, 76]]
    assert labels(anchors, [[8, 0, 24, 16]], [True], (80, 80))[0] == [1, 1, 0, 0]


def test_an_object_that_touches_no_anchor_claims_none():
    anchors = [[0, 0, 16, 16], [16, 0, 32, 16]]
    assert labels(anchors, [[100, 100, 120, 120]], [True], (200, 200))[0] == [0, 0]


def test_anchors_over_the_border_are_left_out_and_do_not_compete():
    anchors = [[-1, 0, 31, 32], [4, 4, 36, 36], [68, 0, 101, 32], [60, 40, 92, 72], [0, 0, 0, 32]]
    boxes = [[0, 0, 31, 32], [69, 0, 100, 32]]
    # The first object's best anchor crosses the border, so the second best inside is claimed; the second object's
    # anchors that are inside do not touch it.
    assert labels(anchors, boxes, [True, True], (100, 100))[0] == [-1, 1, -1, 0, 0]


def test_thresholds_include_as_the_paper_says():
    anchors = [[0, 0, 10, 1], [0, 0, 7, 1], [0, 0, 5, 1], [0, 0, 3, 1], [0, 0, 2, 1]]
    # Overlaps with the object: 1, .7 (positive from here), .5, .3 (negative only below), .2.
    assert labels(anchors, [[0, 0, 10, 1]], [True], (9, 99))[0] == [1, 1, -1, -1, 0]
    assert labels(anchors, [[0, 0, 10, 1]], [True], (9, 99), positive_iou=0.5, negative_iou=0.25)[0] == [1, 1, 1, -1, 0]


def test_without_objects_every_inside_anchor_is_negative():
    anchors = [[0, 0, 16, 16], [90, 0, 106, 16], [-5, 0, 11, 16]]
    assert labels(anchors, [[0, 0, 16, 16]], [False], (100, 100))[0] == [0, -1, -1]


def test_match_ignores_padding():
    overlaps, best, index = match(
        np.array([[[0, 0, 4, 4], [9, 9, 9.5, 9.5]]], "float32"),
        np.array([[[0, 0, 4, 4], [0, 0, 4, 2], [0, 0, 4, 3]]], "float32"),
        np.array([[False, True, True]]),
    )
    assert np.asarray(overlaps)[0].tolist() == [[-1, 0.5, 0.75], [-1, 0, 0]]
    assert np.asarray(best).tolist() == [[0.75, 0]]
    assert np.asarray(index)[0, 0] == 2


def scene(objects, ids=(0,), side=20):
    """A grid of ``side * side`` anchors, of which the first ``objects`` coincide with an object each."""
    anchors = np.asarray(anchor_boxes.grid(np.array([[0, 0, 16, 16]], "float32"), side, side, 16))
    boxes = np.zeros((len(ids), max(objects, 1) + 2, 4), "float32")
    boxes[:, :objects] = anchors[:objects]
    valid = np.tile(np.arange(boxes.shape[1]) < objects, (len(ids), 1))
    sizes = np.full((len(ids), 2), side * 16)
    return anchors, boxes, valid, sizes, np.array(ids, "int32")


@pytest.mark.parametrize(
    ("objects", "side", "positives", "negatives"),
    [(200, 20, 128, 128), (128, 20, 128, 128), (5, 20, 5, 251), (0, 20, 0, 256), (190, 14, 128, 6), (3, 4, 3, 13)],
)
def test_rpn_quota(objects, side, positives, negatives):
    anchors, boxes, valid, sizes, ids = scene(objects, (7, 8), side)
    found = rpn_targets(anchors, boxes, valid, sizes, ids, 3)
    for i in range(2):
        index, label, weight, deltas = (np.asarray(part)[i] for part in found)
        used = weight == 1
        assert ((weight == 0) | used).all()
        assert (label[used] == 1).sum() == positives
        assert (label[used] == 0).sum() == negatives
        assert len(set(index[used])) == used.sum(), "no anchor twice"
        assert (index[used & (label == 1)] < objects).all()
        assert (index[used & (label == 0)] >= objects).all()
        assert np.isfinite(deltas).all()
        assert not deltas[used & (label == 1)].any()


def test_rpn_options_and_deltas():
    anchors, boxes, valid, sizes, ids = scene(12)
    boxes[0, :12] += np.array([1, 2, 2, 1], "float32")
    found = rpn_targets(anchors, boxes, valid, sizes, ids, 0, samples=20, positive_fraction=0.25)
    index, label, weight, deltas = (np.asarray(part)[0] for part in found)
    positive = (label == 1) & (weight == 1)
    assert positive.sum() == 5
    assert weight.sum() == 20
    for slot in np.nonzero(positive)[0]:
        expected = reference.encode(boxes[0, index[slot]].astype(float), anchors[index[slot]])
        np.testing.assert_allclose(deltas[slot], expected, atol=1e-5)


def test_inclusive_samples_and_deltas():
    anchors, boxes, valid, sizes, ids = scene(12)
    anchors = anchors - np.array([0, 0, 1, 1], "float32")
    boxes[0, :12] += np.array([1, 2, 1, 0], "float32")
    found = rpn_targets(anchors, boxes, valid, sizes, ids, 0, samples=20, plus_one=True)
    index, label, _, deltas = (np.asarray(part)[0] for part in found)
    assert (label == 1).sum() >= 10
    for slot in np.nonzero(label == 1)[0]:
        wanted = reference.encode(boxes[0, index[slot]].astype(float), anchors[index[slot]].astype(float), one=1.0)
        np.testing.assert_allclose(deltas[slot], wanted, atol=1e-5)

    # One pixel against two side by side overlaps by half only if the last pixel counts.
    proposals, objects = np.array([[[4, 4, 4, 4]]], "float32"), np.array([[[4, 4, 5, 4]]], "float32")
    args = (proposals, np.ones((1, 1), "float32"), objects, np.array([[0]], "int32"), [0], 0)
    rois, label, weight, deltas = row(roi_targets(*args, plus_one=True))
    place = next(i for i in range(128) if weight[i] and rois[i].tolist() == [4, 4, 4, 4])
    assert label[place] == 1
    np.testing.assert_allclose(deltas[place], reference.encode([4, 4, 5, 4], [4, 4, 4, 4], one=1.0), atol=1e-6)
    rois, label, *_ = row(roi_targets(*args))
    assert rois[label > 0].tolist() == [[4, 4, 5, 4]] * (label > 0).sum()


def chosen(found, i=0):
    index, label, weight = (np.asarray(part)[i] for part in found[:3])
    return sorted(zip(index[weight == 1].tolist(), label[weight == 1].tolist(), strict=True))


def test_rpn_sample_follows_image_and_step_not_the_place_in_the_batch():
    a = rpn_targets(*scene(60, (5, 9)), 2, samples=32)
    b = rpn_targets(*scene(60, (9, 5, 5)), 2, samples=32)
    later = rpn_targets(*scene(60, (5, 9)), 3, samples=32)
    assert chosen(a, 0) == chosen(b, 1) == chosen(b, 2)
    assert chosen(a, 1) == chosen(b, 0)
    assert chosen(a, 0) != chosen(a, 1)
    assert chosen(a, 0) != chosen(later, 0)


def fair(counts, draws, share):
    """All near the expectation; five deviations are exceeded once in two million fair tries."""
    deviation = (draws * share * (1 - share)) ** 0.5
    assert (abs(counts - draws * share) < 5 * deviation).all(), counts


def test_every_eligible_anchor_can_be_drawn():
    draws = 800
    *parts, _ = scene(12, range(draws), side=8)
    found = rpn_targets(*parts, np.arange(draws, dtype="int32"), 4, samples=16)
    index, label, weight = (np.asarray(part) for part in found[:3])
    fair(np.bincount(index[(weight == 1) & (label == 1)], minlength=64)[:12], draws, 8 / 12)
    fair(np.bincount(index[(weight == 1) & (label == 0)], minlength=64)[12:], draws, 8 / 52)


def roi_scene(seed=0, foreground=100, background=300, ids=(0,)):
    """Proposals around three objects, most of them near, and a score of -1 on some that would be perfect."""
    rng = np.random.default_rng(seed)
    boxes = np.array([[10, 10, 110, 110], [200, 20, 300, 150], [50, 200, 250, 290], [120, 120, 190, 190]], "float32")
    classes = np.array([2, 0, 1, -1], "int32")
    near = boxes[rng.integers(0, 3, foreground)] + rng.uniform(-8, 8, (foreground, 4))
    far = reference.random_boxes(rng, 4 * background, 60, 60) + np.tile(rng.uniform(0, 250, (4 * background, 2)), 2)
    far = far[reference.ious(far, boxes[:3]).max(1) < 0.5][:background]
    padding = np.repeat(boxes[:3], 5, axis=0) + 0.25
    proposals = np.concatenate([near, far, boxes[3:] + 0.5, padding]).astype("float32")
    scores = np.concatenate([rng.uniform(0, 1, len(near) + len(far) + 1), np.full(15, -1)]).astype("float32")
    scores[0] = 0
    repeat = len(ids)
    batch = [np.tile(part[None], (repeat, *[1] * part.ndim)) for part in (proposals, scores, boxes, classes)]
    return [*batch, np.array(ids, "int32")]


def row(found, i=0):
    return [np.asarray(part)[i] for part in found]


@pytest.mark.parametrize(
    ("foreground", "background", "wanted"), [(100, 300, (32, 96)), (5, 300, (8, 120)), (100, 20, (32, 21))]
)
def test_roi_quota_and_labels_against_a_loop(foreground, background, wanted):
    inputs = roi_scene(1, foreground, background, (4, 6))
    proposals, scores, boxes, classes = (part[0] for part in inputs[:4])
    for i in range(2):
        rois, label, weight, deltas = row(roi_targets(*inputs, 9), i)
        assert rois.shape == (128, 4)
        assert np.isfinite(deltas).all()
        used = np.nonzero(weight)[0]
        assert set(weight) <= {0, 1}
        assert ((label[used] > 0).sum(), (label[used] == 0).sum()) == wanted
        allowed = {tuple(b) for b in np.concatenate([proposals[scores >= 0], boxes[classes >= 0]])}
        assert {tuple(rois[k]) for k in used} <= allowed
        assert len({tuple(rois[k]) for k in used}) == len(used), "no RoI twice"
        assert not label[weight == 0].any()
        for k in used:
            overlaps = reference.ious(rois[k : k + 1], boxes[:3])[0]
            assert label[k] == (classes[overlaps.argmax()] + 1 if overlaps.max() >= 0.5 else 0)
            if label[k]:
                expected = reference.encode(boxes[overlaps.argmax()].astype(float), rois[k].astype(float))
                np.testing.assert_allclose(deltas[k], expected, atol=1e-4)


def test_ground_truth_joins_the_proposals():
    inputs = roi_scene(2, foreground=0, background=40)
    rois, label, _, deltas = row(roi_targets(*inputs, 0))
    found = {tuple(roi): kind for roi, kind in zip(rois[label > 0], label[label > 0], strict=True)}
    assert found == {tuple(inputs[2][0, g]): inputs[3][0, g] + 1 for g in range(3)}
    assert abs(deltas[label > 0]).max() == 0


def test_roi_thresholds():
    proposals = np.array([[[0, 0, 5, 1], [0, 0, 4.9, 1], [0, 0, 1, 1], [0, 0, 0.9, 1], [50, 50, 60, 60]]], "float32")
    boxes, classes = np.array([[[0, 0, 10, 1]]], "float32"), np.array([[0]], "int32")
    for low, wanted in ((0.0, 4), (0.1, 2)):
        found = roi_targets(proposals, np.ones((1, 5), "float32"), boxes, classes, [0], 0, background_iou=(low, 0.5))
        rois, label, weight, _ = row(found)
        assert sorted(rois[label > 0][:, 2].tolist()) == [5, 10]
        background = rois[(label == 0) & (weight == 1)]
        assert sorted(background[:, 2].tolist()) == sorted(
            np.array([4.9, 1, 0.9, 60], "float32")[[0, 1, 2, 3][:wanted]]
        )


@pytest.mark.parametrize("low", [0.0, 0.1])
def test_an_image_without_objects_is_all_background(low):
    inputs = roi_scene(3)
    inputs[3] = np.full_like(inputs[3], -1)
    _, label, weight, deltas = row(roi_targets(*inputs, 0, background_iou=(low, 0.5)))
    assert weight.sum() == 128
    assert not label.any()
    assert np.isfinite(deltas).all()


def test_roi_options():
    _, label, weight, _ = row(roi_targets(*roi_scene(4), 0, samples=40, foreground_fraction=0.5, foreground_iou=0.95))
    assert weight.sum() == 40
    assert 3 <= (label > 0).sum() < 20


@pytest.mark.parametrize("samples", [1, 2])
def test_of_few_samples_one_may_be_foreground(samples):
    """A quarter of two, rounded, would be none."""
    _, label, weight, _ = row(roi_targets(*roi_scene(4), 0, samples=samples))
    assert weight.sum() == samples
    assert (label > 0).sum() == 1


def test_roi_sample_follows_image_and_step_not_the_place_in_the_batch():
    def drawn(ids, step, i):
        rois, label, weight, _ = row(roi_targets(*roi_scene(5, ids=ids), step), i)
        return sorted((*roi, kind) for roi, kind in zip(rois[weight == 1].tolist(), label[weight == 1], strict=True))

    first = drawn((5, 9), 2, 0)
    assert first == drawn((9, 5), 2, 1) == drawn((5,), 2, 0)
    assert first != drawn((5, 9), 2, 1)
    assert first != drawn((5, 9), 3, 0)


def test_every_eligible_roi_can_be_drawn():
    draws = 600
    inputs = roi_scene(6, foreground=9, background=40, ids=range(draws))
    found = roi_targets(*inputs, 1, samples=16)
    rois, label, weight, _ = (np.asarray(part) for part in found)
    assert ((label > 0).sum(1) == 4).all()
    candidates = np.concatenate([inputs[0][0], inputs[2][0]])
    place = {tuple(box): i for i, box in enumerate(candidates)}
    drawn = np.array([place[tuple(roi)] for roi in rois.reshape(-1, 4)]).reshape(weight.shape)
    counts = np.bincount(drawn[(label > 0) & (weight == 1)], minlength=len(candidates))
    fair(counts[[*range(9), *range(65, 68)]], draws, 4 / 12)
    counts = np.bincount(drawn[(label == 0) & (weight == 1)], minlength=len(candidates))
    fair(counts[9:50], draws, 12 / 41)


def test_compiled_without_shapes_the_samples_have_them():
    inputs = roi_scene(7, ids=(1, 2))
    shapes = [(None, None, 4), (None, None), (None, None, 4), (None, None), (None,)]
    signature = [tf.TensorSpec(shape, part.dtype) for shape, part in zip(shapes, inputs, strict=True)]
    compiled = tf.function(lambda *parts: tuple(roi_targets(*parts, 3)), input_signature=signature)
    shapes = [tuple(part.shape)[1:] for part in compiled.get_concrete_function().structured_outputs]
    assert shapes == [(128, 4), (128,), (128,), (128, 4)]
    for a, b in zip(compiled(*inputs), roi_targets(*inputs, 3), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
