"""The registry and the weights files behind it."""

import hashlib
import json

import fakes
import h5py
import numpy as np
import pytest

import zoo
from zoo import registry
from zoo.arguments import RegistryError
from zoo.weights_entry import WeightsEntry, WeightsError
from zoo.weights_io import load_weights, read_meta, save_weights_file, weight_names


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    """Registers the fake detector for one test; the real models stay out of the way."""
    monkeypatch.setattr(registry, "_models", {})
    monkeypatch.setattr(registry, "_discover", lambda: None)
    builder = registry.register(task="detection", paper="Nobody 2000", summary="A fake.", params=12)
    return builder(named("fake_net"))


def named(name):
    def builder(classes=None, *, width=4, sides=(1, 2)):
        return fakes.build(classes, width=width)

    builder.__name__ = name
    return builder


def add(name, **fields):
    fields = {"task": "detection", "paper": "Nobody 2000", "summary": "A fake."} | fields
    registry.register(**fields)(named(name))


def values(model):
    return {name: np.asarray(v) for name, v in weight_names(model).items()}


def same(first, second):
    a, b = values(first), values(second)
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def saved(tmp_path, model, name="model.weights.h5", dtype="float32"):
    return save_weights_file(model, tmp_path / name, dtype, model.zoo_meta)


def test_names_are_listed_by_pattern_task_and_weights():
    entry = WeightsEntry("digits", "x.h5", "0" * 64, 1, ("a",))
    add("zeta_vgg16", task="classification")
    add("alpha_vgg19", weights=(entry,))
    assert zoo.list_models() == ["alpha_vgg19", "fake_net", "zeta_vgg16"]
    assert zoo.list_models("*vgg*") == ["alpha_vgg19", "zeta_vgg16"]
    assert zoo.list_models("vgg") == []
    assert zoo.list_models(pretrained=True) == ["alpha_vgg19"]
    assert zoo.list_models(task="classification") == ["zeta_vgg16"]


def test_unknown_names_are_answered_with_the_nearest():
    entry = WeightsEntry("digits", "x.h5", "0" * 64, 1, ("a",))
    add("faster_rcnn_vgg16", weights=(entry,))
    with pytest.raises(RegistryError, match=r"'faster_rcnn_vgg15'.*did you mean 'faster_rcnn_vgg16'"):
        zoo.get("faster_rcnn_vgg15")
    with pytest.raises(RegistryError, match=r"'vgg16'.*'faster_rcnn_vgg16'"):
        zoo.info("vgg16")
    with pytest.raises(RegistryError, match=r"'digit' for faster_rcnn_vgg16.*'digits'.*path"):
        zoo.get("faster_rcnn_vgg16", weights="digit")
    with pytest.raises(RegistryError, match=r"'widht'.*'width'.*width=4, sides=\(1, 2\)"):
        zoo.get("fake_net", widht=3)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("cat", "one string"),
        ((), "at least one"),
        (("cat", ""), "not empty"),
        (("cat", "dog", "cat"), "cat more than once"),
        (("__background__", "cat"), "leave it out"),
        (20, "class names"),
    ],
)
def test_classes_that_cannot_be_meant_are_refused(classes, message):
    with pytest.raises(RegistryError, match=message):
        zoo.get("fake_net", classes=classes)


def test_a_builder_must_show_its_options():
    def hidden(classes=None, **options):
        return None

    def positional(classes=None, width=3):
        return None

    def nameless(names=None):
        return None

    for builder, message in ((hidden, "'options'"), (positional, "'width'"), (nameless, "classes=None")):
        with pytest.raises(TypeError, match=message):
            registry.register(task="detection", paper="", summary="")(builder)


def test_two_modules_may_not_share_a_name():
    other = named("fake_net")
    other.__module__ = "somewhere.else"
    with pytest.raises(ValueError, match=r"already taken by"):
        registry.register(task="detection", paper="", summary="")(other)


