"""Which splits `zoo train` and `zoo eval` take by themselves, in every layout; and how they are told to read."""

import argparse
from dataclasses import replace

import numpy as np
import pytest
from small_data import YOLO, needs_yaml, picture

from zoo.cli.data import class_list, evaluation_data, train_and_val
from zoo.cli.main import build_parser
from zoo.datasets import load
from zoo.datasets.records import DetectionDataset
from zoo.datasets.renumbered import Renumbered
from zoo.datasets.writing import save


def ids(data):
    return None if data is None else len(data)


@pytest.mark.parametrize(
    ("layout", "splits", "trained", "validated", "measured"),
    [
        ("coco", ("train2017", "val2017"), 6, 3, "val2017"),
        ("coco", ("train", "valid", "test"), 6, 3, "test"),
        pytest.param("yolo", ("train", "val"), 6, 3, "val", marks=needs_yaml),
        ("csv", ("train", "val", "test"), 6, 3, "test"),
        ("voc", ("trainval", "test"), 6, None, "test"),
    ],
)
def test_splits_that_the_data_have(tmp_path, layout, splits, trained, validated, measured):
    data = load("digits:11")
    parts = dict(
        zip(splits, (data.subset(range(6)), data.subset(range(6, 9)), data.subset(range(9, 11))), strict=False)
    )
    save(parts, tmp_path / "out", layout)
    train, val = train_and_val(str(tmp_path / "out"), None, None)
    assert (len(train), ids(val)) == (trained, validated)
    assert evaluation_data(str(tmp_path / "out"), None, train.classes)[1] == measured


@pytest.mark.parametrize(
    ("layout", "file"),
    [
        ("coco", "instances.json"),
        ("csv", "annotations.csv"),
        ("voc", ""),
        pytest.param("yolo", "data.yaml", marks=needs_yaml),  # its only split has to be called train
    ],
)
def test_data_without_splits_are_divided(tmp_path, layout, file, capsys):
    save(load("digits:20"), tmp_path / "out", layout)
    spec = str(tmp_path / "out" / file)
    train, val = train_and_val(spec, None, None)
    assert (len(train), len(val)) == (18, 2)
    assert not {sample.path for sample in train.samples} & {sample.path for sample in val.samples}
    assert "every 10th" in capsys.readouterr().out
    assert evaluation_data(spec, None, train.classes)[1] is None
    if layout == "yolo":
        assert train_and_val(spec, "train", None)[1] is None  # all of it, as was said


def test_what_has_no_annotations_is_not_measured_on(tmp_path, capsys):
    data = load("digits:11")
    full = next(index for index in range(11) if len(data.sample(index)))
    one, nothing = data.subset([full]), Without(data.subset([0, 1]))
    save({"train": one, "val": one, "test": nothing}, tmp_path / "a", "coco")
    measured, split = evaluation_data(str(tmp_path / "a"), None, data.classes)
    assert (split, len(measured)) == ("val", 1)
    assert "the split test has no annotations; measured on val instead" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"test has no annotations .*another split with --split; splits: .*val"):
        evaluation_data(str(tmp_path / "a"), "test", data.classes)
    alone, split = evaluation_data(str(tmp_path / "a"), "test", data.classes, unlabelled=True)
    assert (split, len(alone)) == ("test", 2)
    save({"train": one, "test": nothing}, tmp_path / "b", "coco")
    with pytest.raises(ValueError, match="test has no annotations"):
        evaluation_data(str(tmp_path / "b"), None, data.classes, unlabelled=True)


class Without(DetectionDataset):
    """Another data set's pictures, whose objects are not told."""

    def __init__(self, parent):
        self.parent = parent
        none = {"boxes": [], "classes": [], "difficult": [], "crowd": []}
        super().__init__("without", parent.classes, [replace(each, **none) for each in parent.samples])

    def load(self, index):
        return self.parent.image(index), self.sample(index)


# --- --classes, --images, --difficult ---


def names_of(data):
    """Class names of all objects, by picture."""
    return {sample.path.stem: [data.classes[label] for label in sample.classes] for sample in data.samples}


