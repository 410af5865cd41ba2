"""``--score`` of ``zoo detect`` and ``zoo eval``, and a classifier in place of a detector."""

import json

import fakes
import numpy as np
import pytest
from PIL import Image
from tiny import colour_net

import zoo
from zoo import registry
from zoo.cli.main import main
from zoo.weights_io import save_weights_file


class Strict(fakes.FakeDetector):
    """Drops what scores less than .05 of itself, as the real ones do inside their graph."""

    def __init__(self, classes):
        super().__init__(classes)
        self.score_threshold = 0.05

    def detect(self, x, score_threshold=None, batch_size=1):
        return super().detect(x, max(self.score_threshold, score_threshold or 0.0), batch_size)


@pytest.fixture(autouse=True)
def models(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "_models", {})
    monkeypatch.setattr(registry, "_discover", lambda: None)

    def strict_net(classes=None):
        return Strict(classes or fakes.CLASSES)

    registry.register(task="detection", paper="", summary="", params=1)(strict_net)
    registry.register(task="classification", paper="", summary="", params=8)(colour_net)
    monkeypatch.chdir(tmp_path)
    model = zoo.get("strict_net")
    model.out.bias.assign([np.log(0.03 / 0.97)])  # every detection scores .03
    save_weights_file(model, tmp_path / "run" / "model.weights.h5", meta=model.zoo_meta)
    model = zoo.get("colour_net")
    save_weights_file(model, tmp_path / "colours" / "model.weights.h5", meta=model.zoo_meta)
    (tmp_path / "data").mkdir()
    Image.new("RGB", (64, 48), (90, 120, 90)).save("data/a.jpg")
    one = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [16, 12, 32, 24], "area": 768, "iscrowd": 0}
    names = [{"id": 1, "name": "circle"}, {"id": 2, "name": "square"}]
    pictures = [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}]
    (tmp_path / "data.json").write_text(json.dumps({"images": pictures, "annotations": [one], "categories": names}))


def command(capsys, *arguments):
    status = main([str(each) for each in arguments])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def test_detections_below_the_usual_threshold_are_shown_if_asked_for(capsys):
    for score, count in (("0.05", 0), ("0.01", 1)):
        show = ("detect", "data/a.jpg", "--weights", "run", "--no-pictures", "--json", "found.json")
        assert command(capsys, *show, "--score", score)[0] == 0
        with open("found.json") as file:
            assert len(json.load(file)[0]["detections"]) == count


def test_they_are_measured_and_written_for_the_server_too(capsys):
    measure = ("eval", "--data", "data.json", "--images", "data", "--weights", "run", "--json", "s.json")
    for more, ap, count in (((), 0.0, 0), (("--score", 0.001), 1.0, 1)):
        status, _, err = command(capsys, *measure, "--results", "r.json", *more)
        assert status == 0, err
        with open("s.json") as scores, open("r.json") as results:
            assert (json.load(scores)["ap"]["circle"], len(json.load(results))) == (ap, count)


def test_a_classifier_finds_nothing(capsys):
    status, _, err = command(capsys, "detect", "data/a.jpg", "--model", "colour_net", "--weights", "colours")
    assert status == 2
    assert "colour_net (8 parameters) tells what a picture shows, not where; give a detector" in err
