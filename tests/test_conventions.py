"""A detector's conventions as options: kept in its description, passed on by builders, and the same in training."""

import keras
import numpy as np
import pytest
import reference
from test_padding import SHAPES, alone, loss, padded, patch_detector, truths
from tiny import tiny_detector, under_conventions

import zoo
from zoo.detectors import faster_rcnn
from zoo.detectors.faster_rcnn import FasterRCNN
from zoo.heads.anchors import caffe_cell_anchors

CAFFE = {"convention": "caffe", "min_size_in": "original", "edge_cells": True}
CHAINER = {"rank_by": "logit", "min_size_in": "original", "edge_cells": True}


def altered(model, rounding: str = "nearest", **options):
    """The same detector under other conventions, its random last layers made decisive."""
    house = {"convention": "continuous", "rank_by": "softmax", "min_size_in": "prepared", "edge_cells": False}
    other = under_conventions(model, rounding, **{**house, **options})
    rng = np.random.default_rng(0)
    for layer in (other.rpn.score, other.rpn.loc, other.head.score, other.head.loc):
        layer.kernel.assign(rng.normal(0, 0.3, layer.kernel.shape))
    return other


def picture(height: int = 70, width: int = 91) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("rounding", "options"), [("factor", CAFFE), ("floor", CHAINER)])
def test_saved_and_loaded(rounding, options, tmp_path):
    model = altered(tiny_detector(), rounding, **options)
    expected = model.detect(picture())
    assert len(expected) > 0
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert {key: getattr(loaded, key) for key in options} == options
    assert loaded.preprocessing.rounding == rounding
    np.testing.assert_array_equal(loaded.cell_anchors, model.cell_anchors)
    found = loaded.detect(picture())
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-4)
    assert found.class_names == expected.class_names


def test_a_description_from_before_there_were_conventions():
    model = tiny_detector()
    config = model.get_config()
    for key in ("convention", "rank_by", "min_size_in", "edge_cells"):
        del config[key]
    del config["preprocessing"]["config"]["rounding"]
    old = FasterRCNN.from_config(config)
    assert old.get_config() == model.get_config()


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("convention", "matlab", "'continuous', 'caffe'"),
        ("rank_by", "score", "'softmax', 'logit'"),
        ("min_size_in", "mm", "'prepared', 'original'"),
    ],
)
def test_unknown_ones_are_refused(option, value, allowed):
    with pytest.raises(ValueError, match=f"{option} must be one of {allowed}, got '{value}'"):
        altered(tiny_detector(), **{option: value})


def test_builders_pass_them_on():
    options = {**CAFFE, "rank_by": "logit", "rounding": "factor", "inputs": "py"}
    model = zoo.get("faster_rcnn_resnet18", classes=("a",), head_units=16, rpn_channels=16, **options)
    assert {key: getattr(model, key) for key in (*CAFFE, "rank_by")} == {**CAFFE, "rank_by": "logit"}
    assert (model.preprocessing.rounding, model.preprocessing.order) == ("factor", "bgr")
    np.testing.assert_array_equal(model.cell_anchors, caffe_cell_anchors())
    with pytest.raises(ValueError, match="rounding must be one of"):
        zoo.get("faster_rcnn_resnet18", classes=("a",), rounding="up")


def test_boxes_end_behind_their_last_pixel():
    model = altered(tiny_detector(), "factor", **CAFFE)
    found = model.detect(picture())
    assert (found.boxes >= 0).all()
    assert found.boxes.max(0)[2:].tolist() == [91, 70], "a box up to the last pixel ends at the border"
    assert (found.boxes[:, 2:] - found.boxes[:, :2] >= 1).all(), "no box is thinner than the pixel it holds"
    raw = model.predict_on_batch(picture()[None])
    assert not raw["boxes"][0, raw["num_detections"][0] :].any(), "padding stays zero"


