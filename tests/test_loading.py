"""What a spec means, splits, unions of VOC folders, and round trips through all layouts."""

import doctest
import importlib
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_data import YOLO, needs_yaml, picture, same

from zoo.datasets import load
from zoo.datasets.loading import find_source, splits
from zoo.datasets.notes import AnnotationError
from zoo.datasets.records import DetectionDataset, Sample
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


def sample_set(count=6, flags=True):
    """Pictures in memory with boxes of fractions of pixels, some difficult, some crowds, one picture empty."""

    class InMemory(DetectionDataset):
        def load(self, index):
            sample = self.sample(index)
            return np.random.default_rng(index).integers(0, 256, (*sample.size, 3)).astype(np.uint8), sample

    rng = np.random.default_rng(5)
    samples = []
    for number in range(count):
        size = (int(rng.integers(40, 90)), int(rng.integers(40, 90)))
        boxes = 0 if number == 2 else 7
        corners = rng.uniform(0, 0.9, (boxes, 2)) * [size[1], size[0]]
        sides = rng.uniform(0.02, 1, (boxes, 2)) * ([size[1], size[0]] - corners - 1.1) + 1.05
        marks = [rng.random(boxes) < 0.3 if flags else np.zeros(boxes, bool) for _ in range(2)]
        labels = rng.integers(0, 3, boxes)
        samples.append(Sample(f"p{number}", None, size, np.hstack([corners, corners + sides]), labels, *marks))
    return InMemory("memory", ("cat", "dog, big", "yes"), samples)


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
