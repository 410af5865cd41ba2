"""Composed scenes: real digits, split apart, tight boxes, readable ink, the same for the same seed."""

import time

import numpy as np
import pytest

from zoo.datasets import backgrounds, digits
from zoo.datasets.digits import CLASSES, MAX_DIGITS, SPLITS, digit_scenes, place, split_indices

SCENES = 150
LUMA = np.array([0.299, 0.587, 0.114])


def placed(scenes, index):
    """Size and digits of a scene."""
    size, found, _ = scenes._placed(index)
    return size, found


@pytest.fixture(scope="module")
def scenes():
    return digit_scenes("train", SCENES)


def test_the_splits_share_no_digit_and_are_balanced():
    labels = digits._digits()[1]
    parts = {split: split_indices(split) for split in SPLITS}
    everything = np.concatenate(list(parts.values()))
    assert sorted(everything.tolist()) == list(range(1797))
    for split, part in parts.items():
        assert len(part) == SPLITS[split]
        counts = np.bincount(labels[part], minlength=10)
        assert counts.max() - counts.min() <= (9 if split == "train" else 1)


@pytest.mark.parametrize("split", SPLITS)
def test_scenes_use_their_splits_digits_only(split):
    data = digit_scenes(split, 60, seed=3)
    used = {digit.source for index in range(60) for digit in placed(data, index)[1]}
    assert used <= set(split_indices(split).tolist())
    assert len(used) > 100


def test_a_scene_depends_on_split_seed_and_index_alone(scenes):
    one, again = scenes.load(5), digit_scenes("train", 10**9).load(5)
    np.testing.assert_array_equal(one[0], again[0])
    np.testing.assert_array_equal(one[1].boxes, again[1].boxes)
    for other in (digit_scenes("train", 9, seed=1), digit_scenes("val", 9), digit_scenes("test", 9)):
        image = other.image(5)
        assert image.shape != one[0].shape or not np.array_equal(image, one[0])


def test_the_scenes_are_those_the_shipped_weights_were_measured_on():
    """A change here changes a published score: measure it again before changing these numbers."""
    sample = digit_scenes("test", 1).sample(0)
    assert sample.image_id == "test-0-000000"
    assert sample.size == (320, 448)
    assert sample.classes.tolist() == [4]


def test_sample_image_and_load_agree(scenes):
    for index in range(0, SCENES, 10):
        image, sample = scenes.load(index)
        alone = scenes.sample(index)
        np.testing.assert_array_equal(scenes.image(index), image)
        np.testing.assert_array_equal(alone.boxes, sample.boxes)
        np.testing.assert_array_equal(alone.classes, sample.classes)
        assert image.shape == (*alone.size, 3)
        assert image.dtype == np.uint8
        assert tuple(scenes.sizes()[index]) == alone.size


def test_sizes_and_counts_vary(scenes):
    samples = [scenes.sample(index) for index in range(SCENES)]
    assert {sample.size for sample in samples} == set(digits.SIZES)
    assert {len(sample) for sample in samples} == set(range(MAX_DIGITS + 1))
    assert scenes.max_boxes == MAX_DIGITS
    labels = np.concatenate([sample.classes for sample in samples])
    assert set(labels.tolist()) == set(range(10))
    shapes = np.concatenate([sample.boxes[:, 2:] - sample.boxes[:, :2] for sample in samples])
    heights = shapes[:, 1]
    assert heights.min() < 30
    assert heights.max() > 80


def test_boxes_are_tight_and_inside(scenes):
    for index in range(SCENES):
        (height, width), found = placed(scenes, index)
        sample = scenes.sample(index)
        for digit, box in zip(found, sample.boxes, strict=True):
            rows, columns = np.nonzero(digit.ink > 0.3)
            tight = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            np.testing.assert_array_equal(box, np.array(tight) + [digit.left, digit.top] * 2)
            assert box[0] >= 1
            assert box[1] >= 1
            assert box[2] <= width - 1
            assert box[3] <= height - 1