def test_info_says_all_and_does_not_build(monkeypatch):
    entry = WeightsEntry(
        "digits",
        "x.h5",
        "ab" * 32,
        2_500_000,
        ("one", "two"),
        {"width": 9},
        measured_score="mAP 0.93 by zoo eval",
    )
    add("model", params=1234567, weights=(entry,), input="RGB", preprocessing="short side 600")
    monkeypatch.setattr(fakes, "build", lambda *a, **k: pytest.fail("built"))
    text = str(zoo.info("model"))
    parts = [
        "Nobody 2000",
        "1,234,567",
        "short side 600",
        "width=4",
        "digits",
        "2.5 MB",
        "one, two",
        "width=9",
    ]
    for part in [*parts, "mAP 0.93 by zoo eval", "ab" * 32]:
        assert part in text, part


def test_undeclared_parameters_are_counted():
    add("counted")
    # hidden 3*4+4, norm 4*4, out 4+1
    assert zoo.info("counted").parameters == 16 + 16 + 5
    assert zoo.info("fake_net").parameters == 12  # as declared


def test_our_weights_come_back_exactly_with_classes_and_options(tmp_path):
    model = zoo.get("fake_net", classes=("cat", "dog", "cow"), width=7)
    path = saved(tmp_path, model)
    again = zoo.get("fake_net", weights=path)
    assert same(model, again)
    assert again.classes == ("cat", "dog", "cow")
    assert again.width == 7
    assert again.zoo_meta.options == {"width": 7}
    assert same(zoo.load(path), model)
    assert same(zoo.load(tmp_path), model)


def test_half_precision_halves_kernels_and_keeps_vectors(tmp_path):
    model = zoo.get("fake_net", width=50)
    model.norm.moving_variance.assign(np.full(50, 1e-7, np.float32))  # float16 would make it 1.2e-7
    model.out.kernel.assign(np.full((50, 1), 1e6, np.float32))  # float16 would make it infinite
    path = saved(tmp_path, model, dtype="float16")
    with h5py.File(path) as file:
        assert file["hidden/kernel"].dtype == np.float16
        assert file["norm/moving_variance"].dtype == np.float32
    before, after = values(model), values(zoo.load(path))
    np.testing.assert_allclose(after["hidden/kernel"], before["hidden/kernel"], rtol=1e-3)
    np.testing.assert_array_equal(after["norm/moving_variance"], before["norm/moving_variance"])
    np.testing.assert_array_equal(after["out/kernel"], before["out/kernel"])


def test_names_in_a_file_do_not_depend_on_how_often_a_model_was_built():
    first, second = fakes.FakeDetector(("a",), name="net"), fakes.FakeDetector(("a",), name="net_1")
    assert list(weight_names(first)) == list(weight_names(second))
    assert "hidden/kernel" in weight_names(second)


def test_every_difference_is_listed_and_nothing_is_loaded(tmp_path):
    model = zoo.get("fake_net")
    path = saved(tmp_path, model)
    with h5py.File(path, "a") as file:
        del file["out/bias"]
        del file["hidden/kernel"]
        file["hidden/kernel"] = np.zeros((3, 9))
        file["extra/kernel"] = np.zeros(2)
    other = zoo.get("fake_net")
    before = values(other)
    with pytest.raises(WeightsError) as caught:
        load_weights(other, path)
    for part in (
        "out/bias",
        "extra/kernel",
        "hidden/kernel (3, 9) in the file, (3, 4) in the model",
        str(path),
    ):
        assert part in str(caught.value)
    assert all(np.array_equal(before[name], value) for name, value in values(other).items())


def test_weights_that_are_no_numbers_are_neither_written_nor_read(tmp_path):
    model = zoo.get("fake_net")
    path = saved(tmp_path, model)
    with h5py.File(path, "a") as file:
        file["out/bias"][...] = np.nan
    with pytest.raises(WeightsError, match=r"NaN.*out/bias"):
        zoo.load(path)
    model.out.bias.assign([np.inf])
    with pytest.raises(WeightsError, match=r"out/bias"):
        save_weights_file(model, tmp_path / "bad.weights.h5")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.weights.h5"]


