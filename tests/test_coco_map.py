"""COCO's figures while a model trains, and the Keras metric for loops of one's own."""

import fakes
import keras
import numpy as np
import pytest
from matplotlib.figure import Figure

from zoo.datasets.coco_metrics import evaluate_coco
from zoo.datasets.digits import digit_scenes
from zoo.datasets.pipeline import Batches
from zoo.datasets.records import DetectionDataset, Sample
from zoo.datasets.voc_metrics import evaluate_voc
from zoo.training.coco_map import CocoMap, log_name
from zoo.training.curves import _draw_panel, _panels
from zoo.training.detection_metric import DetectionMetric
from zoo.training.evaluate import evaluate
from zoo.training.fit import train
from zoo.training.history import read_csv
from zoo.weights_io import read_meta


class Scenes(DetectionDataset):
    """The fake detector's box of 16 x 12 is a sixth too high: it passes at seven of COCO's ten IoUs, up to .8."""

    def __init__(self, count=4):
        none = [False]
        samples = [Sample(f"s{i}", None, (24, 32), [[8, 6, 24, 16]], [0], none, none) for i in range(count)]
        super().__init__("scenes", fakes.CLASSES, samples)

    def load(self, index):
        return np.full((24, 32, 3), 60 * index % 256, np.uint8), self.sample(index)


def test_evaluate_by_either_metric():
    model, data = fakes.build(), Scenes()
    assert evaluate(model, data).result.map == 1
    measured = evaluate(model, data, metric="coco")
    overlap = 160 / 192
    assert measured.result.map == pytest.approx(np.mean([level / 100 <= overlap for level in range(50, 100, 5)]))
    assert [len(part) for part in measured.triples[0]] == [1, 1, 1]
    with pytest.raises(ValueError, match="metric='lvis'; choose 'voc' or 'coco'"):
        evaluate(model, data, metric="lvis")


def test_figures_come_into_the_logs_and_the_best_weights_are_kept(tmp_path, monkeypatch):
    model, data = fakes.build(), Scenes()
    model.compile(keras.optimizers.SGD(0.01))
    judge = CocoMap(data, every=2, best_path=tmp_path / "best.weights.h5", figures=("AP50", "AP", "ARs"))
    history = model.fit(Batches(data, 2).dataset(), steps_per_epoch=2, epochs=3, callbacks=[judge], verbose=0).history
    assert history["val_coco_map50"] == [1, 1]  # after the second and the last epoch
    assert history["val_coco_map"] == history["val_coco_recall_small"] == [pytest.approx(0.7)] * 2
    assert "val_coco_map75" not in history
    scores = read_meta(tmp_path / "best.weights.h5").scores
    assert scores == {"val_coco_map50": 1, "val_coco_map": 0.7, "val_coco_recall_small": 0.7, "epoch": 2}


class CocoScenes(Scenes):
    """As if read from a COCO file."""

    def __init__(self, count=4):
        super().__init__(count)
        self.category_ids = (1, 2)


def trained(out, val, **options):
    """The last row of the log of one epoch (or more)."""
    settings = {"epochs": 1, "verbose": 0, "tensorboard": False, **options}
    train(fakes.build(), Scenes(), val, out=out, **settings)
    return read_csv(out / "history.csv")[-1]


def test_training_is_judged_as_the_data_usually_are(tmp_path):
    assert trained(tmp_path / "voc", Scenes())["val_map"] == 1
    assert trained(tmp_path / "coco", CocoScenes())["val_coco_map"] == pytest.approx(0.7)
    assert read_meta(tmp_path / "coco" / "best.weights.h5").scores["val_coco_map75"] == 1
    row = trained(tmp_path / "asked", Scenes(), metric="coco")
    assert row["val_coco_map"] == pytest.approx(0.7)
    assert "val_map" not in row
    assert "val_coco_map" not in trained(tmp_path / "other", CocoScenes(), metric="voc")
    assert not {"val_map", "val_coco_map"} & trained(tmp_path / "none", None, metric="coco").keys()
    with pytest.raises(ValueError, match=r"metric='lvis'; choose 'voc' or 'coco', or None"):
        trained(tmp_path / "wrong", Scenes(), metric="lvis")


def test_a_best_of_one_kind_is_not_followed_by_another(tmp_path):
    trained(tmp_path, Scenes())
    with pytest.raises(ValueError, match="metric 'voc' then, 'coco' now"):
        trained(tmp_path, CocoScenes(), epochs=2, resume=True)
    assert "val_map" in trained(tmp_path, CocoScenes(), epochs=2, resume=True, metric="voc")


