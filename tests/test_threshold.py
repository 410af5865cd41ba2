"""Scores below a detector's own threshold: measured and shown where they are asked for, and only then."""

import logging
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops

from zoo.datasets import load
from zoo.detectors.detect import detect
from zoo.detectors.threshold import lowered_threshold
from zoo.training.evaluate import evaluate

SCORES = np.array([[0.9, 0.3, 0.06, 0.04, 0.02, 0.001]], np.float32)


class Table(keras.Model):
    """Finds the same in every picture; its threshold is in the compiled graph, as that of the real detectors is."""

    def __init__(self, classes):
        super().__init__()
        self.classes, self.score_threshold, self.traced = classes, 0.05, []

    def call(self, images, training=None):
        self.traced.append(self.score_threshold)
        found = (ops.convert_to_tensor(SCORES) >= self.score_threshold) & (ops.shape(images)[0] > 0)
        return {
            "boxes": ops.ones((1, 6, 4)),
            "scores": ops.where(found, ops.convert_to_tensor(SCORES), 0.0),
            "classes": ops.zeros((1, 6), "int32"),
            "num_detections": ops.sum(ops.cast(found, "int32"), axis=1),
        }

    def detect(self, images, *, score_threshold=None, batch_size=1):
        return detect(self, images, score_threshold=score_threshold, batch_size=batch_size)


def test_evaluation_sees_what_the_graph_usually_drops():
    data = load("digits:1", "test")
    model = Table(data.classes)
    image = data.image(0)
    assert len(model.detect(image, score_threshold=0.0)) == 3  # compiled from here on, with .05
    (found,) = evaluate(model, data, score_threshold=0.01).detections
    np.testing.assert_array_equal(found.scores, SCORES[0, :5])
    assert model.traced == [0.05, 0.01]
    # Afterwards all is as before, and nothing is compiled again: neither for this, nor for the validations of a
    # training, which measure with .05.
    assert model.score_threshold == 0.05
    assert len(model.detect(image, score_threshold=0.0)) == 3
    for more in ({}, {"score_threshold": 0.5}):
        evaluate(model, data, **more)
    assert model.traced == [0.05, 0.01]


class Own:
    """A detector with compiled functions of both kinds."""

    def __init__(self):
        self.score_threshold, self.predict_function, self._zoo_predict = 0.3, "alone", "together"


def test_everything_is_put_back_whatever_happens():
    model = Own()
    before = dict(vars(model))

    def fail():
        assert vars(model) == {"score_threshold": 0.1, "predict_function": None}
        vars(model)["_zoo_predict"] = "made meanwhile"
        raise KeyError

    with pytest.raises(KeyError), lowered_threshold(model, 0.1):
        fail()
    assert vars(model) == before
    for wanted in (0.3, 0.5):
        with lowered_threshold(model, wanted):
            assert vars(model) == before
    with lowered_threshold(SimpleNamespace(classes=("a",)), 0.1) as nothing:
        assert nothing is None


def test_a_threshold_in_an_artifacts_graph_is_told(caplog):
    artifact = SimpleNamespace(path="digits.onnx", metadata={"postprocessing": {"score_threshold": 0.05}})
    with caplog.at_level(logging.WARNING, "zoo"):
        with lowered_threshold(artifact, 0.05):
            assert not caplog.records
        with lowered_threshold(artifact, 0.001):
            pass
    (record,) = caplog.records
    assert "digits.onnx gives no detections that score less than 0.05" in record.getMessage()
    assert "0.001 was asked for" in record.getMessage()