def test_class_lists(tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("dog\ncat\n")
    assert class_list(str(file)) == class_list("dog, cat") == ("dog", "cat")
    assert class_list("dog") == ("dog",)
    file.write_text("dog\ndog\n")
    for text, words in (
        ("dog,,cat", "empty name"),
        ("dog,dog", "twice"),
        ("nowhere.txt", "there is no file nowhere.txt"),
        (str(file), "names.txt: .*twice"),
    ):
        with pytest.raises(argparse.ArgumentTypeError, match=words):
            class_list(text)


def test_many_names_are_no_file_name():
    names = tuple(f"class number {number}" for number in range(80))
    assert class_list(",".join(names)) == names


@pytest.mark.parametrize("layout", ["voc", "coco", "csv", YOLO])
def test_a_class_list_decides_the_order_in_every_layout(tmp_path, layout):
    data = load("digits:20")
    save({"train": data.subset(range(12)), "val": data.subset(range(12, 20))}, tmp_path / "out", layout)
    given = tuple(data.classes[::-1])
    train, val = train_and_val(str(tmp_path / "out"), None, None, classes=given)
    assert train.classes == val.classes == given
    measured, _ = evaluation_data(str(tmp_path / "out"), None, given)
    assert measured.classes == given
    assert names_of(measured) == names_of(val) == names_of(load(tmp_path / "out", "val", data.classes))
    some = data.classes[:2]
    with pytest.raises(ValueError, match=f"unknown class .*known: {some[0]}, {some[1]}"):
        train_and_val(str(tmp_path / "out"), None, None, classes=some)


def test_names_for_numbers_are_put_into_the_models_order(tmp_path):
    picture(tmp_path / "images" / "a.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("1 .5 .5 .5 .5\n0 .5 .5 .2 .2\n")
    known = ("bird", "dog", "cat")
    data, _ = evaluation_data(str(tmp_path), None, known, classes=("cat", "dog"))
    assert data.classes == known
    assert names_of(data) == {"a": ["dog", "cat"]}
    assert data.image(0).shape == (30, 40, 3)
    with pytest.raises(ValueError, match="has the classes cow; known: bird, dog, cat"):
        evaluation_data(str(tmp_path), None, known, classes=("cat", "cow"))


def test_renumbered_categories_keep_their_numbers():
    data = load("digits:3")
    data.category_ids = tuple(range(11, 21))
    other = Renumbered(data, ("x", *data.classes[::-1]))
    assert other.category_ids == (21, *range(20, 10, -1))


@pytest.mark.parametrize(("layout", "file"), [("coco", "instances.json"), ("csv", "annotations.csv")])
def test_pictures_that_lie_elsewhere(tmp_path, layout, file):
    save(load("digits:20"), tmp_path / "out", layout)
    (tmp_path / "out" / "images").rename(tmp_path / "elsewhere")
    spec = str(tmp_path / "out" / file)
    with pytest.raises(ValueError, match="is missing; looked in"):
        train_and_val(spec, None, None)
    # CSV names images/FILE, COCO only FILE.
    images = tmp_path / "elsewhere" if layout == "coco" else tmp_path
    if layout == "csv":
        (tmp_path / "elsewhere").rename(tmp_path / "images")
    train, val = train_and_val(spec, None, None, images=images)
    assert (len(train), len(val)) == (18, 2)
    assert train.image(0).ndim == 3
    assert len(evaluation_data(spec, None, train.classes, images=images)[0]) == 20


class HardDigits(DetectionDataset):
    """Digit scenes in which the first object of each is difficult."""

    def __init__(self):
        self.parent = load("digits:20")
        samples = [replace(each, difficult=np.arange(len(each)) == 0) for each in self.parent.samples]
        super().__init__("hard", self.parent.classes, samples)

    def load(self, index):
        return self.parent.image(index), self.sample(index)


@pytest.mark.parametrize("parts", ["train and val", "all"])
def test_difficult_objects(tmp_path, parts):
    data = HardDigits()
    one = {"train": data.subset(range(12)), "val": data.subset(range(12, 20))} if parts != "all" else data
    save(one, tmp_path / "out", "voc")
    spec = str(tmp_path / "out")
    for difficult, trained in (("marked", True), ("ordinary", False)):
        train, val = train_and_val(spec, None, None, difficult=difficult)
        assert all(sample.difficult[0] == trained for sample in train.samples)
        # Measured by VOC's rules whatever was trained on.
        assert all(sample.difficult[0] for sample in val.samples)
        measured, _ = evaluation_data(spec, None, train.classes, difficult=difficult)
        assert all(sample.difficult[0] == trained for sample in measured.samples)
    assert not any(sample.difficult[0] for sample in train_and_val(spec, None, "none", difficult="ordinary")[0].samples)


@pytest.mark.parametrize("command", [["train", "--model", "m", "--out", "o"], ["eval"]])
def test_both_commands_are_told_in_the_same_words(command, tmp_path):
    words = ["--data", "d", "--images", "i", "--classes", "a,b", "--difficult", "ordinary", "--metric", "coco"]
    args = build_parser().parse_args([*command, *words])
    assert (str(args.images), args.classes, args.difficult, args.metric) == ("i", ("a", "b"), "ordinary", "coco")
    args = build_parser().parse_args([*command, "--data", "d"])
    assert (args.images, args.classes, args.difficult, args.metric) == (None, None, "marked", None)
    for other in (["doctor", "d"], ["data", "convert", "d", "f", "--to", "voc"]):
        args = build_parser().parse_args([*other, "--images", "i", "--classes", "a,b"])
        assert (str(args.images), args.classes) == ("i", ("a", "b"))


def test_help_says_what_data_may_be(capsys):
    for command in ("train", "eval"):
        with pytest.raises(SystemExit):
            build_parser().parse_args([command, "--help"])
        shown = " ".join(capsys.readouterr().out.split())
        assert "folder in the VOC, COCO, YOLO or CSV layout" in shown
        assert "class folders (CLASS/FILE or SPLIT/CLASS/FILE)" in shown
