"""Resizing in the pipeline: sizes as the model has them, boxes to scale, one short side a batch."""

from fractions import Fraction

import numpy as np
import pytest
from marked import WIDE, Marked, mixed, rows, same, white_box

from zoo.datasets.pipeline import Batches
from zoo.datasets.prepare import prepared_size

FIVE = (480, 576, 688, 864, 1200)


def some_sizes(count=400):
    return np.random.default_rng(0).integers(1, 1500, (count, 2)).tolist()


def nearest(value):
    """The nearest whole number, halves up."""
    return int((value + Fraction(1, 2)) // 1)


@pytest.mark.parametrize(("short", "long"), [(600, 1000), (480, 2000), (1200, 2000), (300, 300)])
def test_sizes_by_the_definition(short, long):
    for height, width in some_sizes():
        factor = min(Fraction(short, min(height, width)), Fraction(long, max(height, width)))
        expected = tuple(max(nearest(factor * side), 1) for side in (height, width))
        found = prepared_size(height, width, short, long)
        assert found == expected
        assert min(found) == short or max(found) == long


def test_a_model_leaves_prepared_pictures_alone():
    from zoo.detectors.preprocessing import ROUNDINGS, Preprocessing

    for rounding in ROUNDINGS:
        layer = Preprocessing(600, 1000, rounding=rounding)
        for height, width in some_sizes():
            size = prepared_size(height, width, 600, 1000)
            assert layer.prepared_size(*size) == size
            if rounding == "nearest":
                assert layer.prepared_size(height, width) == size


def test_pixels_are_the_models_own_up_to_rounding():
    from zoo.detectors.preprocessing import Preprocessing

    layer = Preprocessing(60, 100, mean=(0, 0, 0))
    data = Marked([WIDE] * 2)
    noise = np.random.default_rng(0).integers(0, 256, (2, *WIDE, 3)).astype(np.uint8)
    data.load = lambda index: (noise[index], data.sample(index))
    options = {"shuffle": False, "flip": False}
    raw, prepared = (Batches(data, 2, **options, **more).batch(0, 0)[0] for more in ({}, {"short": 60, "long": 100}))
    by_model, sizes, _ = layer(raw["images"], raw["sizes"])
    assert prepared["sizes"].tolist() == np.asarray(sizes).tolist() == [[60, 90]] * 2
    assert np.abs(prepared["images"] - np.asarray(by_model)).max() <= 1
    again, _, ratio = layer(prepared["images"], prepared["sizes"])
    np.testing.assert_allclose(np.asarray(again), prepared["images"], atol=1e-4)
    assert np.asarray(ratio).tolist() == [[1, 1]] * 2


@pytest.mark.parametrize("rounding", ["nearest", "floor", "factor"])
def test_a_model_takes_the_sizes_it_is_told(rounding):
    from zoo.detectors.preprocessing import Preprocessing

    layer = Preprocessing(60, 100, mean=(9, 8, 7), rounding=rounding)
    x, _ = Batches(mixed(), 3, short=(25, 48), scale_jitter=(0.7, 1.4)).batch(0, 0)
    assert len({tuple(size) for size in x["sizes"].tolist()}) > 1
    prepared, sizes, ratio = (np.asarray(each) for each in layer(x["images"], x["sizes"], x["prepared_sizes"]))
    np.testing.assert_array_equal(sizes, x["sizes"])
    np.testing.assert_array_equal(ratio, np.ones((3, 2)))
    for row, (height, width) in enumerate(x["sizes"]):
        np.testing.assert_allclose(prepared[row, :height, :width], x["images"][row, :height, :width] - [9.0, 8, 7])
        assert not prepared[row, height:].any()
        assert not prepared[row, :, width:].any()
    # It may also be left to the model to resize to a size that is told.
    raw, _ = Batches(mixed(), 3).batch(0, 0)
    wanted = np.array([prepared_size(*size, 45, 90) for size in raw["sizes"].tolist()], np.int32)
    told = layer(raw["images"], raw["sizes"], wanted)
    by_rule = Preprocessing(45, 90, mean=(9, 8, 7))(raw["images"], raw["sizes"])
    for one, other in zip(told, by_rule, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), atol=1e-3)


def test_a_detector_trains_at_the_sizes_it_is_told():
    import tensorflow as tf
    from tiny import tiny_detector

    from zoo.training.tasks import as_batches

    model = tiny_detector(("a", "b", "c"))  # of its own, it would resize to a short side of 64
    batches = Batches(mixed(), 2, short=(32, 50), long=96)
    for step in range(2):
        x, y = batches.batch(0, step)
        found = model(x, training=True)
        assert np.asarray(found["sizes"]).tolist() == x["sizes"].tolist()
        loss = model.compute_loss(x, y, found)
        assert np.isfinite(float(loss))
    model.compile(optimizer="sgd")
    model.fit(batches.dataset(), steps_per_epoch=2, verbose=0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="sizes are larger than long=96; build the model"):
        model.fit(Batches(mixed(), 2, short=97).dataset(), steps_per_epoch=1, verbose=0)
    with pytest.raises(ValueError, match="long side of up to 120, but tiny is made for 96; build it with the option"):
        as_batches(model, Batches(mixed(), 2, short=60, long=120), 2, 0)
    as_batches(model, Batches(mixed(), 2, short=60, long=96), 2, 0)


