"""`zoo proposals`, and a Faster R-CNN's RPN as a proposal method."""

import argparse
import json

import numpy as np
import pytest
import reference
from keras import ops
from tiny import tiny_detector, under_conventions

import zoo
from zoo.cli.main import main
from zoo.cli.models import trained_model
from zoo.datasets import load
from zoo.datasets.proposal_recall import average_recall
from zoo.datasets.proposals import open_proposals
from zoo.datasets.proposals_dense import DenseBoxes
from zoo.datasets.proposals_files import save_npz
from zoo.datasets.proposals_make import make_proposals
from zoo.heads import anchors as anchor_boxes
from zoo.proposals_of import RPNProposals


def command(capsys, *arguments):
    status = main(["proposals", *map(str, arguments)])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def test_proposals_are_made_measured_and_not_made_twice(tmp_path, capsys):
    place = ("--data", "digits:4", "--split", "test", "--method", "dense", "--out", tmp_path / "p")
    status, out, _ = command(capsys, *place, "--most", 300, "--json", tmp_path / "r.json")
    assert status == 0
    assert "dense on digits test: 4 pictures, 4 computed now" in out
    record = json.loads((tmp_path / "r.json").read_text())
    data = load("digits:4", "test")
    found = [DenseBoxes(most=300)(data.image(index)) for index in range(4)]
    result = average_recall(found, data, (10, 50, 100, 300))
    assert list(record["recall"]) == ["10", "50", "100", "300"]
    for at, values in enumerate(record["recall"].values()):
        assert values["0.5"] == pytest.approx(result.recall[0, 0, at])
        assert values["0.7"] == pytest.approx(result.recall[4, 0, at])
        assert values["average"] == pytest.approx(result.average[0, at])
    assert f"{record['recall']['300']['0.5']:.3f}" in out
    assert record["proposals_per_image"] == 300
    assert record["computed"] == 4
    status, out, _ = command(capsys, *place, "--most", 300)
    assert "0 computed now" in out
    # What is kept is measured again by itself, as far as one wants.
    status, out, _ = command(capsys, *place[:4], "--from", tmp_path / "p", "--most", 50, "--limit", 2)
    assert status == 0
    assert "2 pictures" in out
    assert "100" not in out.split("covers")[-1].split("IoU")[-1]


def test_a_file_is_measured(tmp_path, capsys):
    data = load("digits:3")
    path = save_npz(tmp_path / "p.npz", {sample.image_id: (sample.boxes, None) for sample in data.samples})
    status, out, _ = command(capsys, "--data", "digits:3", "--from", path)
    assert status == 0
    assert out.count("1.000") >= 3
    path = save_npz(path, {data.sample(0).image_id: (data.sample(0).boxes, None)})
    status, _, err = command(capsys, "--data", "digits:3", "--from", path)
    assert status == 2
    assert f"no proposals for image {data.sample(1).image_id}" in err


@pytest.mark.parametrize(
    ("options", "name", "settings"),
    [
        (("selective-fast",), "selective-fast", {"width": 500, "min_side": 20.0, "most": 2000, "seed": 0}),
        (
            ("selective-quality", "--width", 0, "--min-side", 5, "--most", 10, "--seed", 3),
            "selective-quality",
            {"width": None, "min_side": 5.0, "most": 10, "seed": 3},
        ),
        (("edge-boxes", "--width", 90), "edge-boxes-sobel", {"width": 90, "min_side": 16.0, "most": 2000}),
        (("dense", "--seed", 2), "dense", {"most": 2000, "seed": 2}),
    ],
)
def test_options_reach_the_method(monkeypatch, capsys, tmp_path, options, name, settings):
    made = []
    monkeypatch.setattr(
        "zoo.datasets.proposals_make.make_proposals",
        lambda data, method, folder, **more: made.append((method, folder, more["workers"])) or 1 / 0,
    )
    command(capsys, "--data", "digits:1", "--out", tmp_path, "--workers", 3, "--method", *options)
    method, folder, workers = made[0]
    assert (method.name, folder, workers) == (name, tmp_path, 3)
    assert settings.items() <= method.settings.items()
    assert json.loads(json.dumps(method.settings)) == method.settings


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--method", "dense"), "--out: give a folder"),
        (("--method", "dense", "--out", "p", "--most", "0"), "--most 0: give a number from 1"),
        (("--method", "dense", "--out", "p", "--width", "5"), "--width belongs to selective search and EdgeBoxes"),
        (("--method", "selective-fast", "--out", "p", "--edge-model", "m"), "--edge-model belongs to"),
        (("--method", "selective-fast", "--out", "p", "--weights", "m"), "belong to --method rpn"),
        (("--method", "edge-boxes", "--out", "p", "--edge-model", "nowhere.yml"), "nowhere.yml: there is no such file"),
        (("--from", "nowhere.mat"), "nowhere.mat: no such file of proposals"),
    ],
)
def test_mistakes_are_told_at_once(tmp_path, monkeypatch, capsys, options, text):
    monkeypatch.chdir(tmp_path)
    status, _, err = command(capsys, "--data", "digits:1", *options)
    assert status == 2
    assert text in err
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def detector():
    """A tiny Faster R-CNN whose RPN has opinions."""
    model = tiny_detector()
    rng = np.random.default_rng(0)
    for weight in model.rpn.trainable_variables:
        weight.assign(rng.normal(0, 0.1, weight.shape))
    return model


