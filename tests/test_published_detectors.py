"""Random ChainerCV files of exactly the published names and shapes: every step agrees with ChainerCV's definition."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")

import chainercv_reference as reference
from published_steps import SMALL, VOC, are_detections, close, is_nms, mostly_agree, picture, steps_of

import zoo
from zoo.weights_entry import WeightsError

# ChainerCV gives all that NMS leaves.
UNCAPPED = 20 * 300


def yx(boxes):
    """(x1, y1, x2, y2) to (y1, x1, y2, x2), or back; deltas likewise."""
    return np.asarray(boxes)[..., [1, 0, 3, 2]]


def save(folder, w):
    path = folder / "faster_rcnn_vgg16.npz"
    np.savez(path, **w)
    return path


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """The one file of full size, 550 MB: 4096 units in fc6 and fc7 as in the releases."""
    image = picture(150, 211)
    w = reference.random_weights(reference.published_shapes())
    reference.sharpen(w, image, *SMALL.values())
    path = save(tmp_path_factory.mktemp("chainercv"), w)
    model = zoo.get("faster_rcnn_vgg16", weights=path, max_detections=UNCAPPED, **SMALL)
    path.unlink()
    prepared, scale = reference.prepare(image, *SMALL.values())
    return SimpleNamespace(
        w=w, image=image, model=model, steps=steps_of(model, image), prepared=prepared, scale=scale, size=(200, 281)
    )


def test_names_and_shapes(release):
    assert len(release.w) == 40
    assert release.w["extractor/conv5_3/conv/W"].shape == (512, 512, 3, 3)
    assert release.w["rpn/loc/W"].shape == (36, 512, 1, 1)
    assert release.w["head/fc6/W"].shape == (4096, 25088)
    # One of our parameters is the step counter.
    assert sum(array.size for array in release.w.values()) == release.model.count_params() - 1
    assert release.model.classes == VOC


def test_prepared_image(release):
    assert release.prepared.shape == (3, *release.size)
    np.testing.assert_allclose(release.steps.prepared, release.prepared, atol=0.02)
    assert abs(release.scale - 200 / 150) > 1e-3, "both axes go by the ratio of the truncated widths"
    np.testing.assert_allclose(release.steps.ratio, [release.scale] * 2, rtol=1e-6)


def test_conv5_3(release):
    wanted = reference.conv5_3(release.prepared, release.w)
    assert wanted.shape == (512, 13, 18), "pools cover all of their input"
    close(release.steps.features, wanted)


def check_rpn(steps, w):
    scores, deltas = reference.rpn(steps.features, w)
    close(steps.rpn_logits, scores)
    close(yx(steps.rpn_deltas), deltas)


def test_rpn_scores_deltas_and_anchors(release):
    check_rpn(release.steps, release.w)
    np.testing.assert_allclose(yx(release.steps.anchors), reference.anchors(13, 18), atol=1e-4)


def check_proposals(steps, size, scale):
    """Our proposals follow from our RPN's outputs by ChainerCV's rules."""
    anchors = reference.anchors(*steps.features.shape[1:])
    candidates, scores = reference.candidates(steps.rpn_logits, yx(steps.rpn_deltas), anchors, size, scale)
    # NMS knows no axes, so that the order of coordinates may stay ours.
    is_nms(steps.proposals, yx(candidates), scores, 0.7, most=300)


def test_proposals(release):
    check_proposals(release.steps, release.size, release.scale)
    assert len(release.steps.proposals) > 150
    raw, softmax = release.steps.rpn_logits[:, 1], release.steps.rpn_logits[:, 1] - release.steps.rpn_logits[:, 0]
    assert (raw.argsort() != softmax.argsort()).mean() > 0.9, "the two ways to rank must differ here"


def test_pooled_features(release):
    wanted = reference.pool(release.steps.features, yx(release.steps.proposals))
    np.testing.assert_array_equal(release.steps.pooled, wanted)


def check_head(steps, w):
    scores, deltas = reference.head(steps.pooled, w)
    close(steps.logits, scores)
    close(yx(steps.deltas), deltas)


def test_class_scores_and_deltas(release):
    check_head(release.steps, release.w)


def check_detections(steps, image, size, scale):
    """Our detections follow from our head's outputs by ChainerCV's rules.

    ChainerCV lets boxes stand out of the image by less than a pixel, where its one ratio differs from that of the
    heights; ours are cut off there.
    """
    rois = yx(steps.proposals).astype(float)
    probability, boxes = reference.classified(steps.logits, yx(steps.deltas), rois, size, scale)
    limit = [image.shape[1], image.shape[0]] * 2
    are_detections(steps, probability, yx(boxes), limit=limit)
    assert (steps.boxes >= 0).all()
    assert (steps.boxes <= limit).all()


def test_final_boxes(release):
    check_detections(release.steps, release.image, release.size, release.scale)
    assert len(release.steps.boxes) > 100
    assert set(release.steps.classes) == set(range(20))


def test_from_image_to_boxes(release):
    wanted = reference.detect(release.image, release.w, *SMALL.values())
    limit = [release.image.shape[1], release.image.shape[0]] * 2
    mostly_agree(release.steps, [(score, label, np.minimum(yx(box), limit)) for score, label, box in wanted])
    assert release.model.detect(release.image).class_names[0] == VOC[wanted[0][1]]


# Reduced from here on: 64 units instead of 4096, or every file would weigh half a gigabyte.


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    w = reference.random_weights(reference.published_shapes(units=64), seed=1)
    reference.sharpen(w, picture(150, 211), *SMALL.values())
    path = save(tmp_path_factory.mktemp("small"), w)
    return SimpleNamespace(w=w, path=path, model=zoo.get("faster_rcnn_vgg16", path, max_detections=UNCAPPED, **SMALL))


# Portrait; a long side that decides; 161 pixels, of which doubles make 199; a size that is kept.
@pytest.mark.parametrize("image_size", [(240, 161), (90, 290), (200, 240)])
def test_pictures_of_other_shapes(small, image_size):
    image = picture(*image_size, seed=2)
    steps = steps_of(small.model, image)
    prepared, scale = reference.prepare(image, *SMALL.values())
    assert prepared.shape[1:] == {(240, 161): (298, 199), (90, 290): (93, 300), (200, 240): (200, 240)}[image_size]
    np.testing.assert_allclose(steps.prepared, prepared, atol=0.02)
    np.testing.assert_allclose(steps.ratio, [scale, scale], rtol=1e-6)
    close(steps.features, reference.conv5_3(prepared, small.w))
    check_rpn(steps, small.w)
    check_proposals(steps, prepared.shape[1:], scale)
    check_head(steps, small.w)
    check_detections(steps, image, prepared.shape[1:], scale)
    assert len(steps.boxes) > 30


def test_there_and_back(small, tmp_path):
    from zoo.convert.writers import write_file
    from zoo.weights_io import save_weights_file

    ours = save_weights_file(small.model, tmp_path / "m.weights.h5", meta=small.model.zoo_meta)
    write_file(ours, tmp_path / "back.npz", "chainercv", zoo.info("faster_rcnn_vgg16"))
    with np.load(tmp_path / "back.npz") as back:
        assert set(back.files) == set(small.w)
        for name in back.files:
            np.testing.assert_array_equal(back[name], small.w[name])


def test_files_that_do_not_fit(small, tmp_path):
    w = dict(small.w)
    del w["rpn/loc/b"]
    w["head/score/W"] = w["head/score/W"][:-1]
    w["head/extra/W"] = np.zeros(3, "float32")
    with pytest.raises(WeightsError) as caught:
        zoo.get("faster_rcnn_vgg16", weights=save(tmp_path, w))
    message = str(caught.value)
    for part in ("rpn/loc/b", r"head/score/W (20, 64)", "head/extra/W", "ChainerCV"):
        assert part in message
    with pytest.raises(WeightsError, match=r"holds weights of faster_rcnn_vgg16.*zoo\.get\('faster_rcnn_vgg16'"):
        zoo.get("faster_rcnn_vgg19", weights=small.path)


def test_the_callers_options_win(small):
    model = zoo.get("faster_rcnn_vgg16", weights=small.path, rank_by="softmax", rounding="nearest")
    assert (model.rank_by, model.preprocessing.rounding) == ("softmax", "nearest")
    assert (model.edge_cells, model.min_size_in, model.convention) == (True, "original", "continuous")
    assert model.preprocessing.mean == (122.7717, 115.9465, 102.9801)


@pytest.mark.parametrize(
    ("name", "file", "md5", "score"),
    [
        ("voc07", "faster_rcnn_vgg16_voc07_trained_2018_06_01.npz", "c4411beaaff934b5c17e8ce8b74b0aa2", "70.6"),
        ("voc0712", "faster_rcnn_vgg16_voc0712_trained_2017_07_21.npz", "b2268f7612817ac71011807a901ef506", "74.7"),
    ],
)
def test_entries(small, name, file, md5, score):
    entry = zoo.info("faster_rcnn_vgg16").entry(name)
    assert entry.url == f"https://chainercv-models.preferred.jp/{file}"
    assert entry.md5 == md5
    assert score in entry.published_score
    assert entry.classes == VOC
    assert entry.licence
    assert entry.source
    # The entry's options alone rebuild the model: they must not lag behind what a file of this layout implies.
    implied = small.model.zoo_meta.options
    widths = {"head_units": 64, "rpn_channels": 512}
    assert {**entry.options, **widths, **SMALL, "max_detections": UNCAPPED} == dict(implied)
    assert {k: v for k, v in zoo.info("faster_rcnn_vgg16").options.items() if k in widths} == {
        "head_units": 4096,
        "rpn_channels": 512,
    }
