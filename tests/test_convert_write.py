"""``zoo convert``, and our weights in other libraries' files."""

import gc
import json
import os

import h5py
import keras
import layouts
import numpy as np
import pytest

import zoo
from zoo.cli.main import main
from zoo.convert.writers import WRITABLE, write_file
from zoo.filling import shapes_of
from zoo.weights_error import WeightsError
from zoo.weights_io import WeightsMeta, load_weights, read_meta, save_arrays, weight_names

CHAINER = {"inputs": "chainer_resnet", "epsilon": 2e-5, "pool": "covering"}


@pytest.fixture(autouse=True)
def _little_memory():
    yield
    keras.backend.clear_session()
    gc.collect()


def ours(tmp_path, model="resnet50", **options):
    """Random weights of ours, with biases before normalisations, as keras.applications has them."""
    arrays = layouts.random_arrays(shapes_of(lambda: zoo.info(model).builder(None, **options)))
    return save_arrays(arrays, tmp_path / "ours.weights.h5", meta=WeightsMeta(model, (), options))


def command(capsys, *arguments):
    status = main([str(argument) for argument in ("convert", *arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def features(model):
    x = np.random.default_rng(1).integers(0, 256, (1, 64, 64, 3)).astype("float32")
    return keras.ops.convert_to_numpy(keras.Model(model.inputs, model.layers[-1].input)(x))


@pytest.mark.parametrize("inputs", ["chainer_resnet", "caffe_resnet"])
def test_chainercv_reads_the_same_network_out_of_ours(tmp_path, inputs):
    path = ours(tmp_path, **{**CHAINER, "inputs": inputs})
    written = write_file(path, tmp_path / "net.npz", "chainercv", zoo.info("resnet50"))
    with np.load(tmp_path / "net.npz") as file:
        assert set(file) == set(written) == set(layouts.chainer_resnet("resnet50"))
        assert {name: file[name].shape for name in file} == layouts.chainer_resnet("resnet50")
        assert file["res3/a/conv2/bn/N"].dtype.kind == "i"
    # Convolutions have no bias there: it went into the mean. BGR kernels are turned round for its RGB.
    a, b = features(zoo.load(path)), features(zoo.get("resnet50", weights=tmp_path / "net.npz"))
    assert a.std() > 0.05
    np.testing.assert_allclose(a, b, atol=1e-4 * max(1.0, a.std()))


def test_a_published_file_comes_back_as_it_was(tmp_path, capsys):
    arrays = layouts.random_arrays(layouts.chainer_resnet("resnet50"))
    source = layouts.save_npz(arrays, tmp_path / "theirs.npz")
    status, out, err = command(capsys, source, tmp_path / "ours.weights.h5")
    assert (status, err) == (0, "")
    assert "321 arrays, NumPy archive (.npz), ChainerCV's ResNet classifiers" in out
    assert "ignored  53: conv1/bn/N, res2/a/conv1/bn/N" in out
    assert "a count of batches" in out
    assert "320 weights of resnet50, of which 52 are zero and have no array" in out
    assert "epsilon=2e-05" in out
    beside = json.loads((tmp_path / "ours.json").read_text())
    assert (beside["model"], beside["options"]["pool"]) == ("resnet50", "covering")
    assert read_meta(tmp_path / "ours.weights.h5").options == beside["options"]

    status, out, err = command(capsys, tmp_path / "ours.weights.h5", tmp_path / "back.npz")
    assert (status, err) == (0, "")
    with np.load(tmp_path / "back.npz") as file:
        assert set(file) == set(arrays)
        for name in arrays:
            if not name.endswith("/N"):
                np.testing.assert_array_equal(file[name], arrays[name], err_msg=name)


def test_weights_of_ours_that_another_library_cannot_hold_are_refused(tmp_path):
    path = ours(tmp_path, "resnet50", epsilon=1e-3)
    with pytest.raises(WeightsError, match=r"made with epsilon=0\.001, but keras\.app.* always has epsilon=1\.001e-05"):
        write_file(path, tmp_path / "x.h5", "keras_applications", zoo.info("resnet50"))
    with pytest.raises(WeightsError, match=r"epsilon=0\.001, pool='padded', but ChainerCV's"):
        write_file(path, tmp_path / "x.npz", "chainercv", zoo.info("resnet50"))
    with pytest.raises(WeightsError, match=r"holds weights of resnet50, not of resnet101"):
        write_file(path, tmp_path / "x.npz", "chainercv", zoo.info("resnet101"))
    path = ours(tmp_path, "resnet50", inputs="torch")
    with pytest.raises(WeightsError, match=r"made for the input RGB.*inputs='torch'.*gives BGR.*inputs='caffe' first"):
        write_file(path, tmp_path / "x.h5", "keras_applications", zoo.info("resnet50"))
    path = ours(tmp_path, "resnet18")
    with pytest.raises(WeightsError, match=r"models that chainercv can hold: vgg16, resnet50"):
        write_file(path, tmp_path / "x.npz", "chainercv", zoo.info("resnet18"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ours.weights.h5"]


@pytest.mark.parametrize("layout", ["keras_applications", "chainercv"])
def test_group_normalisation_has_no_means_and_variances_to_write(tmp_path, layout):
    options = {**(CHAINER if layout == "chainercv" else {}), "norm": "group"}
    path = save_arrays({"w": np.zeros(3)}, tmp_path / "ours.weights.h5", meta=WeightsMeta("resnet50", (), options))
    with pytest.raises(WeightsError, match=r"ours\.weights\.h5 was made with norm='group'.*train it with norm='batch'"):
        write_file(path, tmp_path / "theirs", layout, zoo.info("resnet50"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ours.weights.h5"]


@pytest.mark.parametrize("ranks", [{"fc6": 5, "fc7": 4}, {"fc7": 4}])
def test_compressed_weights_have_no_place_elsewhere(tmp_path, ranks):
    name = "faster_rcnn_vgg16"
    options = {**WRITABLE["chainercv", name].options(name, {}), "head_units": 8, "ranks": ranks}
    path = save_arrays({"w": np.zeros(3)}, tmp_path / "ours.weights.h5", meta=WeightsMeta(name, ("cat",), options))
    with pytest.raises(WeightsError, match=r"ours\.weights\.h5 is compressed \(ranks=.*fc7.*it was compressed from"):
        write_file(path, tmp_path / "theirs.npz", "chainercv", zoo.info(name))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ours.weights.h5"]


def test_the_stride_that_chainercv_can_be_told_of_is_free(tmp_path):
    path = ours(tmp_path, **CHAINER, stride_in="3x3")
    assert write_file(path, tmp_path / "fb.npz", "chainercv", zoo.info("resnet50"))


def test_a_detector_goes_to_chainercv_and_back(tmp_path):
    name, classes = "faster_rcnn_vgg16", ("cat", "dog")
    (layout,) = {known for (kind, model), known in WRITABLE.items() if (kind, model) == ("chainercv", name)}
    options = {**layout.options(name, {}), "head_units": 8}
    arrays = layouts.random_arrays(shapes_of(lambda: zoo.info(name).builder(classes, **options)))
    arrays["sampling_step"] = np.int64(5)
    path = save_arrays(arrays, tmp_path / "ours.weights.h5", meta=WeightsMeta(name, classes, options))
    write_file(path, tmp_path / "theirs.npz", "chainercv", zoo.info(name))
    with np.load(tmp_path / "theirs.npz") as file:
        assert len(file.files) == 40
        # Theirs are (outputs, inputs) with deltas as (dy, dx, dh, dw).
        expected = arrays["head/loc/kernel"].T.reshape(3, 4, 8)[:, [1, 0, 3, 2]].reshape(12, 8)
        np.testing.assert_array_equal(file["head/cls_loc/W"], expected)
    back = zoo.get(name, weights=tmp_path / "theirs.npz", classes=classes)
    assert back.zoo_meta.options == {**options, "rpn_channels": 512}
    for variable, value in weight_names(back).items():
        if variable != "sampling_step":
            np.testing.assert_array_equal(np.asarray(value), arrays[variable], err_msg=variable)


def test_classes_and_options_for_files_that_do_not_tell(tmp_path, capsys):
    source = layouts.save_npz(layouts.random_arrays(layouts.chainer_resnet("resnet18", 2)), tmp_path / "x.npz")
    target = tmp_path / "y.weights.h5"
    status, out, _ = command(capsys, source, target, "--classes", "cat", "dog", "--option", "stride_in=3x3")
    assert status == 0
    assert "stride_in='3x3'" in out
    model = zoo.load(target)
    assert model.zoo_meta.classes == ("cat", "dog")
    assert model.zoo_meta.options["stride_in"] == "3x3"
    assert np.asarray(weight_names(model)["predictions/kernel"]).shape == (512, 2)


@pytest.fixture(scope="module")
def resnet18(tmp_path_factory):
    """A ResNet-18 of seven classes, as ChainerCV would keep it."""
    arrays = layouts.random_arrays(layouts.chainer_resnet("resnet18", 7))
    return layouts.save_npz(arrays, tmp_path_factory.mktemp("source") / "net.npz")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("absent.npz", "x.weights.h5"), "absent.npz does not exist"),
        (("typo.pth", "x.weights.h5"), "typo.pth does not exist"),
        (("run", "x.npz"), "run/model.weights.h5 does not exist"),
        (("page.h5", "x.weights.h5"), "page.h5 is not an HDF5 weights file"),
        (("keras3.weights.h5", "x.npz"), "keras3.weights.h5 is a file of Keras' own"),
        (("net.npz", "x.h5"), "give a DST that ends in .weights.h5"),
        (("net.npz", "x.weights.h5"), "2 of another shape"),
        (("net.npz", "x.weights.h5", "--layout", "chainercv"), "--layout chainercv"),
        (("net.npz", "x.weights.h5", "--model", "vgg16"), "holds weights of resnet18, not of vgg16"),
        (("net.npz", "x.weights.h5", "--option", "strid_in=3x3"), "no option 'strid_in': did you mean 'stride_in'"),
        (("ours.weights.h5", "x.weights.h5"), "has our layout already"),
        (("ours.weights.h5", "x.npz", "--classes", "a"), "for files of other libraries"),
        (("ours.weights.h5", "x.npz"), "models that chainercv can hold"),
        (("page.npz", "x.weights.h5"), "an HTML page titled 'Sign in'"),
        (("alexnet.npz", "x.weights.h5"), "no known layout"),
    ],
)
def test_mistakes_are_answered_in_a_line_and_write_nothing(tmp_path, capsys, monkeypatch, resnet18, arguments, message):
    monkeypatch.chdir(tmp_path)
    os.link(resnet18, "net.npz")
    layouts.save_npz({"w": np.zeros(3, np.float32)}, tmp_path / "alexnet.npz")
    (tmp_path / "page.npz").write_text("<html><title>Sign in</title></html>")
    (tmp_path / "page.h5").write_text("<html><title>Sign in</title></html>")
    (tmp_path / "run").mkdir()
    with h5py.File("keras3.weights.h5", "w") as file:
        file["layers/conv/vars/0"] = np.zeros(3)
    save_arrays({"w": np.zeros(3)}, tmp_path / "ours.weights.h5", meta=WeightsMeta("resnet18"))
    before = sorted(p.name for p in tmp_path.iterdir())
    status, _, err = command(capsys, *arguments)
    assert status == 2
    assert message in err
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_keras_files_are_not_loaded_by_order(tmp_path):
    model = zoo.get("resnet18", classes=3)
    before = np.asarray(model.weights[0]).copy()
    import h5py

    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv"]
    with pytest.raises(WeightsError, match=r"by the layers' order.*zoo\.get"):
        load_weights(model, tmp_path / "x.h5")
    np.testing.assert_array_equal(before, np.asarray(model.weights[0]))
