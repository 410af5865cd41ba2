"""Truncated SVD of dense layers: the algebra against NumPy, and what becomes of a detector."""

import json

import keras
import numpy as np
import pytest
from tiny import tiny_detector, tiny_net

import zoo
from zoo import registry
from zoo.cli.main import main
from zoo.compression import Decomposition, compress, head_layers, kernel_of, stored_bytes
from zoo.compression_report import dense_part, layer_changes, take_times
from zoo.heads.low_rank import LowRankDense, with_ranks
from zoo.weights_io import WeightsMeta, load_weights_file, read_meta, save_weights_file, weight_names

IMAGES = np.random.default_rng(5).integers(0, 256, (2, 64, 80, 3), np.uint8)


def nearest(kernel, rank):
    """The nearest matrix of that rank and its error, from NumPy's own decomposition in double precision."""
    left, values, right = np.linalg.svd(np.asarray(kernel, np.float64), full_matrices=False)
    return (left[:, :rank] * values[:rank]) @ right[:rank], np.sqrt(np.square(values[rank:]).sum())


def decaying(model, seed=3):
    """Give the head's dense layer falling singular values, as trained ones have, so that ranks matter."""
    layer = head_layers(model)["fc"]
    u, v = (int(side) for side in layer.kernel.shape)
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.standard_normal((side, v)))[0] for side in (u, v))
    layer.kernel.assign((left * 2.0 ** -np.arange(v)[None]) @ right)
    layer.bias.assign(rng.standard_normal(v) / 10)
    model.head.score.kernel.assign(100 * model.head.score.kernel)  # a random head hardly prefers any class
    return model


def found_by(model):
    return {key: np.asarray(value) for key, value in model(IMAGES, training=False).items()}


@pytest.fixture(scope="module")
def detector():
    model = decaying(tiny_detector())
    model.zoo_meta = WeightsMeta("tiny_net", ("a", "b"), {})
    return model


@pytest.fixture
def registered(monkeypatch):
    """The tiny detector under a name, with the option that the detectors have."""
    monkeypatch.setattr(registry, "_models", {})
    monkeypatch.setattr(registry, "_discover", lambda: None)

    registry.register(task="detection", paper="Nobody 2000", summary="Tiny.", params=12)(tiny_net)


def test_the_layer_is_two_products():
    layer = LowRankDense(5, 2, "relu", name="fc")
    x = np.random.default_rng(0).standard_normal((3, 4, 7)).astype("float32")
    assert layer(x).shape == layer.compute_output_shape(x.shape) == (3, 4, 5)
    layer.bias.assign(np.arange(5) - 2.0)
    first, second, bias = (np.asarray(v, np.float64) for v in (layer.first, layer.second, layer.bias))
    expected = np.zeros((3, 4, 5))
    for i in range(3):
        for j in range(4):
            for o in range(5):
                total = sum(x[i, j, u] * first[u, t] * second[t, o] for u in range(7) for t in range(2))
                expected[i, j, o] = max(total + bias[o], 0)
    np.testing.assert_allclose(np.asarray(layer(x)), expected, atol=1e-5)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert copy.get_config() == layer.get_config()
    for rank in (0, 6):
        with pytest.raises(ValueError, match=rf"fc: rank {rank} of a kernel of 7 x 5; give 1 to 5"):
            LowRankDense(5, rank, name="fc")(x)


