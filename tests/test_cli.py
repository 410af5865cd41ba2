"""The console command, on a small detector that obeys the contract and data made on the spot."""

import json

import fakes
import numpy as np
import pytest
from PIL import Image

import zoo
from zoo import registry
from zoo.cli.data import evaluation_data, train_and_val
from zoo.cli.detect import _Item, _targets
from zoo.cli.main import build_parser, main
from zoo.cli.models import option_pair
from zoo.weights_entry import WeightsEntry
from zoo.weights_io import save_weights_file


@pytest.fixture(autouse=True)
def fake(monkeypatch, tmp_path):
    """Only the fake detector is registered, and the working folder is empty."""
    monkeypatch.setattr(registry, "_models", {})
    monkeypatch.setattr(registry, "_discover", lambda: None)

    def fake_net(classes=None, *, width=4, sides=(1, 2)):
        return fakes.build(classes, width=width)

    registry.register(task="detection", paper="Nobody 2000", summary="A fake.", params=12)(fake_net)
    monkeypatch.chdir(tmp_path)


def zoo_command(capsys, *arguments):
    """Exit status, standard output and standard error of a command."""
    status = main([str(argument) for argument in arguments])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def trained(tmp_path, classes=fakes.CLASSES, score=0.8):
    """Weights whose detections have that score."""
    model = zoo.get("fake_net", classes=classes)
    model.out.bias.assign([np.log(score / (1 - score))])
    return save_weights_file(model, tmp_path / "run" / "model.weights.h5", meta=model.zoo_meta)


def photos(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        Image.new("RGB", (64, 48), (90, 120, 90)).save(folder / name)
    return folder


def voc(root, splits):
    """A VOC folder of 64x48 pictures, in each one circle that the fake detector finds."""
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / part).mkdir(parents=True)
    box = "<xmin>17</xmin><ymin>13</ymin><xmax>48</xmax><ymax>36</ymax>"
    names = [name for split in splits.values() for name in split]
    for name in names:
        Image.new("RGB", (64, 48), (200, 200, 200)).save(root / "JPEGImages" / f"{name}.jpg")
        (root / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><filename>{name}.jpg</filename><size><width>64</width><height>48</height></size>"
            f"<object><name>circle</name><bndbox>{box}</bndbox></object>"
            f"<object><name>square</name><bndbox>{box}</bndbox></object></annotation>"
        )
    for split, members in splits.items():
        if split is not None:
            (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(members))
    return root


def test_list_finds_by_part_of_a_name(capsys):
    status, out, _ = zoo_command(capsys, "list", "ake")
    assert status == 0
    assert "fake_net" in out
    assert "Nobody 2000" in out
    status, out, err = zoo_command(capsys, "list", "vgg")
    assert (status, out) == (2, "")
    assert "'vgg'" in err
    assert "fake_net" in err


def test_info_and_its_suggestion(capsys):
    assert "Nobody 2000" in zoo_command(capsys, "info", "fake_net")[1]
    status, _, err = zoo_command(capsys, "info", "fake_nett")
    assert status == 2
    assert "did you mean 'fake_net'" in err


def test_detect_draws_reports_and_writes_json(capsys, tmp_path):
    run = trained(tmp_path).parent
    photo = photos(tmp_path / "photos", "a.jpg") / "a.jpg"
    status, out, err = zoo_command(capsys, "detect", photo, "--weights", run, "--json", "found.json")
    assert (status, err) == (0, "")
    assert "circle  0.800    16.0    12.0    48.0    36.0" in out
    assert "detections/a.png" in out
    assert Image.open("detections/a.png").size == (640, 480)
    (record,) = json.loads((tmp_path / "found.json").read_text())
    assert record["picture"] == "detections/a.png"
    assert record["detections"][0]["box"] == [16, 12, 48, 36]


def test_detect_leaves_out_what_scores_too_little(capsys, tmp_path):
    photo = photos(tmp_path / "photos", "a.jpg") / "a.jpg"
    trained(tmp_path)
    status, out, _ = zoo_command(capsys, "detect", photo, "--weights", "run", "--score", ".9", "--no-pictures")
    assert status == 0
    assert "nothing found" in out
    assert not (tmp_path / "detections").exists()


