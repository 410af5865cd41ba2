"""A detector that cannot learn four pictures by heart has a bug somewhere between the pixels and the mAP."""

import keras
import numpy as np
from tiny import tiny_detector

from zoo.datasets.pipeline import Batches
from zoo.datasets.records import DetectionDataset, Sample
from zoo.training.evaluate import evaluate


class Shapes(DetectionDataset):
    """Four pictures of bright discs and dark squares, one of them without any."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.pictures, samples = [], []
        for i, count in enumerate((2, 3, 1, 0)):
            size = ((96, 128), (128, 96))[i % 2]
            picture = rng.normal(128, 6, (*size, 3)).clip(0, 255).astype("uint8")
            boxes, classes = [], []
            for j in range(count):
                side = int(rng.integers(20, 34))
                x, y = 4 + 40 * j % (size[1] - 40), 6 + 44 * (j % 2)
                yy, xx = np.mgrid[: size[0], : size[1]]
                disc = np.hypot(yy - y - side / 2, xx - x - side / 2) < side / 2
                square = (yy >= y) & (yy < y + side) & (xx >= x) & (xx < x + side)
                kind = (i + j) % 2
                picture[disc if kind == 0 else square] = (230, 220, 90) if kind == 0 else (30, 30, 60)
                boxes.append((x, y, x + side, y + side))
                classes.append(kind)
            self.pictures.append(picture)
            nothing = np.zeros(count, bool)
            boxes = np.array(boxes, "float32").reshape(-1, 4)
            samples.append(Sample(f"shape{i}", None, size, boxes, np.array(classes, "int32"), nothing, nothing))
        super().__init__("shapes", ("disc", "square"), samples)

    def load(self, index: int):
        return self.pictures[index], self.sample(index)


def test_four_images_are_learnt_by_heart():
    keras.utils.set_random_seed(0)
    data = Shapes()
    model = tiny_detector(data.classes)
    batches = Batches(data, 2, flip=False)
    # The rate falls to nothing: at a constant one the detections jump about until the end.
    model.compile(optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, 400)))
    history = model.fit(
        batches.dataset(), epochs=10, steps_per_epoch=40, validation_data=batches.dataset(repeat=False), verbose=0
    ).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert np.isfinite(history["val_loss"]).all()
    assert history["proposal_recall"][-1] > 0.9
    found = evaluate(model, data, interpolation="area")
    assert found.result.map == 1.0, found.result.ap
    # The picture without objects stays empty of confident detections.
    assert (found.detections[3].scores < 0.5).all()
