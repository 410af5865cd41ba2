"""The scripts of examples/reproduce: what they run, what they run again, and the pages they write."""

import argparse
import importlib
import itertools
import json
import re
import shlex
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "reproduce"
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if path.name != "reproducing.py")


@pytest.fixture
def reproducing(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import reproducing

    return reproducing


RECALL = {str(number): {"average": number / 1000} for number in (10, 50, 100, 300, 500, 2000)}


def leave(words, score=0.5):
    """Do nothing, but leave the files that a command would leave."""
    given = dict(itertools.pairwise(words))
    file = Path(given["--out"], "model.json") if words[0] in ("train", "svm") else Path(given["--json"])
    file.parent.mkdir(parents=True, exist_ok=True)
    sweep = [{"proposals": int(number), "map": score, "seconds_per_image": 0.5} for number in numbers_of(words)]
    scores = {"map": score, "ap": {"a": score, "b": None}, "seconds": 3.0, "images": 4, "sweep": sweep}
    file.write_text(json.dumps({"command": " ".join(["zoo", *words]), "recall": RECALL, **scores}))
    (file.parent / "history.csv").write_text("epoch,seconds\n1,60\n2,30\n")


def numbers_of(words):
    after = words[words.index("--sweep-proposals") + 1 :] if "--sweep-proposals" in words else ()
    return list(itertools.takewhile(str.isdecimal, after))


@pytest.fixture
def study(reproducing, tmp_path, monkeypatch):
    """A small study whose commands do nothing."""
    (tmp_path / "start.weights.h5").touch()
    data = {"data": "/where/cells", "small": True, "model": ["fast_rcnn_resnet18"], "steps": None, "write": True}
    args = argparse.Namespace(
        **data, init_from=None, proposals="dense", test_proposals=None, out=tmp_path, ran=[], status=0
    )

    def main(words):
        args.ran.append(words)
        leave(words)
        return args.status

    monkeypatch.setattr("zoo.cli.main.main", main)
    return reproducing.Study("table0", args)


def test_a_training_is_done_once_and_only_if_it_is_the_same(study, tmp_path, capsys):
    run = study.train("one", "--stage", "class")
    ran = study.args.ran
    assert [words[:5] for words in ran[:2]] == [
        ["proposals", "--data", "/where/cells", "--split", split] for split in ("trainval", "test")
    ]
    asked = ran[2]
    for words in (
        "--lr 0.01",
        "--steps 120",
        "--option short=192",
        "--stage class",
        "--init-from " + str(study.start()),
    ):
        assert words in " ".join(asked)
    study.train("one", "--stage", "class")
    assert len(ran) == 3
    assert "# done before" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"trained otherwise:\n.*--stage class.*\nnot\n.*--stage box"):
        study.train("one", "--stage", "box")
    # One that was broken off goes on, and counts as the same afterwards.
    (run / "model.json").unlink()
    (run / "checkpoint.weights.h5").touch()
    study.train("one", "--stage", "class")
    assert ran[3] == [*asked, "--resume"]
    study.train("one", "--stage", "class")
    assert len(ran) == 4
    # Sizes of its own replace the small ones; the paper's recipe stands where nothing is small.
    study.train("two", "--option", "short=(96, 192)", "--option", "long=320")
    assert "short=192" not in ran[4]
    study.args.small, study.args.init_from = False, "imagenet"
    study.train("three")
    assert "--recipe fast-voc07" in " ".join(ran[5])
    assert not {"--lr", "--steps", "--option"} & set(ran[5])


def test_machines_are_made_once_and_their_time_is_kept(study, reproducing, tmp_path, monkeypatch):
    clock = iter((100.0, 7300.0))
    monkeypatch.setattr(reproducing.time, "monotonic", lambda: next(clock))
    for _ in range(2):
        folder = study.machines(tmp_path / "one")
        assert reproducing.fitting_seconds(folder) == 7200.0
    assert [words[0] for words in study.args.ran].count("svm") == 1


@pytest.mark.parametrize(
    ("recipe", "length"), [("voc07-joint", "--steps 9"), ("voc07-alternating", "--alternating 9 4")]
)
def test_a_short_training_of_faster_rcnn_is_not_taken_for_the_papers(study, reproducing, recipe, length):
    faster = importlib.import_module("faster_rcnn")
    study.args.recipe, study.args.steps = recipe, 9
    run = faster.trained(study)
    assert length in " ".join(study.args.ran[-1])
    assert faster.trained(study) == run
    study.args.steps = None
    with pytest.raises(SystemExit, match="was trained otherwise"):
        faster.trained(study)


