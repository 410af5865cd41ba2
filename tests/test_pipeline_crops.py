"""Zooming out and cropping: windows by their rules, boxes by the definition, pixels where the boxes say."""

import numpy as np
import pytest
from marked import TALL, WIDE, Marked, mixed, rows, same, white_box

from zoo.datasets import crops
from zoo.datasets.crops import FILL, cut, cut_boxes, draw_window
from zoo.datasets.pipeline import Batches
from zoo.datasets.plan import picture_rng

SIZE = (60, 80)
OBJECTS = np.array([[10, 10, 40, 30], [50, 35, 78, 58], [30, 20, 60, 50]], np.float32)


def windows(count=1500, size=SIZE, boxes=OBJECTS, **options):
    for seed in range(count):
        yield draw_window(np.random.default_rng(seed), size, boxes, **options) or (0, 0, size[1], size[0])


def best_overlap(window, boxes):
    best = 0.0
    for x1, y1, x2, y2 in boxes.tolist():
        across = min(x2, window[2]) - max(x1, window[0])
        down = min(y2, window[3]) - max(y1, window[1])
        common = max(across, 0) * max(down, 0)
        areas = (x2 - x1) * (y2 - y1) + (window[2] - window[0]) * (window[3] - window[1])
        best = max(best, common / (areas - common))
    return best


def centres_inside(window, boxes):
    middles = [((x1 + x2) / 2, (y1 + y2) / 2) for x1, y1, x2, y2 in boxes.tolist()]
    return sum(window[0] <= x < window[2] and window[1] <= y < window[3] for x, y in middles)


def test_zooming_out_shows_the_whole_picture_on_half_of_the_canvases():
    found = list(windows(expand=4.0))
    changed = [window for window in found if window != (0, 0, 80, 60)]
    assert 0.45 < len(changed) / len(found) < 0.55
    factors, places = [], []
    for x1, y1, x2, y2 in changed:
        assert x1 <= 0
        assert y1 <= 0
        assert x2 >= 80
        assert y2 >= 60
        factors.append((x2 - x1) / 80)
        assert abs((y2 - y1) - 60 * factors[-1]) <= 1
        if x2 - x1 > 120:
            places.append(-x1 / (x2 - x1 - 80))
    assert 1 <= min(factors) < 1.1
    assert 3.9 < max(factors) <= 4
    assert abs(np.mean(factors) - 2.5) < 0.15
    assert np.histogram(places, 4, (0, 1))[0].min() > len(places) / 6


def test_crops_keep_their_share_their_shape_and_an_object():
    changed = 0
    for x1, y1, x2, y2 in windows(crop=0.3):
        width, height = x2 - x1, y2 - y1
        assert x1 >= 0
        assert y1 >= 0
        assert x2 <= 80
        assert y2 <= 60
        # Share of the area, and aspect ratio by the whole picture's; half a pixel of rounding on each side.
        assert (width + 1) * (height + 1) / (80 * 60) >= 0.3**2
        assert (width + 1) / (height - 1) >= 0.5 * 80 / 60
        assert (width - 1) / (height + 1) <= 2 * 80 / 60
        assert width >= height
        assert centres_inside((x1, y1, x2, y2), OBJECTS)
        changed += (width, height) != (80, 60)
    assert changed > 600


def test_tall_pictures_stay_tall():
    boxes = OBJECTS[:, [1, 0, 3, 2]]
    for x1, y1, x2, y2 in windows(300, SIZE[::-1], boxes, crop=0.3, expand=2.0):
        assert x2 - x1 <= y2 - y1


@pytest.mark.parametrize("overlap", [0.1, 0.3, 0.5, 0.7])
def test_crops_overlap_some_object_as_much_as_was_drawn(monkeypatch, overlap):
    monkeypatch.setattr(crops, "OVERLAPS", (overlap,))
    boxes = np.array([[5, 5, 65, 50], [70, 2, 78, 8]], np.float32)
    found = [window for window in windows(300, boxes=boxes, crop=0.3) if window != (0, 0, 80, 60)]
    assert len(found) > 100
    best = [best_overlap(window, boxes) for window in found]
    assert overlap <= min(best) < overlap + 0.1


