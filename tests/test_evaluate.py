"""``zoo eval`` from the data to the report, and the pictures in it."""

import json
from dataclasses import replace

import fakes
import numpy as np
import pytest
from coco_official import NAMES, problem
from PIL import Image

import zoo
from zoo import registry
from zoo.cli.main import main
from zoo.datasets.coco_metrics import evaluate_coco
from zoo.datasets.errors import KINDS, find_errors
from zoo.datasets.records import DetectionDataset, Sample
from zoo.datasets.voc_metrics import evaluate_voc
from zoo.detections import Detections
from zoo.drawing import class_color, draw
from zoo.training import score_plots
from zoo.training.score_plots import KIND_COLORS, draw_errors, draw_precision_recall
from zoo.training.worst_pictures import draw_judged, save_worst
from zoo.weights_io import save_weights_file

BOX = (16, 12, 48, 36)  # what the fake detector finds in a picture of 64 x 48


@pytest.fixture
def run(monkeypatch, tmp_path):
    """A folder of weights whose detections score .8; only the fake detector is registered."""
    monkeypatch.setattr(registry, "_models", {})
    monkeypatch.setattr(registry, "_discover", lambda: None)

    def fake_net(classes=None, *, width=4):
        return fakes.build(classes, width=width)

    registry.register(task="detection", paper="", summary="")(fake_net)
    monkeypatch.chdir(tmp_path)
    model = zoo.get("fake_net", classes=fakes.CLASSES)
    model.out.bias.assign([np.log(4)])
    return save_weights_file(model, tmp_path / "run" / "model.weights.h5", meta=model.zoo_meta).parent


def pictures(folder, names):
    folder.mkdir(parents=True)
    for name in names:
        Image.new("RGB", (64, 48), (200, 200, 200)).save(folder / f"{name}.jpg")


def voc_folder(root, objects):
    """``objects``: for each picture (class, difficult) of the objects in the place where the detector finds one."""
    pictures(root / "JPEGImages", objects)
    (root / "Annotations").mkdir()
    box = "<xmin>17</xmin><ymin>13</ymin><xmax>48</xmax><ymax>36</ymax>"
    for name, things in objects.items():
        inner = "".join(
            f"<object><name>{label}</name><difficult>{hard}</difficult><bndbox>{box}</bndbox></object>"
            for label, hard in things
        )
        text = f"<filename>{name}.jpg</filename><size><width>64</width><height>48</height></size>{inner}"
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{text}</annotation>")
    return root


def coco_folder(root, things):
    """``things``: for each picture's number, the category ids of objects in that place; 11 is a circle, 7 a square."""
    pictures(root / "images", things)
    x1, y1, x2, y2 = BOX
    one = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": 768, "iscrowd": 0}
    objects = [{**one, "image_id": number, "category_id": label} for number in things for label in things[number]]
    content = {
        "images": [{"id": number, "file_name": f"{number}.jpg", "width": 64, "height": 48} for number in things],
        "annotations": [{**thing, "id": number + 1} for number, thing in enumerate(objects)],
        "categories": [{"id": 7, "name": "square"}, {"id": 11, "name": "circle"}],
    }
    (root / "instances.json").write_text(json.dumps(content))
    return root


