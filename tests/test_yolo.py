"""YOLO text folders: shares to pixels, outlines, data.yaml and its ways, and messages with the line."""

import numpy as np
import pytest
from small_data import picture

from zoo.datasets import load
from zoo.datasets.notes import AnnotationError
from zoo.datasets.yolo import load_yolo, yolo_splits

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: data.yaml cannot be read")


@pytest.fixture
def yolo(tmp_path):
    """Adds picture and labels: ``yolo("train/a", text)``; ``yolo.yaml(text)``."""

    def add(name, text=None, size=(30, 40)):
        picture(tmp_path / "images" / f"{name}.jpg", size)
        if text is not None:
            file = tmp_path / "labels" / f"{name}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    def write(text):
        (tmp_path / "data.yaml").write_text(text)
        return tmp_path

    add.root, add.yaml = tmp_path, write
    return add


def test_shares_become_pixels(yolo):
    yolo("a", "1 0.5 0.5 0.5 0.2\n0 0.1 0.1 0.2 0.2\r\n\n")
    yolo("b", "")
    yolo("c")
    data = load(yolo.root)
    np.testing.assert_allclose(data.sample(0).boxes, [[10, 12, 30, 18], [0, 0, 8, 6]], atol=1e-5)
    assert data.sample(0).classes.tolist() == [1, 0]
    assert data.classes == ("0", "1")  # nothing names them
    assert [len(sample) for sample in data.samples] == [2, 0, 0]
    (note,) = data.notes
    assert note.kind == "no-annotation"
    assert "c.jpg: has no label file" in note


def test_boxes_without_their_picture_are_told(yolo):
    yolo("train/a", "0 .5 .5 .5 .5")
    yolo("train/deep/b", "0 .5 .5 .5 .5")
    yolo("val/c", "0 .5 .5 .5 .5")
    (yolo.root / "images" / "train" / "a.jpg").rename(yolo.root / "images" / "train" / "a.heic")
    (yolo.root / "labels" / "classes.txt").write_text("cat\n")
    (yolo.root / "labels" / "train" / "README.txt").write_text("Drawn by hand.\n")
    (yolo.root / "labels" / "train" / "empty.txt").write_text("\n")
    for split in ("train", None):
        (note,) = load(yolo.root, split).notes
        assert (note.kind, note.file.name) == ("missing-picture", "a.txt")
    assert not load(yolo.root, "val").notes


def test_an_outline_is_the_box_around_it(yolo):
    yolo("a", "0 0.25 0.5 0.5 0.1 0.75 0.9\n")
    np.testing.assert_allclose(load_yolo(yolo.root).sample(0).boxes, [[10, 3, 30, 27]], atol=1e-5)


@pytest.mark.parametrize("names", ["[cat, dog]", "\n  0: cat\n  1: dog", "{1: dog, 0: cat}", "\n- cat\n- dog"])
def test_data_yaml(yolo, names):
    yolo("train/a", "1 .5 .5 .5 .5")
    yolo("val/b", "0 .5 .5 .5 .5")
    root = yolo.yaml(f"path: .\ntrain: images/train\nval: images/val\nnc: 2\nnames: {names}\n")
    assert yolo_splits(root) == ("train", "val")
    data = load(root, "train")
    assert data.classes == ("cat", "dog")
    assert [sample.image_id for sample in data.samples] == ["a"]
    assert len(load(root)) == 2
    assert load(root / "data.yaml", "val").sample(0).path == root / "images" / "val" / "b.jpg"
    with pytest.raises(AnnotationError, match="no split 'test'; splits: train, val"):
        load(root, "test")