def test_boxes_that_are_there_are_told_of_once(study, reproducing):
    study.proposals()
    later = reproducing.Study("table1", study.args)
    ran = len(study.args.ran)
    assert later.proposals() == later.proposals()
    assert len(study.args.ran) == ran
    assert later.commands == study.commands
    assert [line.split()[:2] for line in later.commands] == [["zoo", "proposals"]] * 2


def test_a_failure_ends_the_script(study):
    study.args.status = 2
    with pytest.raises(SystemExit, match="the command above gave 2"):
        study.proposals()


def test_pages_say_how_they_were_made_and_not_where(study, reproducing, tmp_path, monkeypatch):
    monkeypatch.setattr(reproducing, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(reproducing, "HERE", tmp_path / "a" / "b")
    monkeypatch.setattr("sys.argv", ["/somewhere/table0.py", "--small", "--data", "/where/cells"])
    assert study.measure(study.train("one"), name="best")["map"] == 0.5
    study.publish("Table 0", reproducing.table(("a", "b"), [(1, "xyz")]), "It shows nothing.")
    page = (tmp_path / "results" / "table0.md").read_text()
    assert page.startswith("# Table 0\n\n`python examples/reproduce/table0.py --small --data $DATA`, 20")
    assert "| a | b   |\n|---|-----|\n| 1 | xyz |" in page
    assert "\nzoo eval --data $DATA --split test --weights $OUT/one" in page
    for place in ("/where", str(tmp_path)):
        assert place not in page
    assert "In small: 120 steps" in page
    study.commands.clear()  # where nothing was trained, no training was a small one
    assert "In small: 120 steps" not in study.page("Table 0", "", "It shows nothing.")


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("table1", ["| trainval (292 pictures) | 50.0 | | 50.0 | 0.0 |"]),
        ("table5", ["| fc6 | 50.0 | 1.5 | 61.4", "| conv4 ", "| all "]),
        ("table6", ["| fast_rcnn_resnet18 | both at once, boxes not moved at test | 50.0 |"]),
        ("table7", ["| fast_rcnn_resnet18 | 5 | 50.0 | 0.250 |"]),
        ("table8", ["| fast_rcnn_resnet18 | machines | 50.0 |"]),
        (
            "figure3",
            [
                "| selective-fast | 300 | 50.0 | 30.0 ",
                "| dense boxes, at test alone | 500",
            ],
        ),
    ],
)
def test_tables_are_filled(name, lines, reproducing, tmp_path, monkeypatch, capsys):
    """Each script from beginning to end, the commands doing nothing."""
    (tmp_path / "start.weights.h5").touch()
    monkeypatch.setattr("zoo.cli.main.main", lambda words: leave(words) or 0)
    monkeypatch.setattr(reproducing.Study, "rates", lambda self, models: [0.125, 0.25])
    monkeypatch.setattr("zoo.load", lambda path: path)
    monkeypatch.setattr("sys.argv", [name, "--small", "--data", "/where/cells", "--out", str(tmp_path)])
    importlib.import_module(name).main()
    shown = re.sub(" +", " ", capsys.readouterr().out)
    for line in lines:
        assert re.sub(" +", " ", line) in shown


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_has_its_line(script):
    assert f"`{script.name}`" in (FOLDER / "README.md").read_text()


@pytest.mark.parametrize("page", sorted((FOLDER / "results").glob("*.md")), ids=lambda path: path.stem)
def test_every_page_says_how_it_was_made(page):
    text, script = page.read_text(), FOLDER / f"{page.stem}.py"
    (command,) = re.findall(rf"^`(python examples/reproduce/{script.name} .*?)`, \d{{4}}-\d\d-\d\d", text, re.MULTILINE)
    assert "--write" in shlex.split(command)
    assert "aper" in text
    assert "TO BE WRITTEN" not in text
    assert f"(results/{page.name})" in (FOLDER / "README.md").read_text()


def test_without_data_it_says_where_they_are_to_be_had(reproducing, monkeypatch, capsys):
    monkeypatch.delenv("ZOO_SHARED_DATA", raising=False)
    for words, text in (((), "zoo data get voc2007"), (("--small",), "set ZOO_SHARED_DATA to a folder that")):
        monkeypatch.setattr("sys.argv", ["table0.py", *words])
        with pytest.raises(SystemExit):
            reproducing.arguments("Nothing.", ("fast_rcnn_vgg16",))
        assert text in " ".join(capsys.readouterr().err.split())
