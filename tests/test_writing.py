"""Data sets written in every layout, and read again: round trips, names of splits, and what a layout cannot hold."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_data import YOLO, needs_yaml, picture, same, sample_set

from zoo.datasets import load
from zoo.datasets.loading import splits
from zoo.datasets.records import DetectionDataset, Sample
from zoo.datasets.writing import save


@pytest.mark.parametrize("layout", ["voc", "coco", "csv", YOLO])
def test_written_and_read_again(tmp_path, layout):
    data = sample_set(flags=layout != "yolo")
    assert save(data, tmp_path / "out", layout) == []
    again = load(tmp_path / "out")
    assert again.classes == data.classes
    assert [sample.image_id for sample in again.samples] == [f"p{n}" for n in range(6)] or layout == "coco"
    for index, (a, b) in enumerate(zip(data.samples, again.samples, strict=True)):
        np.testing.assert_allclose(a.boxes, b.boxes, atol=1e-3)
        assert a.size == b.size
        assert a.classes.tolist() == b.classes.tolist()
        assert a.difficult.tolist() == b.difficult.tolist()
        assert a.crowd.tolist() == b.crowd.tolist()
        np.testing.assert_array_equal(data.image(index), again.image(index))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]  # nothing half-made is left


@pytest.mark.parametrize("layout", ["voc", "coco", "csv", YOLO])
def test_splits_are_written_and_read_again(tmp_path, layout):
    data = sample_set(flags=False)
    parts = {"train": data.subset([0, 1, 3]), "val": data.subset([2, 4, 5])}
    save(parts, tmp_path / "out", layout)
    assert splits(tmp_path / "out") == ("train", "val")
    for split, part in parts.items():
        again = load(tmp_path / "out", split, data.classes)
        assert [len(sample) for sample in again.samples] == [len(sample) for sample in part.samples]
        np.testing.assert_array_equal(part.image(0), again.image(0))


@pytest.mark.parametrize("layout", ["voc", "coco", "csv", YOLO])
def test_splits_of_other_names_are_written_and_read_again(tmp_path, layout):
    data = sample_set(flags=False)
    names = ("train2017", "07+12", "validation", "2007-train", "07", "yes")
    names += () if layout == "voc" else ("train[:10%]", "a: b")
    save({name: data.subset([at % 6]) for at, name in enumerate(names)}, tmp_path / "out", layout)
    assert sorted(splits(tmp_path / "out")) == sorted(names)
    for at, name in enumerate(names):
        again = load(tmp_path / "out", name, data.classes)
        assert [len(sample) for sample in again.samples] == [len(data.sample(at % 6))]
        np.testing.assert_array_equal(data.image(at % 6), again.image(0))


@pytest.mark.parametrize(
    ("layout", "name", "words"),
    [
        ("voc", "train[:10%]", "made of letters, digits and"),
        ("voc", "2007/train", "made of letters"),
        ("coco", "2007/train", "has no slashes"),
        ("csv", "..", "begin with a dot"),
        ("csv", "classes", r"classes\.csv is the list of the classes"),
        ("coco", "captions", "does not begin with instances, captions"),
        ("yolo", "names", "path, names, nc, .*mean something else"),
        ("yolo", "images", "mean something else"),
    ],
)
def test_names_of_splits_that_could_not_be_read_again_are_refused(tmp_path, layout, name, words):
    with pytest.raises(ValueError, match=f"the split {re.escape(repr(name))} could not be read back .*{words}"):
        save({"train": sample_set(), name: sample_set()}, tmp_path / "out", layout)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("layout", ["voc", "coco", "csv", YOLO])
def test_pictures_without_files_may_have_the_same_ids_in_two_splits(tmp_path, layout):
    few, more = sample_set(3, flags=False), sample_set(5, flags=False)
    more.image = lambda index: np.full((*more.sample(index).size, 3), index + 1, np.uint8)  # of other pictures
    part = few.subset([1, 2])
    save({"train": few, "again": part, "val": more}, tmp_path / "out", layout)
    if layout != "yolo":
        pictures = list((tmp_path / "out").rglob("*.png"))
        assert len(pictures) == 8  # those that two splits have from one data set are there once
    for split, wanted in (("train", few), ("again", part), ("val", more)):
        again = load(tmp_path / "out", split, few.classes)
        assert len(again) == len(wanted)
        found = sorted((again.image(at).tobytes(), len(again.sample(at))) for at in range(len(again)))
        assert found == sorted((wanted.image(at).tobytes(), len(wanted.sample(at))) for at in range(len(wanted)))


def test_what_a_layout_cannot_hold_is_said(tmp_path):
    (note,) = save(sample_set(), tmp_path / "yolo", "yolo")
    assert "difficult or a crowd, which YOLO files cannot say" in note
    boxes = [[5.0, 5, 5.5, 20]]
    (tmp_path / "thin").mkdir()
    path = picture(tmp_path / "thin" / "a.jpg")
    thin = DetectionDataset("thin", ("cat",), [Sample("a", path, (30, 40), boxes, [0], [False], [False])])
    (note,) = save(thin, tmp_path / "voc", "voc")
    assert "at most a pixel wide or high" in note
    assert len(load(tmp_path / "voc").sample(0)) == 1
    with pytest.raises(ValueError, match="exists already"):
        save(thin, tmp_path / "voc", "voc")
    with pytest.raises(ValueError, match="layout is one of"):
        save(thin, tmp_path / "x", "pascal")
    with pytest.raises(ValueError, match="different classes"):
        save({"a": thin, "b": sample_set()}, tmp_path / "x", "voc")


def test_a_folder_appears_only_when_it_is_whole(tmp_path):
    picture(tmp_path / "a.jpg")
    data = DetectionDataset(
        "two", ("cat",), [Sample(n, tmp_path / f"{n}.jpg", (30, 40), [], [], [], []) for n in ("a", "missing")]
    )
    with pytest.raises(ValueError, match="missing"):
        save(data, tmp_path / "out", "voc")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg"]


def test_pictures_annotated_as_stored_are_written_so(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = picture(tmp_path / "a.jpg", exif=exif)
    data = DetectionDataset("x", ("cat",), [Sample("a", path, (30, 40), [[1, 2, 40, 30]], [0], [False], [False])])
    save(data, tmp_path / "csv", "csv")
    again = load(tmp_path / "csv")
    assert again.sample(0).size == (30, 40)
    assert again.sample(0).boxes.tolist() == [[1, 2, 40, 30]]
    np.testing.assert_array_equal(again.image(0), data.image(0))


def test_links_and_names_that_clash(tmp_path):
    paths = [picture(tmp_path / folder / "a.jpg", seed=at) for at, folder in enumerate(("x", "y"))]
    data = DetectionDataset("x", ("cat",), [Sample(str(p), p, (30, 40), [], [], [], []) for p in paths])
    save(data, tmp_path / "voc", "voc", pictures="link")
    again = load(tmp_path / "voc")
    assert len(again) == 2
    assert {sample.path.resolve() for sample in again.samples} == set(paths)


@needs_yaml
@pytest.mark.parametrize("name", ["bccd", "coco128"])
def test_round_trip_of_real_data(tmp_path, name):
    shared = os.environ.get("ZOO_SHARED_DATA")
    if not shared or not (Path(shared) / name).is_dir():
        pytest.skip(f"set ZOO_SHARED_DATA to the folder that holds {name}/")
    data = first = load(Path(shared) / name)
    for step, layout in enumerate(("voc", "coco", "csv", "yolo", "voc")):
        assert save(data, tmp_path / f"{step}", layout, pictures="link") == []
        data = load(tmp_path / f"{step}")
        assert data.notes == ()
    same(first, data)