def test_the_least_size_follows_the_image():
    # Twice as large after preparation: 10 pixels of the original are 20 there.
    image = {"images": picture(32, 40)[None]}
    least = {}
    for unit in ("prepared", "original"):
        model = altered(tiny_detector(), min_size_in=unit, proposal_min_size=10.0)
        raw = model._propose(image, training=False)
        boxes = np.asarray(raw["proposals"])[np.asarray(raw["proposal_scores"]) >= 0]
        least[unit] = (boxes[:, 2:] - boxes[:, :2]).min()
    assert 10 <= least["prepared"] < 20 <= least["original"]


def test_edge_cells_propose():
    # 66 pixels are five cells of 16, the last of which has its centre at 72.
    image = {"images": picture(66, 66)[None]}
    model = altered(tiny_detector(), edge_cells=True)
    assert model.preprocessing.prepared_size(66, 66) == (64, 64)
    model.preprocessing.short = 66
    counts = []
    for edge in (False, True):
        model.edge_cells = edge
        model.proposal_min_size = 0.0
        model.test_proposals = (1000, 1000)
        counts.append(float((np.asarray(model._propose(image, training=False)["proposal_scores"]) >= 0).sum()))
    assert counts[0] < counts[1]


@pytest.fixture(scope="module", params=[CAFFE, CHAINER], ids=["caffe", "chainer"])
def patchy(request):
    return patch_detector(rpn_samples=2000, head_samples=200, head_foreground=1.0, **request.param)


def test_a_batch_is_each_image_alone(patchy):
    x, y = padded(), truths(4)
    together = {key: np.asarray(value) for key, value in patchy(x).items()}
    assert (together["num_detections"] > 5).all()
    losses = []
    for i, (h, w) in enumerate(SHAPES):
        single = {key: np.asarray(value)[0] for key, value in patchy(alone(x, i)).items()}
        np.testing.assert_array_equal(together["classes"][i], single["classes"])
        np.testing.assert_allclose(together["boxes"][i], single["boxes"], atol=1e-2)
        assert (together["boxes"][i] <= [w, h, w, h]).all()
        losses.append(loss(patchy, alone(x, i), {key: value[i : i + 1] for key, value in y.items()}))
    assert abs(loss(patchy, x, y) - np.mean(losses)) < 1e-4 * max(losses)


def test_training_sees_inclusive_boxes(monkeypatch):
    """Ground truth loses its last pixel before it is scaled, as py-faster-rcnn's does, and meets inclusive anchors."""
    seen = {}

    def spy(name):
        original = getattr(faster_rcnn, name)

        def called(*args, **options):
            seen[name] = args, options, original(*args, **options)
            return seen[name][2]

        monkeypatch.setattr(faster_rcnn, name, called)

    spy("rpn_targets"), spy("roi_targets")
    model = altered(tiny_detector(), "factor", **CAFFE)
    truth = np.array([[[10, 12, 41, 60], [50, 3, 80, 30]]], "float32")
    x = {"images": picture()[None], "image_id": np.zeros(1, "int32")}
    y = {"boxes": truth, "classes": np.array([[0, 1]], "int32")}
    assert np.isfinite(float(model.compute_loss(x, y, model(x, training=True), training=True)))
    wanted = (truth - [0, 0, 1, 1]) * (64 / 70)
    (anchors, boxes, *_), options, rpn = seen["rpn_targets"]
    np.testing.assert_allclose(boxes, wanted, atol=1e-4)
    assert options["plus_one"]
    positive = np.asarray(rpn.label)[0] == 1
    index, deltas = np.asarray(rpn.index)[0][positive], np.asarray(rpn.deltas)[0][positive]
    assert len(index) > 0
    for anchor, delta in zip(np.asarray(anchors)[index].astype(float), deltas, strict=True):
        fits = [np.abs(reference.encode(box, anchor, one=1.0) - delta).max() for box in wanted[0]]
        assert min(fits) < 1e-4
    _, options, rois = seen["roi_targets"]
    assert options["plus_one"]
    labelled = np.asarray(rois.label)[0] > 0
    for roi, delta in zip(np.asarray(rois.rois)[0][labelled], np.asarray(rois.deltas)[0][labelled], strict=True):
        fits = [np.abs(reference.encode(box, roi.astype(float), one=1.0) - delta).max() for box in wanted[0]]
        assert min(fits) < 1e-3
