"""``zoo compress``: where it may write, what it leaves alone, and detectors of every kind."""

import shutil

import numpy as np
import pytest
from tiny import colour_net, tiny_net
from tiny_baselines import tiny_spp, uncompiled

import zoo
from zoo import registry
from zoo.cli.main import main
from zoo.compression import compress, head_layers
from zoo.compression_report import dense_part, layer_changes, take_times
from zoo.heads.low_rank import LowRankDense
from zoo.weights_io import save_weights_file

QUICK = ("--energy", "0.9", "--repeats", "0")


@pytest.fixture(autouse=True)
def models(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "_models", {})
    monkeypatch.setattr(registry, "_discover", lambda: None)

    registry.register(task="detection", paper="", summary="", params=1)(tiny_net)
    registry.register(task="classification", paper="", summary="", params=8)(colour_net)
    monkeypatch.chdir(tmp_path)
    model = zoo.get("tiny_net")
    model.head.body.get_layer("fc").kernel.assign(np.outer(np.arange(512), np.arange(48)) / 1000)  # of rank 1
    save_weights_file(model, tmp_path / "run" / "model.weights.h5", meta=model.zoo_meta)
    (tmp_path / "run" / "options.json").write_text('{"proposals": "dense"}')


def run(capsys, *arguments):
    status = main(["compress", *map(str, arguments)])
    return status, capsys.readouterr().err


def test_a_folder_may_have_a_dot_and_keeps_the_options(capsys, tmp_path):
    status, err = run(capsys, "run", "small-0.9", *QUICK)
    assert status == 0, err
    assert isinstance(head_layers(zoo.load("small-0.9"))["fc"], LowRankDense)
    assert (tmp_path / "small-0.9" / "options.json").read_text() == '{"proposals": "dense"}'
    # A file of one's own has no place for them.
    assert run(capsys, "run", "single/small.weights.h5", *QUICK)[0] == 0
    assert sorted(path.name for path in (tmp_path / "single").iterdir()) == ["small.json", "small.weights.h5"]
    for name in ("x.onnx", "x.pth", "x.h5"):
        status, err = run(capsys, "run", name, *QUICK)
        assert (status, f"{name}: give NAME.weights.h5, NAME.keras, or a folder" in err) == (2, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "run"),
        ("run/best.weights.h5", "run"),
        ("run/model.weights.h5", "run"),
        ("run/model.weights.h5", "run/model.weights.h5"),
        ("run/model.weights.h5", "run/../run/model.keras"),  # their descriptions are one file
        ("tiny_net", "run", "--weights", "run"),
    ],
)
def test_the_run_itself_is_not_replaced(capsys, tmp_path, arguments):
    shutil.copy(tmp_path / "run" / "model.weights.h5", tmp_path / "run" / "best.weights.h5")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    status, err = run(capsys, *arguments, *QUICK)
    assert status == 2
    assert "would replace what is to be compressed, or its run; give another" in err
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_other_files_in_its_folder_and_below_are_allowed(capsys, tmp_path):
    for source in ("run/model.weights.h5", "run"):
        assert run(capsys, source, "run/small.weights.h5", *QUICK)[0] == 0
    shutil.copy(tmp_path / "run" / "model.weights.h5", tmp_path / "vgg.weights.h5")
    assert run(capsys, "vgg.weights.h5", ".", *QUICK)[0] == 0
    assert run(capsys, "run", "run/small", *QUICK)[0] == 0
    assert (tmp_path / "run" / "small" / "model.weights.h5").is_file()


def test_a_file_that_came_out_too_large_replaces_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "compress", lambda model, ranks, **options: compress(model, {"fc": 12}))
    (tmp_path / "small.weights.h5").write_text("what was there")
    status, err = run(capsys, "run", "small.weights.h5", "--megabytes", 0.01, "--repeats", 0)
    assert status == 2
    assert "small.weights.h5 would have 0." in err
    assert "more than 0.01; ask for a little less" in err
    assert (tmp_path / "small.weights.h5").read_text() == "what was there"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "small.weights.h5"]


def test_a_classifier_is_refused_before_its_data_are_looked_at(capsys, tmp_path):
    model = zoo.get("colour_net")
    save_weights_file(model, tmp_path / "colours" / "model.weights.h5", meta=model.zoo_meta)
    status, err = run(capsys, "colours", "small", *QUICK, "--data", "cifar10.zip")
    assert status == 2
    assert "has no box head; only detectors that have one can be compressed" in err


def test_the_dense_layers_of_an_sppnet_begin_where_its_pyramid_is_shared_out():
    model = tiny_spp()
    rng = np.random.default_rng(0)
    for layer in (model.head.score, model.head.loc):
        layer.kernel.assign(rng.normal(0, 0.3, layer.kernel.shape))
    pooled = rng.standard_normal((5, 16 + 4 + 1, 32)).astype("float32")
    logits, deltas = dense_part(model).predict_on_batch(pooled)
    wanted = model.head(pooled[None], training=False)
    np.testing.assert_allclose(logits, np.asarray(wanted[0])[0], atol=1e-5)
    np.testing.assert_allclose(deltas.reshape(5, 3, 4), np.asarray(wanted[1])[0], atol=1e-5)
    small = compress(model, {"fc": 3, "fc_pyramid": 2})
    # The coarser levels begin at zero, of which nothing is lost.
    assert {each.name: each.energy == 1.0 for each in layer_changes(model, small)} == {"fc": False, "fc_pyramid": True}
    with uncompiled():
        times = take_times((model, small), np.zeros((64, 80, 3), np.uint8), rois=4, repeats=1)
    assert all(dense > 0 for dense, _ in times)