def test_digits_are_where_their_boxes_say(scenes):
    """Painting with and without the digits differs inside the boxes only (but for the strokes' soft edge)."""
    for index in range(0, SCENES, 5):
        size, found, rng = scenes._placed(index)
        image = scenes.image(index).astype(int)
        plain = np.clip(np.round(backgrounds.background(size, rng)), 0, 255).astype(int)
        changed = np.abs(image - plain).max(axis=2) > 60
        near = np.zeros(size, bool)
        for digit in found:
            x1, y1, x2, y2 = digit.box
            near[max(y1 - 4, 0) : y2 + 4, max(x1 - 4, 0) : x2 + 4] = True
            assert changed[y1:y2, x1:x2].mean() > 0.1
        assert not changed[~near].any()


def test_labels_are_the_bitmaps(scenes):
    truth = digits._digits()[1]
    for index in range(40):
        labels = [truth[digit.source] for digit in placed(scenes, index)[1]]
        assert scenes.sample(index).classes.tolist() == labels


def test_overlaps_are_limited_and_most_scenes_have_none():
    data = digit_scenes("train", 400, seed=9)
    overlapping = 0
    for index in range(400):
        boxes = data.sample(index).boxes
        worst = max((iou(a, b) for k, a in enumerate(boxes) for b in boxes[:k]), default=0.0)
        assert worst < 0.25
        overlapping += worst > 0
    assert 10 < overlapping < 150


def iou(a, b):
    wide, tall = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or tall <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return wide * tall / (sum(areas) - wide * tall)


def test_no_digit_is_painted_over_by_a_larger_one(scenes):
    for index in range(SCENES):
        areas = [(d.box[2] - d.box[0]) * (d.box[3] - d.box[1]) for d in placed(scenes, index)[1]]
        assert areas == sorted(areas, reverse=True)


def test_ink_stands_out():
    rng = np.random.default_rng(0)
    for _ in range(300):
        under = rng.uniform(0, 255, 3).astype(np.float32)
        ink = backgrounds.ink_colour(under, [], rng)
        assert abs(float(ink @ LUMA - under @ LUMA)) > backgrounds.CONTRAST - 1
        assert ink.min() > -0.01
        assert ink.max() < 255.01


def test_backgrounds_are_calm_enough_for_any_ink():
    rng = np.random.default_rng(1)
    for _ in range(100):
        image = backgrounds.background((120, 160), rng)
        luma = image @ LUMA
        assert image.shape == (120, 160, 3)
        assert np.subtract(*np.percentile(luma, [99, 1])) < 75


def test_a_given_size():
    data = digit_scenes("test", 4, size=(96, 128))
    assert data.sizes().tolist() == [[96, 128]] * 4
    assert all(data.image(index).shape == (96, 128, 3) for index in range(4))


def test_class_order_may_be_given():
    reverse = digit_scenes("train", 3, classes=CLASSES[::-1])
    plain = digit_scenes("train", 3)
    assert reverse.sample(1).classes.tolist() == [9 - label for label in plain.sample(1).classes]


def test_it_is_a_sequence_without_end():
    data = digit_scenes("train", 10**12)
    assert len(data) == 10**12
    assert data.samples[-1].image_id == "train-0-999999999999"
    assert [sample.image_id for sample in data.samples[2:4]] == ["train-0-000002", "train-0-000003"]
    with pytest.raises(IndexError):
        digit_scenes("train", 3).sample(3)
    assert "train" in repr(data)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"split": "all"}, "train, val, test"),
        ({"count": 0}, "at least 1"),
        ({"size": (20, 200)}, "at least 64"),
        ({"classes": ("a",)}, "0, 1, 2"),
    ],
)
def test_arguments_that_mean_nothing(options, words):
    with pytest.raises(ValueError, match=words):
        digit_scenes(**options)


def test_composing_is_quick():
    data = digit_scenes("train", 100)
    data.load(0)
    best = 1.0
    for index in range(60):
        start = time.perf_counter()
        data.load(index)
        best = min(best, time.perf_counter() - start)
    assert best < 0.02


def test_place_fills_a_small_canvas_with_what_fits():
    found = place((64, 64), "train", np.random.default_rng(0))
    assert all(0 <= d.box[0] < d.box[2] <= 64 and 0 <= d.box[1] < d.box[3] <= 64 for d in found)
