"""Random Caffe models with the blobs of py-faster-rcnn's releases: every step agrees with its definition."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")

import caffe_reference
from chainercv_reference import random_weights
from published_steps import SMALL, VOC, are_detections, close, is_nms, mostly_agree, picture, steps_of

import zoo
from zoo.convert.readers.caffemodel import messages
from zoo.weights_entry import WeightsError


def save(path, w):
    """In today's layer format: every layer with its blobs, and layers without any, as a trained net has them."""
    net = messages()["NetParameter"](name="released")
    for layer in dict.fromkeys(name.rpartition("/")[0] for name in w):
        entry = net.layer.add(name=layer, type="Convolution" if w[f"{layer}/0"].ndim == 4 else "InnerProduct")
        for i in range(2):
            blob = entry.blobs.add()
            blob.shape.dim.extend(w[f"{layer}/{i}"].shape)
            blob.data.append(w[f"{layer}/{i}"].tobytes())
        net.layer.add(name=f"relu_{layer}", type="ReLU")
    path.write_bytes(net.SerializeToString())
    return path


# fc6 and fc7 reduced from 4096 and 4096, and from 4096 and 1024.
@pytest.fixture(scope="module", params=[("vgg16", (64, 64)), ("vgg_cnn_m_1024", (64, 48))], ids=lambda p: p[0])
def caffe(request, tmp_path_factory):
    network, units = request.param
    image = picture(150, 211, seed=3)
    release = caffe_reference.PyFasterRCNN(
        random_weights(caffe_reference.released_shapes(network, units), seed=2), *SMALL.values()
    )
    release.sharpen(image)
    path = save(tmp_path_factory.mktemp("caffe") / "final.caffemodel", release.w)
    model = zoo.get(f"faster_rcnn_{network}", weights=path, **SMALL)
    return SimpleNamespace(release=release, image=image, model=model, path=path, steps=steps_of(model, image))


def channels_first(ours, rows: int, columns: int):
    """(A, n) in the order row, column, anchor to the layers' (n, 9, h, w)."""
    return ours.reshape(rows, columns, 9, -1).transpose(3, 2, 0, 1)


def check(release, steps, image):
    """Every step follows from ours before it by the release's rules."""
    prepared, scale = release.prepare(image)
    np.testing.assert_allclose(steps.prepared, prepared, atol=0.02)
    np.testing.assert_allclose(steps.ratio, [scale, scale], rtol=1e-6)
    features = release.features(prepared)
    close(steps.features, features)

    rows, columns = features.shape[1:]
    scores, deltas = release.rpn(steps.features)
    our_scores = channels_first(steps.rpn_logits, rows, columns)
    close(our_scores, scores)
    our_deltas = steps.rpn_deltas.reshape(rows, columns, 36).transpose(2, 0, 1)
    close(our_deltas, deltas)
    np.testing.assert_array_equal(steps.anchors, release.anchors(rows, columns))

    candidates, ranks = release.candidates(our_scores, our_deltas, prepared.shape[1:], scale)
    assert len(is_nms(steps.proposals, candidates, ranks, 0.7, one=1, most=300)) > 50
    np.testing.assert_array_equal(steps.pooled, release.pool(steps.features, steps.proposals))

    scores, deltas = release.head(steps.pooled)
    close(steps.logits, scores)
    # The release's deltas are applied as they are, ours after they were multiplied.
    close(steps.deltas * [0.1, 0.1, 0.2, 0.2], deltas)
    rois = steps.proposals.astype(float)
    probability, boxes = release.classified(steps.logits, deltas, rois, image.shape[:2], scale)
    # The release's boxes hold their last pixel, ours end behind it: as continuous boxes they overlap as much.
    are_detections(steps, probability, boxes + np.array([0, 0, 1, 1]), most=100)
    assert (steps.boxes >= 0).all()
    height, width = image.shape[:2]
    assert steps.boxes.max(0)[2:].tolist() == [width, height], "some reach the far sides"


def test_step_by_step(caffe):
    check(caffe.release, caffe.steps, caffe.image)
    # By hand, VGG_CNN_M_1024: 281 -> 138 (7 / 2) -> 69 (pool, up) -> 34 (5 / 2, 1 around) -> 17 (pool, up).
    assert caffe.steps.features.shape[1:] == ((13, 18) if caffe.release.vgg else (11, 17))
    assert caffe.steps.proposals.max(0)[2:].tolist() == [280, 199], "the border is the last pixel"
    assert caffe.model.classes == VOC


def test_from_image_to_boxes(caffe):
    wanted = caffe.release.detect(caffe.image)
    assert len(wanted) > 50
    mostly_agree(caffe.steps, [(score, label, box + np.array([0, 0, 1, 1])) for score, label, box in wanted])


@pytest.mark.parametrize("image_size", [(260, 170), (90, 290)])
def test_pictures_of_other_shapes(caffe, image_size):
    image = picture(*image_size, seed=4)
    check(caffe.release, steps_of(caffe.model, image), image)


def test_the_file_tells_its_model(caffe):
    model = zoo.load(caffe.path)
    assert model.name == caffe.model.name
    assert model.convention == "caffe"
    assert model.preprocessing.order == "bgr"


def test_zf_is_refused(tmp_path):
    """ZF is not among our networks; its arrays look like VGG_CNN_M_1024's, in other shapes."""
    w = random_weights(caffe_reference.released_shapes("vgg_cnn_m_1024", (64, 64)))
    w = {name.replace("rpn_conv/3x3", "rpn_conv1"): array for name, array in w.items()}
    w |= {"conv3/0": w["conv3/0"][:384], "conv3/1": w["conv3/1"][:384], "conv4/0": w["conv4/0"][:384, :384]}
    w |= {"conv4/1": w["conv4/1"][:384], "conv5/0": w["conv5/0"][:256, :384], "conv5/1": w["conv5/1"][:256]}
    path = save(tmp_path / "ZF_faster_rcnn_final.caffemodel", w)
    for build in (zoo.load, lambda path: zoo.get("faster_rcnn_vgg_cnn_m_1024", weights=path)):
        with pytest.raises(WeightsError, match=r"ZF_faster_rcnn_final\.caffemodel .*no known layout.*py-faster-rcnn"):
            build(path)


def test_the_entry(caffe, tmp_path, monkeypatch):
    entry = zoo.info("faster_rcnn_vgg16").entry("voc07-py")
    assert entry.md5 == "ac116844f66aefe29587214272054668"
    assert entry.download_name == "faster_rcnn_models.tgz"
    assert "69.9" in entry.published_score
    assert entry.classes == VOC
    if caffe.release.vgg:
        widths = {"head_units": 64, "rpn_channels": 512}
        assert {**entry.options, **widths, **SMALL} == dict(caffe.model.zoo_meta.options)
    # Its address is dead: the message has to say what to fetch by other means, and where it belongs.
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(WeightsError, match=r"faster_rcnn_models\.tgz.*ac116844f66aefe29587214272054668.*put it there"):
        zoo.get("faster_rcnn_vgg16", weights="voc07-py")
