"""Every classic network computes what a PyTorch forward pass written from its definition computes."""

import keras
import numpy as np
import pytest
import torch
import torch_networks as reference

import zoo
from zoo.backbones.norm import pad
from zoo.backbones.pooling import EDGES, max_pool
from zoo.backbones.residual import LAYOUTS
from zoo.backbones.vgg import BLOCKS

COVERING = {"ceil_mode": True}


def image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (1, height, width, 3)).astype("float32")


def normal_image(height, width, seed=0):
    return np.random.default_rng(seed).normal(0, 60, (1, height, width, 3)).astype("float32")


def caffe_input(images):
    """The default input of every classifier: BGR minus the VGG authors' mean."""
    return reference.tensor(images[..., ::-1] - np.array([103.939, 116.779, 123.68], "float32"))


def assert_close(ours, theirs):
    """To a few rounding errors of the largest value; NCHW becomes NHWC."""
    ours = keras.ops.convert_to_numpy(ours)
    theirs = theirs.numpy().transpose(0, 2, 3, 1) if theirs.ndim == 4 else theirs.numpy()
    assert ours.shape == theirs.shape
    assert theirs.std() > 0
    np.testing.assert_allclose(ours, theirs, atol=2e-5 * np.abs(theirs).max())


def probabilities_and_logits(name, x, **options):
    """A classifier's answer for ``x``, its logits and its weights, whose vectors are random."""
    keras.utils.set_random_seed(1)
    model = zoo.get(name, classes=7, **options)
    w = reference.weights_of(model, spread=0.3)
    both = keras.Model(model.inputs, [model.output, model.layers[-1].input])
    return *both([x]), w


@pytest.mark.parametrize(
    ("name", "side", "lrn", "k", "alpha"),
    [
        ("alexnet", 227, "paper", 2.0, 1e-4),
        ("alexnet", 224, "caffe", 1.0, 2e-5),
        ("caffenet", 227, "caffe", 1.0, 2e-5),
    ],
)
def test_alexnet_and_caffenet(name, side, lrn, k, alpha):
    x = image(side, side)
    probabilities, logits, w = probabilities_and_logits(name, x, side=side, lrn=lrn)
    # Caffe's pools cover everything; of 227 pixels the paper's leave nothing over.
    pools = COVERING if side == 224 else {}
    maps = reference.alexnet_maps(caffe_input(x), w, pool_first=name == "caffenet", k=k, alpha=alpha, pools=pools)
    assert maps.shape[1:] == (256, 13, 13)
    expected = reference.top(reference.pool(maps, **pools), w)
    assert_close(logits, expected)
    np.testing.assert_allclose(probabilities, torch.softmax(expected, 1), atol=1e-4)


def test_one_tower_alexnet():
    x = image(224, 224)
    _, logits, w = probabilities_and_logits("alexnet_one_tower", x)
    maps = reference.one_tower_maps(caffe_input(x), w)
    assert_close(logits, reference.top(reference.pool(maps), w))


def test_vgg_m():
    x = image(224, 224)
    _, logits, w = probabilities_and_logits("vgg_cnn_m_1024", x)
    maps = reference.vgg_m_maps(caffe_input(x), w)
    assert maps.shape[1:] == (512, 13, 13)
    assert_close(logits, reference.top(reference.pool(maps, ceil_mode=True), w))


def test_vgg_11_with_its_top():
    x = image(224, 224)
    _, logits, w = probabilities_and_logits("vgg11", x)
    maps = reference.vgg_maps(caffe_input(x), w, (1, 1, 2, 2, 2))
    assert_close(logits, reference.top(torch.nn.functional.max_pool2d(maps, 2, 2), w))


@pytest.mark.parametrize(("name", "depth"), [("vgg13", 13), ("vgg16", 16), ("vgg19", 19)])
def test_vgg_features(name, depth):
    assert sum(BLOCKS[name]) + 3 == depth
    model = zoo.get(name, include_top=False, stages=["conv5"])
    w = reference.weights_of(model, spread=0.3)
    x = image(37, 50)
    assert_close(model(x)["conv5"], reference.vgg_maps(caffe_input(x), w, BLOCKS[name]))