def test_one_bad_file_is_reported_and_the_others_are_kept(capsys, tmp_path):
    folder = photos(tmp_path / "photos", "a.jpg", "c.jpg")
    (folder / "b.jpg").write_text("no picture")
    trained(tmp_path)
    status, out, err = zoo_command(capsys, "detect", folder, "--weights", "run", "--json", "f.json")
    assert status == 1
    assert sorted(path.name for path in (tmp_path / "detections").iterdir()) == ["a.png", "c.png"]
    assert "b.jpg" in err
    assert "1 of 3 pictures could not be read" in err
    assert out.count("1 circle") == 2
    assert ["error" in record for record in json.loads((tmp_path / "f.json").read_text())] == [
        False,
        True,
        False,
    ]


def test_an_embedded_scene_by_number_with_the_shipped_weights(capsys, tmp_path, monkeypatch):
    path = trained(tmp_path, classes=tuple("0123456789"))
    monkeypatch.setattr("zoo.weights_entry.PACKAGED", path.parent)
    entry = WeightsEntry("digits", path.name, zoo.files.sha256_of(path), path.stat().st_size, tuple("0123456789"))
    info = zoo.info("fake_net")
    monkeypatch.setitem(registry._models, "fake_net", type(info)(**{**vars(info), "weights": (entry,)}))
    status, out, _ = zoo_command(capsys, "detect", "digits:7")
    assert status == 0
    assert "digits-7" in out
    assert (tmp_path / "detections" / "digits-7.png").exists()
    assert zoo_command(capsys, "detect", "digits:7", "--weights", "digits", "--no-pictures")[0] == 0


def test_pictures_never_overwrite_one_another_nor_their_sources(tmp_path):
    items = [_Item(name, tmp_path / name) for name in ("a.jpg", "a.png", "sub/a.jpg")]
    names = [path.name for path in _targets(items, tmp_path / "out")]
    assert names == ["a.png", "a-2.png", "a-3.png"]
    assert _targets(items[:1], tmp_path)[0].name == "a-detections.png"
    # Not even where a picture given is called like that.
    named = [_Item(name, tmp_path / name) for name in ("a.png", "a-detections.png")]
    assert [path.name for path in _targets(named, tmp_path)] == ["a-detections-2.png", "a-detections-detections.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["detect", "absent.jpg", "--weights", "run"], "absent.jpg: no such file"),
        (["detect", "empty", "--weights", "run"], "empty"),
        (["detect", "bad.jpg", "--weights", "run"], "bad.jpg: not an image"),
        (["detect", "photos", "--weights", "nowhere"], "nowhere"),
        (["detect", "photos"], "no detector ships"),
        (["detect", "photos", "--model", "fake_net"], "give --weights"),
        (["detect", "photos", "--weights", "run", "--score", "7"], "--score 7"),
        (["detect", "photos", "--weights", "run", "--option", "width=9"], "does not fit"),
        (["detect", "photos", "--weights", "run", "--option", "height=9"], "no option 'height'"),
        (["train", "--data", "photos", "--model", "fake_net", "--out", "r"], "photos"),
        (["train", "--data", "digits:4", "--out", "r"], "give --model NAME; detectors: fake_net"),
        (["train", "--data", "digits:4", "--split", "tra", "--model", "fake_net", "--out", "r"], "'tra'"),
        (["eval", "--data", "digits:4", "--weights", "run"], "circle"),
    ],
)
def test_mistakes_are_answered_in_a_line(capsys, tmp_path, arguments, message):
    photos(tmp_path / "photos", "a.jpg")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.jpg").write_text("words")
    trained(tmp_path)
    status, _, err = zoo_command(capsys, *arguments)
    assert status == 2
    assert message in err
    assert "Traceback" not in err


def test_debug_shows_where_it_happened():
    with pytest.raises(ValueError, match="unknown model"):
        main(["info", "nothing", "--debug"])


def test_options_are_python_values_or_words():
    args = build_parser().parse_args(
        [
            "detect",
            "x",
            "--option",
            "sides=(1, 2.5)",
            "--option",
            "norm=batch",
            "--option",
            "keep=None",
            "--option",
            "refine=false",
        ]
    )
    assert dict(args.option) == {"sides": (1, 2.5), "norm": "batch", "keep": None, "refine": False}
    assert option_pair("refine=TRUE") == ("refine", True)
    assert option_pair("bbox=none") == ("bbox", "none")
    with pytest.raises(SystemExit):
        build_parser().parse_args(["detect", "x", "--option", "sides"])


