"""One graph for pictures of all sizes, which gives what a graph of each size gives."""

import keras
import numpy as np
import pytest
from tiny import tiny_detector, tiny_fast

from zoo.any_size import predict_any_size
from zoo.detectors.threshold import lowered_threshold
from zoo.distribute.prediction import predict_batch
from zoo.proposals_of import RPNProposals
from zoo.training.roi_vectors import RoIVectors

SIZES = ((64, 96), (64, 80), (120, 90), (45, 60))


def decided(model):
    """Random last layers call everything alike; these call something."""
    rng = np.random.default_rng(0)
    rpn = getattr(model, "rpn", None)
    for layer in (model.head.score, model.head.loc, *((rpn.score, rpn.loc) if rpn else ())):
        layer.kernel.assign(rng.normal(0, 0.3, layer.kernel.shape))
    return model


@pytest.fixture(scope="module")
def detector():
    model = decided(tiny_detector())
    model.score_threshold = 0.35  # so that a lower one finds more
    return model


@pytest.fixture(scope="module")
def fast():
    return decided(tiny_fast())


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]


def boxes_in(picture, count):
    height, width = picture.shape[:2]
    first = np.random.default_rng(count).uniform(0, 0.5, (count, 2)) * (width, height)
    return np.concatenate([first, first + np.multiply(0.4, (width, height))], axis=1).astype("float32")


def traces(model):
    return model.predict_function.experimental_get_tracing_count()


def test_a_folder_of_pictures_is_traced_once(detector, pictures):
    found = detector.detect([*pictures, pictures[0]], batch_size=2)
    assert traces(detector) == 1
    for picture, one in zip(pictures, found[:-1], strict=True):
        outputs = {name: np.asarray(value)[0] for name, value in detector(picture[None], training=False).items()}
        count = int(outputs["num_detections"])
        assert len(one) == count > 0
        np.testing.assert_allclose(one.boxes, outputs["boxes"][:count], atol=1e-2)
        np.testing.assert_allclose(one.scores, outputs["scores"][:count], atol=1e-4)
    # A lower threshold is another graph, and the first one is there again behind it.
    with lowered_threshold(detector, 0.001):
        more = detector.detect(pictures[:2], score_threshold=0.001)
        assert traces(detector) == 1
    assert sum(map(len, more)) > sum(map(len, found[:2]))
    assert [len(one) for one in detector.detect(pictures[:2])] == [len(one) for one in found[:2]]
    assert traces(detector) == 1


def test_proposals_of_any_number_are_traced_once(fast, pictures):
    given = [boxes_in(picture, count) for picture, count in zip(pictures, (3, 120, 40, 7), strict=True)]
    found = fast.detect(pictures, proposals=given)
    assert traces(fast) == 1
    for picture, boxes, one in zip(pictures, given, found, strict=True):
        outputs = fast({"images": picture[None], "proposals": boxes[None]}, training=False)
        assert len(one) == int(outputs["num_detections"][0]) > 0


def test_proposals_and_vectors_are_made_by_one_graph(detector, fast, pictures):
    method, vectors = RPNProposals(detector, most=20, before_nms=100), RoIVectors(fast)
    for picture in pictures:
        assert len(method(picture)) > 0
        assert vectors(picture, boxes_in(picture, 5)).shape == (5, vectors.width)
    assert traces(method._alone) == traces(vectors._alone) == 1


def test_what_is_not_traced_is_left_alone(pictures):
    """An eager model, one that is no Keras model, and one whose input has a size."""
    model = decided(tiny_detector())
    model.compile(run_eagerly=True)
    assert len(model.detect(pictures[0])) > 0

    class Artifact:
        def predict_on_batch(self, inputs):
            return inputs

    assert predict_any_size(Artifact(), "pictures") == "pictures"
    sized = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    assert predict_batch(sized, np.zeros((3, 8, 8, 3), np.uint8)).shape == (3, 2)
