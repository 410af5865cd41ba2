"""COCO JSON: gaps in the ids, crowds, areas, splits, and messages that name the file and the annotation."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from small_data import giant, picture

from zoo.datasets import load
from zoo.datasets.coco import coco_splits, load_coco
from zoo.datasets.images import ImageError
from zoo.datasets.notes import AnnotationError


def content(**changes):
    """Two pictures, the second without objects; categories 3 and 90."""
    return {
        "images": [
            {"id": 7, "file_name": "a.jpg", "width": 40, "height": 30},
            {"id": 1000, "file_name": "b.jpg", "width": 40, "height": 30},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 90, "bbox": [1.5, 2, 10, 20.25], "area": 99.5, "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 3, "bbox": [0, 0, 40, 30], "area": 1000, "iscrowd": 1},
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 3, "name": "car"}],
        **changes,
    }


@pytest.fixture
def coco(tmp_path):
    """Writes instances.json, given the content or changes to it; the pictures are there."""
    for name in ("a.jpg", "b.jpg"):
        picture(tmp_path / "images" / name)

    def write(given=None, name="instances.json", **changes):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        text = given if isinstance(given, str) else json.dumps(content(**changes) if given is None else given)
        file.write_text(text)
        return file

    write.root = tmp_path
    return write


def changed(at, **values):
    """The annotations, one of them changed; None takes a value away."""
    annotations = content()["annotations"]
    annotations[at] |= values
    annotations[at] = {key: value for key, value in annotations[at].items() if value is not None}
    return annotations


def test_cocos_lists_of_test_pictures_have_no_annotations(coco):
    given = content()
    del given["annotations"]
    data = load(coco(given, "image_info_test-dev2017.json"))
    assert [len(sample) for sample in data.samples] == [0, 0]
    assert (data.classes, data.category_ids) == (("car", "toothbrush"), (3, 90))
    assert [note.kind for note in data.notes] == ["no-annotation"]
    with pytest.raises(AnnotationError, match="'annotations' is missing"):
        load(coco(given, "other.json"))


def test_boxes_crowds_areas_and_ids(coco):
    data = load_coco(coco())
    assert data.classes == ("car", "toothbrush")  # in the order of the ids, which have gaps
    assert data.category_ids == (3, 90)
    sample, empty = data.samples
    np.testing.assert_allclose(sample.boxes, [[1.5, 2, 11.5, 22.25], [0, 0, 40, 30]])
    assert sample.classes.tolist() == [1, 0]
    assert sample.crowd.tolist() == [False, True]
    assert sample.difficult.tolist() == [False, False]
    assert sample.areas.tolist() == [99.5, 1000]
    assert (sample.image_id, sample.size) == ("7", (30, 40))
    assert data.image(0).shape == (30, 40, 3)
    assert (empty.image_id, len(empty)) == ("1000", 0)
    assert data.notes == ()
    assert data.subset([1]).category_ids == (3, 90)


def test_without_area_it_is_that_of_the_box(coco):
    annotations = changed(0, area=None)
    assert load_coco(coco(annotations=annotations)).sample(0).areas.tolist() == [202.5, 1000]


def test_difficult_where_the_file_has_it(coco):
    assert load_coco(coco(annotations=changed(0, difficult=1))).sample(0).difficult.tolist() == [True, False]


def test_empty_pictures_are_dropped_if_asked(coco):
    coco()
    assert len(load(coco.root)) == 2
    data = load(coco.root, keep_empty=False)
    assert [sample.image_id for sample in data.samples] == ["7"]
    assert data.name == load(coco.root).name
    assert "1 of 2 pictures have no objects; left out" in data.notes[0]
    assert data.image(0).shape == (30, 40, 3)


def test_classes_given(coco):
    data = load_coco(coco(), classes=("toothbrush", "bus", "car"))
    assert data.sample(0).classes.tolist() == [0, 2]
    assert data.category_ids == (90, 92, 3)  # the file has no bus: the first number after all
    with pytest.raises(AnnotationError, match=r"instances\.json: annotation 1 has the unknown class 'toothbrush'"):
        load_coco(coco(), classes=("car",))


@pytest.mark.parametrize(
    ("box", "kept", "kind", "words"),
    [
        ([5, 5, 0, 9], None, "zero-area", "no area; dropped"),
        ([5, 5, -3, 9], None, "swapped", "swapped"),
        ([41, 5, 9, 9], None, "outside", "outside its 40x30 picture; dropped"),
        ([-5, 5, 9, 9], [0, 5, 4, 14], "clipped", "clipped"),
        ([30, 5, 10.01, 9], [30, 5, 40, 14], None, None),  # a rounding of two decimals
        ([5, 5, 1e-9, 9], None, "zero-area", "no area"),
    ],
)
def test_broken_boxes(coco, box, kept, kind, words):
    data = load_coco(coco(annotations=changed(0, bbox=box)))
    found = [] if kept is None else [kept]
    np.testing.assert_allclose(data.sample(0).boxes, [*found, [0, 0, 40, 30]])
    if kind is None:
        assert data.notes == ()
    else:
        (note,) = data.notes
        assert note.startswith("instances.json: annotation 1 of a.jpg (toothbrush, ")
        assert words in note
        assert (note.kind, note.image_id) == (kind, "7")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"annotations": changed(1, bbox=[1, 2, 3])}, r"annotation 2 has no bbox of four numbers"),
        ({"annotations": changed(1, bbox=[1, 2, 3, "x"])}, r"annotation 2 has no bbox"),
        ({"annotations": changed(1, bbox=[1, 2, 3, float("nan")])}, r"annotation 2 has no bbox"),
        ({"annotations": changed(1, bbox=None)}, r"annotation 2 has no bbox"),
        ({"annotations": changed(1, bbox=[True] * 4)}, r"annotation 2 has no bbox"),
        ({"annotations": changed(1, category_id=4)}, r"annotation 2 has the category id 4, which is not in the list"),
        ({"annotations": changed(1, image_id=8)}, r"annotation 2 belongs to image 8, which is not in the list"),
        ({"annotations": changed(1, image_id=[7])}, r"annotation 2 belongs to image \[7\]"),
        ({"annotations": changed(1, image_id=8, id=None)}, r"annotations\[1\] belongs to image 8"),
        ({"annotations": {"id": 1}}, r"'annotations' is an object; an instances file is an object with the lists"),
        ({"annotations": ["x"]}, r"annotations\[0\] is a text, not an object"),
        ({"categories": [{"id": 3}]}, r"categories\[0\] needs a whole number as id and a name"),
        ({"categories": [{"id": 3, "name": "car"}, {"id": 3, "name": "bus"}]}, r"categories\[1\] repeats id 3"),
        ({"categories": [{"id": 3, "name": "car"}, {"id": 4, "name": "car"}]}, r"repeats .*name 'car'"),
        ({"images": [{"file_name": "a.jpg"}]}, r"images\[0\] has no id"),
        ({"images": [{"id": 7, "file_name": "a.jpg"}] * 2}, r"images\[1\] repeats the id 7"),
        ({"images": [{"id": 7}]}, r"image 7 has no file_name"),
        ({"images": [{"id": 7, "file_name": "c.jpg"}]}, r"image 7: its picture c\.jpg is missing; looked in .*images"),
        ({"images": [{"id": 7, "file_name": "../a.jpg"}]}, r"image 7: file_name '\.\./a\.jpg' leads out"),
        ({"images": [{"id": 7, "file_name": "/etc/passwd"}]}, r"leads out"),
        ({"images": [{"id": 7, "file_name": r"C:\a.jpg"}]}, r"leads out"),
    ],
)
def test_wrong_shapes_are_named(coco, changes, words):
    file = coco(**changes)
    with pytest.raises(AnnotationError, match=words) as caught:
        load_coco(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"images": [],\n "annotations": [}', r"line 2: not JSON"),
        ("[]", r"holds a list; an instances file is an object"),
        ('[{"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}]', "file of results"),
        ('{"images": [], "annotations": []}', r"'categories' is missing"),
        ("[" * 100_000, r"not JSON"),
        ("\udcff", r"not JSON"),
    ],
)
def test_what_is_no_instances_file(coco, text, words):
    (coco.root / "instances.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(AnnotationError, match=words):
        load(coco.root)


def test_what_cannot_be_used_is_noted_if_asked(coco):
    images = [*content()["images"], {"id": 2, "file_name": "c.jpg"}, {"id": 3, "file_name": "/x.jpg"}]
    annotations = [*changed(0, bbox="no"), {"id": 3, "image_id": 2, "category_id": 3, "bbox": [1, 1, 2, 2]}]
    annotations += [{"id": 4, "image_id": 99}, {"id": 5, "image_id": 7, "category_id": 5, "bbox": [1, 1, 2, 2]}]
    data = load_coco(coco(images=images, annotations=annotations), on_error="note")
    assert [sample.image_id for sample in data.samples] == ["7", "1000"]
    assert len(data.sample(0)) == 1
    kinds = sorted(note.kind for note in data.notes)
    assert kinds == ["leads-out", "missing-picture", "missing-picture", "unknown-class", "unreadable-box"]


def test_layouts_and_splits(coco, tmp_path):
    one = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [], "categories": [{"id": 1, "name": "car"}]}
    for split in ("train2017", "val2017"):
        coco(one, f"annotations/instances_{split}.json")
        picture(tmp_path / split / "a.jpg", size=(9, 7))
    coco(one, "annotations/captions_val2017.json")
    assert coco_splits(tmp_path) == ("train2017", "val2017")
    data = load_coco(tmp_path, "val2017")
    assert data.sample(0).path == tmp_path / "val2017" / "a.jpg"
    assert data.sample(0).size == (9, 7)  # no size in the file: from the picture's header
    with pytest.raises(AnnotationError, match=r"choose one of its splits: train2017, val2017"):
        load_coco(tmp_path)
    with pytest.raises(AnnotationError, match=r"no split 'test'; splits: train2017, val2017"):
        load_coco(tmp_path, "test")
    with pytest.raises(AnnotationError, match="no splits"):
        load_coco(tmp_path / "annotations" / "instances_val2017.json", "val2017")


def test_export_of_other_tools(coco, tmp_path):
    root = tmp_path / "export"
    for split in ("train", "valid"):
        picture(root / split / "a.jpg")
        picture(root / split / "b.jpg")
        coco(name=f"export/{split}/_annotations.coco.json")
    assert coco_splits(root) == ("train", "valid")
    assert load(root, "valid").sample(0).path == root / "valid" / "a.jpg"


def test_pictures_elsewhere(coco, tmp_path):
    file = coco(name="elsewhere/boxes.json")
    with pytest.raises(AnnotationError, match="missing"):
        load(file)
    assert load(file, images=tmp_path / "images").sample(0).path == tmp_path / "images" / "a.jpg"


def test_a_giant_picture_is_refused_with_its_name(coco, tmp_path):
    giant(tmp_path / "images" / "huge.png")
    images = [{"id": 7, "file_name": "huge.png", "width": 20000, "height": 20000}]
    data = load_coco(coco(images=images))
    with pytest.raises(ImageError, match=r"huge\.png: 400,000,000 pixels are more than is read at once"):
        data.image(0)
    with pytest.raises(ImageError, match=r"huge\.png: 400,000,000 pixels"):
        load_coco(coco(images=[{"id": 7, "file_name": "huge.png"}]))


def test_coco128():
    shared = os.environ.get("ZOO_SHARED_DATA")
    if not shared or not (Path(shared) / "coco128").is_dir():
        pytest.skip("the COCO pictures are not here: set ZOO_SHARED_DATA to the folder that holds coco128/")
    data = load(Path(shared) / "coco128")
    raw = json.loads((Path(shared) / "coco128" / "instances.json").read_text())
    assert (len(data), len(data.classes), sum(map(len, data.samples))) == (128, 80, 929)
    assert sum(not len(sample) for sample in data.samples) == 2
    assert data.notes == ()
    assert data.category_ids == tuple(sorted(entry["id"] for entry in raw["categories"]))
    by_id = {sample.image_id: sample for sample in data.samples}
    found = dict.fromkeys(by_id, 0)
    names = {entry["id"]: entry["name"] for entry in raw["categories"]}
    for entry in raw["annotations"]:
        sample = by_id[str(entry["image_id"])]
        at = found[sample.image_id]
        found[sample.image_id] += 1
        x, y, width, height = entry["bbox"]
        np.testing.assert_allclose(sample.boxes[at], [x, y, x + width, y + height], atol=1e-4)
        assert data.classes[sample.classes[at]] == names[entry["category_id"]]
        assert sample.areas[at] == entry["area"]
    assert data.image(0).shape[:2] == data.sample(0).size
