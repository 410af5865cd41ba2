"""SVMs and regressions of boxes on what a trained detector sees: what they learn from, and what becomes of it."""

import keras
import numpy as np
import pytest
import reference
from alternating_run import Squares
from test_overfit import Shapes
from test_svm_class import plane
from tiny import tiny_detector, tiny_fast
from tiny_baselines import uncompiled

import zoo
from zoo.datasets.records import DetectionDataset, Sample
from zoo.detectors.fast_rcnn import FastRCNN
from zoo.training import roi_vectors
from zoo.training.ridge_boxes import Ridge, fit_boxes
from zoo.training.roi_vectors import RoIVectors
from zoo.training.svm import train_svms, work
from zoo.training.svm_class import SVMSettings
from zoo.weights_io import WeightsMeta, load_weights_file, save_weights_file


class Near:
    """Proposals: objects moved a little and a lot, and boxes anywhere, the same for each picture."""

    def boxes(self, sample, image):
        rng, (height, width) = np.random.default_rng(len(sample)), image.shape[:2]
        near = np.repeat(sample.boxes, 8, axis=0) + rng.uniform(-9, 9, (8 * len(sample), 4))
        corners = rng.uniform(0, 1, (12, 2, 2)) * [width - 9, height - 9]
        far = np.concatenate([corners.min(1), corners.max(1) + 9], axis=1)
        return np.clip(np.concatenate([near, far]), 0, [width, height] * 2).astype("float32")


class Marked(DetectionDataset):
    """Three grey pictures; one of the objects is difficult, and one class has none that counts."""

    def __init__(self):
        boxes = [[[8, 8, 40, 30], [50, 20, 90, 60]], [[30, 10, 70, 50]], [[5, 5, 25, 25], [60, 30, 80, 60]]]
        kinds, difficult = [[0, 1], [1], [0, 2]], [[0, 0], [0], [0, 1]]
        samples = [
            Sample(f"p{i}", None, (64, 96), b, k, d, [0] * len(b))
            for i, (b, k, d) in enumerate(zip(boxes, kinds, difficult, strict=True))
        ]
        super().__init__("marked", ("a", "b", "c"), samples)

    def load(self, index):
        return np.full((64, 96, 3), 60 * index, np.uint8), self.sample(index)


def seen(boxes):
    """A vector of a box that tells where it is, and how large."""
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    ones = np.ones(len(boxes))
    return np.stack([*boxes.T / 50, (boxes[:, 2] - boxes[:, 0]) / 20, np.sin(boxes.sum(1)), ones], 1).astype("float32")


@pytest.fixture
def places(monkeypatch):
    """Vectors are known functions of the boxes."""
    width = property(lambda self: 7)
    monkeypatch.setattr(RoIVectors, "width", width)
    monkeypatch.setattr(RoIVectors, "__call__", lambda self, image, boxes: seen(boxes))


def seven(classes=("a", "b", "c"), **options):
    """A tiny detector whose vectors have seven numbers."""
    config = tiny_fast(classes, **options).get_config()
    pooled = keras.Input((4, 4, 32), name="pooled")
    body = keras.Model(pooled, keras.layers.Dense(7, name="fc")(keras.layers.Flatten()(pooled)), name="body")
    return FastRCNN.from_config({**config, "body": keras.saving.serialize_keras_object(body)})


def looks(data, mirrored, one=0.0, most=2000):
    """Objects, classes and proposals of each picture, as it is and mirrored."""
    for index in range(len(data)):
        image, sample = data.load(index)
        counts = [i for i in range(len(sample)) if not sample.difficult[i]]
        boxes, proposals = sample.boxes[counts], Near().boxes(sample, image)[:most]
        yield boxes, sample.classes[counts], proposals
        if mirrored:
            turn = lambda each: np.array([[96 - b[2], b[1], 96 - b[0], b[3]] for b in each])  # noqa: E731
            yield turn(boxes), sample.classes[counts], turn(proposals)