def test_demands_that_nothing_meets_cut_nothing(monkeypatch):
    monkeypatch.setattr(crops, "OVERLAPS", (0.9,))
    speck = np.array([[40, 30, 43, 33]], np.float32)
    assert {*windows(50, boxes=speck, crop=0.3)} == {(0, 0, 80, 60)}
    monkeypatch.setattr(crops, "OVERLAPS", (None,))
    assert {*windows(50, crop=0.3)} == {(0, 0, 80, 60)}


def test_all_demands_are_drawn_alike(monkeypatch):
    monkeypatch.setattr(crops, "_iou", lambda parts, boxes: np.full((len(parts), len(boxes)), 0.6))
    whole = sum(window == (0, 0, 80, 60) for window in windows(crop=0.3))
    # 3 of the 7: None, .7 and .9.
    assert abs(whole / 1500 - 3 / 7) < 0.04


def test_a_crop_of_a_canvas_is_one_window():
    found = list(windows(crop=0.3, expand=4.0))
    assert any(x1 < 0 and x2 < 80 for x1, _, x2, _ in found)
    assert all(centres_inside(window, OBJECTS) for window in found)


def test_pictures_without_objects_are_cropped_too():
    assert len({*windows(50, boxes=np.zeros((0, 4)), crop=0.3)}) > 25


def test_boxes_do_not_change_how_much_randomness_is_used():
    after = []
    for boxes in (OBJECTS, OBJECTS[:1], np.zeros((0, 4), np.float32)):
        rng = np.random.default_rng(3)
        draw_window(rng, SIZE, boxes, 4.0, 0.3)
        after.append(rng.random())
    assert after[0] == after[1] == after[2]


def test_a_window_is_cut_and_filled():
    image = np.random.default_rng(0).integers(0, 256, (6, 10, 3)).astype(np.uint8)
    np.testing.assert_array_equal(cut(image, (2, 1, 7, 5)), image[1:5, 2:7])
    shown = cut(image, (-3, 2, 5, 9))
    expected = np.full((7, 8, 3), FILL, np.uint8)
    for y in range(7):
        for x in range(8):
            if 0 <= y + 2 < 6 and 0 <= x - 3 < 10:
                expected[y, x] = image[y + 2, x - 3]
    np.testing.assert_array_equal(shown, expected)
    assert (cut(image, (-9, -9, -2, -2)) == FILL).all()


def test_boxes_stay_by_their_centres_and_are_clipped():
    boxes = [
        [0, 0, 10, 10],  # centre at (5, 5): on the edge, inside
        [0, 0, 8, 10],  # centre at x 4: outside
        [12, 12, 20, 20],  # wholly inside
        [0, 4, 40, 30],  # larger than the window
        [20, 10, 30, 12],  # centre at x 25: on the far edge, outside
    ]
    moved, kept = cut_boxes(np.array(boxes, np.float32), np.zeros(5, bool), (5, 5, 25, 25))
    assert kept.tolist() == [True, False, True, True, False]
    assert moved.tolist() == [[0, 0, 5, 5], [7, 7, 15, 15], [0, 0, 20, 20]]
    assert moved.dtype == np.float32


def test_crowds_stay_as_long_as_a_pixel_does():
    boxes = np.array([[0, 0, 8, 10], [0, 0, 6, 10], [0, 0, 5.5, 10], [24, 24, 90, 90]], np.float32)
    moved, kept = cut_boxes(boxes, np.ones(4, bool), (5, 5, 25, 25))
    assert kept.tolist() == [True, True, False, True]
    assert moved.tolist() == [[0, 0, 3, 5], [0, 0, 1, 5], [19, 19, 20, 20]]