@pytest.mark.parametrize(
    ("name", "blocks", "bottleneck", "stride_in", "pool", "epsilon"),
    [
        ("resnet18", (2, 2, 2, 2), False, "3x3", "padded", 1e-5),
        ("resnet50", (3, 4, 6, 3), True, "1x1", "covering", 2e-3),
        ("resnet50", (3, 4, 6, 3), True, "3x3", "padded", 1e-5),
    ],
)
def test_resnets(name, blocks, bottleneck, stride_in, pool, epsilon):
    # Odd after conv1 in one direction and even in the other: there the two pools differ.
    x = image(75, 90)
    _, logits, w = probabilities_and_logits(name, x, stride_in=stride_in, pool=pool, epsilon=epsilon)
    pools = {"padded": {"padding": 1}, "covering": COVERING}

    def expected(stride_in=stride_in, pool=pool, epsilon=epsilon):
        return reference.resnet_logits(
            caffe_input(x),
            w,
            blocks,
            bottleneck=bottleneck,
            stride_in=stride_in,
            pools=pools[pool],
            epsilon=epsilon,
        )

    assert_close(logits, expected())
    # The variants are not the same: a wrong one would be seen.
    others = [expected(pool="padded" if pool == "covering" else "covering"), expected(epsilon=epsilon * 100)]
    if bottleneck:
        others.append(expected(stride_in="1x1" if stride_in == "3x3" else "3x3"))
    for other in others:
        assert (other - expected()).abs().max() > 1e-3 * expected().abs().max()


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_blocks_of_all_resnets(depth):
    """A network is called by its convolutions and its dense layer, shortcuts left out (He 2016, table 1)."""
    blocks, bottleneck = LAYOUTS[f"resnet{depth}"]
    assert bottleneck == (depth >= 50)
    assert 1 + sum(blocks) * (3 if bottleneck else 2) + 1 == depth


@pytest.mark.parametrize("edges", EDGES)
def test_pools_at_the_edges(edges):
    options = {
        "bare": {},
        "padded": {"padding": 1},
        "covering": {"ceil_mode": True},
        "padded covering": {"padding": 1, "ceil_mode": True},
    }
    for height in range(3, 9):
        for width in range(3, 9):
            x = np.abs(normal_image(height, width, seed=height * 9 + width))
            assert_close(max_pool(x, edges, "pool"), reference.pool(reference.tensor(x), **options[edges]))


def test_unknown_choices_are_named():
    for options, message in (
        ({"lrn": "tf"}, "lrn='tf'.*'paper', 'caffe'"),
        ({"inputs": "bgr"}, "'bgr'.*'caffe'"),
    ):
        with pytest.raises(ValueError, match=message):
            zoo.get("alexnet", **options)
    for options, message in (
        ({"stride_in": "2x2"}, "stride_in must be '1x1' or '3x3', got '2x2'"),
        ({"pool": "same"}, "pool must be 'padded' or 'covering', got 'same'"),
        ({"norm": "layer"}, "'layer'.*batch, frozen, group"),
    ):
        with pytest.raises(ValueError, match=message):
            zoo.get("resnet18", **options)
    for name, padding in (
        ("faster_rcnn_caffenet", "same"),
        ("faster_rcnn_vgg_cnn_m_1024", "same"),
        ("faster_rcnn_alexnet", "classifier"),  # how the classifier is padded, which a detector cannot be
    ):
        with pytest.raises(ValueError, match=f"padding must be 'exact' or 'caffe', got '{padding}'"):
            zoo.get(name, padding=padding)
    with pytest.raises(ValueError, match="unknown edges 'same'"):
        max_pool(np.zeros((1, 5, 5, 1), "float32"), "same", "pool")