def test_options_and_classes_may_not_contradict_the_weights(tmp_path):
    path = saved(tmp_path, zoo.get("fake_net", classes=("a", "b"), sides=(3, 4)))
    with pytest.raises(RegistryError, match=r"sides=\(9,\).*made with sides=\(3, 4\)"):
        zoo.get("fake_net", weights=path, sides=(9,))
    # No layer of the fake depends on the classes, so that none can be made anew for others.
    with pytest.raises(RegistryError, match=r"knows the classes a, b, not b, a.*no layer of fake_net depends on"):
        zoo.get("fake_net", weights=path, classes=("b", "a"))
    zoo.get("fake_net", weights=path, classes=["a", "b"], sides=[3, 4])  # the same said again is no contradiction
    add("other_net")
    with pytest.raises(WeightsError, match=r"weights of fake_net, not of other_net"):
        zoo.get("other_net", weights=path)


def test_keras_files_load_too(tmp_path):
    model = zoo.get("fake_net", width=5)
    model.save_weights(tmp_path / "keras.weights.h5")
    model.save(tmp_path / "whole.keras")
    assert same(zoo.get("fake_net", weights=tmp_path / "keras.weights.h5", width=5), model)
    assert same(zoo.get("fake_net", weights=tmp_path / "whole.keras", width=5), model)
    assert same(zoo.load(tmp_path / "whole.keras"), model)
    with pytest.raises(WeightsError, match=r"whole.keras does not fit") as caught:
        zoo.get("fake_net", weights=tmp_path / "whole.keras", width=6)
    assert "hidden/kernel (3, 5) in the file, (3, 6) in the model" in str(caught.value)
    with pytest.raises(WeightsError, match=r"keras.weights.h5 does not fit"):
        zoo.get("fake_net", weights=tmp_path / "keras.weights.h5", width=6)
    with pytest.raises(WeightsError, match=r"which model.*keras.json"):
        zoo.load(tmp_path / "keras.weights.h5")
    (tmp_path / "keras.json").write_text(
        json.dumps({"model": "fake_net", "classes": ["x", "y"], "options": {"width": 5}})
    )
    assert zoo.load(tmp_path / "keras.weights.h5").classes == ("x", "y")


@pytest.mark.parametrize("content", [b"", b"not HDF5 at all", None])
def test_files_that_are_no_weights_are_named(tmp_path, content):
    path = tmp_path / "broken.weights.h5"
    if content is None:
        whole = saved(tmp_path, zoo.get("fake_net")).read_bytes()
        content = whole[: len(whole) // 2]
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"broken\.weights\.h5"):
        zoo.get("fake_net", weights=path)
    with pytest.raises(WeightsError, match=r"absent\.weights\.h5 does not exist"):
        zoo.get("fake_net", weights=tmp_path / "absent.weights.h5")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=r"no run folder"):
        zoo.load(tmp_path / "empty")


def test_a_registered_entry_is_checked_and_brings_its_options(tmp_path, monkeypatch):
    trained = zoo.get("fake_net", classes=("a", "b"), width=6)
    path = saved(tmp_path, trained)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr("zoo.weights_entry.PACKAGED", tmp_path)
    size = path.stat().st_size
    good = WeightsEntry("good", path.name, digest, size, ("a", "b"), {"width": 6})
    damaged = WeightsEntry("damaged", path.name, "0" * 64, size, ("a", "b"), {"width": 6})
    add("fake_net", weights=(good, damaged))
    model = zoo.get("fake_net", weights="good")
    assert same(model, trained)
    assert model.classes == ("a", "b")
    with pytest.raises(WeightsError, match=r"damaged.*SHA-256.*install"):
        zoo.get("fake_net", weights="damaged")


def test_metadata_survives_as_it_was(tmp_path):
    model = zoo.get("fake_net", sides=((1, 2), 3))
    assert read_meta(saved(tmp_path, model)) == model.zoo_meta