def test_boxes_and_sizes_follow():
    batches = Batches(mixed(), 3, short=37, long=50, vertical_flip=True, rotate90=True)
    for epoch in range(3):
        for x, _ in batches.numpy_batches(epoch):
            np.testing.assert_array_equal(x["prepared_sizes"], x["sizes"])
        for image, boxes, *_ in rows(batches.numpy_batches(epoch)):
            assert min(image.shape[:2]) == 37 or max(image.shape[:2]) == 50
            assert np.abs(boxes[0] - white_box(image)).max() < 1.1
    assert "prepared_sizes" not in Batches(mixed(), 3).batch(0, 0)[0]


def test_boxes_take_the_true_factors():
    # 20 x 30 at short side 25 is 25 x 38, not 25 x 37.5.
    batches = Batches(Marked([WIDE]), 1, flip=False, short=25)
    _, y = batches.batch(0, 0)
    expected = batches.source.sample(0).boxes * np.array([38 / 30, 25 / 20] * 2)
    np.testing.assert_allclose(y["boxes"][0], expected, rtol=1e-6)


def test_one_short_side_a_batch_all_of_them_in_turn():
    batches = Batches(Marked([WIDE] * 40), 2, short=FIVE, long=2000)
    seen = []
    for epoch in range(10):
        plan = batches._plan(epoch)
        seen += plan.shorts
        for step in (0, 7):
            x, _ = batches.batch(epoch, step)
            assert {min(size) for size in x["sizes"].tolist()} == {plan.shorts[step]}
    counts = np.unique(seen, return_counts=True)
    assert counts[0].tolist() == list(FIVE)
    assert counts[1].min() > 20
    assert len({tuple(batches._plan(epoch).shorts) for epoch in range(4)}) == 4


def test_scales_change_neither_order_nor_flips():
    plain, scaled = Batches(mixed(), 2, seed=5), Batches(mixed(), 2, seed=5, short=(30, 40))
    assert [each.tolist() for each in plain.plan(2)] == [each.tolist() for each in scaled.plan(2)]
    assert plain._plan(2).changes == scaled._plan(2).changes


def test_scale_jitter_comes_on_top():
    batches = Batches(Marked([WIDE] * 10), 2, short=40, scale_jitter=(0.5, 2.0), flip=False)
    plan, shorts = batches._plan(0), set()
    for step in range(len(batches)):
        x, y = batches.batch(0, step)
        for row, index in enumerate(x["image_id"]):
            height, width = x["sizes"][row]
            scale = plan.changes[step][row].scale
            assert (height, width) == (round(40 * scale), round(60 * scale))
            factors = np.array([width / 30, height / 20] * 2)
            np.testing.assert_allclose(y["boxes"][row, 0], batches.source.sample(int(index)).boxes[0] * factors, 1e-5)
            shorts.add(height)
    assert len(shorts) > 4


def test_crops_are_resized():
    batches = Batches(mixed(), 2, short=(30, 48), crop=0.4, expand=2.0)
    for epoch in range(4):
        for x, _ in batches.numpy_batches(epoch):
            assert len({min(size) for size in x["sizes"].tolist()}) == 1
        for image, boxes, *_ in rows(batches.numpy_batches(epoch)):
            assert np.abs(boxes[0] - white_box(image)).max() < 2.1


def test_tensorflow_gives_the_same_batches():
    batches = Batches(mixed(), 2, short=(30, 48), crop=0.4)
    whole = batches.dataset().take(len(batches)).as_numpy_iterator()
    for one, other in zip(whole, batches.numpy_batches(), strict=True):
        same(one, other)


def test_static_shapes():
    def shape(**options):
        spec = Batches(Marked([WIDE] * 4), 2, **options).dataset().element_spec[0]
        return tuple(spec["images"].shape), tuple(spec["prepared_sizes"].shape)

    assert shape(short=40) == ((2, 40, 60, 3), (2, 2))
    assert shape(short=[40]) == ((2, 40, 60, 3), (2, 2))
    assert shape(short=40, pad_multiple=32) == ((2, 64, 64, 3), (2, 2))
    for options in ({"short": (40, 50)}, {"crop": 0.5}, {"expand": 2.0}, {"scale_jitter": (0.5, 1)}):
        assert shape(**{"short": 40, **options})[0] == (2, None, None, 3)


def test_pictures_in_their_own_order():
    data = mixed()
    kept = Batches(data, 3, shuffle=False, flip=False, drop_remainder=False, bucket=False)
    ids = [int(index) for x, _ in kept.numpy_batches() for index in x["image_id"]]
    assert ids == list(range(len(data)))
    apart = Batches(data, 3, shuffle=False, flip=False, drop_remainder=False)
    ids = [int(index) for x, _ in apart.numpy_batches() for index in x["image_id"]]
    assert sorted(ids) == list(range(len(data)))
    assert ids != list(range(len(data)))


@pytest.mark.parametrize("short", [0, (), (600, 0), 1001, (480, 1200)])
def test_sides_that_mean_nothing(short):
    with pytest.raises(ValueError, match="short is one or several sides from 1 to long=1000 pixels"):
        Batches(mixed(), short=short)
