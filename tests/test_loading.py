"""What a spec means, splits and unions of VOC folders, and what is noted of files that cannot be used."""

import doctest
import importlib
import os
from pathlib import Path

import numpy as np
import pytest
from small_data import needs_yaml, picture, sample_set

from zoo.datasets import load
from zoo.datasets.loading import find_source, splits
from zoo.datasets.notes import AnnotationError
from zoo.datasets.splits import base_splits
from zoo.datasets.writing import save


def voc(root, names, label="cat", split=None, text=None):
    for name in names:
        picture(root / "JPEGImages" / f"{name}.jpg", seed=len(name))
        file = root / "Annotations" / f"{name}.xml"
        file.parent.mkdir(parents=True, exist_ok=True)
        box = "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>20</xmax><ymax>21</ymax></bndbox>"
        file.write_text(text or f"<annotation><object><name>{label}</name>{box}</object></annotation>")
    for each, members in (split or {}).items():
        file = root / "ImageSets" / "Main" / f"{each}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(members))
    return root


@needs_yaml
def test_specs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(sample_set(), "a.coco", "coco")
    save(sample_set(), "b", "yolo")
    save(sample_set(), "c", "csv")
    voc(tmp_path / "kit" / "VOC2007", ["x"])
    for spec, layout in (
        ("a.coco", "coco"),
        ("a.coco/instances.json", "coco"),
        (Path("b"), "yolo"),
        ("b/data.yaml", "yolo"),
        ("c", "csv"),
        ("c/annotations.csv", "csv"),
        ("kit", "voc"),
        ("kit/VOC2007", "voc"),
        ("voc:anything", "voc"),
        ("tfds:voc/2007", "tfds"),
        ("digits", "digits"),
        ("digits:9", "digits"),
    ):
        assert find_source(spec).layout == layout, spec
        if spec not in ("voc:anything", "tfds:voc/2007"):
            assert len(load(spec)) > 0
    (tmp_path / "digits").symlink_to("b")
    assert find_source("./digits").layout == find_source(Path("digits")).layout == "yolo"
    with pytest.raises(ValueError, match="images= is for COCO and CSV"):
        load("b", images="c")


def test_specs_that_fit_nothing_or_too_much(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"none of the layouts that are read \(VOC: .*COCO: .*YOLO: .*CSV: "):
        load(tmp_path / "empty")
    (tmp_path / "words.txt").write_text("words")
    with pytest.raises(ValueError, match=r"words\.txt: cannot be read as a data set; give .*digits"):
        load(tmp_path / "words.txt")
    with pytest.raises(ValueError, match="no such data set"):
        load(tmp_path / "none")
    save(sample_set(), tmp_path / "both", "coco")
    (tmp_path / "both" / "labels").mkdir()
    with pytest.raises(ValueError, match=r"several layouts; say which: coco:.*both or yolo:.*both"):
        load(tmp_path / "both")
    assert len(load(f"coco:{tmp_path / 'both'}")) == 6


def test_a_long_text_for_classes_is_no_file():
    with pytest.raises(ValueError, match="classes"):
        load("digits:3", classes="x," * 300)


def test_difficult_objects_as_ordinary_ones(tmp_path):
    data = sample_set()
    save(data, tmp_path / "out", "voc")
    marked, ordinary = load(tmp_path / "out"), load(tmp_path / "out", difficult="ordinary")
    assert any(sample.difficult.any() for sample in marked.samples)
    for index, (a, b) in enumerate(zip(marked.samples, ordinary.samples, strict=True)):
        assert not b.difficult.any()
        np.testing.assert_array_equal(a.boxes, b.boxes)
        assert a.crowd.tolist() == b.crowd.tolist()
        image, sample = ordinary.load(index)
        np.testing.assert_array_equal(image, marked.image(index))
        assert not sample.difficult.any()
    with pytest.raises(ValueError, match="'marked' or 'ordinary'"):
        load(tmp_path / "out", difficult="drop")


