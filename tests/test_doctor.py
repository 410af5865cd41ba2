"""The doctor finds every planted fault, names its file, and finds nothing where there is nothing."""

import json
import os
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from planted import Planter
from small_data import YOLO, giant, picture

from zoo.cli.main import main
from zoo.datasets import load
from zoo.datasets.anchor_fit import AnchorPlan
from zoo.datasets.doctor import examine
from zoo.datasets.doctor_boxes import overlaps
from zoo.datasets.doctor_parts import REST
from zoo.datasets.doctor_pictures import Picture
from zoo.datasets.doctor_twins import find_twins
from zoo.datasets.findings import KINDS
from zoo.datasets.writing import save

PLAN = AnchorPlan((32, 64, 128), (0.5, 1, 2), 16, 240, 448)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Digit scenes as a VOC folder: 40 to train, 10 to validate, 10 to test, all with objects."""
    folder = tmp_path_factory.mktemp("clean") / "scenes"
    parts = {}
    for split, count in (("train", 40), ("val", 10), ("test", 10)):
        data = load(f"digits:{count + 6}", split)
        parts[split] = data.subset([index for index in range(len(data)) if len(data.sample(index))][:count])
    save(parts, folder, "voc")
    # Scenes are written as PNG; a data set of photos has JPEG files.
    for path in (folder / "JPEGImages").iterdir():
        Image.open(path).save(path.with_suffix(".jpg"), quality=90)
        path.unlink()
    for path in (folder / "Annotations").iterdir():
        path.write_text(path.read_text().replace(".png", ".jpg"))
    main_folder = folder / "ImageSets" / "Main"
    (main_folder / "trainval.txt").write_text(
        (main_folder / "train.txt").read_text() + (main_folder / "val.txt").read_text()
    )
    return folder


@pytest.fixture
def scenes(clean, tmp_path):
    """A copy to spoil."""
    return Path(shutil.copytree(clean, tmp_path / "scenes"))


def check(found, expected, before):
    """Every expected fault is named, and no more of its kind is found than there are, nor of any other kind."""
    for kind, names in expected.items():
        texts = [finding.text for finding in found.findings if finding.kind == kind]
        for name in names:
            assert any(re.search(rf"\b{re.escape(name)}\b", text) for text in texts), (kind, name, texts)
    counts = Counter(finding.kind for finding in found.findings) - before
    assert counts == {kind: len(names) for kind, names in expected.items()}


def test_a_clean_set_has_no_findings(clean):
    found = examine(clean, plan=PLAN)
    assert [finding.text for finding in found.findings] == []
    assert not found.has_errors
    assert [(part.split, len(part.data)) for part in found.parts] == [("test", 10), ("train", 40), ("val", 10)]
    assert found.pictures == 60


def test_every_planted_fault_is_found(scenes):
    expected = Planter(scenes).plant_all("0123456789")
    assert len(expected) >= 12
    found = examine(scenes, plan=PLAN)
    # What is left out leaves a class that nothing else is called, and perhaps few of one.
    check(found, expected, Counter({"rare-class": sum(finding.kind == "rare-class" for finding in found.findings)}))
    assert found.has_errors
    ranks = [list(KINDS).index(finding.kind) for finding in found.findings]
    severities = [("error", "warning", "info").index(finding.severity) for finding in found.findings]
    assert severities == sorted(severities)
    assert ranks == sorted(ranks)


def test_every_fault_planted_in_the_blood_cells_is_found(tmp_path):
    shared = os.environ.get("ZOO_SHARED_DATA")
    if not shared or not (Path(shared) / "bccd").is_dir():
        pytest.skip("the blood cell pictures are not here: set ZOO_SHARED_DATA to the folder that holds bccd/")
    root = Path(shutil.copytree(Path(shared) / "bccd", tmp_path / "bccd"))
    before = examine(root)
    zero = [finding.file.stem for finding in before.findings if finding.kind == "zero-area"]
    assert zero == ["BloodImage_00338", "BloodImage_00343"]
    near = [finding.text for finding in before.findings if finding.kind == "near-leak"]
    assert len(near) == 1  # one smear in two focuses, in train and in val
    assert "BloodImage_00037" in near[0]
    assert "BloodImage_00038" in near[0]
    assert len(before.findings) == 3
    expected = Planter(root).plant_all(("RBC", "WBC", "Platelets"))
    found = examine(root)
    there = Counter(finding.kind for finding in before.findings)
    check(found, expected, there + Counter({"rare-class": 1}))  # the new spelling of a class has one object


def test_coco128_has_pictures_without_objects():
    shared = os.environ.get("ZOO_SHARED_DATA")
    if not shared or not (Path(shared) / "coco128").is_dir():
        pytest.skip("the COCO pictures are not here: set ZOO_SHARED_DATA to the folder that holds coco128/")
    found = examine(Path(shared) / "coco128")
    empty = {finding.file.stem for finding in found.findings if finding.kind == "no-boxes"}
    assert empty == {"000000000250", "000000000508"}
    assert {finding.severity for finding in found.findings} == {"info"}


def test_a_class_list_tells_strangers(scenes):
    name = Planter(scenes).take("unknown-class")
    path = scenes / "Annotations" / f"{name}.xml"
    path.write_text(re.sub("<name>.*?</name>", "<name>eleven</name>", path.read_text(), count=1))
    found = examine(scenes, classes=tuple("0123456789"), plan=PLAN)
    (finding,) = (finding for finding in found.findings if finding.kind == "unknown-class")
    assert name in finding.text
    assert "'eleven'" in finding.text
    assert finding.split == "train"


def test_what_is_in_no_split_is_looked_at_too(scenes):
    file = scenes / "ImageSets" / "Main" / "train.txt"
    first, *rest = file.read_text().split()
    file.write_text("\n".join(rest))
    found = examine(scenes, plan=PLAN)
    assert [part.split for part in found.parts][-1] == REST
    assert found.parts[-1].data.sample(0).image_id == first
    assert found.pictures == 60
    Planter(scenes).copy(first, "copied", "train")
    found = examine(scenes, plan=PLAN)
    assert Counter(finding.kind for finding in found.findings) == {"twin": 1}  # no leak: only one is in a split


def test_a_fault_in_a_picture_of_no_split_is_on_the_sheet(scenes):
    name = Planter(scenes).take("zero-area")
    Planter(scenes).add_box(name, (30, 20, 30, 60))
    file = scenes / "ImageSets" / "Main" / "train.txt"
    file.write_text("\n".join(each for each in file.read_text().split() if each != name))
    found = examine(scenes, plan=PLAN)
    (finding,) = (finding for finding in found.findings if finding.kind == "zero-area")
    assert (finding.split, finding.image_id) == (REST, name)
    places = [(part.split, part.data.sample(at).image_id) for part in found.parts for at in range(len(part.data))]
    assert places.count((finding.split, finding.image_id)) == 1  # by which the sheet finds the picture


def test_only_some_splits(scenes):
    found = examine(scenes, ["val"], plan=PLAN)
    assert [(part.split, len(part.data)) for part in found.parts] == [("val", 10)]
    # Ten pictures have few objects of a class; but those of the other splits are not without annotations.
    assert {finding.kind for finding in found.findings} <= {"rare-class"}


@pytest.mark.parametrize("layout", ["coco", "csv", YOLO])
def test_other_layouts_leak_too(clean, tmp_path, layout):
    parts = {split: load(clean, split, tuple("0123456789")) for split in ("train", "val")}
    save(parts, tmp_path / "out", layout)
    found = examine(tmp_path / "out", plan=PLAN)
    assert [finding.text for finding in found.findings] == []
    # A picture of val under another name in train.
    source = parts["val"].sample(3)
    extra = {
        "coco": ("images", "x.jpg"),
        "csv": ("images", "x.jpg"),
        "yolo": ("images/train", "x.jpg"),
    }[layout]
    shutil.copy(source.path, tmp_path / "out" / extra[0] / extra[1])
    if layout == "coco":
        file = tmp_path / "out" / "annotations" / "instances_train.json"
        content = json.loads(file.read_text())
        content["images"].append({"id": 10**6, "file_name": "x.jpg"})
        content["annotations"].append({"id": 10**6, "image_id": 10**6, "category_id": 1, "bbox": [9, 9, 30, 30]})
        file.write_text(json.dumps(content))
    elif layout == "csv":
        with open(tmp_path / "out" / "train.csv", "a") as file:
            file.write("images/x.jpg,9,9,39,39,1\n")
    else:
        (tmp_path / "out" / "labels" / "train" / "x.txt").write_text("1 .5 .5 .2 .2\n")
    found = examine(tmp_path / "out", plan=PLAN)
    (finding,) = found.findings
    assert finding.kind == "leak"
    assert "x.jpg" in finding.text
    assert source.path.name in finding.text


def test_a_part_that_cannot_be_opened_is_a_finding(clean, tmp_path):
    save({"train": load(clean, "train"), "val": load(clean, "val")}, tmp_path / "out", "coco")
    (tmp_path / "out" / "annotations" / "instances_val.json").write_text("{")
    found = examine(tmp_path / "out", plan=PLAN)
    kinds = Counter(finding.kind for finding in found.findings)
    assert kinds["unreadable-annotation"] == 1
    assert kinds["no-annotation"] == 10
    (tmp_path / "out" / "annotations" / "instances_train.json").write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        examine(tmp_path / "out")


def test_a_giant_picture_is_a_finding(tmp_path):
    giant(tmp_path / "images" / "huge.png")
    picture(tmp_path / "images" / "a.png")
    images = [{"id": 1, "file_name": "huge.png", "width": 20000, "height": 20000}, {"id": 2, "file_name": "a.png"}]
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "instances.json").write_text(json.dumps(content))
    found = examine(tmp_path)
    assert found.findings[0].kind == "unreadable-picture"
    assert "huge.png: 400,000,000 pixels" in found.findings[0].text
    assert found.grids == ()  # no boxes, no anchors to suggest
    assert json.dumps(found.to_dict(), allow_nan=False)


def test_a_set_in_memory():
    found = examine("digits:8")
    assert {finding.kind for finding in found.findings} <= {"no-boxes", "rare-class"}
    assert found.pictures == 24


def test_counts(clean):
    found = examine(clean, plan=PLAN)
    data = load(clean)
    labels = np.concatenate([sample.classes for sample in data.samples])
    boxes = np.concatenate([sample.boxes for sample in data.samples]).astype(float)
    for number, each in enumerate(found.classes):
        assert each.name == data.classes[number]
        assert each.objects == sum(each.by_split.values()) == (labels == number).sum()
        assert each.pictures == sum(number in sample.classes for sample in data.samples)
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    sides = boxes[:, 2:] - boxes[:, :2]
    counts = record["histograms"]
    assert sum(counts["size_counts"]) == sum(counts["ratio_counts"]) == len(boxes)
    edges = counts["size_edges"]
    at = counts["size_counts"].index(max(counts["size_counts"]))
    roots = np.sqrt(sides.prod(axis=1))
    assert counts["size_counts"][at] == ((roots >= edges[at] - 0.01) & (roots < edges[at + 1] - 0.01)).sum()
    assert sum(counts["boxes_per_picture"].values()) == 60
    assert sum(int(key) * value for key, value in counts["boxes_per_picture"].items()) == len(boxes)
    assert record["splits"]["train"] == {
        "pictures": 40,
        "boxes": sum(c["by_split"]["train"] for c in record["classes"]),
    }
    suggested = record["anchors"]["suggested_grids"][0]
    assert len(suggested["sizes"]) <= 3
    assert suggested["all"]["at_70"] > record["anchors"]["chosen"]["all"]["at_70"]


def seen(split, image_id, digest, seed, size=(30, 40)):
    """A picture as the doctor saw it; equal seeds give equal thumbnails."""
    thumb = np.random.default_rng(seed).integers(0, 256, (32, 32)).astype(np.uint8)
    return Picture(split, 0, image_id, Path(f"{image_id}.jpg"), digest, thumb, size)


def test_copies_are_named_once_beside_an_earlier_one():
    pictures = [seen("train", "a", b"1", 0), seen("test", "b", b"1", 0), seen("test", "c", b"1", 0)]
    pictures += [seen(REST, "d", b"1", 0), seen("val", "e", b"2", 1)]
    found = [(finding.kind, finding.image_id, finding.other) for finding in find_twins(pictures)]
    assert found == [("leak", "b", ("train", "a")), ("twin", "c", ("test", "b")), ("twin", "d", ("train", "a"))]


def test_near_copies_leak_if_any_copies_of_them_do():
    pictures = [seen("train", "a", b"1", 0), seen("train", "b", b"2", 0), seen("test", "c", b"2", 0)]
    found = [(finding.kind, finding.image_id, finding.other) for finding in find_twins(pictures)]
    assert found == [("leak", "c", ("train", "b")), ("near-leak", "c", ("train", "a"))]
    # Of another shape it is another picture; and what shows next to nothing is compared with nothing.
    assert find_twins([seen("train", "a", b"1", 0), seen("test", "b", b"2", 0, (30, 30))]) == []
    flat = [replace(seen("train", "a", digest, 0), thumb=np.full((32, 32), 9, np.uint8)) for digest in (b"1", b"2")]
    assert find_twins(flat) == []


def test_many_near_copies_are_named_beside_the_first_and_the_first_in_another_split():
    rng = np.random.default_rng(3)
    scenes = rng.integers(40, 200, (3, 32, 32))
    pictures = []
    for number in range(60):
        thumb = np.clip(scenes[rng.integers(3)] + rng.integers(-8, 9, (32, 32)), 0, 255).astype(np.uint8)
        thumb = thumb[:, ::-1] if rng.random() < 0.3 else thumb
        split = ("train", "val", REST)[rng.integers(3)]
        pictures.append(replace(seen(split, f"p{number}", bytes([number]), 0), thumb=thumb))

    def near(a, b):
        thumbs = (b.thumb, b.thumb[:, ::-1])
        return max(np.corrcoef(a.thumb.ravel(), thumb.ravel())[0, 1] for thumb in thumbs) >= 0.95

    expected = []
    for at, b in enumerate(pictures):
        before = [a for a in pictures[:at] if near(a, b)]
        leaks = [a for a in before if REST not in (a.split, b.split) and a.split != b.split]
        partners = {a.image_id: a for a in before[:1] + leaks[:1]}
        expected += [
            ("near-leak" if a in leaks else "twin", b.image_id, (a.split, a.image_id)) for a in partners.values()
        ]
    assert 57 < len(expected) < 2 * len(pictures)
    found = [(finding.kind, finding.image_id, finding.other) for finding in find_twins(pictures)]
    assert sorted(found) == sorted(expected)


def test_overlaps():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]], np.float32)
    np.testing.assert_allclose(overlaps(boxes), [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 1]])


def test_the_command_reports_in_text_json_and_html(scenes, tmp_path, capsys):
    name = Planter(scenes).take("zero-area")
    planter = Planter(scenes)
    planter.add_box(name, (30, 20, 30, 60))
    options = ["--option", "anchor_sizes=(32,64,128)", "--option", "short=240", "--option", "long=448"]
    arguments = [str(scenes), *options, "--json", str(tmp_path / "d.json"), "--html", str(tmp_path / "d.html")]
    assert main(["doctor", *arguments]) == 0  # a warning is no error
    out = capsys.readouterr().out
    assert f"{name}.xml: object" in out
    assert "warning: Boxes without area: 1." in out
    assert "sizes (32, 64, 128) x ratios (0.5, 1, 2)" in out
    assert 'Suggested: --option "anchor_sizes=(' in out
    record = json.loads((tmp_path / "d.json").read_text())
    assert record["findings_by_kind"] == {"zero-area": 1}
    assert record["findings"][0]["file"].endswith(f"{name}.xml")
    assert record["anchors"]["plan"]["short"] == 240
    page = (tmp_path / "d.html").read_text()
    assert f"{name}.xml" in page
    assert page.count('src="data:image/png;base64,') == 6
    assert page.count('src="data:image/jpeg;base64,') == 1
    assert not re.search(r'(src|href)="(?!data:)', page)  # it needs nothing beside it
    planter.jpg(name).unlink()
    assert main(["doctor", *arguments]) == 1
    assert "error: Annotated pictures that are not there: 1." in capsys.readouterr().out


def test_names_in_the_page_are_escaped(tmp_path, capsys):
    picture(tmp_path / "<script>alert(1)<" / "a.jpg")
    folder = tmp_path / "<script>alert(1)<"
    (folder / "boxes.csv").write_text("a.jpg,1,1,9,9,<b>cat\na.jpg,1,1,1,9,<b>cat\n")
    assert main(["doctor", str(folder / "boxes.csv"), "--html", str(tmp_path / "d.html")]) == 0
    page = (tmp_path / "d.html").read_text()
    assert "<script" not in page
    assert "<b>cat" not in page
    assert "&lt;b&gt;cat" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no such data set"),
        (["digits:5", "--option", "sides=(1,2)"], "the doctor knows anchor_sizes"),
        (["digits:5", "--option", "anchor_sizes=(0,)"], "positive"),
        (["digits:5", "--option", "anchor_sizes='x'"], "--option"),
        (["digits:5", "--model", "vgg16"], "has no anchors"),
        (["digits:5", "--weights", "nowhere"], "give a run folder"),
    ],
)
def test_mistakes_in_the_command(arguments, message, capsys):
    assert main(["doctor", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_anchors_of_a_model(capsys):
    assert main(["doctor", "digits:5", "--model", "faster_rcnn_resnet18", "--option", "anchor_sizes=(20, 40)"]) == 0
    assert "sizes (20, 40) x ratios (0.5, 1, 2)" in capsys.readouterr().out
