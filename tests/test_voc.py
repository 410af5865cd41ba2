"""VOC folders: coordinates, broken boxes, file names, splits, classes, and messages that name the file."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.datasets import load
from zoo.datasets.images import ImageError
from zoo.datasets.voc import AnnotationError, load_voc, voc_splits


def xml(objects=(), filename="a.jpg", size=(30, 40), extra=""):
    items = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for name, x1, y1, x2, y2, difficult in objects
    )
    shape = f"<size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>" if size else ""
    return f"{extra}<annotation><filename>{filename}</filename>{shape}{items}</annotation>"


@pytest.fixture
def voc(tmp_path):
    """Adds annotation and picture to a VOC folder: ``voc(name, xml text, picture's size)``; ``voc.root``."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)

    def add(name, text, picture=(30, 40), suffix=".jpg", exif=None):
        (tmp_path / "Annotations" / f"{name}.xml").write_text(text)
        if picture:
            options = {"exif": exif} if exif else {}
            Image.new("RGB", picture[::-1], "gray").save(tmp_path / "JPEGImages" / f"{name}{suffix}", **options)

    add.root = tmp_path
    add.split = lambda name, text: (tmp_path / "ImageSets" / "Main" / f"{name}.txt").write_text(text)
    return add


def test_pixels_from_one_inclusive_become_continuous(voc):
    voc("a", xml([("cat", 1, 1, 40, 30, 0), ("dog", 5, 7, 6, 20, 1)]))
    data = load_voc(voc.root)
    sample = data.sample(0)
    np.testing.assert_array_equal(sample.boxes, [[0, 0, 40, 30], [4, 6, 6, 20]])
    assert sample.boxes.dtype == np.float64
    assert sample.classes.tolist() == [0, 1]
    assert sample.difficult.tolist() == [False, True]
    assert sample.size == (30, 40)
    assert sample.image_id == "a"
    assert data.notes == ()
    assert data.image(0).shape == (30, 40, 3)
    assert data.max_boxes == 2


def test_broken_boxes_are_dropped_or_clipped_and_noted(voc):
    boxes = [
        ("cat", 5, 5, 5, 9, 0),  # no width
        ("cat", 9, 9, 5, 20, 0),  # inverted
        ("cat", 5, 9, 9, 9, 0),  # no height
        ("cat", 41, 5, 60, 9, 0),  # right of the picture
        ("cat", 5, -9, 9, 0, 0),  # above it
        ("cat", 0, 0, 60, 20, 0),  # partly outside
        ("cat", 2, 2, 8, 8, 0),
    ]
    voc("odd", xml(boxes, "odd.jpg"))
    data = load_voc(voc.root)
    np.testing.assert_array_equal(data.sample(0).boxes, [[0, 0, 40, 20], [1, 1, 8, 8]])
    words = ["no area; dropped"] * 3 + ["outside its 40x30 picture; dropped"] * 2 + ["clipped"]
    assert len(data.notes) == len(words)
    for number, (note, word) in enumerate(zip(data.notes, words, strict=True), 1):
        assert note.startswith(f"odd.xml: object {number} (cat, ")
        assert word in note


def test_pictures_without_objects_stay(voc):
    voc("a", xml())
    voc("b", xml([("cat", 2, 2, 2, 2, 0)], "b.jpg"))
    data = load_voc(voc.root)
    assert len(data) == 2
    assert data.sample(0).boxes.shape == (0, 4)
    assert data.sample(1).boxes.shape == (0, 4)


@pytest.mark.parametrize("filename", ["a.jpg", "a", "a.JPG", "wrong.jpg", "", "a.png"])
def test_a_picture_is_found_by_filename_or_id(voc, filename):
    voc("a", xml(filename=filename))
    assert load_voc(voc.root).sample(0).path == voc.root / "JPEGImages" / "a.jpg"


def test_filename_comes_before_the_id(voc):
    voc("a", xml(filename="b.png"))
    Image.new("RGB", (40, 30)).save(voc.root / "JPEGImages" / "b.png")
    assert load_voc(voc.root).sample(0).path.name == "b.png"


@pytest.mark.parametrize("suffix", [".png", ".JPEG", ".webp"])
def test_any_known_suffix(voc, suffix):
    voc("a", xml(filename="a.jpg"), suffix=suffix)
    assert load_voc(voc.root).sample(0).path.name == f"a{suffix}"


def test_a_missing_picture_names_both_places(voc):
    voc("a", xml(filename="other.jpg"), picture=None)
    with pytest.raises(AnnotationError, match=r"a\.xml: its picture is missing; .*other\.jpg and .*JPEGImages/a\.\*"):
        load_voc(voc.root)


@pytest.mark.parametrize("filename", ["/etc/passwd", "../secret.jpg", "sub/../../a.jpg", r"C:\a.jpg", r"..\a.jpg"])
def test_filenames_that_lead_out_are_refused(voc, filename):
    voc("a", xml(filename=filename))
    with pytest.raises(AnnotationError, match=r"a\.xml: <filename> .* leads out of JPEGImages"):
        load_voc(voc.root)


@pytest.mark.parametrize("size", [None, (0, 0), (0, 40)])
def test_a_missing_size_is_read_from_the_picture(voc, size):
    voc("a", xml([("cat", 1, 1, 99, 99, 0)], size=size))
    sample = load_voc(voc.root).sample(0)
    assert sample.size == (30, 40)
    assert sample.boxes.tolist() == [[0, 0, 40, 30]]


def test_a_picture_of_another_size_is_an_error_when_read(voc):
    voc("a", xml(size=(31, 40)))
    data = load_voc(voc.root)
    with pytest.raises(ImageError, match=r"a\.jpg: the picture is 40x30 .* annotation says 40x31"):
        data.image(0)


def test_annotations_made_on_the_stored_pixels_of_a_turned_photo(voc):
    exif = Image.Exif()
    exif[0x0112] = 6
    voc("a", xml(size=(30, 40)), exif=exif)
    assert load_voc(voc.root).image(0).shape == (30, 40, 3)


def test_classes(voc):
    voc("a", xml([("dog", 1, 1, 9, 9, 0)]))
    voc("b", xml([("cat", 1, 1, 9, 9, 0)], "b.jpg"))
    voc.split("train", "a\n")
    assert load_voc(voc.root, "train").classes == ("cat", "dog")  # of the whole folder: splits agree
    given = load_voc(voc.root, "train", classes=["dog", "bird", "cat"])
    assert given.classes == ("dog", "bird", "cat")
    assert given.sample(0).classes.tolist() == [0]
    with pytest.raises(AnnotationError, match=r"b\.xml: object 1 has the unknown class 'cat'; known: dog, bird"):
        load_voc(voc.root, classes=("dog", "bird"))
    with pytest.raises(ValueError, match="twice"):
        load_voc(voc.root, classes=("dog", "dog", "cat"))
    with pytest.raises(ValueError, match="background"):
        load_voc(voc.root, classes=("__background__", "dog", "cat"))


def test_a_broken_file_outside_the_split_does_not_stop(voc):
    voc("a", xml([("dog", 1, 1, 9, 9, 0)]))
    voc("b", "<annotation", picture=None)
    voc.split("train", "a")
    assert load_voc(voc.root, "train").classes == ("dog",)
    with pytest.raises(AnnotationError, match=r"b\.xml: not well-formed XML"):
        load_voc(voc.root)


def test_splits(voc):
    for name in ("a", "b", "c 1", "d"):
        voc(name, xml([("cat", 1, 1, 9, 9, 0)], f"{name}.jpg"))
    voc.split("train", "\ufeffb\r\na\r\n\r\nb\r\n")
    voc.split("val", "c 1\nd -1\n")
    voc.split("cat_train", "a  1\nb -1\n")
    voc.split("bad", "a\nmissing\n")
    voc.split("empty", "\n")
    data = load_voc(voc.root, "train")
    assert [sample.image_id for sample in data.samples] == ["b", "a"]
    assert data.notes == ("train.txt, line 4: b is listed twice; taken once",)
    assert [sample.image_id for sample in load_voc(voc.root, "val").samples] == ["c 1", "d"]
    assert [sample.image_id for sample in load_voc(voc.root, "cat_train").samples] == ["a", "b"]
    assert voc_splits(voc.root) == ("bad", "empty", "train", "val")
    with pytest.raises(AnnotationError, match=r"test\.txt: .* splits of this folder: bad, empty, train, val"):
        load_voc(voc.root, "test")
    with pytest.raises(AnnotationError, match=r"bad\.txt, line 2: 'missing' has no file"):
        load_voc(voc.root, "bad")
    with pytest.raises(AnnotationError, match=r"empty\.txt: the split is empty"):
        load_voc(voc.root, "empty")
    with pytest.raises(AnnotationError, match="no split"):
        load_voc(voc.root, "../../x")


def test_all_annotations_in_natural_order(voc):
    for name in ("10", "9", "1"):
        voc(name, xml(filename=f"{name}.jpg"))
    assert [sample.image_id for sample in load_voc(voc.root).samples] == ["1", "9", "10"]


def test_doctype_is_refused(voc):
    bomb = '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;">]>'
    voc("a", xml(extra=bomb, filename="&y;"))
    with pytest.raises(AnnotationError, match=r"a\.xml: has a DOCTYPE"):
        load_voc(voc.root)
    (voc.root / "Annotations" / "a.xml").write_bytes(xml(extra=bomb).encode("utf-16"))
    with pytest.raises(AnnotationError, match="DOCTYPE"):
        load_voc(voc.root)


@pytest.mark.parametrize("value", ["", "seven", "nan", "inf"])
def test_corners_that_are_no_numbers(voc, value):
    voc("a", xml([("cat", 1, 1, value, 9, 0)]))
    with pytest.raises(AnnotationError, match=r"a\.xml: object 1 has no bndbox with four numbers"):
        load_voc(voc.root)


def test_parts_of_an_object_are_no_objects(voc):
    corners = "<xmin>2</xmin><ymin>2</ymin><xmax>3</xmax><ymax>3</ymax>"
    part = f"<part><name>head</name><bndbox>{corners}</bndbox></part>"
    voc("a", xml([("person", 1, 1, 20, 20, 0)]).replace("<bndbox>", f"{part}<bndbox>", 1))
    data = load_voc(voc.root)
    assert data.classes == ("person",)
    assert data.sample(0).boxes.tolist() == [[0, 0, 20, 20]]


def test_nesting_of_the_devkit(voc):
    voc("a", xml())
    root = voc.root.parent / "nested"
    (root / "VOCdevkit").mkdir(parents=True)
    (root / "VOCdevkit" / "VOC2007").symlink_to(voc.root)
    assert len(load_voc(root)) == len(load_voc(root / "VOCdevkit")) == 1
    (root / "VOCdevkit" / "VOC2012").symlink_to(voc.root)
    with pytest.raises(AnnotationError, match=r"several VOC folders, choose one: .*VOC2007, .*VOC2012"):
        load_voc(root)


def test_folders_that_are_none(tmp_path):
    with pytest.raises(AnnotationError, match=r"no Annotations in it\); expected Annotations/NAME\.xml"):
        load_voc(tmp_path)
    with pytest.raises(AnnotationError, match="no such folder"):
        load_voc(tmp_path / "missing")
    (tmp_path / "Annotations").mkdir()
    with pytest.raises(AnnotationError, match=r"Annotations: no \.xml files"):
        load_voc(tmp_path)


def test_subset(voc):
    for name in ("a", "b", "c"):
        voc(name, xml([("cat", 1, 1, 9, 9, 0)], f"{name}.jpg"))
    part = load_voc(voc.root).subset([2, 0])
    assert [sample.image_id for sample in part.samples] == ["c", "a"]
    assert part.classes == ("cat",)
    assert part.image(1).shape == (30, 40, 3)
    with pytest.raises(IndexError, match="no picture 3"):
        load_voc(voc.root).subset([3])


def test_load(voc):
    voc("a", xml([("cat", 1, 1, 9, 9, 0)]))
    voc.split("train", "a")
    assert len(load(str(voc.root), "train")) == 1
    assert load(voc.root, classes=("dog", "cat")).classes == ("dog", "cat")
    assert len(load("digits:7", "test")) == 7
    assert len(load("digits", "val")) == 200
    for spec, words in (
        ("digit", "digits:COUNT"),
        ("digits:0", "number of scenes"),
        ("digits:x", "number of scenes"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            load(spec)
        assert spec in str(caught.value)
    with pytest.raises(ValueError, match="train, val, test"):
        load("digits", "all")
    with pytest.raises(ValueError, match="classes of the digit scenes"):
        load("digits", classes=("cat",))


@pytest.fixture(scope="module")
def bccd():
    shared = os.environ.get("ZOO_SHARED_DATA")
    if not shared or not (Path(shared) / "bccd").is_dir():
        pytest.skip("the blood cell pictures are not here: set ZOO_SHARED_DATA to the folder that holds bccd/")
    return Path(shared) / "bccd"


def test_blood_cells(bccd):
    assert voc_splits(bccd) == ("test", "train", "trainval", "val")
    data = load_voc(bccd)
    assert data.classes == ("Platelets", "RBC", "WBC")
    counts = np.bincount(np.concatenate([sample.classes for sample in data.samples]))
    assert counts.tolist() == [361, 4155 - 2, 372]
    assert len(data) == 364
    assert [note.split(":")[0] for note in data.notes] == ["BloodImage_00338.xml", "BloodImage_00343.xml"]
    assert all("no area" in note for note in data.notes)
    lengths = {split: len(load_voc(bccd, split)) for split in voc_splits(bccd)}
    assert lengths == {"test": 72, "train": 205, "trainval": 292, "val": 87}
    assert data.image(0).shape == (480, 640, 3)
    boxes = np.concatenate([sample.boxes for sample in data.samples])
    assert boxes.min() >= 0
    assert boxes[:, 2].max() <= 640
    assert boxes[:, 3].max() <= 480
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_a_test_whose_annotations_are_not_published(voc):
    """VOC2012's: pictures, a list, and a few annotation files that are of other tasks."""
    voc("a", xml([("cat", 1, 1, 40, 30, 0)]))
    voc("b", xml([("person", 1, 1, 40, 30, 0)], filename="b.jpg"))
    for name in ("c", "d"):
        Image.new("RGB", (50, 20), "gray").save(voc.root / "JPEGImages" / f"{name}.jpg")
    voc.split("test", "b\nc\nd\n")
    data = load_voc(voc.root, "test", classes=("cat", "person"))
    assert [(sample.image_id, sample.size, len(sample)) for sample in data.samples] == [
        ("b", (30, 40), 0),
        ("c", (20, 50), 0),
        ("d", (20, 50), 0),
    ]
    assert [note.kind for note in data.notes] == ["no-annotation"]
    assert data.image(1).shape == (20, 50, 3)
    assert len(load_voc(voc.root).sample(0)) == 1
    # Half of them, or another split: files that are missing.
    voc.split("test", "a\nb\nc\nd\n")
    voc.split("val", "b\nc\nd\n")
    for split in ("test", "val"):
        with pytest.raises(AnnotationError, match="'c' has no file"):
            load_voc(voc.root, split)
    voc.split("test", "../c\nc\nd\n")
    with pytest.raises(AnnotationError, match=r"'\.\./c' has no file"):
        load_voc(voc.root, "test")
