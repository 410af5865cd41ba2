"""Batches with proposals: they follow every change of the picture, in their order, and fill fixed places."""

import numpy as np
import pytest
from marked import TALL, WIDE, Marked, same, white_box

from zoo.datasets.pipeline import Batches
from zoo.datasets.proposals import Computed, ProposalError
from zoo.datasets.proposals_files import ProposalTable

EVERYTHING = {"vertical_flip": True, "rotate90": True, "scale_jitter": (0.7, 1.6), "colour_jitter": 0.2}


def pictures(count=9):
    """Two thirds wide, one third tall; as many boxes as the index has rest by 4."""
    return Marked([WIDE if index % 3 else TALL for index in range(count)], counts=[1 + i % 4 for i in range(count)])


def table(data, more=0):
    """A first proposal that is the first object's box, and ``more`` random ones."""
    rng, found = np.random.default_rng(2), {}
    for sample in data.samples:
        height, width = sample.size
        corner = rng.uniform(0, 0.5, (more, 2)) * [width, height]
        boxes = np.concatenate([corner, corner + rng.uniform(0.1, 0.5, (more, 2)) * [width, height]], axis=1)
        found[sample.image_id] = (np.concatenate([sample.boxes[:1], boxes]), None)
    return ProposalTable("made.npz", found)


def test_elements_follow_the_contract():
    data = pictures(4)
    source = table(data, more=3)
    batches = Batches(data, 2, shuffle=False, flip=False, drop_remainder=False, proposals=source, most_proposals=6)
    seen = []
    for x, y in batches.numpy_batches():
        assert x["proposals"].shape == (len(x["image_id"]), 6, 4)
        assert x["proposals"].dtype == np.float32
        assert x["num_proposals"].dtype == np.int32
        assert x["num_proposals"].tolist() == [4] * len(x["image_id"])
        assert not x["proposals"][:, 4:].any()
        for row, index in enumerate(x["image_id"]):
            sample = data.sample(int(index))
            np.testing.assert_array_equal(x["proposals"][row, :4], source.boxes(sample))
            np.testing.assert_array_equal(y["boxes"][row, : len(sample)], sample.boxes)
            assert (y["classes"][row] >= 0).sum() == len(sample)
            seen.append(int(index))
    assert sorted(seen) == [0, 1, 2, 3]


def test_too_many_are_cut_off_in_their_order_and_none_are_none():
    data = Marked([WIDE] * 3)
    found = {
        s.image_id: (np.tile([[0, 0, 5, 6.0]], (at * 4, 1)) + np.arange(at * 4)[:, None], None)
        for at, s in enumerate(data.samples)
    }
    batches = Batches(data, 3, shuffle=False, flip=False, proposals=ProposalTable("t", found), most_proposals=5)
    x, _ = batches.batch(0, 0)
    assert x["num_proposals"].tolist() == [0, 4, 5]
    assert not x["proposals"][0].any()
    assert x["proposals"][2, :, 0].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="most_proposals is at least 1, not 0"):
        Batches(data, proposals=ProposalTable("t", found), most_proposals=0)


def test_without_a_source_there_is_no_trace_of_them():
    batches = Batches(pictures(), 2)
    assert "proposals" not in batches.batch(0, 0)[0]
    assert "proposals" not in batches.shapes()


def test_the_rest_of_a_batch_does_not_depend_on_proposals():
    data, options = pictures(), {**EVERYTHING, "expand": 3.0, "crop": 0.4, "short": (24, 40), "long": 80}
    plain = Batches(data, 2, seed=3, **options)
    more = Batches(data, 2, seed=3, proposals=table(data, 30), **options)
    for step in range(len(plain)):
        x, y = more.batch(1, step)
        del x["proposals"], x["num_proposals"]
        same((x, y), plain.batch(1, step))


def test_proposals_follow_the_picture():
    data = Marked([WIDE if index % 3 else TALL for index in range(9)])
    batches = Batches(data, 2, proposals=table(data), most_proposals=3, **EVERYTHING)
    looks = set()
    for epoch in range(6):
        for x, y in batches.numpy_batches(epoch):
            for image, size, box, own in zip(x["images"], x["sizes"], x["proposals"], y["boxes"], strict=True):
                assert np.abs(box[0] - white_box(image[: size[0], : size[1]])).max() < 1.01
                np.testing.assert_array_equal(box[0], own[0])
                looks.add(tuple(np.round(box[0], 2)))
    assert len(looks) > 40