def test_boxes_are_where_the_white_is():
    options = {"expand": 3.0, "crop": 0.4, "vertical_flip": True, "rotate90": True}
    batches = Batches(Marked([WIDE] * 6 + [TALL] * 6), 2, **options)
    looks = set()
    for epoch in range(6):
        for image, boxes, classes, _, index in rows(batches.numpy_batches(epoch)):
            assert boxes[0].tolist() == white_box(image)
            assert classes.tolist() == [0]
            looks.add((index, image.shape))
    assert len(looks) > 40


def test_labels_and_flags_follow_their_boxes():
    data = Marked([(40, 60)] * 8, counts=[3] * 8)
    corners = np.random.default_rng(1).integers(0, 32, (8, 3, 2))
    for sample, corner in zip(data.samples, corners, strict=True):
        sample.boxes[:] = np.concatenate([corner, corner + np.array([9, 7])], axis=1)
    batches = Batches(data, 2, flip=False, crop=0.3, expand=2.0)
    lost, checked = 0, 0
    for epoch in range(10):
        for step in range(len(batches)):
            x, y = batches.batch(epoch, step)
            for row, index in enumerate(x["image_id"]):
                sample = data.sample(int(index))
                rng = picture_rng(0, epoch, step, row)
                window = draw_window(rng, sample.size, sample.boxes[:2], 2.0, 0.3) or (0, 0, 60, 40)
                expected = []
                for box, label, flag in zip(sample.boxes, sample.classes, (False, True, True), strict=True):
                    x1, y1, x2, y2 = (box - np.array([*window[:2]] * 2)).tolist()
                    width, height = window[2] - window[0], window[3] - window[1]
                    clipped = [max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)]
                    if label == 2:
                        stays = clipped[2] - clipped[0] >= 1 and clipped[3] - clipped[1] >= 1
                    else:
                        stays = 0 <= (x1 + x2) / 2 < width and 0 <= (y1 + y2) / 2 < height
                    if stays:
                        expected.append((clipped, int(label), flag))
                count = len(expected)
                found = [y[name][row].tolist() for name in ("boxes", "classes", "difficult")]
                assert list(zip(*(each[:count] for each in found), strict=True)) == expected
                assert found[1][count:] == [-1] * (3 - count)
                assert not y["boxes"][row, count:].any()
                assert not y["difficult"][row, count:].any()
                assert x["sizes"][row].tolist() == [window[3] - window[1], window[2] - window[0]]
                lost, checked = lost + 3 - count, checked + 3
    assert 0.05 < lost / checked < 0.6


def test_seed_epoch_and_step_decide_the_windows():
    options = {"expand": 3.0, "crop": 0.4}
    one, again = Batches(mixed(), 2, seed=1, **options), Batches(mixed(), 2, seed=1, workers=4, **options)
    for step in (3, 0, 2):
        same(one.batch(4, step), again.batch(4, step))
    shapes = [tuple(map(tuple, one.batch(epoch, 0)[0]["sizes"].tolist())) for epoch in range(6)]
    assert len(set(shapes)) > 3
    first_two = [one.batch(epoch, 0)[0]["sizes"].tolist() for epoch in range(20)]
    assert sum(first != second for first, second in first_two) > 2


def test_order_and_flips_stay_as_they_are_without_crops():
    plain, cropped = Batches(mixed(), 2, seed=5), Batches(mixed(), 2, seed=5, crop=0.5, expand=2.0)
    assert [each.tolist() for each in plain.plan(2)] == [each.tolist() for each in cropped.plan(2)]
    assert plain._plan(2).changes == cropped._plan(2).changes


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"expand": 0.5}, "expand is a factor from 1"),
        ({"expand": 40}, "to 8, not 40"),
        ({"crop": 0}, "crop is the least share of a side"),
        ({"crop": 1.5}, "not 1.5"),
    ],
)
def test_arguments_that_mean_nothing(options, words):
    with pytest.raises(ValueError, match=words):
        Batches(mixed(), **options)