@pytest.mark.parametrize("rank", [1, 3, 11])
def test_the_kernel_is_the_nearest_of_its_rank(detector, rank):
    kernel = np.asarray(head_layers(detector)["fc"].kernel)
    expected, error = nearest(kernel, rank)
    small = compress(detector, {"fc": rank})
    made = head_layers(small)["fc"]
    assert (made.first.shape, made.second.shape) == ((512, rank), (rank, 48))
    np.testing.assert_allclose(kernel_of(made), expected, atol=1e-6)
    # Eckart and Young 1936: the error is the root of the squared singular values that are left out.
    np.testing.assert_allclose(np.linalg.norm(kernel - kernel_of(made)), error, rtol=1e-3)
    # Girshick 2015, section 3.1: the first layer has the singular values, the second orthonormal rows and the bias.
    np.testing.assert_allclose(np.asarray(made.second) @ np.asarray(made.second).T, np.eye(rank), atol=1e-5)
    lengths = np.linalg.norm(np.asarray(made.first), axis=0)
    np.testing.assert_allclose(lengths, 2.0 ** -np.arange(rank), rtol=1e-3)
    np.testing.assert_array_equal(np.asarray(made.bias), np.asarray(head_layers(detector)["fc"].bias))
    (change,) = layer_changes(detector, small)
    assert change.energy == pytest.approx(1 - (error / np.linalg.norm(kernel)) ** 2, abs=1e-6)
    assert (change.before, change.after) == (512 * 48, rank * 560)


@pytest.mark.parametrize("shape", [(40, 7), (7, 40), (9, 9)])
def test_singular_values_are_numpys(shape):
    kernel = np.random.default_rng(2).standard_normal(shape).astype("float32")
    part = Decomposition.of(kernel)
    np.testing.assert_allclose(part.values, np.linalg.svd(kernel, compute_uv=False), rtol=1e-5)
    for rank in (1, 4, 7):
        np.testing.assert_allclose(np.matmul(*part.kernels(rank)), nearest(kernel, rank)[0], atol=1e-5)
    np.testing.assert_allclose(part.lost()[2], (nearest(kernel, 3)[1] / np.linalg.norm(kernel)) ** 2, rtol=1e-5)


def test_all_else_stays_and_the_original_too(detector):
    before = {name: np.asarray(v).copy() for name, v in weight_names(detector).items()}
    found = found_by(detector)
    small = compress(detector, {"fc": 40})
    after = {name: np.asarray(v) for name, v in weight_names(small).items()}
    assert before.keys() - after.keys() == {"fc/kernel"}
    assert after.keys() - before.keys() == {"fc/first", "fc/second"}
    for name in before.keys() & after.keys():
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)
    # The singular values left out are 2 ** -40 and less: the same detections.
    again = found_by(small)
    for key, value in found_by(detector).items():
        np.testing.assert_array_equal(value, found[key])
        np.testing.assert_allclose(again[key], value, atol=1e-3, err_msg=key)
    rough = found_by(compress(detector, {"fc": 1}))
    assert np.abs(rough["scores"] - found["scores"]).max() > 1e-3


def test_energy_gives_the_least_rank(detector):
    # Singular values 1, 1/2, 1/4 ...: t of them have 1 - 4 ** -t of all squares.
    for energy, rank in ((0.7, 1), (0.74, 1), (0.76, 2), (0.93, 2), (0.94, 3), (0.999, 5)):
        assert head_layers(compress(detector, energy=energy))["fc"].rank == rank, energy
    with pytest.raises(ValueError, match=r"energy=1.0: fc would get no smaller"):
        compress(tiny_detector(), energy=1.0)
    flat = Decomposition.of(np.eye(4, 6))
    np.testing.assert_array_equal(flat.lost(), [0.75, 0.5, 0.25, 0])
    assert [flat.rank_for(lost) for lost in (0.75, 0.74, 0.5, 0.0)] == [1, 2, 2, 4]
    assert Decomposition.of(np.zeros((4, 6))).rank_for(0.5) == 1


@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_size_is_kept_and_used(detector, tmp_path, storage):
    whole = save_weights_file(detector, tmp_path / "whole.weights.h5", storage).stat().st_size
    assert whole <= stored_bytes(detector, storage)
    limit = 0.94 * stored_bytes(detector, storage)
    small = compress(detector, megabytes=limit / 1e6, storage=storage)
    size = save_weights_file(small, tmp_path / "small.weights.h5", storage).stat().st_size
    assert size <= stored_bytes(small, storage) <= limit
    rank = head_layers(small)["fc"].rank
    assert 1 < rank < 43
    assert stored_bytes(detector, storage, {"fc": rank}) == stored_bytes(small, storage)
    assert stored_bytes(detector, storage, {"fc": rank + 1}) > limit
    with pytest.raises(ValueError, match=r"even at rank 1 of fc .* take 0\.\d+ MB in"):
        compress(detector, megabytes=0.01, storage=storage)
    with pytest.raises(ValueError, match=r"as they are, no more than the 99 MB"):
        compress(detector, megabytes=99, storage=storage)