def test_proposals_follow_a_mirrored_picture_by_hand():
    data = Marked([(20, 30)])
    source = ProposalTable("t", {"m0": (np.array([[2, 3, 12, 9], [0, 0, 30, 20.0]]), None)})
    seen = set()
    for seed in range(8):
        x, _ = Batches(data, 1, seed=seed, proposals=source, most_proposals=2).batch(0, 0)
        assert x["proposals"][0, 1].tolist() == [0, 0, 30, 20]
        seen.add(tuple(x["proposals"][0, 0].tolist()))
    assert seen == {(2, 3, 12, 9), (18, 3, 28, 9)}


def test_cut_pictures_keep_proposals_whose_centre_stays():
    data = Marked([(60, 80)], counts=[3])
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 40, (50, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(2, 20, (50, 2))], axis=1).astype(np.float32)
    source = ProposalTable("t", {"m0": (boxes, None)})
    fewer = 0
    for seed in range(250):
        options = {"seed": seed, "flip": False, "crop": 0.3, "expand": 2.0}
        batches = Batches(data, 1, proposals=source, most_proposals=60, **options)
        x, _ = batches.batch(0, 0)
        steps = batches._steps(0, 0, 0)
        x1, y1, x2, y2 = steps.window or (0, 0, 80, 60)
        wanted = []
        for box in source.boxes(data.sample(0)):
            middle = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
            if x1 <= middle[0] < x2 and y1 <= middle[1] < y2:
                low, high = np.maximum(box[:2], (x1, y1)), np.minimum(box[2:], (x2, y2))
                wanted.append([*(low - (x1, y1)), *(high - (x1, y1))])
        count = int(x["num_proposals"][0])
        assert count == len(wanted)
        np.testing.assert_allclose(x["proposals"][0, :count], wanted, atol=1e-4)
        assert not x["proposals"][0, count:].any()
        assert (x["proposals"][0].max(axis=0) <= [*x["sizes"][0][::-1], *x["sizes"][0][::-1]]).all()
        fewer += count < len(boxes)
    assert fewer > 10


def test_scaled_by_the_batches_themselves():
    data = Marked([(20, 30)])
    source = ProposalTable("t", {"m0": (np.array([[3, 4, 9, 10.0]]), None)})
    x, _ = Batches(data, 1, flip=False, short=40, long=60, proposals=source, most_proposals=1).batch(0, 0)
    np.testing.assert_allclose(x["proposals"][0, 0], [6, 8, 18, 20])


def test_same_batches_from_tensorflow_and_in_parts():
    data = pictures()
    batches = Batches(data, 4, seed=1, proposals=table(data, 10), most_proposals=8, crop=0.4)
    for step, element in enumerate(batches.dataset(repeat=False)):
        x, y = batches.batch(0, step)
        same(element, (x, y))
        assert element[0]["proposals"].shape == (4, 8, 4)
        for part in range(2):
            mine, _ = batches.shard(part, 2).batch(0, step)
            np.testing.assert_array_equal(mine["proposals"], x["proposals"][2 * part : 2 * part + 2])
    shapes = {name: tuple(spec.shape) for name, spec in batches.dataset().element_spec[0].items()}
    assert shapes["proposals"] == (4, 8, 4)
    assert shapes["num_proposals"] == (4,)


def test_missing_proposals_name_the_picture():
    data = pictures(3)
    source = table(data)
    del source.found["m1"]
    batches = Batches(data, 3, shuffle=False, bucket=False, proposals=source)
    with pytest.raises(ProposalError, match=r"made\.npz: no proposals for image m1"):
        batches.batch(0, 0)
    with pytest.raises(Exception, match="no proposals for image m1"):
        next(iter(batches.dataset()))
    assert isinstance(batches.error, ProposalError)


def test_a_method_may_be_the_source():
    data = Marked([(60, 80)])
    shift = lambda image: np.array([[0, 0, image.shape[1] / 2, image.shape[0]]], np.float32)  # noqa: E731
    x, _ = Batches(data, 1, flip=False, proposals=Computed(shift), most_proposals=2).batch(0, 0)
    assert x["proposals"][0].tolist() == [[0, 0, 40, 60], [0, 0, 0, 0]]
