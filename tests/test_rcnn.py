"""R-CNN: crops against a loop over pixels, features against each crop by itself, and a small training."""

import keras
import numpy as np
import pytest
from test_fast_rcnn_targets import batch
from test_svm import Near
from tiny_baselines import decisive, tiny_rcnn, trained, uncompiled

from zoo.detectors.rcnn import RCNN
from zoo.detectors.warping import Warping
from zoo.heads.warped_crops import warped_crops


def crop(image, box, side, context):
    """Appendix A pixel by pixel: the box widened, sampled at pixel centres, 0 beyond the image."""
    height, width, channels = image.shape
    out = np.zeros((side, side, channels))
    wide = side / (side - 2 * context)
    cx, cy = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    w, h = (box[2] - box[0]) * wide, (box[3] - box[1]) * wide
    for i in range(side):
        for j in range(side):
            x, y = cx - w / 2 + (j + 0.5) * w / side, cy - h / 2 + (i + 0.5) * h / side
            if not (0 <= x <= width and 0 <= y <= height):
                continue
            x, y = min(max(x - 0.5, 0), width - 1), min(max(y - 0.5, 0), height - 1)
            left, top = int(x), int(y)
            right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
            fx, fy = x - left, y - top
            upper = image[top, left] * (1 - fx) + image[top, right] * fx
            lower = image[bottom, left] * (1 - fx) + image[bottom, right] * fx
            out[i, j] = upper * (1 - fy) + lower * fy
    return out


SIZES = np.array([[40, 56], [33, 24]], "int32")
BOXES = [[3, 5, 30, 20], [0, 0, 56, 40], [-10, 12, 8.5, 70], [20.25, 20.5, 22, 21.125], [0, 0, 0, 0]]


def canvas(seed=0):
    images = np.random.default_rng(seed).normal(size=(2, 40, 56, 3)).astype("float32")
    images[1, 33:], images[1, :, 24:] = 99, 99  # never looked at: beyond the second image
    return images


@pytest.mark.parametrize(("side", "context"), [(16, 3), (9, 0)])
def test_crops_against_a_loop(side, context):
    images, boxes = canvas(), np.array(BOXES * 2, "float32")
    which = np.repeat([0, 1], len(BOXES)).astype("int32")
    found = np.asarray(warped_crops(images, boxes, which, SIZES, side, context))
    for crop_found, box, i in zip(found, boxes, which, strict=True):
        wanted = crop(images[i, : SIZES[i][0], : SIZES[i][1]], box, side, context)
        np.testing.assert_allclose(crop_found, wanted, atol=2e-4)
    assert (found[2] == 0).any(), "a part lies beyond the image"


def test_context_is_as_many_pixels_of_the_crop():
    """A bright box on black: its crop has a black border as wide as the context."""
    image = np.zeros((1, 100, 100, 1), "float32")
    image[0, 30:70, 20:60] = 1
    found = np.asarray(
        warped_crops(image, np.array([[20.0, 30, 60, 70]], "float32"), np.array([0]), [[100, 100]], 64, 8)
    )
    inside = found[0, :, :, 0] > 0.5
    assert inside.sum() == 48 * 48
    assert inside[8:56, 8:56].all()


def test_features_are_those_of_every_crop_by_itself():
    x, _ = batch()
    x["sizes"] = np.array([[64, 96], [48, 80]], "int32")
    for convention, looked_at in (("continuous", ((0, 41), (1, 3))), ("caffe", ((1, 20),))):
        model = tiny_rcnn(convention=convention)
        raw = model._look(x, training=False)
        pooled = np.asarray(model._pool(raw, raw["proposals"]))
        assert pooled.shape == (2, 50, 4, 4, 32)
        for i, r in looked_at:
            height, width = x["sizes"][i]
            box = np.clip(x["proposals"][i, r], 0, [width, height] * 2)
            colours = (x["images"][i, :height, :width].astype(float) - [123.68, 116.779, 103.939]) / 60
            maps = np.asarray(model.extractor(crop(colours, box, 64, 4)[None].astype("float32")))
            np.testing.assert_allclose(pooled[i, r], maps[0], atol=2e-3)
        np.testing.assert_allclose(model._pool(raw, raw["proposals"], training=True), pooled, atol=1e-4)


