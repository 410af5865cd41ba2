"""Starting from weights: other classes, a classifier's in a detector, a published entry fetched and converted."""

import hashlib
import logging
from dataclasses import replace

import keras
import layouts
import numpy as np
import pytest
from publisher import Publisher, empty_home, kept

import zoo
from zoo import registry
from zoo.arguments import RegistryError
from zoo.convert.known import find_layout
from zoo.filling import build_filled, shapes_of
from zoo.transfer import class_variables, match
from zoo.weights_entry import WeightsEntry
from zoo.weights_error import WeightsError
from zoo.weights_io import save_arrays, save_weights_file, weight_names

SMALL = {"short": 64, "long": 96, "anchor_sizes": (16, 32), "rpn_channels": 32}


def values(model):
    return {name: np.asarray(v) for name, v in weight_names(model).items()}


def same(a, b, names):
    return all(np.array_equal(a[name], b[name]) for name in names)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """A small detector of three classes with random weights, saved."""
    model = zoo.get("faster_rcnn_resnet18", classes=("a", "b", "c"), head_units=16, **SMALL)
    path = tmp_path_factory.mktemp("detector") / "model.weights.h5"
    return save_weights_file(model, path, meta=model.zoo_meta), values(model)


def test_other_classes_keep_all_but_the_last_layers(detector, caplog):
    path, before = detector
    with caplog.at_level(logging.WARNING, "zoo"):
        model = zoo.get("faster_rcnn_resnet18", weights=path, classes=["cat", "dog"])
    assert model.classes == ("cat", "dog")
    after = values(model)
    new = {name for name in after if name.startswith(("head/score/", "head/loc/"))}
    assert len(new) == 4
    assert same(before, after, after.keys() - new)
    assert after["head/score/kernel"].shape == (16, 3)
    assert after["head/score/kernel"].std() == pytest.approx(0.01, rel=0.5)  # Girshick 2015, as for a new training
    assert model.zoo_meta.new_layers == ("head/score", "head/loc")
    assert model.zoo_meta.started_from == str(path)
    (record,) = caplog.records
    assert "NEW, to be trained: head/score, head/loc" in record.message
    assert f"{len(after) - 4} of {len(after)} weights" in record.message


def test_the_same_classes_in_another_order_are_other_classes(detector):
    path, before = detector
    model = zoo.get("faster_rcnn_resnet18", weights=path, classes=("c", "b", "a"))
    assert model.zoo_meta.new_layers == ("head/score", "head/loc")
    # Of the same shape, and still not taken: the rows mean other things.
    assert not np.array_equal(values(model)["head/score/kernel"], before["head/score/kernel"])


def test_the_same_classes_take_everything_and_say_nothing(detector, caplog):
    path, before = detector
    for classes in (None, ("a", "b", "c"), ["a", "b", "c"]):
        model = zoo.get("faster_rcnn_resnet18", weights=path, classes=classes)
        assert same(before, values(model), before)
        assert model.zoo_meta.new_layers == ()
    assert not caplog.records


def test_metadata_of_new_layers_is_saved_with_the_run(detector, tmp_path):
    model = zoo.get("faster_rcnn_resnet18", weights=detector[0], classes=["cat"])
    path = save_weights_file(model, tmp_path / "m.weights.h5", meta=model.zoo_meta)
    from zoo.weights_io import read_meta

    assert read_meta(path) == model.zoo_meta
    assert zoo.load(path).zoo_meta.new_layers == ()  # nothing is new any more


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """ResNet-18 with random numbers, as ChainerCV would keep it, but for its name."""
    arrays = layouts.random_arrays(layouts.chainer_resnet("resnet18"))
    path = tmp_path_factory.mktemp("classifier") / "resnet18.npz"
    return layouts.save_npz(arrays, path), values(zoo.get("resnet18", weights=path))


