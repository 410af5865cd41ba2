"""Names and shapes of published files: the right model is recognised, and every array has its place on both sides."""

import functools
import json
import math
import os
from pathlib import Path

import keras
import layouts
import numpy as np
import pytest

import zoo
from zoo.convert.check import convert_arrays
from zoo.convert.known import LAYOUTS, find_layout
from zoo.convert.layout import ArrayFile
from zoo.filling import shapes_of
from zoo.published import published_weights
from zoo.weights_error import WeightsError


def keras_shapes(build, top):
    """What keras.applications' own model would save; its weights get no values."""
    with keras.StatelessScope(initialize_variables=False):
        model = build(weights=None, include_top=top)
    shapes = {}
    for layer in model.layers:
        for v in [*layer.trainable_weights, *layer.non_trainable_weights]:
            shapes[f"{layer.name}/{v.path.rpartition('/')[2]}"] = tuple(v.shape)
    keras.backend.clear_session()
    return shapes


def published_resnet(name):
    """The real files are older than the name of today's last layer."""
    shapes = keras_shapes(getattr(keras.applications, name), True)
    return {array.replace("predictions/", "probs/"): shape for array, shape in shapes.items()}


def torch_shapes(model):
    import torch
    import torchvision_names

    with torch.device("meta"):
        return {name: tuple(t.shape) for name, t in torchvision_names.build(model).state_dict().items()}