def test_lists_of_pictures_and_several_folders(yolo):
    for name in ("x/a", "y/b", "z/c"):
        yolo(name, "0 .5 .5 .5 .5")
    (yolo.root / "train.txt").write_text("./images/x/a.jpg\n\nimages/y/b.jpg\n")
    root = yolo.yaml("train: train.txt\nval: [images/y, images/z]\nnames: [cat]\n")
    assert [sample.image_id for sample in load(root, "train").samples] == ["a", "b"]
    assert [sample.image_id for sample in load(root, "val").samples] == ["b", "c"]
    assert len(load(root)) == 3
    (root / "train.txt").write_text("images/x/a.jpg\n../../a.jpg\n")
    with pytest.raises(AnnotationError, match=r"train\.txt, line 2: '\.\./\.\./a\.jpg' leads out"):
        load(root, "train")
    (root / "train.txt").write_text("images/x/q.jpg\n")
    with pytest.raises(AnnotationError, match=r"train\.txt, line 1: the picture images/x/q\.jpg is missing"):
        load(root, "train")


def test_paths_of_another_machine(yolo):
    yolo("train/a", "0 .5 .5 .5 .5")
    root = yolo.yaml("path: /data/cells\ntrain: ../images/train\nnames: [cat]\n")
    data = load(root, "train")
    assert len(data) == 1
    assert [note.kind for note in data.notes] == ["leads-out", "leads-out"]
    yolo.yaml("train: ../../elsewhere\nnames: [cat]\n")
    with pytest.raises(AnnotationError, match=r"data\.yaml: train: '\.\./\.\./elsewhere' leads out"):
        load(root)
    yolo.yaml("train: /etc\nnames: [cat]\n")
    with pytest.raises(AnnotationError, match="leads out"):
        load(root)


def test_a_split_that_an_export_left_out_does_not_spoil_the_others(yolo):
    yolo("train/a", "0 .5 .5 .5 .5")
    root = yolo.yaml("train: ../images/train\nval: ../images/val\ntest: ../test/images\nnames: [cat]\n")
    data = load(root, "train")
    assert [sample.image_id for sample in data.samples] == ["a"]
    assert any("no test/images, left out" in str(note) for note in data.notes)
    assert yolo_splits(root) == ("train",)
    assert len(load(root)) == 1
    with pytest.raises(AnnotationError, match="test"):
        load(root, "test")
    root = yolo.yaml("train: ../photos/train\nnames: [cat]\n")
    with pytest.raises(AnnotationError, match=r"train: '../photos/train' leads out of the data set; write it relative"):
        load(root, "train")


def test_other_names_of_splits(yolo):
    for name in ("train2017", "2007", "on", "val"):
        yolo(f"{name}/{name}", "0 .5 .5 .5 .5")
    (yolo.root / "few.txt").write_text("images/2007/2007.jpg\n")
    (yolo.root / "NOTES").write_text("words")
    (yolo.root / "runs").mkdir()
    remarks = f"author: Nobody\nlicense: NOTES\ntask: {'detect ' * 60}\nshape: [17, 3]\nversion: 8\nnotes: NOTES\n"
    places = "train2017: images/train2017\n2007: images/2007\nmini: [few.txt]\nval: images/val\n'on': images/on\n"
    root = yolo.yaml(f"{remarks}{places}gone: images/gone\nsave_dir: runs\nout: ../elsewhere\nnames: [cat]\n")
    assert yolo_splits(root) == ("val", "train2017", "2007", "mini", "on")
    for split, name in (("train2017", "train2017"), ("2007", "2007"), ("mini", "2007"), ("on", "on")):
        assert [sample.image_id for sample in load(root, split).samples] == [name]


def test_names_without_yaml(yolo):
    yolo("a", "1 .5 .5 .5 .5")
    (yolo.root / "classes.txt").write_text("cat\ndog\nbird\n")
    assert load(yolo.root).classes == ("cat", "dog", "bird")
    # Names say more than numbers: a dog stays a dog in another list.
    assert load(yolo.root, classes=("dog", "cow", "cat")).sample(0).classes.tolist() == [0]
    with pytest.raises(AnnotationError, match=r"a\.txt, line 1: has the unknown class 'dog'; known: cat, bird"):
        load(yolo.root, classes=("cat", "bird"))