def test_train_then_evaluate_then_detect_on_a_voc_folder(capsys, tmp_path):
    data = voc(tmp_path / "cells", {"train": ["a", "b", "c", "d"], "val": ["e"], "test": ["f", "g"]})
    train = [
        "train",
        "--data",
        data,
        "--model",
        "fake_net",
        "--option",
        "width=3",
        "--out",
        "run",
        "--epochs",
        2,
    ]
    status, out, err = zoo_command(capsys, *train, "--quiet", "--no-tensorboard")
    assert (status, err) == (0, "")
    assert "4 pictures to train, 1 to validate" in out
    meta = json.loads((tmp_path / "run" / "model.json").read_text())
    assert (meta["model"], meta["options"]) == ("fake_net", {"width": 3})
    assert meta["command"].startswith("zoo train --data")

    evaluation = ["eval", "--data", data, "--weights", "run", "--json", "s.json", "--pictures", "p"]
    status, out, _ = zoo_command(capsys, *evaluation, "--picture-score", 0.1)
    assert status == 0
    scores = json.loads((tmp_path / "s.json").read_text())
    # Both circles are found, neither square: (1 + 0) / 2.
    assert scores["ap"] == {"circle": 1.0, "square": 0.0}
    assert scores["map"] == 0.5
    assert (scores["split"], scores["images"]) == ("test", 2)
    assert "mAP" in out
    assert "0.5000" in out
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == ["f.png", "g.png", "sheet.png"]
    assert zoo_command(capsys, "detect", data / "JPEGImages" / "f.jpg", "--weights", "run")[0] == 0

    status, _, err = zoo_command(capsys, *train, "--quiet", "--no-tensorboard")
    assert status == 2
    assert "resume" in err
    assert zoo_command(capsys, *train, "--quiet", "--no-tensorboard", "--resume")[0] == 0


def test_coco_files_with_their_pictures_elsewhere(capsys, tmp_path):
    cells = voc(tmp_path / "cells", {"train": ["a", "b", "c", "d"], "val": ["e"]})
    assert zoo_command(capsys, "data", "convert", cells, "coco", "--to", "coco", "--classes", "square,circle")[0] == 0
    (tmp_path / "coco" / "images").rename("photos")
    data = ["--data", "coco", "--images", "photos"]
    train = ["train", *data, "--model", "fake_net", "--epochs", 1, "--quiet", "--no-tensorboard"]
    status, out, err = zoo_command(capsys, *train, "--out", "run", "--classes", "circle,square")
    assert (status, err) == (0, "")
    assert "Next: zoo eval --data coco --images photos --weights run" in out
    meta = json.loads((tmp_path / "run" / "model.json").read_text())
    # The box is that of the circle to the pixel.
    assert (meta["classes"], meta["scores"]["val_coco_map"]) == (["circle", "square"], 0.5)
    status, out, err = zoo_command(capsys, "eval", *data, "--weights", "run", "--json", "s.json")
    assert (status, err) == (0, "")
    assert json.loads((tmp_path / "s.json").read_text())["ap"] == {"circle": 1.0, "square": 0.0}
    assert zoo_command(capsys, *train, "--out", "voc", "--metric", "voc")[0] == 0
    assert "val_map" in (tmp_path / "voc" / "history.csv").read_text().splitlines()[0].split(",")


def test_splits_that_a_folder_has_are_found(tmp_path, capsys):
    devkit = voc(tmp_path / "devkit", {"trainval": ["a", "b"], "test": ["c"]})
    data, val = train_and_val(str(devkit), None, None)
    assert (len(data), val) == (2, None)
    data, split = evaluation_data(str(devkit), None, data.classes)
    assert (len(data), split) == (1, "test")

    bare = voc(tmp_path / "bare", {None: [f"{i:02d}" for i in range(20)]})
    data, val = train_and_val(str(bare), None, None)
    assert (len(data), len(val)) == (18, 2)
    held_out = {sample.image_id for sample in val.samples}
    assert not held_out & {sample.image_id for sample in data.samples}
    assert "every 10th" in capsys.readouterr().out
    assert train_and_val(str(bare), None, "none")[1] is None


def test_a_training_that_fails_is_no_mistake_of_the_command(capsys, monkeypatch):
    def fail(*args, **kwargs):
        raise zoo.training.stop_on_nan.NanLossError("loss became NaN in epoch 1, step 2, whose images were x, y")

    monkeypatch.setattr("zoo.training.fit.train", fail)
    status, _, err = zoo_command(capsys, "train", "--data", "digits:4", "--model", "fake_net", "--out", "r")
    assert status == 1
    assert "x, y" in err