def test_a_classifier_becomes_a_detector(classifier, caplog):
    path, theirs = classifier
    model = zoo.get("faster_rcnn_resnet18", weights=path, classes=("cat",), head="conv5", **SMALL)
    ours = values(model)
    convs = [name for name in ours if name.startswith("conv")]
    assert {name for name in theirs if name.startswith("conv")} == set(convs)
    assert same(theirs, ours, convs)
    options = model.zoo_meta.options
    assert options["norm"] == "frozen"
    assert (options["inputs"], options["epsilon"], options["pool"]) == ("chainer_resnet", 2e-5, "covering")
    norms = [layer for layer in model.extractor.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert norms
    assert not any(layer.trainable for layer in norms)
    assert model.zoo_meta.new_layers == ("sampling_step", "rpn/conv", "rpn/score", "rpn/loc", "head/score", "head/loc")
    assert "not used: predictions" in caplog.text


def test_dense_layers_that_a_classifier_lacks_are_new(classifier, caplog):
    path, _ = classifier
    model = zoo.get("faster_rcnn_resnet18", weights=path, head="fc", head_units=16, **SMALL)
    assert {"fc6", "fc7"} < set(model.zoo_meta.new_layers)
    assert "conv5_block2_2_conv" in caplog.text  # left behind, and said so


def test_dense_layers_become_the_box_head(tmp_path):
    arrays = layouts.random_arrays(layouts.caffe2_alexnet())
    import onnx
    from onnx import helper, numpy_helper

    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    onnx.save(helper.make_model(helper.make_graph([], "g", [], [], tensors)), tmp_path / "net.onnx")
    model = zoo.get("faster_rcnn_alexnet", weights=tmp_path / "net.onnx", classes=("cat",), **SMALL)
    ours = values(model)
    # Our rows are H, W, C; theirs are C, H, W.
    expected = arrays["fc6_w_0"].reshape(4096, 256, 6, 6).transpose(2, 3, 1, 0).reshape(9216, 4096)
    np.testing.assert_array_equal(ours["fc6/kernel"], expected)
    np.testing.assert_array_equal(ours["fc7/bias"], arrays["fc7_b_0"])
    np.testing.assert_array_equal(ours["conv2_2/kernel"], arrays["conv2_w_0"][128:].transpose(2, 3, 1, 0))
    assert (model.preprocessing.order, model.preprocessing.mean) == ("bgr", (104.0, 117.0, 123.0))
    assert model.zoo_meta.options["lrn"] == "caffe"


def test_a_norm_that_has_no_such_statistics_is_refused(classifier):
    with pytest.raises(WeightsError, match=r"does not fit the model faster_rcnn_resnet18.*conv1_bn/moving_mean"):
        zoo.get("faster_rcnn_resnet18", weights=classifier[0], norm="group", head="conv5", **SMALL)


def test_other_classes_of_a_classifier(classifier, caplog):
    path, theirs = classifier
    model = zoo.get("resnet18", weights=path, classes=("cat", "dog"))
    ours = values(model)
    assert ours["predictions/kernel"].shape == (512, 2)
    assert same(theirs, ours, [name for name in ours if not name.startswith("predictions")])
    assert model.zoo_meta.new_layers == ("predictions",)
    assert model.zoo_meta.classes == ("cat", "dog")
    # As many classes as the file has: they are taken for the file's.
    assert zoo.get("resnet18", weights=path, classes=1000).zoo_meta.new_layers == ()


def test_the_wrong_model_is_named(classifier, detector):
    with pytest.raises(WeightsError, match=r"holds weights of resnet18, not of resnet50; use zoo\.get\('resnet18'"):
        zoo.get("resnet50", weights=classifier[0])
    with pytest.raises(WeightsError, match=r"holds weights of faster_rcnn_resnet18, not of resnet18"):
        zoo.get("resnet18", weights=detector[0])
    with pytest.raises(RegistryError, match=r"unknown weights 'imagnet' for resnet50: did you mean 'imagenet'"):
        zoo.get("resnet50", weights="imagnet")
    with pytest.raises(RegistryError, match=r"unknown weights 'imagnet' for faster_rcnn_resnet50.*'imagenet'"):
        zoo.get("faster_rcnn_resnet50", weights="imagnet")


def test_a_damaged_file_gives_no_model(classifier, tmp_path):
    data = bytearray(classifier[0].read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "bad.npz").write_bytes(data)
    with pytest.raises(WeightsError, match=r"bad\.npz is damaged or cut short \(Bad CRC-32"):
        zoo.get("resnet18", weights=tmp_path / "bad.npz")
    arrays = dict(np.load(classifier[0]))
    arrays["res3/b1/conv1/bn/beta"][3] = np.nan
    layouts.save_npz(arrays, tmp_path / "nan.npz")
    with pytest.raises(WeightsError, match=r"nan\.npz holds NaN.*conv3_block2_1_bn/beta"):
        zoo.get("resnet18", weights=tmp_path / "nan.npz")


def registered(monkeypatch, entry):
    """ResNet-18 with this entry, for one test."""
    monkeypatch.setitem(registry._models, "resnet18", replace(zoo.info("resnet18"), weights=(entry,)))


def test_a_published_entry_is_fetched_converted_once_and_loaded(classifier, monkeypatch, tmp_path):
    home = empty_home(monkeypatch, tmp_path)
    path, theirs = classifier
    body = path.read_bytes()
    options = dict(find_layout(layouts.shapes_only(layouts.chainer_resnet("resnet18"))).options("resnet18", {}))
    names = tuple(f"class {i}" for i in range(1000))
    with Publisher({"/net.npz": body}) as publisher:
        url = publisher.url("/net.npz")
        md5 = hashlib.md5(body).hexdigest()
        entry = WeightsEntry("imagenet", "net.npz", None, None, names, options, url, md5=md5, layout="chainercv")
        registered(monkeypatch, entry)
        model = zoo.get("resnet18", weights="imagenet")
        assert same(theirs, values(model), theirs)
        assert model.zoo_meta.classes == names
        requests = len(publisher.seen)
        (converted,) = [home / name for name in kept(home) if name.endswith(".weights.h5")]
        made = converted.stat().st_mtime_ns
        # What is in the cache is used again, by the classifier, by parts of it, and by the detector on it.
        features = zoo.get("resnet18", weights="imagenet", include_top=False, stages=["conv3"])
        assert same(theirs, values(features), values(features))
        fine = zoo.get("resnet18", weights="imagenet", classes=["cat", "dog"])
        assert fine.zoo_meta.new_layers == ("predictions",)
        found = zoo.get("faster_rcnn_resnet18", weights="imagenet", classes=["cat"], head="conv5", **SMALL)
        assert found.zoo_meta.started_from == "resnet18's 'imagenet'"
        assert same(theirs, values(found), [name for name in theirs if name.startswith("conv")])
        assert len(publisher.seen) == requests
        assert converted.stat().st_mtime_ns == made
    with pytest.raises(RegistryError, match=r"epsilon=0\.1 contradicts the weights 'imagenet'"):
        zoo.get("resnet18", weights="imagenet", epsilon=0.1)


def test_an_entry_of_another_layout_is_refused_and_leaves_nothing_converted(classifier, monkeypatch, tmp_path):
    home = empty_home(monkeypatch, tmp_path)
    body = classifier[0].read_bytes()
    with Publisher({"/net.npz": body}) as publisher:
        entry = WeightsEntry("imagenet", "net.npz", size=len(body), url=publisher.url("/net.npz"), layout="torchvision")
        registered(monkeypatch, entry)
        with pytest.raises(WeightsError, match=r"should have the layout 'torchvision', but it is ChainerCV's ResNet"):
            zoo.get("resnet18", weights="imagenet")
    assert not [name for name in kept(home) if name.endswith(".h5")]


def test_variables_that_depend_on_the_classes_are_found_by_trying():
    assert class_variables(zoo.info("resnet18").builder, 5, {}) == {"predictions/kernel", "predictions/bias"}
    head = {f"head/{layer}/{kind}" for layer in ("score", "loc") for kind in ("kernel", "bias")}
    assert class_variables(zoo.info("faster_rcnn_vgg16").builder, ("a", "b"), {"head_units": 8}) == head


def test_match_lists_what_is_wrong_beyond_what_may_differ():
    wanted = {"conv1/kernel": (3,), "conv2/kernel": (4,), "fc8/kernel": (5,)}
    found = {"conv1/kernel": (3,), "conv2/kernel": (9,), "conv3/kernel": (4,), "fc8/kernel": (7,)}
    with pytest.raises(WeightsError) as caught:
        match(wanted, found, "net", "file", new=["fc8/kernel"])
    assert "1 left over in the file: conv3/kernel" in str(caught.value)
    assert "conv2/kernel (9,) in the file, (4,) in the model" in str(caught.value)
    assert "fc8" not in str(caught.value)
    with pytest.raises(WeightsError, match="1 missing from the file: conv2/kernel"):
        match(wanted, {"conv1/kernel": (3,)}, "net", "file", to_detector=True)
    plan = match(wanted, {**wanted, "conv9/kernel": (1,)}, "net", "file", part=True)
    assert (plan.kept, plan.new, plan.left) == (tuple(wanted), (), ("conv9/kernel",))


class Own(keras.layers.Layer):
    """A layer whose variable is made from a value, which a stateless scope does not allow."""

    def build(self, shape):
        self.table = keras.Variable(np.ones(3, np.float32), name="table")

    def call(self, x):
        return x * self.table


def own_model(classes=None):
    x = keras.Input((3,))
    return keras.Model(x, Own(name="own")(keras.layers.Dense(3, name="fc")(x)), name="own_model")


def test_models_are_filled_without_being_drawn(tmp_path):
    assert shapes_of(own_model) == {"fc/kernel": (3, 3), "fc/bias": (3,), "own/table": (3,)}
    arrays = {"fc/kernel": np.full((3, 3), 2.0), "own/table": np.arange(3.0)}
    made = build_filled(own_model, lambda shapes: arrays, "x")
    assert np.asarray(made.layers[1].kernel).tolist() == [[2] * 3] * 3
    assert np.asarray(made.layers[2].table).tolist() == [0, 1, 2]
    assert np.asarray(made.layers[1].bias).tolist() == [0, 0, 0]


def test_large_arrays_go_in_pieces(tmp_path):
    """An array of more than one piece, of another number type, through our file and back."""
    big = np.arange(6_000_000, dtype=np.float64).reshape(6000, 1000)
    save_arrays({"fc/kernel": big}, tmp_path / "x.weights.h5")
    from zoo.weights_io import open_weights

    def model():
        x = keras.Input((6000,))
        return keras.Model(x, keras.layers.Dense(1000, use_bias=False, name="fc")(x))

    with open_weights(tmp_path / "x.weights.h5") as file:
        made = build_filled(model, lambda shapes: file, "x")
    np.testing.assert_array_equal(np.asarray(made.layers[1].kernel), big.astype(np.float32))
