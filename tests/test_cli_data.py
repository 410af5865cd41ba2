"""Which splits `zoo train` and `zoo eval` take by themselves, in every layout."""

import pytest
from small_data import needs_yaml

from zoo.cli.data import evaluation_data, train_and_val
from zoo.datasets import load
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


@pytest.mark.parametrize(("layout", "file"), [("coco", "instances.json"), ("csv", "annotations.csv")])
def test_one_file_is_divided(tmp_path, layout, file, capsys):
    save(load("digits:20"), tmp_path / "out", layout)
    train, val = train_and_val(str(tmp_path / "out" / file), None, None)
    assert (len(train), len(val)) == (18, 2)
    assert "every 10th" in capsys.readouterr().out
    assert evaluation_data(str(tmp_path / "out" / file), None, train.classes)[1] is None