@pytest.mark.parametrize(("mirrored", "convention"), [(True, "continuous"), (False, "caffe")])
def test_positives_are_objects_and_negatives_overlap_none_of_their_class_much(places, caplog, mirrored, convention):
    data, one = Marked(), float(convention == "caffe")
    last = np.array([0, 0, one, one])
    positives, negatives, lengths = {k: [] for k in range(3)}, {k: [] for k in range(3)}, []
    for objects, kinds, proposals in looks(data, mirrored, most=20):
        lengths += [np.linalg.norm(vector) for vector in seen(np.concatenate([objects, proposals]))]
        for box, k in zip(objects, kinds, strict=True):
            positives[k].append(seen(box)[0])
        for box in proposals:
            for k in range(3):
                same = [each for each, kind in zip(objects, kinds, strict=True) if kind == k]
                if all(reference.iou(box - last, each - last, one) < 0.3 for each in same):
                    negatives[k].append(seen(box)[0])
    assert not positives[2]
    assert len(negatives[0]) > 40
    scale = 20 / np.mean(lengths)
    model = seven(convention=convention, proposals=20)
    before, counted = model.get_weights(), []
    made = train_svms(model, data, Near(), mirrored=mirrored, progress=counted.append)
    assert sum(counted) == work(data, mirrored=mirrored) == 2 * 3 * (1 + mirrored)
    kernel, bias = (np.asarray(each) for each in (made.head.score.kernel, made.head.score.bias))
    for k in (0, 1):
        pair = (np.array(each[k]) * scale for each in (positives, negatives))
        weights, offset = plane(*pair, 0.001, 10.0, 2.0)
        np.testing.assert_allclose(kernel[:, k + 1], weights * scale, atol=2e-3)
        np.testing.assert_allclose(bias[k + 1], offset, atol=2e-2)
    assert not kernel[:, [0, 3]].any()
    assert bias[3] == -10
    assert "no object of c in the data" in caplog.text
    assert made.scoring == "svm"
    assert model.scoring == "softmax"
    for got, wanted in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_mining_is_trained_anew_while_it_goes_and_further_passes_take_nothing_twice(places, monkeypatch):
    from zoo.training import svm

    fits, caches = [], []

    class Watched(svm.ClassSVM):
        def fit(self):
            super().fit()
            fits.append(len(self.negatives))
            caches.append(len(set(self._keys)) == len(self._keys))

    monkeypatch.setattr(svm, "ClassSVM", Watched)
    train_svms(seven(), Marked(), Near(), settings=SVMSettings(retrain=20, passes=2, easy=-1.05))
    assert len(fits) > 6, "three classes in the end, and in between"
    assert all(caches)
    with pytest.raises(ValueError, match="no picture has an object"):
        train_svms(seven(("a", "b", "c")), Marked().subset([]), Near())
    with pytest.raises(ValueError, match="the model knows the classes a, b"):
        train_svms(tiny_fast(), Marked(), Near())
    with pytest.raises(ValueError, match="tiny is no Fast R-CNN, SPPnet or R-CNN"):
        train_svms(tiny_detector(), Squares(), Near())


def whitened(vectors, targets, penalty):
    """The regression of R-CNN's release: centred and whitened targets, a constant feature, ridge by the inverse."""
    x = np.concatenate([vectors, np.ones((len(vectors), 1))], axis=1)
    mean = targets.mean(0)
    y = targets - mean
    values, turn = np.linalg.eigh(y.T @ y / len(y))
    to = turn @ np.diag(1 / np.sqrt(values + 0.001)) @ turn.T
    back = turn @ np.diag(np.sqrt(values + 0.001)) @ turn.T
    beta = np.linalg.inv(x.T @ x + penalty * np.eye(x.shape[1])) @ x.T @ (y @ to)
    return beta[:-1] @ back, beta[-1] @ back + mean


def test_ridge_is_the_releases_regression():
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 3, (200, 5)), rng.normal(0.2, 1, (200, 4)) @ rng.normal(0, 1, (4, 4))
    ridge = Ridge(5)
    for part in (slice(0, 70), slice(70, 200)):
        ridge.add(x[part], y[part])
    kernel, bias = ridge.solve(50.0, 0.5)
    wanted = whitened(x * 0.5, y, 50.0)
    np.testing.assert_allclose(kernel, wanted[0] * 0.5, atol=1e-9)
    np.testing.assert_allclose(bias, wanted[1], atol=1e-9)


@pytest.mark.parametrize("convention", ["continuous", "caffe", "fast-rcnn"])
def test_boxes_are_regressed_from_proposals_that_overlap_an_object(places, convention):
    data, one = Marked(), float(convention != "continuous")
    last, widths = np.array([0, 0, one, one]), float(convention == "caffe")
    pairs = {k: [] for k in range(3)}
    for objects, kinds, proposals in looks(data, True):
        for box in proposals:
            overlaps = [reference.iou(box - last, each - last, one) for each in objects]
            if max(overlaps) > 0.6:
                best = int(np.argmax(overlaps))
                delta = reference.encode(objects[best] - last, box - last, widths)
                pairs[kinds[best]].append((seen(box)[0], delta))
    assert len(pairs[0]) > 5
    scale = 20 / np.mean([np.linalg.norm(vector) for k in pairs for vector, _ in pairs[k]])
    made = fit_boxes(seven(convention=convention, bbox="none"), data, Near(), penalty=30.0)
    assert made.bbox == "multi"
    kernel, bias = (np.asarray(each) for each in (made.head.loc.kernel, made.head.loc.bias))
    kernel, bias = kernel.reshape(7, 4, 4), bias.reshape(4, 4)
    for k in (0, 1):
        vectors, targets = (np.array(each, float) for each in zip(*pairs[k], strict=True))
        wanted = whitened(vectors * scale, targets, 30.0)
        np.testing.assert_allclose(kernel[:, k + 1], wanted[0] * scale, atol=1e-5)
        np.testing.assert_allclose(bias[k + 1], wanted[1], atol=1e-5)
    assert not kernel[:, [0, 3]].any()
    assert np.asarray(made.box_deviations).tolist() == [[1] * 4] * 3
    assert not np.asarray(made.box_means).any()
    with pytest.raises(ValueError, match=r"no proposal overlaps an object by more than 0\.99"):
        fit_boxes(seven(), data, Near(), least_overlap=0.99)
    with pytest.raises(ValueError, match="penalty=0"):
        fit_boxes(seven(), data, Near(), penalty=0)


