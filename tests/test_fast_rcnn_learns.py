"""A Fast R-CNN that cannot learn four pictures by heart has a bug somewhere between the proposals and the mAP."""

import keras
import numpy as np
from test_overfit import Shapes
from tiny import tiny_fast

from zoo.datasets.voc_metrics import evaluate_voc


def near(boxes: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A grid of squares over a picture, and each object moved a little: (P, 4), cut at the borders."""
    height, width = size
    dense = [(x, y, x + side, y + side) for side in (24, 40) for x in range(0, width, 20) for y in range(0, height, 20)]
    moved = np.repeat(boxes, 6, axis=0) + rng.uniform(-7, 7, (6 * len(boxes), 4))
    return np.clip(np.concatenate([dense, moved]), 0, [width, height] * 2).astype("float32")


def test_four_images_are_learnt_by_heart():
    data, rng = Shapes(), np.random.default_rng(0)
    samples = [data.sample(i) for i in range(4)]
    proposals = [near(sample.boxes, sample.size, rng) for sample in samples]
    most = max(map(len, proposals))
    x = {"images": np.zeros((4, 128, 128, 3), "uint8"), "sizes": np.array([sample.size for sample in samples], "int32")}
    x |= {"image_id": np.arange(4, dtype="int32"), "num_proposals": np.array([len(p) for p in proposals], "int32")}
    x["proposals"] = np.stack([np.pad(p, ((0, most - len(p)), (0, 0))) for p in proposals])
    y = {"boxes": np.zeros((4, 3, 4), "float32"), "classes": np.full((4, 3), -1, "int32")}
    for i, sample in enumerate(samples):
        picture = data.pictures[i]
        x["images"][i, : picture.shape[0], : picture.shape[1]] = picture
        y["boxes"][i, : len(sample)], y["classes"][i, : len(sample)] = sample.boxes, sample.classes

    # At tiny_fast's own 64 pixels the objects are a cell wide: by how much a proposal is off cannot be seen.
    model = tiny_fast(data.classes, head_samples=32, scales=(160,), long=320)
    model.measure_targets([(x, y)])
    model.compile(keras.optimizers.Adam(2e-3))
    history = model.fit(x, y, batch_size=2, epochs=100, verbose=0).history
    assert history["loss"][-1] < 0.2 * history["loss"][0]
    found = model.detect(data.pictures, proposals=proposals)
    triples = [(one.boxes, one.scores, one.classes) for one in found]
    # Closer than the proposals come: boxes have been refined.
    assert evaluate_voc(triples, data, iou=0.7, interpolation="area").map > 0.95
    model.refine = False
    model.make_predict_function(force=True)
    found = model.detect(data.pictures, proposals=proposals)
    triples = [(one.boxes, one.scores, one.classes) for one in found]
    assert evaluate_voc(triples, data, iou=0.5, interpolation="area").map > 0.95
    assert evaluate_voc(triples, data, iou=0.7, interpolation="area").map < 0.9
    assert (found[3].scores < 0.5).all()
