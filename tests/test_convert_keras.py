"""keras.applications' files, both ways: its own models are the reference."""

import gc

import h5py
import keras
import layouts
import numpy as np
import pytest

import zoo
from zoo.convert.readers import open_arrays
from zoo.convert.writers import write_file
from zoo.weights_error import WeightsError
from zoo.weights_io import save_weights_file


@pytest.fixture(autouse=True)
def _little_memory():
    yield
    keras.backend.clear_session()
    gc.collect()


def their_model(name, **options):
    """A model of keras.applications with random weights, quickly made: all numbers are assigned."""
    with keras.StatelessScope():
        model = getattr(keras.applications, name)(weights=None, classifier_activation=None, **options)
        for variable in model.weights:
            variable._initializer = lambda shape, dtype: keras.ops.zeros(shape, dtype)
    arrays = layouts.random_arrays({v.path: tuple(v.shape) for v in model.weights})
    for variable in model.weights:
        variable.assign(arrays[variable.path])
    return model


def save_legacy(model, path):
    """What ``save_weights("x.h5")`` wrote until Keras 3: the part of a whole saved model that holds the weights."""
    whole = path.with_name("whole.h5")
    model.save(whole)
    with h5py.File(whole) as source, h5py.File(path, "w") as target:
        for name in source["model_weights"]:
            source.copy(f"model_weights/{name}", target, name)
        for name, value in source["model_weights"].attrs.items():
            target.attrs[name] = value
    whole.unlink()
    return path


def picture(side=224):
    return np.random.default_rng(3).integers(0, 256, (1, side, side, 3)).astype("float32")


def preprocessed(x):
    """What keras.applications does first to images for VGG and ResNet: BGR minus the mean colour."""
    return keras.applications.imagenet_utils.preprocess_input(x.copy(), mode="caffe")


def logits(model, x):
    return keras.ops.convert_to_numpy(keras.Model(model.inputs, model.layers[-1].input)(x))


def assert_equal(ours, theirs):
    ours, theirs = (keras.ops.convert_to_numpy(each) for each in (ours, theirs))
    assert theirs.std() > 0.05
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * max(1.0, theirs.std()))


@pytest.mark.parametrize(("theirs", "ours"), [("VGG16", "vgg16"), ("ResNet50", "resnet50")])
def test_with_the_top(tmp_path, theirs, ours):
    reference = their_model(theirs)
    save_legacy(reference, tmp_path / "net.h5")
    x = picture()
    expected = reference(preprocessed(x))
    del reference
    model = zoo.get(ours, weights=tmp_path / "net.h5")
    assert_equal(logits(model, x), expected)
    assert zoo.load(tmp_path / "net.h5").zoo_meta.model == ours


def rename_layer(path, old, new):
    """What the file would be if a layer had had another name when it was saved."""
    with h5py.File(path, "a") as file:
        names = [name if isinstance(name, str) else name.decode() for name in file.attrs["layer_names"]]
        file.attrs["layer_names"] = [(new if name == old else name).encode() for name in names]
        group = file.create_group(new)
        weights = [name if isinstance(name, str) else name.decode() for name in file[old].attrs["weight_names"]]
        for name in weights:
            # As Keras 2 wrote them: probs/probs/kernel:0.
            group[f"{new}/{name.rpartition('/')[2].removesuffix(':0')}:0"] = file[f"{old}/{name}"][()]
        group.attrs["weight_names"] = [key.encode() for key in (f"{new}/kernel:0", f"{new}/bias:0")]
        del file[old]


def test_the_published_resnets_call_their_last_layer_probs(tmp_path):
    """As keras-applications 1838a367 did, for whose models the files were made."""
    reference = their_model("ResNet50", input_shape=(96, 96, 3), classes=12)
    path = save_legacy(reference, tmp_path / "net.h5")
    rename_layer(path, "predictions", "probs")
    reference.load_weights(path)  # it still is a file that keras.applications takes
    x = picture(96)
    model = zoo.get("resnet50", weights=path, classes=12)
    assert_equal(logits(model, x), reference(preprocessed(x)))


@pytest.mark.parametrize(("theirs", "ours"), [("VGG19", "vgg19"), ("ResNet50", "resnet50")])
def test_without_the_top(tmp_path, theirs, ours):
    reference = their_model(theirs, include_top=False)
    path = save_legacy(reference, tmp_path / "net.h5")
    x = picture(64)
    model = zoo.get(ours, weights=path, include_top=False, stages=["conv5"])
    features = model(x)["conv5"]
    # VGG's fifth pool belongs to the top here, and to the features there.
    features = keras.ops.max_pool(features, 2, 2) if theirs == "VGG19" else features
    assert_equal(features, reference(preprocessed(x)))
    # A part of the stages, and a file with its top for a model without.
    few = zoo.get(ours, weights=path, include_top=False, stages=["conv2"])
    assert_equal(few(x)["conv2"], zoo.get(ours, weights=path, include_top=False)(x)["conv2"])