@pytest.fixture(scope="module")
def machines():
    """A detector of random convolutions, with SVMs, and with SVMs and a regression."""
    data = Shapes()
    # At tiny_fast's own 64 pixels the objects are a cell wide.
    model = tiny_fast(data.classes, scales=(160,), long=320, score_threshold=0.0)
    model.zoo_meta = WeightsMeta("tiny_net", data.classes, {"short": 160}, scores={"val_map": 0.1})
    with uncompiled():
        with_svms = train_svms(model, data, Near(), settings=SVMSettings(cost=0.01), mirrored=False)
        yield model, with_svms, fit_boxes(with_svms, data, Near(), penalty=1.0, mirrored=False)


def test_scores_come_of_the_margins_of_the_vectors(machines):
    made = machines[2]
    image, boxes = Shapes().image(1), Near().boxes(Shapes().sample(1), Shapes().image(1))[:30]
    vectors = RoIVectors(made)(image, boxes)
    assert vectors.shape == (30, 48)
    margins = vectors @ np.asarray(made.head.score.kernel)[:, 1:] + np.asarray(made.head.score.bias)[1:]
    found = made.detect(image, proposals=boxes, score_threshold=0.0)
    best = 1 / (1 + np.exp(-2 * margins.max(0)))
    for k in range(2):
        assert found.scores[found.classes == k].max() == pytest.approx(best[k], abs=1e-5)


def test_random_convolutions_with_machines_tell_the_pictures_apart(machines):
    before, after = (zoo.evaluate(each, Shapes(), proposals=Near()).result.map for each in machines[:2])
    assert after > before + 0.3


def test_regressed_boxes_are_nearer_to_the_objects(machines):
    data, gains = Shapes(), []
    for index in range(3):
        image, sample = data.load(index)
        boxes = Near().boxes(sample, image)
        overlaps = reference.ious(boxes, sample.boxes)
        for place in np.flatnonzero(overlaps.max(1) > 0.6)[:4]:
            target = overlaps[place].argmax()
            found = machines[2].detect(image, proposals=boxes[place : place + 1], score_threshold=0.0)
            (own,) = np.flatnonzero(found.classes == sample.classes[target])
            gains.append(reference.iou(found.boxes[own], sample.boxes[target]) - overlaps[place].max())
    assert len(gains) > 5
    assert np.mean(gains) > 0.05


def test_the_result_is_a_model_like_any_other(machines, tmp_path):
    made, data = machines[2], Shapes()
    image, boxes = data.image(0), Near().boxes(data.sample(0), data.image(0))
    found = made.detect(image, proposals=boxes)
    assert made.zoo_meta.options == {"short": 160, "scoring": "svm", "bbox": "multi", "refine": True}
    assert made.zoo_meta.scores == {}
    made.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.scoring == "svm"
    np.testing.assert_array_equal(loaded.detect(image, proposals=boxes).boxes, found.boxes)
    save_weights_file(made, tmp_path / "m.weights.h5")
    other = tiny_fast(data.classes, scales=(160,), long=320, score_threshold=0.0, scoring="svm", seed=9)
    load_weights_file(other, tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(other.detect(image, proposals=boxes).scores, found.scores)
    x = {"images": image[None], "proposals": boxes[None]}
    y = {"boxes": data.sample(0).boxes[None], "classes": data.sample(0).classes[None]}
    with pytest.raises(ValueError, match="support vector machines, which a softmax loss would spoil"):
        made.compute_loss(x, y, made(x, training=True))


def test_few_lengths_for_all_numbers_of_boxes():
    lengths = {roi_vectors._length(count) for count in range(1, 2001)}
    assert len(lengths) < 25
    assert all(roi_vectors._length(count) >= count for count in range(1, 2001))