def test_it_is_saved_loaded_and_compressed_again(detector, registered, tmp_path):
    small = compress(detector, {"fc": 12})
    assert small.zoo_meta == WeightsMeta("tiny_net", ("a", "b"), {"ranks": {"fc": 12}})
    path = save_weights_file(small, tmp_path / "model.weights.h5", "float16", small.zoo_meta)
    found = found_by(small)
    small.save(tmp_path / "small.keras")
    for loaded in (zoo.load(tmp_path), zoo.get("tiny_net", path), zoo.load(tmp_path / "small.keras")):
        assert isinstance(head_layers(loaded)["fc"], LowRankDense)
        np.testing.assert_allclose(found_by(loaded)["scores"], found["scores"], atol=2e-3)
    # From rank 12 to 4 is what going to 4 at once gives.
    twice = compress(zoo.load(tmp_path / "small.keras"), {"fc": 4})
    assert twice.head.body.get_layer("fc").rank == 4
    np.testing.assert_allclose(kernel_of(head_layers(twice)["fc"]), nearest(kernel_of_fc(detector), 4)[0], atol=1e-5)
    with pytest.raises(ValueError, match=r"rank 13 of fc, whose kernel is 512 x 48 of rank 12: give 1 to 12"):
        compress(small, {"fc": 13})
    with pytest.raises(ValueError, match=r"does not fit the model tiny.*fc/kernel"):
        load_weights_file(detector, path)


def kernel_of_fc(model):
    return kernel_of(head_layers(model)["fc"])


def test_it_is_trained_further(detector):
    small = compress(detector, {"fc": 12})
    small.compile(optimizer=keras.optimizers.SGD(0.01))
    before = {name: np.asarray(v).copy() for name, v in weight_names(small).items()}
    boxes = np.array([[[8, 8, 40, 40]], [[20, 10, 60, 50]]], np.float32)
    x = {"images": IMAGES, "image_id": np.arange(2, dtype=np.int32)}
    small.train_on_batch(x, {"boxes": boxes, "classes": np.array([[0], [1]], np.int32)})
    for name in ("fc/first", "fc/second", "fc/bias"):
        assert not np.array_equal(before[name], np.asarray(weight_names(small)[name])), name


def test_what_cannot_be_is_told(detector):
    for arguments, message in (
        ({}, r"give one of ranks, energy and megabytes; given: none"),
        ({"ranks": {"fc": 2}, "energy": 0.5}, r"given: ranks, energy"),
        ({"ranks": {}}, r"ranks is empty; name at least one layer of fc"),
        ({"ranks": {"fc9": 2}}, r"tiny has no dense layer fc9 in its head; it has fc"),
        ({"ranks": {"fc": 0}}, r"rank 0 of fc, whose kernel is 512 x 48 of rank 48: give 1 to 48"),
        ({"ranks": {"fc": 4.0}}, r"rank 4.0 of fc"),
        ({"energy": 1.5}, r"energy=1.5; give the share"),
        ({"megabytes": -1}, r"megabytes=-1; give a positive number"),
        ({"ranks": {"fc": 2}, "layers": ["fc"]}, r"layers= goes with energy= or megabytes="),
    ):
        with pytest.raises(ValueError, match=message):
            compress(detector, **arguments)
    with pytest.raises(ValueError, match=r"has no box head"):
        compress(keras.Sequential([keras.layers.Dense(3)]), energy=0.5)
    with pytest.raises(ValueError, match=r"body has no dense layer fc9; it has fc"):
        with_ranks(detector.head.body, {"fc9": 3})