def by_loops(model, image, before, after):
    """The RPN's proposals in the original's pixels, from its raw outputs (Ren 2015, section 3.3)."""
    one = 1.0 if model.convention == "caffe" else 0.0
    prepared, sizes, ratio = model.preprocessing(image[None])
    features = model.extractor(prepared)
    logits, deltas = (np.asarray(each[0], float) for each in model.rpn(features))
    anchors = np.asarray(anchor_boxes.grid(model.cell_anchors, *features.shape[1:3], model.stride), float)
    size, (high, wide) = np.asarray(sizes[0]), np.asarray(ratio[0], float)
    score, found = reference.softmax(logits)[:, 1], []
    least = model.proposal_min_size * (wide if model.min_size_in == "original" else 1)
    for at in range(len(anchors)):
        box = reference.clip(reference.decode(deltas[at], anchors[at], one), size, one)
        if min(box[2] - box[0], box[3] - box[1]) + one >= least:
            rank = logits[at, 1] if model.rank_by == "logit" else score[at]
            found.append((rank, box, score[at]))
    found = sorted(found, key=lambda each: -each[0])[:before]
    kept = reference.greedy_nms([each[1] for each in found], [0.0] * len(found), 0.7, after, one)
    boxes = np.array([found[at][1] for at in kept]) / [wide, high, wide, high] + [0, 0, one, one]
    height, width = image.shape[:2]
    return np.clip(boxes, 0, [width, height, width, height]), np.array([found[at][2] for at in kept])


@pytest.mark.parametrize("convention", ["continuous", "caffe"])
def test_the_rpn_alone(detector, convention):
    model = detector if convention == "continuous" else under_conventions(detector, edge_cells=False)
    image = np.random.default_rng(1).integers(0, 256, (101, 143, 3)).astype(np.uint8)
    method, before = RPNProposals(model, 40, 100), model.test_proposals
    boxes, scores = method.scored(image)
    want, values = by_loops(model, image, 100, 40)
    assert len(boxes) == 40 > before[1]
    np.testing.assert_allclose(boxes, want, atol=2e-3)
    np.testing.assert_allclose(scores, values, atol=1e-5)
    assert model.test_proposals == before
    np.testing.assert_array_equal(method(image), boxes)
    # The detector itself still looks at as many as it did.
    assert len(RPNProposals(model, 7, 100)(image)) == 7
    assert ops.shape(model.predict_on_batch(image[None])["boxes"])[1] == model.max_detections


def test_an_rpns_proposals_are_kept_and_known_by_its_weights(detector, tmp_path):
    data = load("digits:3", "test")
    made = make_proposals(data, RPNProposals(detector, 30), tmp_path)
    assert made.computed == 3
    image, sample = data.load(1)
    np.testing.assert_array_equal(
        open_proposals(tmp_path, "rpn").boxes(sample, image), RPNProposals(detector, 30)(image)
    )
    assert make_proposals(data, RPNProposals(detector, 30), tmp_path).computed == 0
    other = under_conventions(detector, "nearest", "continuous", "softmax", "prepared", False)
    bias = other.rpn.trainable_variables[-1]
    bias.assign(np.asarray(bias) + 0.5)
    changed = RPNProposals(other, 30)
    assert changed.settings["weights"] != RPNProposals(detector, 30).settings["weights"]
    assert make_proposals(data, changed, tmp_path).computed == 3


def test_the_command_takes_an_rpn(detector, tmp_path, capsys):
    detector.save(tmp_path / "tiny.keras")
    options = ("--method", "rpn", "--weights", tmp_path / "tiny.keras", "--out", tmp_path / "p", "--most", 20)
    status, out, err = command(capsys, "--data", "digits:2", *options)
    assert status == 0, err
    assert "rpn on digits train: 2 pictures, 2 computed now" in out
    data = load("digits:2")
    image, sample = data.load(0)
    np.testing.assert_allclose(
        open_proposals(tmp_path / "p").boxes(sample, image), RPNProposals(detector, 20)(image), atol=1e-3
    )


def test_without_weights_it_is_the_detector_of_digits(monkeypatch):
    asked = []
    monkeypatch.setattr(zoo, "get", lambda name, **more: asked.append((name, more)))
    trained_model(argparse.Namespace(option=[], weights=None, model=None))
    assert asked == [("faster_rcnn_resnet18", {"weights": "digits"})]


def test_only_a_faster_rcnn_has_an_rpn(detector):
    with pytest.raises(ValueError, match="body is no Faster R-CNN"):
        RPNProposals(detector.head.body)
    with pytest.raises(ValueError, match="most=0 lies between 1 and before_nms=5"):
        RPNProposals(detector, 0, 5)
