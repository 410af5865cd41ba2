"""What a run folder remembers of its data, and whether other data are told from them."""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from zoo.cli.remembered import OPTIONS, recall, remember, take_proposals
from zoo.datasets.class_records import ClassificationDataset
from zoo.datasets.records import DetectionDataset, Sample
from zoo.training.same_data import data_digest

NAMES = ("split", "val_split", "images", "classes", "proposals", "most_proposals", "stage")
NONE = {**dict.fromkeys((*NAMES, "model", "weights", "init_from")), "option": []}


def options(out, **given):
    return argparse.Namespace(**{"out": out, "resume": True, "precision": "float32", **NONE, **given})


def test_what_is_not_given_is_as_it_was(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    boxes = tmp_path / "boxes.npz"
    boxes.touch()
    (tmp_path / "more.npz").touch()
    both = "boxes.npz,more.npz"
    given = {"split": "trainval", "classes": ("a", "b"), "proposals": both, "most_proposals": 30}
    remember(options(tmp_path / "run", **given, precision="mixed_bfloat16"))
    monkeypatch.chdir("/")
    later = options(tmp_path / "run", most_proposals=20, precision="mixed_bfloat16")
    recall(later)
    # The path holds from elsewhere too; what is given anew is compared with the checkpoint's, not replaced.
    wanted = {
        **given,
        "proposals": f"{boxes},{tmp_path / 'more.npz'}",
        "most_proposals": 20,
        "precision": "mixed_bfloat16",
    }
    assert vars(later) == vars(options(tmp_path / "run", **wanted))
    assert f"As at the start: --split trainval --classes a,b --proposals {boxes}," in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"--precision float32: .* was started with mixed_bfloat16; resume with"):
        recall(options(tmp_path / "run"))
    anew = options(tmp_path / "run", resume=False)
    recall(anew)
    assert anew.split is None
    (tmp_path / "run" / OPTIONS).write_text("{")
    with pytest.raises(ValueError, match=r"options.json cannot be read"):
        recall(options(tmp_path / "run"))


def test_a_training_that_is_there_keeps_its_options(tmp_path):
    remember(options(tmp_path, split="train"))
    remember(options(tmp_path, split="trainval"))  # nothing was trained yet
    (tmp_path / "checkpoint.weights.h5").touch()
    remember(options(tmp_path, split="val"))
    assert json.loads((tmp_path / OPTIONS).read_text())["split"] == "trainval"


@pytest.mark.parametrize("checkpoint", [None, "downpour.npz", "sandblaster.npz"])
def test_the_model_is_as_it_was_where_no_checkpoint_says_how(tmp_path, capsys, monkeypatch, checkpoint):
    """Before the first one is written, and on parameter servers."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imagenet").mkdir()  # the data may be called like the weights
    given = {"model": "net", "init_from": "imagenet", "option": [("sides", (1, 2)), ("short", 480)], "split": "train"}
    remember(options(tmp_path, **given))
    for other in ("checkpoint.weights.h5", "alternating.json"):
        (tmp_path / other).touch()
        recall(plain := options(tmp_path))
        assert (plain.model, plain.option, plain.split) == (None, [], "train")
        (tmp_path / other).unlink()
    if checkpoint is not None:
        (tmp_path / checkpoint).touch()
    capsys.readouterr()
    recall(same := options(tmp_path))
    assert (same.model, same.init_from, dict(same.option)) == ("net", "imagenet", {"sides": (1, 2), "short": 480})
    shown = capsys.readouterr().out
    assert "--model net --init-from imagenet --option sides=[1, 2] --option short=480" in shown
    recall(changed := options(tmp_path, weights="else", option=[("short", 500)]))
    assert (changed.init_from, changed.weights, changed.option) == (None, "else", [("short", 500)])
    remember(options(tmp_path, model="other"))
    assert json.loads((tmp_path / OPTIONS).read_text())["model"] == ("other" if checkpoint is None else "net")


def test_a_run_says_which_proposals_are_its_own(tmp_path):
    remember(options(tmp_path, proposals="dense"))
    for given, run, wanted in (
        (None, str(tmp_path), "dense"),
        ("edge-boxes", str(tmp_path), "edge-boxes"),
        (None, str(tmp_path / "none"), None),
        (None, None, None),
    ):
        args = options(tmp_path, proposals=given)
        take_proposals(args, run)
        assert args.proposals == wanted


def test_other_data_are_told_apart():
    def made(**change):
        sample = Sample("one", Path("a.jpg"), (60, 80), [[1, 2, 30, 40]], [0], [0], [0])
        first = replace(sample, **change)
        return DetectionDataset("name", ("a", "b"), [first, replace(sample, image_id="two")])

    base = data_digest(made())
    assert base.startswith("2 pictures, 2 objects (")
    assert data_digest(made(path=Path("elsewhere/a.jpg"))) == base
    changes = (
        {"image_id": "other"},
        {"size": (80, 60)},
        {"boxes": np.array([[1, 2, 30, 41.0]])},
        {"classes": np.array([1])},
        {"difficult": np.array([True])},
        {"crowd": np.array([True])},
    )
    for change in changes:
        assert data_digest(made(**change)) != base, change
    renamed = made()
    renamed.classes = ("a", "c")
    assert data_digest(renamed) != base

    def labelled(labels, ids):
        return ClassificationDataset("c", ("x", "y"), labels, ids, lambda index: None)

    assert data_digest(labelled([0, 1], "ab")) == data_digest(labelled([0, 1], "ab"))
    assert data_digest(labelled([0, 1], "ab")) != data_digest(labelled([1, 0], "ab"))
    assert data_digest(labelled([0, 1], "ab")) != data_digest(labelled([0, 1], "ac"))
