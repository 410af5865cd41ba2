"""``zoo train``: what is said about the pictures reaches the batches."""

import argparse
from dataclasses import replace

import numpy as np
import pytest

from zoo.cli import train
from zoo.datasets import load
from zoo.datasets.records import DetectionDataset
from zoo.datasets.writing import save


class HardDigits(DetectionDataset):
    """Digit scenes in which every object is difficult."""

    def __init__(self):
        self.parent = load("digits:4")
        samples = [replace(each, difficult=np.ones(len(each), bool)) for each in self.parent.samples]
        super().__init__("hard", self.parent.classes, samples)

    def load(self, index):
        return self.parent.image(index), self.sample(index)


def parsed(*words, data="digits:4"):
    parser = argparse.ArgumentParser()
    train.add_commands(parser.add_subparsers())
    return parser.parse_args(["train", "--data", str(data), "--model", "any", "--out", "r", *words])


def batches_of(*words, data="digits:4"):
    training, _, make_batches = train._detection_batches(parsed(*words, data=data))
    return make_batches(training, 2, 0)


def test_pictures_are_left_as_they_are_by_default():
    batches = batches_of()
    assert batches.shorts == ()
    assert not batches.augmentation.windows


def test_crops_zooming_out_and_short_sides():
    batches = batches_of("--crop", "0.3", "--expand", "4", "--short", "480", "576", "--long", "2000")
    assert (batches.augmentation.crop, batches.augmentation.expand) == (0.3, 4.0)
    assert (batches.shorts, batches.long) == ((480, 576), 2000)
    assert (batches_of("--short", "600").shorts, batches_of("--short", "600").long) == ((600,), 1000)


def test_difficult_objects_are_trained_on_if_they_are_ordinary(tmp_path):
    save(HardDigits(), tmp_path / "voc", "voc")
    marks = {}
    for words in ((), ("--difficult", "ordinary")):
        batches = batches_of(*words, data=tmp_path / "voc")
        _, y = batches.batch(0, 0)
        assert (y["classes"] >= 0).any()
        marks[words] = y["difficult"][y["classes"] >= 0]
    assert marks[()].all()
    assert not marks["--difficult", "ordinary"].any()


def test_a_long_side_alone_means_nothing():
    with pytest.raises(ValueError, match="--long: without --short the model resizes the pictures"):
        batches_of("--long", "800")


def test_classifiers_have_no_boxes():
    boxes = "--long 800 --expand 2 --crop .5 --difficult ordinary --metric coco --proposals dense --most-proposals 9"
    expected = "--long, --expand, --crop, --difficult, --metric, --proposals, --most-proposals: for detectors only"
    with pytest.raises(ValueError, match=expected):
        train._classification_data(parsed(*boxes.split()))