def test_names_given_for_numbers_that_nothing_names(yolo):
    yolo("a", "1 .5 .5 .5 .5")
    data = load(yolo.root, classes=("dog", "cat"))
    assert (data.classes, data.sample(0).classes.tolist()) == (("dog", "cat"), [1])
    with pytest.raises(AnnotationError, match=r"a\.txt, line 1: has the class 1; there are 1, 0 \(dog\) to 0 \(dog\)"):
        load(yolo.root, classes=("dog",))


def test_classes_given_in_another_order_than_data_yaml(yolo):
    yolo("train/a", "1 .5 .5 .5 .5\n0 .5 .5 .2 .2")
    root = yolo.yaml("train: images/train\nnames: [cat, dog]\n")
    data = load(root, classes=("dog", "cat"))
    assert [data.classes[label] for label in data.sample(0).classes] == ["dog", "cat"]
    assert data.sample(0).classes.tolist() == [0, 1]


def test_folders_in_images_are_splits(yolo):
    yolo("train/a", "0 .5 .5 .5 .5")
    yolo("val/b", "0 .5 .5 .5 .5")
    assert yolo_splits(yolo.root) == ("train", "val")
    assert len(load(yolo.root, "val")) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 .5 .5 .5 .5\n0 .5 .5 .5\n", r"a\.txt, line 2: '0 \.5 \.5 \.5' is not class cx cy width height"),
        ("0 .5 .5 .5 .5 .9\n", r"line 1: .*these are results"),
        ("cat .5 .5 .5 .5\n", "line 1"),
        ("-1 .5 .5 .5 .5\n", "line 1"),
        ("0.5 .5 .5 .5 .5\n", "line 1"),
        ("0 nan .5 .5 .5\n", "line 1"),
        ("0 20 15 10 8\n", r"line 1: .* is not in shares of the picture \(0 to 1\) but, it seems, in pixels"),
        ("0 .5 .5 .5 .5 .5 .5 .5\n", "line 1"),
    ],
)
def test_mistakes_in_labels(yolo, text, words):
    yolo("a", text)
    with pytest.raises(AnnotationError, match=words):
        load(yolo.root)
    kinds = [note.kind for note in load(yolo.root, on_error="note").notes]
    assert kinds == ["unreadable-box"]


def test_broken_boxes(yolo):
    yolo("a", "0 .5 .5 0 .5\n0 .5 .5 -.5 .5\n0 1.5 .5 .1 .1\n0 0 .5 .5 .5\n0 .5 .5 1.0000001 1\n")
    data = load(yolo.root)
    np.testing.assert_allclose(data.sample(0).boxes, [[0, 7.5, 10, 22.5], [0, 0, 40, 30]], atol=1e-5)
    assert [note.kind for note in data.notes] == ["zero-area", "swapped", "outside", "clipped"]
    assert data.notes[2].startswith("a.txt, line 3: the box (0, ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train: [images\n", r"data\.yaml, line 2: not YAML"),
        ("- 1\n", "is not a table"),
        ("names: [cat]\n", "names no pictures"),
        ("train: images\n", "has no names of classes"),
        ("train: images\nnames: [cat, cat]\n", "twice"),
        ("train: images\nnames: {0: cat, 2: dog}\n", "0 to 1 without gaps"),
        ("train: images\nnames: [cat]\nnc: 2\n", "nc is 2, but there are 1 names"),
        ("train: images/none\nnames: [cat]\n", "no such folder of pictures"),
        ("train: labels\nnames: [cat]\n", "no pictures there"),
        ("train: !!python/object/apply:os.system ['true']\nnames: [cat]\n", "not YAML"),
    ],
)
def test_data_yaml_that_is_none(yolo, text, words):
    yolo("a", "0 .5 .5 .5 .5")
    with pytest.raises(AnnotationError, match=words):
        load(yolo.yaml(text))
