"""The image pyramid: which scale an RoI goes to, and that it is pooled there and nowhere else."""

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from tiny import tiny_fast

from zoo.heads.pyramid import nearest_level, stack_maps
from zoo.heads.roi_pool import RoIMaxPool

PAPER = (480, 576, 688, 864, 1200)


def level_loop(roi, factors, one):
    """Girshick 2015, section 2.4, as its release computes it: the difference of areas, the first of equal ones."""
    area = (roi[2] - roi[0] + one) * (roi[3] - roi[1] + one)
    best = None
    for level, factor in enumerate(factors):
        off = abs(area * factor * factor - 224 * 224)
        if best is None or off < best[0]:
            best = off, level
    return best[1]


@pytest.mark.parametrize("one", [0.0, 1.0])
def test_level_against_a_loop(one):
    rng = np.random.default_rng(0)
    rois = np.stack([reference.random_boxes(rng, 200, 500, 375) for _ in range(2)])
    # 375 x 500 and 300 x 900, of which the long side is held at 2000.
    factors = np.array(
        [[min(short / small, 2000 / large) for small, large in ((375, 500), (300, 900))] for short in PAPER]
    )
    found = np.asarray(nearest_level(rois, np.repeat(factors[..., None], 2, axis=2), one == 1))
    assert found.dtype == np.int32
    expected = [[level_loop(roi.astype(float), factors[:, i], one) for roi in rois[i]] for i in range(2)]
    np.testing.assert_array_equal(found, expected)
    assert set(found[0]) == set(range(5))


def test_level_of_literal_squares():
    ratios = np.array([0.5, 1.0, 2.0])[:, None, None] * np.ones((3, 1, 2))
    sides = np.array([100, 224, 450, 112.0, 2.0, 141.6, 141.7])
    rois = np.stack([0 * sides, 0 * sides, sides, sides], axis=1)[None].astype("float32")
    # 141.67 squared, times 1 and times 4, is as far below 224 squared as above it.
    assert np.asarray(nearest_level(rois, ratios))[0].tolist() == [2, 1, 0, 2, 2, 2, 1]


def test_equally_near_is_the_first():
    ratios = np.ones((3, 1, 2))
    assert np.asarray(nearest_level(np.array([[[0.0, 0, 50, 50]]]), ratios)).tolist() == [[0]]


@pytest.mark.parametrize("compiled", [False, True])
def test_stacked_maps_pool_as_each_alone(compiled):
    rng = np.random.default_rng(1)
    shapes = [(4, 7), (6, 5), (9, 9)]
    # Below zero too: padding must not count as a cell.
    maps = [rng.normal(-1, 2, (2, *shape, 3)).astype("float32") for shape in shapes]
    rois = rng.uniform(-40, 170, (2, 12, 4)).astype("float32")
    level = rng.integers(0, 3, (2, 12)).astype("int32")
    pool = RoIMaxPool(3, 16, max_cells=12)

    def run(*maps):
        stacked, extents = stack_maps(maps)
        image = level * 2 + np.arange(2, dtype="int32")[:, None]
        return stacked, pool(stacked, rois, image=image, extent=tf.gather(extents, level))

    if compiled:
        run = tf.function(run, input_signature=[tf.TensorSpec((None, None, None, 3))] * 3)
    stacked, pooled = run(*maps)
    assert stacked.shape == (6, 9, 9, 3)
    assert not np.asarray(stacked)[:2, 4:].any()
    for b in range(2):
        for r in range(12):
            own = maps[level[b, r]][b : b + 1]
            wanted, _ = reference.roi_pool(own, rois[b : b + 1, r : r + 1], 3, 16)
            np.testing.assert_array_equal(pooled[b, r], wanted[0, 0])


def pyramid_batch():
    rng = np.random.default_rng(3)
    sizes = np.array([[60, 90], [64, 50]], "int32")
    images = np.zeros((2, 64, 90, 3), "uint8")
    proposals = np.zeros((2, 40, 4), "float32")
    for i, (height, width) in enumerate(sizes):
        images[i, :height, :width] = rng.integers(0, 256, (height, width, 3))
        proposals[i] = reference.random_boxes(rng, 40, width - 2, height - 2)
    return {"images": images, "sizes": sizes, "proposals": proposals, "image_id": np.arange(2, dtype="int32")}


def test_a_roi_is_pooled_at_its_scale():
    x = pyramid_batch()
    x["proposals"][0, 0] = [40, 0, 90, 60]  # up to the border, where the smaller maps end
    model = tiny_fast(scales=(240, 400, 560), long=900)
    assert [(each.short, each.long) for each in model.pyramid] == [(240, 900), (400, 900), (560, 900)]
    raw = model(x, training=True)
    # Below zero too, or nobody would see the padding of smaller maps pooled.
    raw["features"] = [each - 0.5 for each in raw["features"]]
    pooled = np.asarray(model._pool(raw, raw["proposals"]))
    seen = set()
    for i, (height, width) in enumerate(x["sizes"]):
        for r, roi in enumerate(x["proposals"][i]):
            sizes = [each.prepared_size(int(height), int(width)) for each in model.pyramid]
            factors = [(h * w / (height * width)) ** 0.5 for h, w in sizes]
            level = level_loop(roi.astype(float), factors, 0.0)
            seen.add(level)
            scaled = roi * np.array([sizes[level][1] / width, sizes[level][0] / height] * 2, "float32")
            features = np.asarray(raw["features"][level])[i : i + 1]
            wanted, _ = reference.roi_pool(features, scaled[None, None].astype("float32"), 4, 16)
            np.testing.assert_allclose(pooled[i, r], wanted[0, 0], atol=1e-6)
    assert seen == {0, 1, 2}


def test_detects_trains_and_is_described(tmp_path):
    x = pyramid_batch()
    model = tiny_fast(scales=(64, 160), long=300, score_threshold=0.0)
    y = {"boxes": x["proposals"][:, :2], "classes": np.array([[0, 1], [1, -1]], "int32")}
    model.compile(keras.optimizers.SGD(1e-3))
    before = [np.asarray(weight) for weight in model.trainable_weights]
    history = model.fit(x, y, batch_size=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    # The new layers are tiny, so that little of the gradient passes on to what is below them.
    changed = [abs(np.asarray(new) - old).max() > 0 for new, old in zip(model.trainable_weights, before, strict=True)]
    assert all(changed)
    found = model.predict(x, batch_size=2, verbose=0)
    assert (found["num_detections"] > 3).all()
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.scales == (64, 160)
    np.testing.assert_allclose(loaded(x)["boxes"], found["boxes"], atol=1e-4)


def test_told_sizes_are_one_scale():
    """Training at scales drawn by the batches: each image once, as large as it is told."""
    x = pyramid_batch()
    model = tiny_fast(scales=(240, 400, 560), long=900)
    raw = model({**x, "prepared_sizes": np.array([[80, 120], [96, 75]], "int32")}, training=True)
    assert [tuple(each.shape[:3]) for each in raw["features"]] == [(2, 6, 8)]
    np.testing.assert_allclose(raw["ratios"], [[[80 / 60, 120 / 90], [1.5, 1.5]]], rtol=1e-6)