def test_the_dense_layers_alone_are_those_of_the_detector(detector):
    vectors = np.random.default_rng(1).standard_normal((6, 512)).astype("float32")
    logits, deltas = dense_part(detector).predict_on_batch(vectors)
    whole = detector.head(vectors.reshape(1, 6, 4, 4, 32), training=False)
    np.testing.assert_allclose(logits, np.asarray(whole[0])[0], atol=1e-5)
    np.testing.assert_allclose(deltas.reshape(6, 3, 4), np.asarray(whole[1])[0], atol=1e-5)
    times = take_times((detector, compress(detector, {"fc": 2})), IMAGES[0], rois=10, repeats=1)
    assert np.shape(times) == (2, 2)
    assert all(dense > 0 for dense, _ in times)


def test_fast_rcnn_is_compressed_too():
    model = zoo.get("fast_rcnn_resnet18", classes=("a", "b"), head="fc", head_units=8, short=64, long=96)
    model.set_target_statistics(np.full((2, 4), 0.5), np.full((2, 4), 0.25), new=True)
    small = compress(model, {"fc6": 3})
    assert small.zoo_meta.options["ranks"] == {"fc6": 3}
    np.testing.assert_array_equal(np.asarray(small.box_means), np.full((2, 4), 0.5))
    boxes = np.array([[4, 4, 50, 60], [10, 0, 64, 64.0]])
    expected = compress(model, {"fc6": 8}).detect(IMAGES[0], proposals=boxes, score_threshold=0.0)
    assert len(model.detect(IMAGES[0], proposals=boxes, score_threshold=0.0)) == len(expected)
    assert np.shape(take_times((model, small), IMAGES[0], rois=6, repeats=1)) == (2, 2)


def test_the_command(detector, registered, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    save_weights_file(detector, run / "model.weights.h5", meta=detector.zoo_meta)

    def command(*arguments):
        status = main(["compress", str(run), *map(str, arguments)])
        return status, capsys.readouterr()

    status, shown = command("small", "--rank", "fc=12", "--half", "--repeats", 1, "--rois", 5, "--json", "r.json")
    assert status == 0, shown.err
    report = json.loads((tmp_path / "r.json").read_text())
    (layer,) = report["layers"]
    assert (layer["name"], layer["rank"], layer["shape"]) == ("fc", 12, [512, 48])
    assert layer["energy"] > 0.99999
    assert report["after"]["parameters"] - report["before"]["parameters"] == 12 * 560 - 512 * 48
    assert report["after"]["megabytes"] * 1e6 == (tmp_path / "small" / "model.weights.h5").stat().st_size
    assert report["after"]["dense_ms"] > 0
    # As the model would be in half precision, too: the gain is that of the smaller layer, 12 * 560 for 512 * 48.
    gain = report["before"]["megabytes"] - report["after"]["megabytes"]
    assert gain == pytest.approx(2 * (512 * 48 - 12 * 560) / 1e6, rel=0.35)
    assert "512 x 48" in shown.out
    loaded = zoo.load(tmp_path / "small")
    assert loaded.zoo_meta.options == {"ranks": {"fc": 12}}
    assert read_meta(tmp_path / "small" / "model.weights.h5").command.startswith("zoo compress")

    status, shown = command("two.keras", "--energy", 0.9, "--repeats", 0)
    assert status == 0, shown.err
    assert head_layers(zoo.load(tmp_path / "two.keras"))["fc"].rank == 2
    for wrong, message in (
        ([], "--energy or --megabytes; given: none"),
        (["--fc6", 3], "has no dense layer fc6 in its head; it has fc"),
        (["--energy", 0.5, "--megabytes", 1], "given: --energy, --megabytes"),
        (["--energy", 0.5, "--split", "test"], "--split, --limit, --proposals and --most-proposals are for --data"),
    ):
        status, shown = command("x", *wrong)
        assert status == 2
        assert message in shown.err
    status, shown = command("x.onnx", "--energy", 0.5)
    assert "x.onnx: give NAME.weights.h5, NAME.keras, or a folder" in shown.err
    assert not (tmp_path / "x").exists()