def test_curves_of_coco_have_their_panel():
    rows = [{"epoch": 1.0, "loss": 1.0, "val_coco_map": 0.25, "val_coco_map50": 0.5, "learning_rate": 0.1}]
    panels = _panels(rows)
    assert panels == {
        "Loss": ["loss"],
        "Validation AP (COCO)": ["coco_map", "coco_map50"],
        "Learning rate": ["learning_rate"],
    }
    axes = Figure().subplots()
    _draw_panel(axes, "Validation AP (COCO)", panels["Validation AP (COCO)"], rows)
    assert axes.get_title() == "Validation AP (COCO) (best 0.250)"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["val coco map", "val coco map50"]


def test_names_in_the_logs_tell_coco_from_voc():
    names = [log_name(figure) for figure in ("AP", "AP75", "APl", "AR1", "ARm")]
    shown = ["coco_map", "coco_map75", "coco_map_large", "coco_recall1", "coco_recall_medium"]
    assert names == [f"val_{name}" for name in shown]


def test_figures_that_do_not_exist_and_classes_that_differ():
    with pytest.raises(ValueError, match=r"choose one or more of AP, AP50"):
        CocoMap(Scenes(), figures=("mAP",))
    with pytest.raises(ValueError, match="choose one or more"):
        CocoMap(Scenes(), figures=())
    judge = CocoMap(Scenes())
    judge.set_model(fakes.build(("square", "circle")))
    with pytest.raises(ValueError, match="square, circle"):
        judge.on_train_begin()


@pytest.mark.parametrize(("metric", "function"), [("voc", evaluate_voc), ("coco", evaluate_coco)])
def test_the_keras_metric_is_the_function_batch_by_batch(metric, function):
    data = digit_scenes("test", 6)
    rng = np.random.default_rng(0)
    meter = DetectionMetric(data.classes, metric)
    found = {}
    for x, y in Batches(data, 2, shuffle=False, flip=False, drop_remainder=False).numpy_batches():
        boxes = y["boxes"] + rng.normal(0, 8, y["boxes"].shape) * (y["classes"] >= 0)[..., None]
        y_pred = {"boxes": boxes, "scores": rng.random(y["classes"].shape), "classes": y["classes"]}
        meter.update_state({key: keras.ops.convert_to_tensor(value) for key, value in y.items()}, y_pred)
        for row, index in enumerate(x["image_id"]):
            found[int(index)] = tuple(part[row] for part in y_pred.values())
    expected = function([found[index] for index in range(6)], data).map
    assert 0.05 < expected < 0.95
    assert meter.result() == pytest.approx(expected, abs=1e-12)
    copy = DetectionMetric.from_config(meter.get_config())
    assert (copy.classes, copy.metric) == (data.classes, metric)
    meter.reset_state()
    assert np.isnan(meter.result())


def test_the_keras_metric_heeds_difficult_objects_and_says_what_it_cannot_do():
    meter = DetectionMetric(("a",))
    y = {"boxes": [[[0, 0, 9, 9], [20, 20, 29, 29]]], "classes": [[0, 0]], "difficult": [[True, False]]}
    meter.update_state(y, {"boxes": [[[0, 0, 9, 9]]], "scores": [[0.9]], "classes": [[0]]})
    assert meter.result() == 0  # neither right nor wrong
    meter.update_state({"boxes": [[[0, 0, 9, 9]]], "classes": [[0]]}, {**y, "scores": [[0.9, 0.5]]})
    with pytest.raises(ValueError, match="metric='map'"):
        DetectionMetric(("a",), "map")
    with pytest.raises(ValueError, match="'scores' among boxes, classes"):
        meter.update_state(y, {"boxes": [], "classes": []})
    with pytest.raises(ValueError, match="y_true has 1 images, y_pred 0"):
        meter.update_state(y, {"boxes": np.zeros((0, 1, 4)), "scores": np.zeros((0, 1)), "classes": np.zeros((0, 1))})
    with pytest.raises(ValueError, match="leave sample_weight out"):
        meter.update_state(y, y, sample_weight=1)
    with pytest.raises(ValueError, match="not work inside a compiled step"):
        meter.update_state({"boxes": keras.Input((3, 4)), "classes": [[0]]}, y)