KERAS = ("VGG16", "VGG19", "ResNet50", "ResNet101", "ResNet152")
TORCH = ("vgg11", "vgg13", "vgg16", "vgg19", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
RESNETS = ("resnet50", "resnet101", "resnet152")

# What each file is called here: how its shapes are made, its layout, the model it tells.
FILES = {
    **{
        f"keras {name}": (
            lambda name=name: keras_shapes(getattr(keras.applications, name), True),
            "keras_applications",
            name.lower(),
        )
        for name in KERAS
    },
    **{
        f"keras {name}, published": (lambda name=name: published_resnet(name), "keras_applications", name.lower())
        for name in KERAS
        if name.startswith("ResNet")
    },
    **{f"torch {name}": (lambda name=name: torch_shapes(name), "torchvision", name) for name in TORCH},
    "torch alexnet": (lambda: torch_shapes("alexnet"), "torchvision", "alexnet_one_tower"),
    "chainer vgg16": (layouts.chainer_vgg16, "chainercv", "vgg16"),
    **{f"chainer {name}": (lambda name=name: layouts.chainer_resnet(name), "chainercv", name) for name in RESNETS},
    **{
        f"gluon {name}": (lambda name=name, i=i: layouts.gluon_resnet(name, f"resnetv1{i}"), "onnx", name)
        for i, name in enumerate(layouts.RESNET, start=5)
    },
    **{f"gluon {name}": (lambda name=name: gluon_vgg(name), "onnx", name) for name in ("vgg16", "vgg19")},
    "caffe2 alexnet": (lambda: layouts.caffe2_alexnet() | {"OC2_DUMMY_1": (2,)}, "onnx", None),
    "caffe2 vgg19": (lambda: caffe2_vgg("vgg19"), "onnx", "vgg19"),
    "caffe alexnet": (lambda: layouts.caffe_plain(layouts.ALEXNET), "caffe", None),
    "caffe vgg_m": (lambda: layouts.caffe_plain(layouts.VGG_M), "caffe", "vgg_cnn_m_1024"),
    "caffe vgg16": (lambda: layouts.caffe_plain(vgg_layers("vgg16")), "caffe", "vgg16"),
    **{f"caffe {name}": (lambda name=name: layouts.caffe_resnet(name), "caffe", name) for name in RESNETS},
}


def vgg_layers(model):
    convs = {name: (width, before, 3, 3) for name, before, width in layouts.vgg_convs(model)}
    return convs | {"fc6": (4096, 25088), "fc7": (4096, 4096), "fc8": (1000, 4096)}


def caffe2_vgg(model):
    return {f"{n}_{end}_0": s[:1] if end == "b" else s for n, s in vgg_layers(model).items() for end in "wb"}


def gluon_vgg(model):
    names = [f"vgg0_conv{i}" for i in range(sum(layouts.VGG[model]))] + [f"vgg0_dense{i}" for i in range(3)]
    pairs = zip(names, vgg_layers(model).values(), strict=True)
    return {f"{n}_{end}": s[:1] if end == "bias" else s for n, s in pairs for end in ("weight", "bias")}


@functools.cache
def model_shapes(name):
    """What an option changes in these networks has no weights."""
    return shapes_of(lambda: zoo.info(name).builder(None))


@pytest.mark.parametrize("what", FILES)
def test_every_array_of_a_published_file_has_its_place(what):
    if what.startswith("torch"):
        pytest.importorskip("torch", reason="install the test extra: pip install -e '.[test]'")
    make, layout_name, told = FILES[what]
    file = layouts.shapes_only(make(), what)
    assert [layout.name for layout in LAYOUTS if layout.recognises(file.shapes)] == [layout_name]
    layout = find_layout(file)
    assert layout.model(file.shapes) == told
    name = told or "alexnet"
    wanted = model_shapes(name)
    arrays = convert_arrays(name, wanted, file, layout)
    assert arrays.keys() == wanted.keys()
    # What has no array of its own is a bias before a normalisation, and nothing else.
    assert all(variable.endswith("_conv/bias") for variable in arrays.constant)
    used = [source for array in arrays.arrays.values() for source in array.names]
    assert set(used) | set(layout.ignored(file.shapes)) == set(file)


# VGGs, whose many layers of one shape can be mistaken for each other, by the preparation that their publisher has.
VGGS = {
    **dict.fromkeys((f"torch {name}" for name in TORCH if name.startswith("vgg")), "torch"),
    **dict.fromkeys(("gluon vgg16", "gluon vgg19"), "torch"),
    **dict.fromkeys(("caffe2 vgg19", "caffe vgg16", "caffe vgg_m"), "caffe"),
    "chainer vgg16": "chainer_imagenet",
}


@pytest.mark.parametrize("what", VGGS)
def test_every_array_of_a_vgg_goes_to_its_own_layer_in_our_order(what):
    """Values, found from the order in which the publishers' networks compute; with dense layers of few units."""
    if what.startswith("torch"):
        pytest.importorskip("torch", reason="install the test extra: pip install -e '.[test]'")
    shapes, name = FILES[what][0](), FILES[what][2]
    layers = layouts.VGG_M if name == "vgg_cnn_m_1024" else vgg_layers(name)
    places = list(zip(layers, [*shapes][::2], [*shapes][1::2], strict=True))
    wanted = dict(model_shapes(name))
    inputs = before = layers["fc6"][1]
    for (layer, kernel, bias), units in zip(places[-3:], (6, 5, 4), strict=True):
        shapes |= {kernel: (units, before), bias: (units,)}
        wanted |= {f"{layer}/kernel": (before, units), f"{layer}/bias": (units,)}
        before = units
    arrays = layouts.random_arrays(shapes)
    file = ArrayFile(what, shapes, arrays.__getitem__)
    layout = find_layout(file)
    found = convert_arrays(name, wanted, file, layout)
    side = math.isqrt(inputs // 512)
    cells = np.arange(inputs).reshape(512, side, side)  # fc6's inputs in the files: C, H, W
    for layer, kernel, bias in places:
        theirs = arrays[kernel]
        ours = theirs.transpose(2, 3, 1, 0) if theirs.ndim == 4 else theirs.T
        if layer == "fc6":
            ours = ours[cells.transpose(1, 2, 0).ravel()]
        np.testing.assert_array_equal(np.asarray(found[f"{layer}/kernel"]), ours, err_msg=layer)
        np.testing.assert_array_equal(found[f"{layer}/bias"], arrays[bias], err_msg=layer)
    assert layout.options(name, shapes)["inputs"] == VGGS[what]


@pytest.mark.parametrize("name", ["VGG16", "ResNet50"])
def test_files_without_their_top_are_known_too(name):
    file = layouts.shapes_only(keras_shapes(getattr(keras.applications, name), False), name)
    layout = find_layout(file)
    assert layout.model(file.shapes) == name.lower()
    wanted = shapes_of(lambda: zoo.info(name.lower()).builder(None, include_top=False))
    assert convert_arrays(name.lower(), wanted, file, layout, part=True).keys() == wanted.keys()
    with pytest.raises(WeightsError, match=r"missing: .*predictions/bias \(for .*--option include_top=False") as caught:
        convert_arrays(name.lower(), model_shapes(name.lower()), file, layout)
    assert "Is it for another model" not in str(caught.value)
    # Where more is wrong, that would not help.
    first = next(array for array in file.shapes if array.endswith("/kernel"))
    other = layouts.shapes_only(dict(file.shapes) | {"more/kernel": (3,)}, name)
    few = layouts.shapes_only({array: shape for array, shape in file.shapes.items() if array != first}, name)
    for wrong in (other, few):
        with pytest.raises(WeightsError, match="Is it for another model") as caught:
            convert_arrays(name.lower(), model_shapes(name.lower()), wrong, layout)
        assert "include_top" not in str(caught.value)


def test_all_that_is_wrong_is_listed_at_once():
    shapes = layouts.chainer_resnet("resnet50")
    del shapes["res3/b2/conv2/conv/W"]
    shapes["res4/a/conv1/bn/beta"] = (255,)
    shapes["fc6/W"] = (1000, 2047)
    shapes["res9/extra"] = (3, 4)
    file = layouts.shapes_only(shapes, "odd.npz")
    with pytest.raises(WeightsError) as caught:
        convert_arrays("resnet50", model_shapes("resnet50"), file, find_layout(file))
    message = str(caught.value)
    for part in (
        "odd.npz",
        "1 missing: res3/b2/conv2/conv/W (for conv3_block3_2_conv/kernel)",
        "1 left over: res9/extra (3, 4)",
        "2 of another shape",
        "res4/a/conv1/bn/beta (255,) gives (255,), conv4_block1_1_bn/beta is (256,)",
        "fc6/W (1000, 2047) gives (2047, 1000), predictions/kernel is (2048, 1000)",
    ):
        assert part in message, part


def test_shapes_that_cannot_be_rearranged_are_listed_too():
    shapes = layouts.chainer_vgg16() | {"fc6/W": (4096, 25087), "conv3_1/conv/W": (256, 128)}
    file = layouts.shapes_only(shapes)
    with pytest.raises(WeightsError, match=r"2 of another shape.*conv3_1/conv/W.*fc6/W \(4096, 25087\) cannot be"):
        convert_arrays("vgg16", model_shapes("vgg16"), file, find_layout(file))


@pytest.mark.parametrize("ranks", [{"fc6": 5, "fc7": 4}, {"fc7": 4}])
def test_layers_of_low_rank_come_from_no_file(ranks):
    """Nor does an array go into two of their kernels."""
    name = "faster_rcnn_vgg16"
    (layout,) = (layout for layout in LAYOUTS if type(layout).__name__ == "ChainerFasterRCNN")
    whole = shapes_of(lambda: zoo.info(name).builder(("cat",), head_units=8))
    sources = layout.arrays(name, whole, {})
    file = layouts.shapes_only({array.names[0]: (1,) for array in sources.values() if array.names}, "net.npz")
    thin = shapes_of(lambda: zoo.info(name).builder(("cat",), head_units=8, ranks=ranks))
    with pytest.raises(WeightsError) as caught:
        convert_arrays(name, thin, file, layout)
    message = str(caught.value)
    assert f"{2 * len(ranks)} missing: " in message
    assert f"{len(ranks)} left over: " in message
    for layer in ranks:
        for part in ("first", "second"):
            assert f"{layer}/{part} (no source is known)" in message
        assert f"head/{layer}/W (1,)" in message


@pytest.mark.parametrize(
    "names",
    [
        {"features.0.weight": (64, 3, 3, 3), "features.1.weight": (64,)},  # vgg16_bn
        {"conv1_pad/x": (2,)},
        {"vgg0_conv0_weight": (64, 3, 3, 3), "vgg0_batchnorm0_gamma": (64,)},
        {},
    ],
)
def test_files_of_other_networks_are_refused_by_name(names):
    with pytest.raises(WeightsError, match=r"other\.bin .* has no known layout\. Known: .*ChainerCV's VGG-16"):
        find_layout(layouts.shapes_only(names, "other.bin"))


def test_our_shapes_are_those_of_the_recorded_files():
    shared = os.environ.get("ZOO_SHARED_DATA")
    path = Path(shared or "absent").parent / "reference" / "published_weight_names.json"
    if not path.is_file():
        pytest.skip("the recorded names are not here: set ZOO_SHARED_DATA to a folder beside reference/")
    made = {
        "chainercv_vgg16_imagenet": layouts.chainer_vgg16(),
        **{f"chainercv_{name}_he": layouts.chainer_resnet(name) for name in RESNETS},
        **{f"onnx_{name}_v1": layouts.gluon_resnet(name, f"resnetv1{i}") for i, name in enumerate(RESNETS, start=7)},
        "onnx_alexnet": layouts.caffe2_alexnet() | {"OC2_DUMMY_1": (2,)},
    }
    recorded = {title.split(" ")[0]: arrays for title, arrays in json.loads(path.read_text()).items()}
    for title, shapes in made.items():
        real = {n: tuple(s[1:] if s and isinstance(s[0], str) else s) for n, s in recorded[title].items()}
        assert shapes == real, title


@pytest.mark.parametrize("name", ["vgg16", "vgg19", "resnet50", "resnet101", "resnet152", "alexnet", "caffenet"])
def test_entries_say_all_that_their_layout_implies(name):
    entries = published_weights(name)
    assert entries == zoo.info(name).weights
    assert entries[0].name == "imagenet"
    for entry in entries:
        (layout,) = {
            layout: None
            for layout in LAYOUTS
            if layout.name == entry.layout and dict(layout.options(name, options_probe(entry.layout))) == entry.options
        }
        assert len(entry.classes) == 1000
        assert entry.classes[0] == "n01440764"
        assert entry.licence
        assert entry.published_score
        assert entry.preprocessing
        assert layout.about
    assert (entries[0].md5 or entries[0].sha256) is not None
    text = str(zoo.info(name))
    assert entries[0].url[:60] in text
    assert (entries[0].md5 or entries[0].sha256) in text
    assert "1000: n01440764, n01443537, n01484850, ..., n15075141" in text


def options_probe(layout):
    """Arrays by which layouts tell what they imply."""
    return {"conv1_w_0": (96, 3, 11, 11)} if layout == "onnx" else {}
