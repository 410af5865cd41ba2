"""Random Caffe models with the blobs of Fast R-CNN's release: every step agrees with its definition."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")

import caffe_reference
from chainercv_reference import random_weights
from layouts import save_caffemodel
from published_steps import VOC, are_detections, close, picture
from torch.nn import functional as F

import zoo
from zoo.arguments import check_options
from zoo.weights_error import WeightsError

LAST = np.array([0, 0, 1, 1])
SMALL = {"short": 150, "long": 220}
CAFFENET = {
    "conv1": (96, 3, 11),
    "conv2": (256, 48, 5),
    "conv3": (384, 256, 3),
    "conv4": (384, 192, 3),
    "conv5": (256, 192, 3),
}


def released_shapes(network: str, units: tuple[int, int]) -> dict[str, tuple[int, ...]]:
    """Blobs of a release: those of py-faster-rcnn without its RPN, or CaffeNet's."""
    if network != "caffenet":
        shapes = caffe_reference.released_shapes(network, units)
        return {name: shape for name, shape in shapes.items() if not name.startswith("rpn_")}
    shapes = {name: (o, i, size, size) for name, (o, i, size) in CAFFENET.items()}
    shapes |= {"fc6": (units[0], 256 * 36), "fc7": (units[1], units[0]), "cls_score": (21, units[1])}
    shapes["bbox_pred"] = (84, units[1])
    return {f"{name}/{i}": blob for name, shape in shapes.items() for i, blob in enumerate((shape, shape[:1]))}


class Release(caffe_reference.PyFasterRCNN):
    """Fast R-CNN's release shares preparation, pooling and layers with py-faster-rcnn; here is what differs."""

    def features(self, prepared):
        if "conv1/0" not in self.w or self.w["conv1/0"].shape[-1] == 7:
            return super().features(prepared)
        x, w = caffe_reference._torch(prepared)[None], self.w
        conv = caffe_reference._conv
        x = F.max_pool2d(F.relu(conv(x, w, "conv1", stride=4, padding=5)), 3, 2, padding=1, ceil_mode=True)
        x = F.relu(conv(F.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1.0), w, "conv2", padding=2, groups=2))
        x = F.local_response_norm(F.max_pool2d(x, 3, 2, padding=1, ceil_mode=True), 5, alpha=1e-4, beta=0.75, k=1.0)
        for name, groups in (("conv3", 1), ("conv4", 2), ("conv5", 2)):
            x = F.relu(conv(x, w, name, padding=1, groups=groups))
        return x[0].numpy()

    def classified(self, scores, deltas, rois, size):
        """Probabilities, and boxes from widths of ``x2 - x1``: a RoI's last pixel counts in overlaps alone."""
        e = np.exp(scores.astype(float) - scores.max(1, keepdims=True))
        sides = (rois[:, 2:] - rois[:, :2])[:, None]
        centre = rois[:, None, :2] + 0.5 * sides + deltas[..., :2] * sides
        half = 0.5 * np.exp(deltas[..., 2:]) * sides
        return e / e.sum(1, keepdims=True), caffe_reference.clip(
            np.concatenate([centre - half, centre + half], -1), *size
        )


def proposals_of(image, count: int = 60) -> np.ndarray:
    """Whole boxes of at least 16 pixels, some of them up to the border, in continuous pixels."""
    rng = np.random.default_rng(5)
    height, width = image.shape[:2]
    corners = rng.integers(0, [width - 15, height - 15], (count, 2, 2))
    return np.concatenate([corners.min(1), corners.max(1) + 16], axis=1).clip(0, [width, height] * 2).astype("float32")