def zoo_eval(capsys, *arguments):
    status = main(["eval", "--weights", "run", *map(str, arguments)])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def test_a_voc_report(capsys, tmp_path, run):
    data = voc_folder(tmp_path / "data", {"a": [("circle", 0)], "b": [("square", 0)], "c": [("circle", 1)], "d": []})
    status, out, err = zoo_eval(capsys, "--data", data, "--report", "report", "--results", "results", "--worst", 1)
    assert (status, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert ["circle", "1.0000", "1", "4"] in lines  # that in a comes first, among equal scores
    assert ["all", "1", "0", "1", "0", "0", "1", "1"] in lines  # correct in a, a square in b, nothing in d
    record = json.loads((tmp_path / "report" / "scores.json").read_text())
    assert (record["metric"], record["positives"]) == ("voc", {"circle": 1, "square": 1})
    assert record["errors"]["by_class"]["square"] == {**dict.fromkeys(KINDS, 0), "missed": 1}
    assert record["errors"]["confused"] == [{"found": "circle", "object": "square", "count": 1}]
    for name in ("precision_recall.png", "errors.png", "worst.png", "worst/01-b.png"):
        with Image.open(tmp_path / "report" / name) as picture:
            assert picture.width >= 420
    assert [path.name for path in (tmp_path / "report" / "worst").iterdir()] == ["01-b.png"]
    written = (tmp_path / "results" / "comp4_det_test_circle.txt").read_text().splitlines()
    assert [line.split()[0] for line in written] == ["a", "b", "c", "d"]
    assert [float(number) for number in written[0].split()[2:]] == [17, 13, 48, 36]
    assert (tmp_path / "results" / "comp4_det_test_square.txt").read_text() == ""


def test_coco_data_are_measured_as_coco_does(capsys, tmp_path, run):
    data = coco_folder(tmp_path / "data", {5: [11], 30: [7, 11], 4: []})
    status, out, err = zoo_eval(capsys, "--data", data, "--json", "s.json", "--results", "r.json", "--report", "report")
    assert (status, err) == (0, "")
    record = json.loads((tmp_path / "s.json").read_text())
    # Of equal scores that in picture 4, where nothing is, comes first: a precision of 2/3 for circles.
    assert record["ap"] == {"circle": pytest.approx(2 / 3), "square": 0.0}
    assert record["AP"] == record["APs"] == pytest.approx(1 / 3)
    assert (record["metric"], record["APm"]) == ("coco", None)
    lines = [line.split() for line in out.splitlines()]
    assert ["circle", "0.6667", "0.6667", "1.0000", "2", "3"] in lines
    assert ["AP", "AP50", "AP75", "APs", "APm", "APl"] in lines
    assert ["0.3333", "0.3333", "0.3333", "0.3333", "-", "-"] in lines
    rows = json.loads((tmp_path / "r.json").read_text())
    assert sorted(row["image_id"] for row in rows) == [4, 5, 30]
    assert all(row["category_id"] == 11 and row["bbox"] == [16, 12, 32, 24] for row in rows)
    assert (tmp_path / "report" / "worst.png").exists()
    # The other metric on the same data, if asked for.
    status, out, _ = zoo_eval(capsys, "--data", data, "--metric", "voc", "--json", "s.json")
    assert json.loads((tmp_path / "s.json").read_text())["map"] == 0.5  # in the order of the file
    status, _, err = zoo_eval(capsys, "--data", data, "--iou", ".6")
    assert status == 2
    assert "--iou and --interpolation belong to --metric voc" in err


def test_results_of_a_test_whose_annotations_are_not_published(capsys, tmp_path, run):
    data = coco_folder(tmp_path / "data", {5: [], 30: []})
    (file,) = data.rglob("instances*.json")
    told = json.loads(file.read_text())
    del told["annotations"]
    file = file.rename(file.with_name("image_info_test-dev2017.json"))
    file.write_text(json.dumps(told))
    pictures = data / "images"
    words = ("--data", file, "--images", pictures)
    status, _, err = zoo_eval(capsys, *words, "--results", "r.json")
    assert status == 0, err
    assert sorted(row["image_id"] for row in json.loads((tmp_path / "r.json").read_text())) == [5, 30]
    status, _, err = zoo_eval(capsys, *words)  # nothing to measure against
    assert (status, "has no annotations to measure against" in err) == (2, True)


def test_results_of_the_voc_test_of_2012(capsys, tmp_path, run):
    data = voc_folder(tmp_path / "data", {name: [("circle", 0), ("square", 0)] for name in "abc"})
    for name in "bc":
        (data / "Annotations" / f"{name}.xml").unlink()
    (data / "ImageSets" / "Main").mkdir(parents=True)
    (data / "ImageSets" / "Main" / "test.txt").write_text("a\nb\nc\n")
    words = ("--data", data, "--split", "test")
    status, _, err = zoo_eval(capsys, *words, "--results", "results")
    assert status == 0, err
    written = (tmp_path / "results" / "comp4_det_test_circle.txt").read_text().splitlines()
    assert [line.split()[0] for line in written] == ["a", "b", "c"]
    status, _, err = zoo_eval(capsys, *words)
    assert (status, "test has no annotations to measure against" in err) == (2, True)


def test_voc_data_by_coco_and_mistakes(capsys, tmp_path, run):
    data = voc_folder(tmp_path / "data", {"a": [("circle", 0), ("square", 0)]})
    assert zoo_eval(capsys, "--data", data, "--metric", "coco", "--json", "s.json")[0] == 0
    assert json.loads((tmp_path / "s.json").read_text())["AP"] == 0.5
    for arguments, message in (
        (("--metric", "coco", "--results", "r.json"), "has no category ids"),
        (("--iou", 0), "--iou 0: give an overlap"),
        (("--worst", 0), "--worst 0"),
        (("--limit", 0), "--limit 0"),
    ):
        status, _, err = zoo_eval(capsys, "--data", data, *arguments)
        assert status == 2
        assert message in err


# --- plots ---


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved; files are written all the same."""
    figures = []
    save = score_plots._save
    monkeypatch.setattr(score_plots, "_save", lambda figure, path: figures.append(figure) or save(figure, path))
    return figures


def test_voc_curves_show_the_precision_that_counts(tmp_path, drawn):
    truth = [[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]]
    sample = Sample("x", None, (99, 99), truth, [0, 0, 0, 0], [0] * 4, [0] * 4)
    found = (np.array([truth[0], [0, 50, 9, 60], truth[1], truth[2]]), np.array([0.9, 0.8, 0.7, 0.6]), np.zeros(4, int))
    result = evaluate_voc([found], [sample], ("cat", "dog"))
    draw_precision_recall(result, tmp_path / "curves.png")
    (axes,) = drawn[0].axes
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines) == [f"cat {result.map:.3f}", f"mean {result.map:.3f}"]  # the dog has no objects
    recall, precision = next(iter(lines.values())).get_data()
    # Right, wrong, right, right: 1 up to a recall of 1/4, then 3/4 (better than the 2/3 at 1/2), then nothing.
    expected = np.where(recall <= 0.25, 1, np.where(recall <= 0.75, 0.75, 0))
    np.testing.assert_allclose(precision, expected)
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.width > 600


def test_coco_curves_and_results_without_objects_are_drawn(tmp_path, drawn):
    found, samples = problem(2)
    result = evaluate_coco(found, samples, NAMES)
    draw_precision_recall(result, tmp_path / "coco.png")
    left, right = drawn[0].axes
    assert left.lines[0].get_label() == f"IoU 0.5: {np.nanmean(result.ap50):.3f}"
    assert len(left.lines) == 5
    assert len(right.lines) == 1 + int((result.positives > 0).sum())
    draw_precision_recall(evaluate_coco([], [], NAMES), tmp_path / "none.png")
    draw_precision_recall(evaluate_voc([], [], NAMES), tmp_path / "none.png")
    draw_precision_recall(evaluate_voc([], [], ()), tmp_path / "none.png")
    draw_errors(find_errors([], [], NAMES), tmp_path / "none.png")


def test_of_many_classes_some_are_named_and_all_are_drawn(tmp_path, drawn):
    names = [f"class {number}" for number in range(40)]
    boxes = [[10 * number, 0, 10 * number + 9, 9] for number in range(40)]
    sample = Sample("x", None, (99, 400), boxes, range(40), [0] * 40, [0] * 40)
    found = (np.array(boxes[:30]), np.ones(30), np.arange(30))
    draw_precision_recall(evaluate_voc([found], [sample], names), tmp_path / "curves.png")
    (axes,) = drawn[0].axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert len(axes.lines) == 41
    assert len(labels) == 17
    assert labels[0] == "class 0 1.000"
    assert labels[-2:] == ["class 39 0.000", "mean 0.750"]
    draw_errors(find_errors([found], [sample], names), tmp_path / "errors.png")
    left, _ = drawn[1].axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["all", *names[:6], *names[30:]]


def test_error_bars_are_shares_and_counts(tmp_path, drawn):
    sample = Sample("x", None, (99, 99), [[0, 0, 10, 10], [20, 0, 30, 10]], [0, 1], [0, 0], [0, 0])
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 4], [50, 50, 60, 60]])
    report = find_errors([(boxes, np.array([0.9, 0.8, 0.7, 0.6]), np.array([0, 1, 0, 0]))], [sample], ("cat", "dog"))
    draw_errors(report, tmp_path / "errors.png")
    left, right = drawn[0].axes
    widths = {bars.get_label(): [bar.get_width() for bar in bars] for bars in left.containers}
    assert widths["correct 1"] == pytest.approx([1 / 4, 1 / 3, 0])
    starts = {bars.get_label(): bars[0].get_x() for bars in left.containers}  # of the upper bar, that of all classes
    assert starts == {
        "correct 1": 0,
        "duplicate 0": pytest.approx(1 / 4),
        "wrong class 1": pytest.approx(1 / 4),
        "localisation 1": pytest.approx(1 / 2),
        "class and localisation 0": pytest.approx(3 / 4),
        "background 1": pytest.approx(3 / 4),
    }
    assert widths["wrong class 1"] == pytest.approx([1 / 4, 0, 1])
    assert [bars.get_label() for bars in right.containers] == ["correct 1", "missed 1"]
    assert [text.get_text() for text in left.texts] == ["4", "3", "1"]


# --- pictures ---


def rgb(color):
    return tuple(int(color[at : at + 2], 16) for at in (1, 3, 5))


def has(picture, color, near):
    """Whether the colour is found within 3 pixels of (x, y)."""
    x, y = near
    part = picture[y - 3 : y + 4, x - 3 : x + 4].reshape(-1, 3).astype(int)
    return bool((np.abs(part - rgb(color)).max(axis=1) < 40).any())


def test_a_judged_picture_shows_each_kind_in_its_colour():
    image = np.full((480, 640, 3), 90, np.uint8)
    truth = [[50, 300, 150, 400], [300, 300, 400, 400], [500, 300, 600, 400]]
    sample = Sample("x", None, (480, 640), truth, [0, 0, 1], [0] * 3, [0] * 3)
    boxes = [truth[0], [310, 310, 410, 410], [300, 50, 400, 150], truth[2]]
    found = Detections(boxes, [0.9, 0.8, 0.7, 0.1], [0, 1, 0, 1], ("cat", "dog", "cat", "dog"), size=(480, 640))
    report = find_errors([(found.boxes, found.scores, found.classes)], [sample], ("cat", "dog"))
    picture = draw_judged(image, sample, found, report.kinds[0], report.missed[0], ("cat", "dog"))
    assert has(picture, KIND_COLORS["correct"], (50, 350))
    assert has(picture, KIND_COLORS["class"], (410, 380))
    assert has(picture, KIND_COLORS["background"], (400, 100))
    for x in (300, 500):  # missed, and dashed: somewhere along the left side there is a line, elsewhere none
        side = [has(picture, KIND_COLORS["missed"], (x, y)) for y in range(340, 380)]
        assert any(side)
        assert not all(side)
    assert all(has(picture, KIND_COLORS["class"], (410, y)) for y in range(340, 380))  # no dashes


def test_worst_pictures_by_rank_and_without_those_of_an_earlier_run(tmp_path):
    class Grey(DetectionDataset):
        def load(self, index):
            return np.full((60, 80, 3), 90, np.uint8), self.sample(index)

    def sample(name, count):
        return Sample(name, None, (60, 80), [[5, 5, 40, 40]] * count, [0] * count, [0] * count, [0] * count)

    data = Grey("grey", ("cat",), [sample("fine", 0), sample("a/b:1", 1), sample("worse", 3)])
    nothing = [Detections(size=(60, 80))] * 3
    report = find_errors([(one.boxes, one.scores, one.classes) for one in nothing], data)
    paths = save_worst(tmp_path / "worst", data, nothing, report)
    assert [path.name for path in paths] == ["01-worse.png", "02-a_b_1.png"]
    assert (tmp_path / "worst.png").exists()
    (tmp_path / "worst" / "mine.png").write_text("")
    save_worst(tmp_path / "worst", data, nothing, replace(report, badness=np.array([0.0, 1, 0])))
    assert sorted(path.name for path in (tmp_path / "worst").iterdir()) == ["01-a_b_1.png", "mine.png"]
    assert save_worst(tmp_path / "none", data, nothing, replace(report, badness=np.zeros(3))) == []
    assert not (tmp_path / "none.png").exists()


def test_dashes_leave_gaps():
    image = np.full((200, 200, 3), 255, np.uint8)
    box = [[20, 20, 180, 180]]
    full, dashes = (draw(image, box, classes=[3], dashed=[dashed]) for dashed in (False, True))
    np.testing.assert_array_equal(full, draw(image, box, classes=[3]))
    for side in (np.s_[20, 30:170], np.s_[180, 30:170], np.s_[30:170, 20], np.s_[30:170, 180]):
        strip = dashes[side]
        untouched = (strip == 255).all(axis=1)
        line = np.abs(strip.astype(int) - full[side]).max(axis=1) == 0
        assert 0.3 < untouched.mean() < 0.55
        assert 0.45 < line.mean() < 0.7
    assert class_color(3) == rgb(KIND_COLORS["class"])
    with pytest.raises(ValueError, match="2 dashed for 1 boxes"):
        draw(image, box, dashed=[True, False])
