"""A Fast R-CNN that cannot learn four pictures by heart has a bug somewhere between the proposals and the mAP."""

import keras
import numpy as np
from test_overfit import Shapes
from tiny import tiny_fast

from zoo.datasets.pipeline import Batches
from zoo.training.evaluate import evaluate


class Near:
    """Proposals: a grid of squares over a picture, and each object moved a little, the same for each picture."""

    def boxes(self, sample, image):
        rng, (height, width) = np.random.default_rng(len(sample)), image.shape[:2]
        places = [(x, y) for x in range(0, width, 20) for y in range(0, height, 20)]
        dense = [(x, y, x + side, y + side) for side in (24, 40) for x, y in places]
        moved = np.repeat(sample.boxes, 6, axis=0) + rng.uniform(-7, 7, (6 * len(sample), 4))
        return np.clip(np.concatenate([dense, moved]), 0, [width, height] * 2).astype("float32")


def test_four_images_are_learnt_by_heart():
    data = Shapes()
    # At tiny_fast's own 64 pixels the objects are a cell wide: by how much a proposal is off cannot be seen.
    model = tiny_fast(data.classes, head_samples=32, scales=(160,), long=320)
    batches = Batches(data, 2, flip=False, proposals=Near(), most_proposals=100)
    model.measure_targets(batches.numpy_batches())
    model.compile(keras.optimizers.Adam(2e-3))
    history = model.fit(batches.dataset(), steps_per_epoch=50, epochs=4, verbose=0).history
    assert history["loss"][-1] < 0.3 * history["loss"][0]
    assert history["proposal_recall"][-1] == 1.0

    def score(iou):
        found = evaluate(model, data, iou=iou, interpolation="area", proposals=Near())
        assert (found.detections[3].scores < 0.5).all(), "there is nothing in the last picture"
        return found.result.map

    # Closer than the proposals come: boxes have been refined.
    assert score(0.7) > 0.95
    model.refine = False
    model.make_predict_function(force=True)
    assert score(0.5) > 0.95
    assert score(0.7) < 0.9
