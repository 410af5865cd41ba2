"""CIFAR's residual networks: He 2016, section 4.2, recomputed with PyTorch; batch normalisation by the fused kernel."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from torch.nn import functional

import zoo
from zoo.backbones.batch_norm import BatchNorm
from zoo.backbones.cifar_resnet import CIFAR_MEAN, CIFAR_STD, cifar_network

# Table 6 in millions, as the paper rounds.
PAPER = {"resnet20": 0.27, "resnet32": 0.46, "resnet44": 0.66, "resnet56": 0.85, "resnet110": 1.7, "resnet1202": 19.4}


def randomise(model, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        value = rng.normal(size=weight.shape) * 0.3
        weight.assign(np.abs(value) + 0.5 if "variance" in weight.path or "gamma" in weight.path else value)


def by_torch(model, images: np.ndarray, depth: int, shortcuts: bool) -> np.ndarray:
    """The paper's description, layer by layer, on the weights of ``model``."""

    def conv(x, name, stride, relu):
        layer, norm = model.get_layer(f"{name}_conv"), model.get_layer(f"{name}_bn")
        kernel = torch.tensor(np.asarray(layer.kernel)).permute(3, 2, 0, 1)
        gamma, beta, mean, variance = (torch.tensor(np.asarray(v)) for v in norm.weights)
        x = functional.conv2d(x, kernel, stride=stride, padding=1)
        x = functional.batch_norm(x, mean, variance, gamma, beta, eps=norm.epsilon)
        return x.relu() if relu else x

    x = torch.tensor((images.astype("float32") - CIFAR_MEAN) / CIFAR_STD).float().permute(0, 3, 1, 2)
    x = conv(x, "conv1", 1, True)
    for stage, channels in ((2, 16), (3, 32), (4, 64)):
        for block in range(1, (depth - 2) // 6 + 1):
            stride = 2 if stage > 2 and block == 1 else 1
            y = conv(x, f"conv{stage}_block{block}_1", stride, True)
            y = conv(y, f"conv{stage}_block{block}_2", 1, False)
            if shortcuts:
                if stride == 2:
                    kept = x[:, :, ::2, ::2]
                    x = torch.zeros(len(x), channels, *kept.shape[2:])
                    x[:, channels // 4 : channels // 4 + kept.shape[1]] = kept
                y = y + x
            x = y.relu()
    dense = model.get_layer("predictions")
    logits = x.mean((2, 3)) @ torch.tensor(np.asarray(dense.kernel)) + torch.tensor(np.asarray(dense.bias))
    return logits.softmax(1).numpy()


@pytest.mark.parametrize(("name", "depth", "shortcuts"), [("resnet20", 20, True), ("plain20", 20, False)])
def test_network_equals_the_paper_s_in_pytorch(name, depth, shortcuts):
    model = zoo.get(name)
    randomise(model)
    images = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    np.testing.assert_allclose(model.predict(images, verbose=0), by_torch(model, images, depth, shortcuts), atol=1e-5)


@pytest.mark.parametrize("name", [*PAPER, *(name.replace("resnet", "plain") for name in PAPER if name != "resnet1202")])
def test_parameter_counts(name):
    depth = int(name.removeprefix("resnet").removeprefix("plain"))
    # He 2016, section 4.2: 6n + 2 layers; kernels, and four vectors of each normalisation; the plain net is the same.
    n, inside, total = (depth - 2) // 6, 16, 3 * 3 * 3 * 16 + 4 * 16
    for channels in (16, 32, 64):
        for _ in range(2 * n):
            total += 9 * inside * channels + 4 * channels
            inside = channels
    total += 64 * 10 + 10
    assert zoo.info(name).params == total
    moving = (total - 650 - sum(9 * a * b for a, b in _kernels(n))) // 2
    assert (total - moving) / 1e6 == pytest.approx(PAPER[name.replace("plain", "resnet")], abs=0.055)


def _kernels(n: int):
    inside = 16
    yield 3, 16
    for channels in (16, 32, 64):
        for _ in range(2 * n):
            yield inside, channels
            inside = channels


def test_built_network_has_the_declared_count():
    for name in ("resnet20", "plain32", "resnet56"):
        assert zoo.get(name).count_params() == zoo.info(name).params


def test_110_layers_go_forward_and_backward():
    model = zoo.get("resnet110")
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(
            keras.losses.sparse_categorical_crossentropy(np.array([1, 7]), model(images, training=True))
        )
    gradients = tape.gradient(loss, model.trainable_variables)
    assert np.isfinite(float(loss))
    assert all(g is not None and np.isfinite(g.numpy()).all() for g in gradients)
    # What shortcuts are for: the first convolution still hears of the loss.
    assert float(tf.norm(gradients[0])) > 1e-3


def test_1202_layers_build_and_step_once():
    model = zoo.get("resnet1202")
    assert model.count_params() == zoo.info("resnet1202").params
    optimizer = keras.optimizers.SGD(0.01)
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype("float32")
    before = np.asarray(model.get_layer("conv1_conv").kernel).copy()
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(np.array([3]), model(images, training=True)))
    optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
    after = np.asarray(model.get_layer("conv1_conv").kernel)
    assert np.isfinite(after).all()
    assert np.abs(after - before).max() > 0


def test_other_depths_and_class_counts():
    assert cifar_network("resnet8", 8, 3, True).output_shape == (None, 3)
    with pytest.raises(ValueError, match=r"6n \+ 2 layers, not 21"):
        cifar_network("resnet21", 21, 10, True)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_fused_batch_norm_is_keras_s(dtype):
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(4, 5, 6, 8)) * 3 + 1).astype("float32")
    layers = [
        make(momentum=0.9, epsilon=1.001e-5, dtype=dtype) for make in (BatchNorm, keras.layers.BatchNormalization)
    ]
    results = []
    for layer in layers:
        layer.build(x.shape)
        layer.gamma.assign(np.linspace(0.5, 2, 8))
        layer.beta.assign(np.linspace(-1, 1, 8))
        with tf.GradientTape() as tape:
            inputs = tf.constant(x)
            tape.watch(inputs)
            out = layer(inputs, training=True)
            loss = tf.reduce_sum(tf.sin(tf.cast(out, "float32")))
        gradients = tape.gradient(loss, [inputs, layer.gamma.value, layer.beta.value])
        arrays = [out, *gradients, layer.moving_mean, layer.moving_variance, layer(x, training=False)]
        results.append([np.asarray(tf.cast(array, "float32")) for array in arrays])
    tolerance = 1e-4 if dtype == "float32" else 0.1
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=tolerance, rtol=tolerance)


def test_frozen_batch_norm_stays():
    layer = BatchNorm()
    layer.trainable = False
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype("float32") * 5
    np.testing.assert_allclose(layer(x, training=True), x / np.sqrt(1.001), rtol=1e-5)
    np.testing.assert_array_equal(layer.moving_mean, 0)


def test_saves_and_loads(tmp_path):
    model = zoo.get("resnet20", classes=4)
    randomise(model)
    model.save(tmp_path / "model.keras")
    images = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(images, verbose=0), model.predict(images, verbose=0))