@pytest.fixture(
    scope="module",
    params=[("caffenet", (48, 48)), ("vgg_cnn_m_1024", (48, 32)), ("vgg16", (48, 48))],
    ids=lambda p: p[0],
)
def caffe(request, tmp_path_factory):
    network, units = request.param
    image = picture(120, 171, seed=3)
    release = Release(random_weights(released_shapes(network, units), seed=2), *SMALL.values())
    prepared, scale = release.prepare(image)
    rois = proposals_of(image).astype(float) - LAST
    scores, deltas = release.head(release.pool(release.features(prepared), rois * scale))
    for name, values, to in (("cls_score", scores, 2.5), ("bbox_pred", deltas.reshape(len(deltas), -1), 0.15)):
        factor = (to / values.std(0)).astype("float32")
        release.w[f"{name}/0"] = release.w[f"{name}/0"] * factor[:, None]
        release.w[f"{name}/1"] = ((release.w[f"{name}/1"] - values.mean(0)) * factor).astype("float32")
    path = save_caffemodel(release.w, tmp_path_factory.mktemp("caffe") / "released.caffemodel")
    return SimpleNamespace(release=release, image=image, path=path, rois=rois, network=network)


def test_step_by_step(caffe):
    name = {"vgg_cnn_m_1024": "fast_rcnn_vgg_m"}.get(caffe.network, f"fast_rcnn_{caffe.network}")
    model = zoo.load(caffe.path, **SMALL)
    assert model.name == name
    assert model.classes == VOC
    assert model.convention == "fast-rcnn"
    release, rois, size = caffe.release, caffe.rois, caffe.image.shape[:2]

    x = {"images": caffe.image[None], "proposals": proposals_of(caffe.image)[None]}
    raw = model(x, training=True)
    prepared, scale = release.prepare(caffe.image)
    np.testing.assert_allclose(
        np.asarray(model.preprocessing(x["images"])[0])[0].transpose(2, 0, 1), prepared, atol=0.02
    )
    features = np.asarray(raw["features"][0])[0].transpose(2, 0, 1)
    close(features, release.features(prepared))
    np.testing.assert_array_equal(raw["proposals"][0], rois)
    pooled = model._pool(raw, raw["proposals"])
    np.testing.assert_array_equal(np.asarray(pooled)[0].transpose(0, 3, 1, 2), release.pool(features, rois * scale))
    logits, deltas = (np.asarray(part)[0] for part in model.head(pooled))
    scores, wanted = release.head(np.asarray(pooled)[0].transpose(0, 3, 1, 2))
    close(logits, scores)
    close(deltas, wanted)

    found = {key: np.asarray(value)[0] for key, value in model(x).items()}
    count = int(found["num_detections"])
    assert count > 20
    probability, boxes = release.classified(logits, deltas, rois, size)
    steps = SimpleNamespace(**{key: found[key][:count] for key in ("boxes", "scores", "classes")})
    # As continuous boxes, which end behind their last pixel, they overlap as much.
    are_detections(steps, probability, boxes + LAST, most=100)


def test_entries():
    for name, score in (("fast_rcnn_caffenet", "57.1"), ("fast_rcnn_vgg_m", "59.2"), ("fast_rcnn_vgg16", "66.9")):
        entry = zoo.info(name).entry("voc07")
        assert score in entry.published_score
        assert entry.md5 == "5f7dde9f5376e18c8e065338cc5df3f7"
        assert entry.classes == VOC
        assert entry.options["convention"] == "fast-rcnn"
        assert entry.download_name == "fast_rcnn_models.tgz"
        check_options(zoo.info(name), entry.options)


def test_other_files_are_refused(tmp_path):
    """ZF's arrays look like VGG_CNN_M_1024's, in other shapes; and a release is of one of our networks alone."""
    w = random_weights(released_shapes("vgg_cnn_m_1024", (8, 8)))
    with pytest.raises(WeightsError, match=r"holds weights of fast_rcnn_vgg_m, not of fast_rcnn_vgg16"):
        zoo.get("fast_rcnn_vgg16", weights=save_caffemodel(w, tmp_path / "m.caffemodel"))
    w = {**w, "conv3/0": w["conv3/0"][:384], "conv3/1": w["conv3/1"][:384]}
    with pytest.raises(WeightsError, match=r"no known layout.*Fast R-CNN's Caffe model"):
        zoo.load(save_caffemodel(w, tmp_path / "zf.caffemodel"))
