"""The region proposal network of a trained Faster R-CNN alone, as a method of `zoo.datasets.proposals`."""

from __future__ import annotations

import hashlib
import json
import threading

import keras
import numpy as np

from zoo.any_size import predict_any_size
from zoo.datasets.proposals import Scored, clipped, tidy
from zoo.detectors.faster_rcnn import FasterRCNN
from zoo.weights_io import weight_names


class RPNProposals:
    """What a Faster R-CNN's box head would look at: proposals for Fast R-CNN, and for measuring their recall.

    Args:
        model: a Faster R-CNN; only its extractor and its RPN are used.
        most: proposals kept after NMS (2000 to train Fast R-CNN, 300 at test: Ren 2015, section 3.3).
        before_nms: best boxes that NMS looks at.

    Example: ``make_proposals(data, RPNProposals(zoo.load("runs/cells")), "proposals")``.
    """

    name = "rpn"

    def __init__(self, model: keras.Model, most: int = 2000, before_nms: int = 12000) -> None:
        if not isinstance(model, FasterRCNN):
            raise ValueError(f"{model.name} is no Faster R-CNN: it has no region proposal network")
        if not 1 <= most <= before_nms:
            raise ValueError(f"most={most} lies between 1 and before_nms={before_nms}")
        self.most, self.before_nms = int(most), int(before_nms)
        self._model, self._alone, self._lock = model, _Alone(model), threading.Lock()

    @property
    def settings(self) -> dict[str, object]:
        """The numbers, the model's name, and a hash of all that its proposals depend on."""
        return {
            "most": self.most,
            "before_nms": self.before_nms,
            "model": self._model.name,
            "weights": _digest(self._model),
        }

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Boxes (P, 4) float32 in continuous pixels of ``image``, uint8 RGB (H, W, 3), best first."""
        return self.scored(image)[0]

    def scored(self, image: np.ndarray) -> Scored:
        """Boxes, and their objectness (P,) float32."""
        with self._lock:
            before = self._model.test_proposals
            # Read when the function is traced: once by TensorFlow, by JAX at every new size of a picture.
            self._model.test_proposals = (self.before_nms, self.most)
            try:
                found = predict_any_size(self._alone, np.ascontiguousarray(image)[None])
            finally:
                self._model.test_proposals = before
        boxes, scores, ratio = (np.asarray(found[name][0]) for name in ("boxes", "scores", "ratio"))
        boxes, scores = boxes[scores >= 0] / np.tile(ratio[::-1], 2), scores[scores >= 0]
        if self._model.convention == "caffe":
            boxes = boxes + np.array([0, 0, 1, 1], np.float32)  # there they include their last pixel
        boxes = clipped(boxes, image.shape[:2])
        kept = tidy(boxes)
        return boxes[kept], scores[kept].astype(np.float32)


class _Alone(keras.Model):
    """Proposals in pixels of the prepared images, compiled apart from the detector."""

    def __init__(self, detector: FasterRCNN) -> None:
        super().__init__(name="proposals", autocast=False)
        self.detector = detector
        self.supports_jit = detector.supports_jit

    def call(self, images, training=None):
        """``boxes (B, P, 4)``, ``scores (B, P)`` and ``ratio (B, 2)``."""
        raw = self.detector._propose(images, training=False)
        return {"boxes": raw["proposals"], "scores": raw["proposal_scores"], "ratio": raw["ratio"]}


def _digest(model: FasterRCNN) -> str:
    # Names are left out but those of weights: Keras counts operations without one, such as the slices of AlexNet's
    # groups, through the whole process.
    steps = [(type(each).__name__, {**each.get_config(), "name": ""}) for each in model.extractor.operations]
    settings = {name: getattr(model, name) for name in model.PLAIN}
    about = {**settings, "preprocessing": model.preprocessing.get_config(), "extractor": steps}
    digest = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode())
    own = {id(weight) for weight in (*model.extractor.weights, *model.rpn.weights)}
    for name, weight in weight_names(model).items():
        if id(weight) in own:
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(weight)))
    return digest.hexdigest()[:32]