def test_voc_folders_of_several_years(tmp_path):
    kit = tmp_path / "VOCdevkit"
    voc(kit / "VOC2007", ["000001", "000002", "000003"], "dog", {"trainval": ["000002"], "test": ["000003"]})
    voc(kit / "VOC2012", ["2008_1", "2008_2"], "cat", {"trainval": ["2008_2"], "train": ["2008_1"], "val": ["2008_2"]})
    ids = {
        "07": ["000002"],
        "12": ["2008_2"],
        "07+12": ["000002", "2008_2"],
        "07++12": ["000002", "000003", "2008_2"],
        "2012/train+2012/val": ["2008_1", "2008_2"],
        "2007/test": ["000003"],
    }
    for root in (kit, tmp_path):
        for split, wanted in ids.items():
            data = load(root, split)
            assert [sample.image_id for sample in data.samples] == wanted
            assert data.image(len(data) - 1).shape == (30, 40, 3)
    assert load(kit, "07+12").classes == ("cat", "dog")
    assert load(kit, "07++12").name == "VOCdevkit 07++12"
    known = ("2007/test", "2007/trainval", "2012/train", "2012/trainval", "2012/val", "07", "12", "07+12", "07++12")
    assert splits(kit) == known
    assert base_splits(known) == ("2007/test", "2007/trainval", "2012/train", "2012/val")
    with pytest.raises(AnnotationError, match=r"several VOC folders.*or give a split that says which: 2007/test, "):
        load(kit)
    with pytest.raises(AnnotationError, match="several VOC folders"):
        load(kit, "trainval")
    with pytest.raises(AnnotationError, match=r"no split '07\+12': it needs a folder VOC2012, and there are VOC2007"):
        load(kit / "VOC2007", "07+12")
    with pytest.raises(AnnotationError, match="no split '2007/val'; splits of this folder: test, trainval"):
        load(kit, "2007/val")


def test_unions_within_a_voc_folder(tmp_path):
    root = voc(tmp_path, ["a", "b", "c"], split={"train": ["c", "a"], "val": ["a", "b"], "07": ["b"]})
    data = load(root, "train+val")
    assert [sample.image_id for sample in data.samples] == ["c", "a", "b"]
    assert data.notes == ("val.txt: a is in another part too; taken once",)
    assert [sample.image_id for sample in load(root, "07").samples] == ["b"]  # its own split of that name
    with pytest.raises(AnnotationError, match="no split 'test'"):
        load(root, "train+test")


def test_equal_ids_of_two_folders_stay_apart(tmp_path):
    for year in ("2007", "2012"):
        voc(tmp_path / f"VOC{year}", ["a"], split={"trainval": ["a"]})
    assert [sample.image_id for sample in load(tmp_path, "07+12").samples] == ["VOC2007/a", "VOC2012/a"]


def test_voc_files_in_other_encodings(tmp_path):
    root = voc(tmp_path, ["a", "b", "c"])
    box = "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>20</xmax><ymax>21</ymax></bndbox>"
    text = f"<annotation><object><name>K\xe4fer</name>{box}</object></annotation>"
    (root / "Annotations" / "a.xml").write_bytes(text.encode("latin-1"))
    declared = '<?xml version="1.0" encoding="ISO-8859-1"?>\r\n' + text.replace("><", ">\r\n<")
    (root / "Annotations" / "b.xml").write_bytes(declared.encode("latin-1"))
    (root / "Annotations" / "c.xml").write_bytes(("\ufeff" + text).encode())
    data = load(root)
    assert data.classes == ("K\xe4fer",)
    assert [note.kind for note in data.notes] == ["encoding"]
    assert data.notes[0].startswith("a.xml: is not UTF-8")


def test_file_names_in_other_encodings(tmp_path):
    root = voc(tmp_path, ["x"])
    for written, named in (("cafe\u0301", "caf\xe9"), ("na\udcefve", "na\xefve")):  # NFD; bytes in Latin-1
        os.rename(root / "JPEGImages" / "x.jpg", root / "JPEGImages" / f"{written}.jpg")
        (root / "Annotations" / "x.xml").write_text(f"<annotation><filename>{named}.jpg</filename></annotation>")
        data = load(root)
        assert data.sample(0).path.name == f"{written}.jpg"
        assert data.image(0).shape == (30, 40, 3)
        os.rename(root / "JPEGImages" / f"{written}.jpg", root / "JPEGImages" / "x.jpg")
    os.rename(root / "JPEGImages" / "x.jpg", root / "JPEGImages" / "\udcff.jpg")
    with pytest.raises(AnnotationError, match="missing") as caught:
        load(root)
    str(caught.value).encode("utf-8")  # can be printed


