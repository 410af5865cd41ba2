"""What a detector takes over from its classifier, and options of the wrong kind."""

from pathlib import Path

import fakes
import pytest

import zoo
from zoo import registry
from zoo.arguments import RegistryError
from zoo.building import inherited_options
from zoo.registry import _base
from zoo.weights_source import Source

DETECTORS = [name for name in zoo.list_models(task="detection") if _base(zoo.info(name)) is not None]


def test_a_detector_shows_its_classifier_the_colours_that_this_was_trained_on():
    """A run's metadata hold no options if none were given: the defaults count then, and the colours' are others."""
    assert len(DETECTORS) > 50
    for name in DETECTORS:
        model = zoo.info(name)
        base = _base(model)
        found = inherited_options(model, Source(Path("x.weights.h5"), "x", base))
        assert found.pop("inputs") == "caffe" == base.options["inputs"]
        assert model.options["inputs"] != "caffe"
        assert found.pop("norm", "frozen") == "frozen"
        # Everything else has the same default in both, or is no option of both.
        assert found == {option: model.options[option] for option in found}, name
        assert "epsilon" in found or "resnet" not in name


def test_what_the_classifier_was_given_comes_first():
    model = zoo.info("faster_rcnn_resnet18")
    own = {"norm": "group", "epsilon": 1e-3, "include_top": False}
    source = Source(Path("x.npz"), "x", _base(model), options=own, implied={"inputs": "torch", "epsilon": 1e-5})
    found = inherited_options(model, source)
    assert found == {"norm": "group", "epsilon": 1e-3, "inputs": "torch", "stride_in": "1x1", "pool": "padded"}


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(registry, "_models", {})
    monkeypatch.setattr(registry, "_discover", lambda: None)

    def fake_net(classes=None, *, sides=(1, 2), broken=False):
        if broken is None:
            raise TypeError("a fault of ours")
        return fakes.build(classes, width=4 * len(sides))

    registry.register(task="detection", paper="", summary="")(fake_net)
    return fake_net


def test_a_value_of_the_wrong_kind_is_told_with_the_default(fake):
    with pytest.raises(
        RegistryError, match=r"fake_net cannot be built with sides=48 \(.*len.*default is: sides=\(1, "
    ) as e:
        zoo.get("fake_net", sides=48, broken=False)
    assert isinstance(e.value.__cause__, TypeError)
    assert "broken" not in str(e.value)  # it has its default
    assert zoo.get("fake_net", sides=(1, 2, 3)).width == 12


def test_faults_without_options_are_shown_as_they_are(fake, monkeypatch):
    monkeypatch.setitem(fake.__kwdefaults__, "broken", None)
    with pytest.raises(TypeError, match="a fault of ours"):
        zoo.get("fake_net", sides=(1, 2))
