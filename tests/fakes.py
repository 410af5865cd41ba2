"""A small detector that obeys the contract of the real ones: enough to test the shell around them."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from zoo.detections import Detections
from zoo.inputs import load_inputs

CLASSES = ("circle", "square")


@keras.saving.register_keras_serializable(package="zoo-tests")
class FakeDetector(keras.Model):
    """Learns the mean colour of an image; finds one box, in the middle of every image, of class 0.

    ``score`` is the sigmoid of its bias, so that a test can see in the detections which weights are in use.
    Dropout makes training depend on the model's random seeds, as the sampling of the real detectors does.
    """

    def __init__(self, classes: Sequence[str], width: int = 4, name: str = "fake") -> None:
        super().__init__(name=name)
        self.classes, self.width = tuple(classes), width
        self.pool = keras.layers.GlobalAveragePooling2D(name="pool")
        self.hidden = keras.layers.Dense(width, activation="tanh", name="hidden")
        self.norm = keras.layers.BatchNormalization(name="norm")
        self.dropout = keras.layers.Dropout(0.3, seed=1, name="dropout")
        self.out = keras.layers.Dense(1, name="out")
        self(np.zeros((1, 8, 8, 3), np.uint8))

    def call(self, x, training=False):
        images = x["images"] if isinstance(x, dict) else x
        features = self.norm(self.hidden(self.pool(ops.cast(images, "float32") / 255)), training=training)
        return self.out(self.dropout(features, training=training))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        count = ops.sum(ops.cast(y["classes"] >= 0, "float32"), axis=1, keepdims=True)
        return ops.mean(ops.square(ops.cast(y_pred, "float32") - count / 10))

    def detect(self, x, score_threshold=None, batch_size=1):
        inputs, single = load_inputs(x)
        found = [self._detect_one(item, score_threshold or 0.0) for item in inputs]
        return found[0] if single else found

    def _detect_one(self, item, threshold):
        if item.error is not None:
            return Detections(path=item.path, error=item.error)
        height, width = item.image.shape[:2]
        box = np.array([[width / 4, height / 4, 3 * width / 4, 3 * height / 4]])
        score = 1 / (1 + np.exp(-float(np.asarray(self.out.bias)[0])))
        names = self.classes
        return Detections.from_padded(
            box, np.array([score]), np.zeros(1, int), 1, names, (height, width), item.path, threshold
        )

    def get_config(self):
        return {"classes": list(self.classes), "width": self.width, "name": self.name}


def build(classes=None, *, width=4, sides=(1, 2)):
    """Builder of the contract's form; register it under a name of the test's choice."""
    return FakeDetector(CLASSES if classes is None else classes, width)