def test_what_cannot_be_used_is_noted_if_asked(tmp_path):
    root = voc(tmp_path, ["a", "b", "c", "d", "e"], split={"train": ["a", "b", "x", "a"]})
    (root / "Annotations" / "b.xml").write_text("<annotation>")
    (root / "Annotations" / "c.xml").write_text("<annotation><filename>../c.jpg</filename></annotation>")
    (root / "JPEGImages" / "d.jpg").unlink()
    (root / "JPEGImages" / "e.jpg").write_text("words")
    data = load(root, on_error="note")
    assert [sample.image_id for sample in data.samples] == ["a"]
    kinds = ["unreadable-annotation", "leads-out", "missing-picture", "unreadable-picture"]
    assert [note.kind for note in data.notes] == kinds
    assert [note.image_id for note in data.notes] == ["b", "c", "d", "e"]
    notes = load(root, "train", on_error="note").notes
    assert [note.kind for note in notes] == ["missing-annotation", "listed-twice", "unreadable-annotation"]
    assert load(root, "train", ("dog",), on_error="note").notes[-1].kind == "unknown-class"
    with pytest.raises(ValueError, match="on_error is 'raise' or 'note'"):
        load(root, on_error="skip")


def test_missing_and_extra_fields_of_voc(tmp_path):
    root = voc(tmp_path, ["a"], text="<annotation><object><name>cat</name></object></annotation>")
    with pytest.raises(AnnotationError, match=r"a\.xml: object 1 has no bndbox with four numbers"):
        load(root)
    box = "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>20</xmax><ymax>21</ymax><zmax>1</zmax></bndbox>"
    text = f"<annotation><x/><object><y>1</y><name>cat</name>{box}<crowd>1</crowd></object></annotation>"
    (root / "Annotations" / "a.xml").write_text(text)
    assert load(root).sample(0).boxes.tolist() == [[1, 2, 20, 21]]
    assert load(root).sample(0).crowd.tolist() == [True]
    (root / "Annotations" / "a.xml").write_text(text.replace("<name>cat</name>", ""))
    with pytest.raises(AnnotationError, match="object 1 has the unknown class ''"):
        load(root)


def test_an_external_entity_is_refused(tmp_path):
    text = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><filename>&x;</filename></annotation>'
    with pytest.raises(AnnotationError, match=r"a\.xml: has a DOCTYPE"):
        load(voc(tmp_path, ["a"], text=text))


@pytest.mark.parametrize(
    ("names", "base"),
    [
        (("test", "train", "trainval", "val"), ("test", "train", "val")),
        (("test", "trainval"), ("test", "trainval")),
        (("train", "val", "test", "trainvaltest"), ("train", "val", "test")),
        (("all", "train"), ("train",)),
        (("all",), ("all",)),
        (("1", "2", "12"), ("1", "2")),
        (("07", "12"), ("07", "12")),
        (("1", "2", "3", "11", "12"), ("1", "2", "3", "11", "12")),
        (tuple(map(str, range(1, 13))), tuple(map(str, range(1, 13)))),
        (tuple(map(str, range(11))), tuple(map(str, range(11)))),
        (("da", "dada"), ("da", "dada")),
        ((), ()),
    ],
)
def test_splits_that_are_unions(names, base):
    assert base_splits(names) == base


@pytest.mark.parametrize(
    "name",
    ["checks", "class_lists", "splits", "split_names", "loading", "anchor_fit", "written", "zoo.reports.doctor_text"],
)
def test_examples_in_docstrings_are_true(name):
    module = importlib.import_module(name if "." in name else f"zoo.datasets.{name}")
    outcome = doctest.testmod(module, extraglobs={"np": np})
    assert outcome.attempted
    assert not outcome.failed
