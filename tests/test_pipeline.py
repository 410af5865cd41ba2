"""Batches: nothing lost or doubled, boxes follow their pictures, (seed, epoch, step) decides everything."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from marked import TALL, WIDE, Marked, mixed, same, white_box

from zoo.datasets.augment import Change, apply
from zoo.datasets.digits import digit_scenes
from zoo.datasets.pipeline import Batches
from zoo.datasets.records import DetectionDataset, Sample


def test_flip_by_the_definition():
    image = np.random.default_rng(0).integers(0, 256, (6, 10, 3)).astype(np.uint8)
    boxes = np.array([[1, 2, 4, 5]], np.float32)
    flipped, moved = apply(Change(mirror=True), image, boxes)
    np.testing.assert_array_equal(flipped, image[:, ::-1])
    assert moved.tolist() == [[6, 2, 9, 5]]
    assert boxes.tolist() == [[1, 2, 4, 5]]
    flipped, moved = apply(Change(upside_down=True), image, boxes)
    np.testing.assert_array_equal(flipped, image[::-1])
    assert moved.tolist() == [[1, 1, 4, 4]]


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("upside_down", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.5, 2.0])
def test_boxes_follow_the_picture(turns, mirror, upside_down, scale):
    image, sample = Marked([(40, 60)]).load(0)
    change = Change(scale=scale, mirror=mirror, upside_down=upside_down, quarter_turns=turns)
    image, boxes = apply(change, image, sample.boxes)
    assert image.shape[:2] == tuple(round(side * scale) for side in ((60, 40) if turns % 2 else (40, 60)))
    assert np.abs(boxes[0] - white_box(image)).max() <= (0 if scale == 1 else 0.51)


def test_odd_scales_use_the_true_factors():
    image, boxes = apply(Change(scale=0.37), np.zeros((10, 11, 3), np.uint8), [[0, 0, 11, 10]])
    assert image.shape == (4, 4, 3)
    np.testing.assert_allclose(boxes, [[0, 0, 4, 4]], rtol=1e-6)


def test_no_boxes_stay_no_boxes():
    everything = Change(1.5, True, True, 1, 1.2, 3.0)
    assert apply(everything, np.zeros((8, 9, 3), np.uint8), np.zeros((0, 4)))[1].shape == (0, 4)


def test_colour_changes_stay_in_range():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    changed, _ = apply(Change(contrast=1.5, brightness=20), image, np.zeros((0, 4)))
    expected = np.clip(np.round((image.astype(float) - 128) * 1.5 + 148), 0, 255)
    np.testing.assert_array_equal(changed, expected)


def test_elements_follow_the_contract():
    data = Marked([WIDE, TALL, WIDE, (25, 35), WIDE], counts=[3, 1, 0, 2, 1])
    batches = Batches(data, 2, shuffle=False, flip=False, drop_remainder=False)
    x, y = batches.batch(0, 0)
    assert batches.plan(0)[0].tolist() == [0, 2]
    assert x["images"].shape == (2, 20, 30, 3)
    assert x["images"].dtype == np.uint8
    assert x["sizes"].tolist() == [[20, 30], [20, 30]]
    assert x["image_id"].tolist() == [0, 2]
    assert y["boxes"].shape == (2, 3, 4)
    np.testing.assert_array_equal(y["boxes"][0], data.sample(0).boxes)
    assert not y["boxes"][1].any()
    assert y["classes"].tolist() == [[0, 1, 2], [-1, -1, -1]]
    assert y["difficult"].tolist() == [[False, True, True], [False] * 3]  # the third is a crowd box
    types = {**x, **y}
    assert {name: value.dtype.name for name, value in types.items()} == {
        "images": "uint8",
        "sizes": "int32",
        "image_id": "int32",
        "boxes": "float32",
        "classes": "int32",
        "difficult": "bool",
    }
    x, _ = batches.batch(0, 1)
    assert x["images"].shape == (2, 25, 35, 3)
    assert x["sizes"].tolist() == [[25, 35], [20, 30]]
    assert (x["images"][0] > 0).all()
    assert not x["images"][1, 20:].any()
    assert not x["images"][1, :, 30:].any()


def test_every_picture_exactly_once_in_evaluation():
    batches = Batches(mixed(), 3, shuffle=False, flip=False, drop_remainder=False)
    seen = [int(index) for x, _ in batches.numpy_batches() for index in x["image_id"]]
    assert sorted(seen) == list(range(11))
    assert [len(indices) for indices in batches.plan(0)] == [3, 3, 1, 3, 1]


@pytest.mark.parametrize("batch_size", [2, 3, 4, 16])
def test_training_batches_are_full_and_lose_no_picture(batch_size):
    batches = Batches(mixed(), batch_size, seed=5)
    for epoch in range(3):
        plan = batches.plan(epoch)
        assert len(plan) == batches.steps_per_epoch == len(batches)
        assert all(len(indices) == batch_size for indices in plan)
        assert set(np.concatenate(plan).tolist()) == set(range(11))
        for side in (lambda index: index % 3 > 0, lambda index: index % 3 == 0):
            mine = [indices for indices in plan if side(indices[0])]
            together = np.concatenate(mine)
            counts = np.bincount(together)
            assert counts[counts > 0].max() - counts[counts > 0].min() <= 1


def test_wide_and_tall_pictures_share_no_batch():
    for rotate90 in (False, True):
        batches = Batches(mixed(), 3, rotate90=rotate90)
        shapes = set()
        for epoch in range(6):
            assert len(batches.plan(epoch)) == batches.steps_per_epoch
            for x, _ in batches.numpy_batches(epoch):
                assert len({bool(w >= h) for h, w in x["sizes"]}) == 1
                shapes.add(x["images"].shape[1:3])
        expected = {WIDE, TALL, WIDE[::-1], TALL[::-1]} if rotate90 else {WIDE, TALL}
        assert shapes == expected


def test_boxes_follow_through_the_whole_pipeline():
    options = {"vertical_flip": True, "rotate90": True, "scale_jitter": (0.7, 1.6), "colour_jitter": 0.2}
    batches = Batches(mixed(), 2, **options)
    looks = set()
    for epoch in range(8):
        for x, y in batches.numpy_batches(epoch):
            for image, size, box, index in zip(x["images"], x["sizes"], y["boxes"], x["image_id"], strict=True):
                picture = image[: size[0], : size[1]]
                assert np.abs(box[0] - white_box(picture)).max() < 1.01
                looks.add((int(index), tuple(np.round(box[0], 2))))
    assert len(looks) > 60  # pictures come back changed


def test_options_that_are_off_change_nothing():
    batches = Batches(mixed(), 2, flip=False)
    for x, y in batches.numpy_batches(3):
        for image, size, box, index in zip(x["images"], x["sizes"], y["boxes"], x["image_id"], strict=True):
            original, sample = batches.source.load(int(index))
            np.testing.assert_array_equal(image[: size[0], : size[1]], original)
            np.testing.assert_array_equal(box[0], sample.boxes[0])


def test_half_of_the_pictures_are_flipped():
    batches = Batches(mixed(200), 2)
    moved = [
        y["boxes"][row, 0, 0] != batches.source.sample(int(index)).boxes[0, 0]
        for x, y in batches.numpy_batches()
        for row, index in enumerate(x["image_id"])
    ]
    assert 0.35 < np.mean(moved) < 0.65


def test_seed_and_epoch_decide_everything():
    options = {"vertical_flip": True, "scale_jitter": (0.8, 1.2), "colour_jitter": 0.3}
    one, again = (Batches(mixed(), 2, seed=1, workers=workers, **options) for workers in (1, 4))
    for step in (3, 0, 2):  # in any order
        same(one.batch(4, step), again.batch(4, step))
    orders = [np.concatenate(one.plan(epoch)).tolist() for epoch in range(3)]
    assert orders[0] != orders[1] != orders[2]
    assert np.concatenate(Batches(mixed(), 2, seed=2).plan(0)).tolist() != orders[0]
    for epoch in range(9):  # more than are remembered
        one.plan(epoch)
    assert np.concatenate(one.plan(0)).tolist() == orders[0]


def test_seeds_mean_what_they_meant_when_trainings_began():
    # What the first version of the pipeline drew: shipped results were trained with these.
    options = {"vertical_flip": True, "rotate90": True, "scale_jitter": (0.5, 2.0), "colour_jitter": 0.5}
    plan = Batches(mixed(5), 2, seed=7, **options)._plan(1)
    assert [indices.tolist() for indices in plan.batches] == [[4, 2], [0, 3], [2, 1]]
    change = plan.changes[1][0]
    assert (change.mirror, change.upside_down, change.quarter_turns) == (False, True, 0)
    np.testing.assert_allclose(
        (change.scale, change.contrast, change.brightness), (0.6391038, 1.2290775, 63.7303590), rtol=1e-6
    )


def test_the_plan_names_the_pictures_of_a_batch():
    batches = Batches(mixed(), 2)
    x, _ = batches.batch(2, 1)
    assert batches.image_ids(2, 1) == [f"m{index}" for index in x["image_id"]]
    assert batches.plan(2)[1].tolist() == x["image_id"].tolist()


def test_order_is_kept_without_shuffle():
    batches = Batches(Marked([WIDE] * 5), 2, shuffle=False, drop_remainder=False)
    assert [indices.tolist() for indices in batches.plan(7)] == [[0, 1], [2, 3], [4]]


def test_tensorflow_gives_the_same_batches_and_resumes():
    options = {"seed": 3, "vertical_flip": True, "colour_jitter": 0.2}
    batches = Batches(mixed(), 2, workers=3, **options)
    expected = [batch for epoch in range(3) for batch in Batches(mixed(), 2, **options).numpy_batches(epoch)]
    whole = list(batches.dataset().take(len(expected)).as_numpy_iterator())
    for one, other in zip(whole, expected, strict=True):
        same(one, other)
    steps = batches.steps_per_epoch
    resumed = batches.dataset(start_epoch=1, start_step=2).take(2).as_numpy_iterator()
    for one, other in zip(resumed, expected[steps + 2 :], strict=False):
        same(one, other)


def test_tensorflow_evaluation_ends():
    batches = Batches(mixed(), 3, shuffle=False, flip=False, drop_remainder=False)
    data = batches.dataset(repeat=False)
    assert int(data.cardinality()) == batches.steps_per_epoch == len(list(data))


def test_static_shapes():
    def shape(*arguments, **options):
        return tuple(Batches(*arguments, **options).dataset().element_spec[0]["images"].shape)

    alike = Marked([WIDE] * 4)
    assert shape(alike, 2) == (2, 20, 30, 3)
    assert shape(alike, 2, pad_multiple=16) == (2, 32, 32, 3)
    assert shape(alike, 2, rotate90=True) == (2, None, None, 3)
    assert shape(alike, 2, scale_jitter=(0.5, 1)) == (2, None, None, 3)
    assert shape(alike, 3, drop_remainder=False) == (None, 20, 30, 3)
    assert shape(mixed(), 2) == (2, None, None, 3)
    boxes = Batches(alike, 2, max_boxes=9).dataset().element_spec[1]["boxes"].shape
    assert tuple(boxes) == (2, 9, 4)


def test_padding_to_a_multiple():
    x, _ = Batches(mixed(), 2, pad_multiple=16, shuffle=False).batch(0, 0)
    assert x["images"].shape[1:3] == (32, 32)
    assert x["sizes"].tolist() == [[20, 30]] * 2


def test_cache_reads_once_within_its_budget():
    data = Marked([WIDE] * 4)
    cached = Batches(data, 2, cache=True)
    first = [cached.batch(0, step) for step in range(2)]
    assert data.reads == 4
    list(cached.numpy_batches(1))
    assert data.reads == 4
    for step, batch in enumerate(first):  # flips have not damaged what is kept
        same(batch, Batches(Marked([WIDE] * 4), 2).batch(0, step))
    data = Marked([WIDE] * 4)
    small = Batches(data, 2, cache=True, cache_bytes=2 * 20 * 30 * 3)
    for epoch in range(2):
        list(small.numpy_batches(epoch))
    assert data.reads == 4 + 2


def test_pictures_without_any_object():
    x, y = Batches(Marked([WIDE] * 2, counts=[0, 0]), 2).batch(0, 0)
    assert y["boxes"].shape == (2, 1, 4)
    assert (y["classes"] == -1).all()
    assert len(x["images"]) == 2


def test_digits_come_through():
    batches = Batches(digit_scenes("train", 6), 2)
    for x, y in batches.numpy_batches():
        assert y["boxes"].shape == (2, 8, 4)
        assert ((y["boxes"][..., 2] > 0) == (y["classes"] >= 0)).all()
        assert x["images"].shape[1:] == (*x["sizes"].max(axis=0), 3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size is at least 1"),
        ({"workers": 0}, "workers is at least 1"),
        ({"max_boxes": 1}, "give at least 2"),
        ({"scale_jitter": (2.0, 1.0)}, "smallest <= largest"),
        ({"colour_jitter": 1.5}, "from 0 to below 1"),
    ],
)
def test_arguments_that_mean_nothing(options, words):
    with pytest.raises(ValueError, match=words):
        Batches(Marked([WIDE] * 2, counts=[2, 1]), **options)


def test_a_picture_of_another_size_than_its_sample_says():
    data = Marked([WIDE] * 2)
    data.load = lambda index: (np.zeros((5, 6, 3), np.uint8), data.sample(index))
    with pytest.raises(ValueError, match=r"m\d: the picture has shape \(5, 6, 3\), its sample says \(20, 30\)"):
        Batches(data, 2).batch(0, 0)


def test_an_empty_data_set():
    with pytest.raises(ValueError, match="marked: the data set is empty"):
        Batches(Marked([]))


def test_an_unreadable_picture_is_kept_as_it_was_raised(tmp_path):
    import tensorflow as tf

    (tmp_path / "street.jpg").write_text("no picture")
    sample = Sample("street", tmp_path / "street.jpg", WIDE, [], [], [], [])
    batches = Batches(DetectionDataset("broken", ("a",), [sample]), 1)
    with pytest.raises(tf.errors.OpError, match=r"street\.jpg: not an image"):
        next(iter(batches.dataset()))
    assert "street.jpg" in str(batches.error)


@pytest.mark.parametrize("kind", ["boxes", "classes"])
def test_an_iterator_that_is_not_finished_does_not_harm_the_exit(kind):
    code = (
        "import sys, time\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from marked import Marked, WIDE\n"
        "from zoo.datasets.class_batches import ClassBatches, CropFlip\n"
        "from zoo.datasets.class_records import ClassificationDataset\n"
        "from zoo.datasets.pipeline import Batches\n"
        "class Slow(Marked):\n"
        "    def load(self, index):\n"
        "        time.sleep(0.3)\n"
        "        return super().load(index)\n"
        "data = Slow([WIDE] * 4)\n"
        "if sys.argv[2] == 'boxes':\n"
        "    batches = Batches(data, 1)\n"
        "else:\n"
        "    labelled = ClassificationDataset('slow', ('a',), [0] * 4, 'abcd', data.image)\n"
        "    batches = ClassBatches(labelled, 1, CropFlip(16, 0))\n"
        "batches = iter(batches.dataset())\n"
        "next(batches)\n"
    )
    # Without care it aborts or hangs: a thread of TensorFlow's comes back into an interpreter that is gone.
    folder = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", code, folder, kind], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-1000:]


def test_numpy_batches_need_no_tensorflow():
    code = (
        "import sys\n"
        "from zoo.datasets.digits import digit_scenes\n"
        "from zoo.datasets.pipeline import Batches\n"
        "from zoo.datasets import load, voc, voc_metrics\n"
        "next(Batches(digit_scenes('train', 2), 1).numpy_batches())\n"
        "assert not {'tensorflow', 'keras', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