def test_what_we_write_keras_reads(tmp_path):
    keras.utils.set_random_seed(0)
    model = zoo.get("resnet50", classes=12)
    shapes = {v.path: tuple(v.shape) for v in model.weights}
    for variable, value in zip(model.weights, layouts.random_arrays(shapes).values(), strict=True):
        variable.assign(value)
    ours = save_weights_file(model, tmp_path / "net.weights.h5", meta=model.zoo_meta)
    # Class names are what our files keep: of a number of classes they make names.
    with h5py.File(ours, "a") as file:
        file.attrs["classes"] = str([f"c{i}" for i in range(12)]).replace("'", '"')
    written = write_file(ours, tmp_path / "net.h5", "keras_applications", zoo.info("resnet50"))
    assert len(written) == len(model.weights)
    reference = their_model("ResNet50", classes=12, input_shape=(96, 96, 3))
    reference.load_weights(tmp_path / "net.h5")
    x = picture(96)
    assert_equal(logits(model, x), reference(preprocessed(x)))


def test_layers_are_found_by_name_not_by_order(tmp_path):
    path = save_legacy(their_model("ResNet50", include_top=False), tmp_path / "net.h5")
    before = zoo.get("resnet50", weights=path, include_top=False)(picture(64))
    # Two layers of equal shape change places in the list by which Keras itself would load the file.
    with h5py.File(path, "a") as file:
        names = [name if isinstance(name, str) else name.decode() for name in file.attrs["layer_names"]]
        a, b = names.index("conv4_block2_2_conv"), names.index("conv4_block3_2_conv")
        assert file[names[a]][f"{names[a]}/kernel"].shape == file[names[b]][f"{names[b]}/kernel"].shape
        names[a], names[b] = names[b], names[a]
        file.attrs["layer_names"] = [name.encode() for name in names]
    after = zoo.get("resnet50", weights=path, include_top=False)(picture(64))
    for stage in before:
        np.testing.assert_array_equal(before[stage], after[stage])
    by_order = their_model("ResNet50", include_top=False)
    by_order.load_weights(path)
    assert not np.allclose(by_order(preprocessed(picture(64))), before["conv5"])


def test_names_of_2016_are_read(tmp_path):
    path = tmp_path / "old.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"input_1", b"block1_conv1", b"fc1"]
        for layer, shape in (("block1_conv1", (3, 3, 3, 64)), ("fc1", (25088, 4))):
            names = [f"{layer}_W_1:0", f"{layer}_b_1:0"]
            file.create_group(layer).attrs["weight_names"] = [name.encode() for name in names]
            file[f"{layer}/{names[0]}"] = np.ones(shape, np.float32)
            file[f"{layer}/{names[1]}"] = np.ones(shape[-1:], np.float32)
        file.create_group("input_1").attrs["weight_names"] = np.zeros(0, "S1")
    with open_arrays(path) as file:
        assert file.shapes == {
            "block1_conv1/kernel": (3, 3, 3, 64),
            "block1_conv1/bias": (64,),
            "fc1/kernel": (25088, 4),
            "fc1/bias": (4,),
        }
        assert file["fc1/bias"].tolist() == [1, 1, 1, 1]


def test_whole_saved_models_are_read(tmp_path):
    reference = their_model("ResNet50", include_top=False, input_shape=(64, 64, 3))
    reference.save(tmp_path / "whole.h5")
    model = zoo.get("resnet50", weights=tmp_path / "whole.h5", include_top=False)
    assert_equal(model(picture(64))["conv5"], reference(preprocessed(picture(64))))


def test_links_out_of_the_file_are_refused(tmp_path):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["kernel:0"] = np.ones(3, np.float32)
    (tmp_path / "raw.bin").write_bytes(bytes(12))
    links = {
        "external": lambda group: group.__setitem__("kernel:0", h5py.ExternalLink(str(secret), "kernel:0")),
        "soft": lambda group: group.__setitem__("kernel:0", h5py.SoftLink("/elsewhere")),
        "raw": lambda group: group.create_dataset(
            "kernel:0", (3,), "f4", external=[(str(tmp_path / "raw.bin"), 0, 12)]
        ),
    }
    for kind, link in links.items():
        path = tmp_path / f"{kind}.h5"
        with h5py.File(path, "w") as file:
            file.attrs["layer_names"] = [b"conv"]
            group = file.create_group("conv")
            group.attrs["weight_names"] = [b"kernel:0"]
            link(group)
        with pytest.raises(WeightsError, match=rf"{kind}\.h5: 'kernel:0' is (missing or a link|no array)"):
            open_arrays(path)