def caffe_pooled(cells, border=0):
    """Caffe's PoolingLayer::Reshape, kernel 3 and stride 2: the ceiling, less a window that starts in the padding."""
    out = -(-(cells + 2 * border - 3) // 2) + 1
    return out - 1 if border and (out - 1) * 2 >= cells + border else out


def caffenet_cells(side):
    """Fast R-CNN's CaffeNet: conv1 of 11, stride 4, pad 5; two pools of pad 1."""
    return caffe_pooled(caffe_pooled((side + 10 - 11) // 4 + 1, 1), 1)


def vgg_m_cells(side):
    """Fast R-CNN's VGG_CNN_M_1024: conv1 of 7 and conv2 of 5, both stride 2, with pad 0 and 1; two pools."""
    return caffe_pooled((caffe_pooled((side - 7) // 2 + 1) + 2 - 5) // 2 + 1)


@pytest.mark.parametrize(
    ("name", "cells", "published"), [("caffenet", caffenet_cells, (39, 64)), ("vgg_cnn_m_1024", vgg_m_cells, (36, 61))]
)
def test_detectors_padded_as_in_caffe(name, cells, published):
    units = (8, 8) if name == "vgg_cnn_m_1024" else 8
    model = zoo.get(f"faster_rcnn_{name}", padding="caffe", head_units=units, short=96, long=160)
    assert (cells(600), cells(1000)) == published
    w = reference.weights_of(model.extractor, spread=0.3)
    for height, width in ((97, 131), (96, 160), (103, 118)):
        x = normal_image(height, width)
        if name == "caffenet":
            pools = {"padding": 1, "ceil_mode": True}
            expected = reference.alexnet_maps(
                reference.tensor(x), w, pool_first=True, k=1.0, alpha=2e-5, border=5, pools=pools
            )
        else:
            expected = reference.vgg_m_maps(reference.tensor(x), w)
        assert_close(model.extractor(x), expected)
        assert expected.shape[2:] == (cells(height), cells(width))
    # The whole detector at the largest size, where the map is not ceil(side / 16) cells long.
    found = model.predict_on_batch(image(96, 160))
    assert np.isfinite(found["boxes"]).all()


@pytest.mark.parametrize("name", ["alexnet", "caffenet", "vgg_cnn_m_1024", "alexnet_one_tower", "vgg11"])
def test_detectors_strides_are_whole(name):
    units = (8, 8) if name == "vgg_cnn_m_1024" else 8
    extractor = zoo.get(f"faster_rcnn_{name}", head_units=units).extractor
    for side in (*range(33, 50), 600, 1000):
        shape = extractor.compute_output_shape((1, side, side + 5, 3))
        assert shape[1:3] == (-(-side // 16), -(-(side + 5) // 16))


def test_a_resnet_detector_passes_its_variant_on():
    model = zoo.get("faster_rcnn_resnet50", norm="frozen", stride_in="3x3", pool="covering", epsilon=2e-5)
    assert model.extractor.get_layer("pool1_pad").padding == ((0, 1), (0, 1))
    body, extractor = model.head.body, model.extractor
    for network, block in ((extractor, "conv3_block1"), (extractor, "conv4_block1"), (body, "conv5_block1")):
        assert network.get_layer(f"{block}_1_conv").strides == (1, 1)
        assert network.get_layer(f"{block}_2_conv").strides == (2, 2)
        assert network.get_layer(f"{block}_2_bn").epsilon == 2e-5
        assert not network.get_layer(f"{block}_2_bn").trainable


def kernels_and_biases(model):
    return {layer.name: [np.array(v) for v in layer.get_weights()] for layer in model.layers if layer.weights}


@pytest.mark.parametrize(("name", "dense"), [("alexnet", 0.01), ("caffenet", 0.005)])
def test_initialisation_of_krizhevsky(name, dense):
    """Section 5: deviation .01, biases 1 in conv2, 4, 5 and the hidden dense layers; CaffeNet's fc6 and fc7 .005."""
    keras.utils.set_random_seed(0)
    found = kernels_and_biases(zoo.get(name, side=99))
    ones = {"conv2_1", "conv2_2", "conv4_1", "conv4_2", "conv5_1", "conv5_2", "fc6", "fc7"}
    assert set(found) == ones | {"conv1", "conv3", "fc8"}
    for layer, (kernel, bias) in found.items():
        np.testing.assert_array_equal(bias, 1.0 if layer in ones else 0.0, err_msg=layer)
        deviation = dense if layer in ("fc6", "fc7") else 0.01
        assert abs(kernel.std() / deviation - 1) < 0.03, layer
        assert abs(kernel.mean()) < 0.1 * deviation, layer
        # Not cut off: a Gaussian's largest of some ten thousand lies beyond three deviations.
        assert np.abs(kernel).max() > 3 * deviation, layer
    for layer in ("conv2", "conv4", "conv5"):
        one, two = found[f"{layer}_1"][0], found[f"{layer}_2"][0]
        assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.05, f"{layer}'s groups begin alike"


@pytest.mark.parametrize("name", ["alexnet", "caffenet", "vgg_cnn_m_1024", "alexnet_one_tower", "vgg11"])
def test_dropout_of_one_half_follows_both_hidden_layers(name):
    body = zoo.get(f"faster_rcnn_{name}", head_units=(8, 8) if name == "vgg_cnn_m_1024" else 8).head.body
    assert [layer.name for layer in body.layers][1:] == ["flatten", "fc6", "drop6", "fc7", "drop7"]
    assert [body.get_layer(f"drop{n}").rate for n in (6, 7)] == [0.5, 0.5]


def test_padding_is_of_zeros():
    padded = np.array(pad(np.ones((1, 2, 2, 1), "float32"), 1, "pad"))
    assert padded.sum() == 4
    assert padded.shape == (1, 4, 4, 1)