def test_a_larger_map_is_pooled_as_pool5_does():
    """8 x 8 cells of a crop of 128 pixels: bins of 2 x 2, as VGG's 14 x 14 become 7 x 7."""
    x, _ = batch()
    config = tiny_rcnn().get_config()
    config["preprocessing"]["config"]["side"] = 128
    model = RCNN.from_config(config)
    raw = model._look(x, training=False)
    pooled = np.asarray(model._pool(raw, raw["proposals"][:, :1]))
    crops = model.preprocessing.crops(
        raw["features"][0], raw["proposals"][:, 0], np.array([0, 1], "int32"), [[64, 96]] * 2
    )
    maps = np.asarray(model.extractor(crops))
    np.testing.assert_allclose(pooled[:, 0], maps.reshape(2, 4, 2, 4, 2, 32).max((2, 4)), atol=1e-5)


def test_detections_do_not_depend_on_what_is_computed_together():
    x, _ = batch()
    model = decisive(tiny_rcnn(score_threshold=0.0, bbox="multi"))
    together = model.predict_on_batch(x)
    assert (together["num_detections"] > 3).all()
    other = decisive(tiny_rcnn(score_threshold=0.0, bbox="multi", at_once=64))
    for i in range(2):
        alone = other.detect(x["images"][i], proposals=x["proposals"][i, : x["num_proposals"][i]])
        count = together["num_detections"][i]
        np.testing.assert_allclose(alone.boxes, together["boxes"][i, :count], atol=1e-2)
        np.testing.assert_array_equal(alone.classes, together["classes"][i, :count])


def test_training_moves_everything():
    x, y = batch()
    model = tiny_rcnn()
    moved = trained(model, x, y)
    assert all(by > 0 for by in moved.values()), {path for path, by in moved.items() if by == 0}
    assert not any("loc" in path for path in moved)


def test_saved_and_loaded(tmp_path):
    x, _ = batch()
    model = decisive(tiny_rcnn(score_threshold=0.0))
    found = model(x)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert isinstance(loaded, RCNN)
    assert isinstance(loaded.preprocessing, Warping)
    assert (loaded.preprocessing.side, loaded.preprocessing.context, loaded.preprocessing.at_once) == (64, 4, 34)
    for key, value in loaded(x).items():
        np.testing.assert_array_equal(value, found[key])


def test_the_papers_three_steps_end_in_a_detector(tmp_path):
    """Fine-tuned, machines, boxes; and each is what the next begins with."""
    from test_overfit import Shapes

    import zoo
    from zoo.datasets.pipeline import Batches
    from zoo.training.ridge_boxes import fit_boxes
    from zoo.training.svm import train_svms
    from zoo.training.svm_class import SVMSettings

    data = Shapes()
    model = tiny_rcnn(data.classes, at_once=64, score_threshold=0.0)
    batches = Batches(data, 2, flip=False, proposals=Near(), most_proposals=60)
    with uncompiled():
        zoo.train(model, batches, out=tmp_path, steps=2, tensorboard=False, verbose=0)
        machines = train_svms(model, data, Near(), settings=SVMSettings(cost=0.01), mirrored=False)
        made = fit_boxes(machines, data, Near(), mirrored=False)
        scores = [zoo.evaluate(each, data, proposals=Near()).result.map for each in (model, machines, made)]
    assert scores[1] > scores[0] + 0.2
    assert scores[2] > scores[0] + 0.2
    assert (made.scoring, made.bbox) == ("svm", "multi")


def test_crops_that_cannot_be():
    for options, says in (({"context": 32}, "below half the crop's 64"), ({"at_once": 0}, "from 1 on")):
        with pytest.raises(ValueError, match=says):
            Warping(64, **options)
