"""Random files of published names and shapes: what the loaded network answers is what the publisher's network answers.

The publisher's side is keras.applications itself, ONNX Runtime on a graph with those initialisers, PyTorch modules with
torchvision's names, or a PyTorch calculation from the file's arrays and the definition of ChainerCV's or Caffe's net.
"""

import gc

import keras
import layouts
import numpy as np
import pytest

import zoo

torch = pytest.importorskip("torch", reason="install the test extra: pip install -e '.[test]'")
import published_forward as forward  # noqa: E402
import torchvision_names  # noqa: E402

TORCH_MEAN = tuple(255 * m for m in (0.485, 0.456, 0.406))
TORCH_STD = tuple(255 * s for s in (0.229, 0.224, 0.225))
HE_MEAN = (123.15163084, 115.90288257, 103.0626238)  # RGB


@pytest.fixture(autouse=True)
def _little_memory():
    yield
    keras.backend.clear_session()
    gc.collect()


def picture(side=224, seed=3):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3)).astype(np.uint8)


def logits(model, image):
    """Before the softmax, which hides small differences."""
    return keras.ops.convert_to_numpy(keras.Model(model.inputs, model.layers[-1].input)(image[None].astype("float32")))


def assert_equal(ours, theirs):
    """To 1e-4 of what the answers spread over."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert theirs.std() > 0.05
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * max(theirs.std(), 1.0))


def small_variances(arrays, name, value=1e-3):
    """Some channels in which the epsilon of the normalisation is felt."""
    arrays[name][:8] = value


def chainer_place(stage, block, index):
    if stage == 1:
        return "conv1"
    return f"res{stage}/{'a' if block == 1 else f'b{block - 1}'}/" + (f"conv{index}" if index else "residual_conv")


def test_chainercv_vgg16(tmp_path):
    arrays = layouts.random_arrays(layouts.chainer_vgg16())
    path = layouts.save_npz(arrays, tmp_path / "vgg16.npz")
    image = picture()
    expected = forward.plain_logits(
        forward.prepared(image, (123.68, 116.779, 103.939)),
        lambda name: [arrays[f"{name}/conv/{x}" if name.startswith("conv") else f"{name}/{x}"] for x in "Wb"],
        forward.vgg_steps("vgg16"),
        lambda x, _: torch.nn.functional.max_pool2d(x, 2, 2, ceil_mode=True),
    )
    model = zoo.get("vgg16", weights=path)
    path.unlink()
    assert model.zoo_meta.options == {"inputs": "chainer_imagenet"}
    assert_equal(logits(model, image), expected)


@pytest.mark.parametrize("stride_in", ["1x1", "3x3"])
def test_chainercv_resnet50_he_and_fb(tmp_path, stride_in):
    shapes = layouts.chainer_resnet("resnet50")
    if stride_in == "3x3":
        del shapes["conv1/conv/b"]
    arrays = layouts.random_arrays(shapes)
    small_variances(arrays, "conv1/bn/avg_var")
    path = layouts.save_npz(arrays, tmp_path / "resnet50.npz", compress=stride_in == "1x1")
    image = picture()

    def conv(*place):
        base = f"{chainer_place(*place)}/conv"
        return arrays[f"{base}/W"], arrays.get(f"{base}/b")

    def norm(*place):
        return [arrays[f"{chainer_place(*place)}/bn/{x}"] for x in ("gamma", "beta", "avg_mean", "avg_var")]

    expected = forward.resnet_logits(
        forward.prepared(image, HE_MEAN),
        conv,
        norm,
        (arrays["fc6/W"], arrays["fc6/b"]),
        "resnet50",
        epsilon=2e-5,
        stride_in=stride_in,
        ceil_mode=True,
    )
    # 'he' is what a file without further words is taken for.
    options = {"stride_in": "3x3"} if stride_in == "3x3" else {}
    assert_equal(logits(zoo.get("resnet50", weights=path, **options), image), expected)


def caffe_place(stage, block, index):
    if stage == 1:
        return "conv1", "_conv1"
    end = f"{stage}{'abcdef'[block - 1]}_branch" + (f"2{'abc'[index - 1]}" if index else "1")
    return f"res{end}", end


def test_caffe_resnet50(tmp_path):
    arrays = layouts.random_arrays(layouts.caffe_resnet("resnet50"))
    # Caffe stores sums of mean and variance beside the factor that divides them; one layer has never been trained.
    for name in arrays:
        if name.startswith("bn") and name.endswith("/2"):
            arrays[name][:] = 0 if name == "bn3b_branch2b/2" else 0.25
    small_variances(arrays, "bn_conv1/1", 0.25e-3)
    path = layouts.save_caffemodel(arrays, tmp_path / "resnet50.caffemodel")
    image = picture()

    def conv(*place):
        name = caffe_place(*place)[0]
        return arrays[f"{name}/0"], arrays.get(f"{name}/1")

    def norm(*place):
        end = caffe_place(*place)[1]
        factor = arrays[f"bn{end}/2"][0]
        mean, variance = (arrays[f"bn{end}/{i}"] * (1 / factor if factor else 0) for i in (0, 1))
        return arrays[f"scale{end}/0"], arrays[f"scale{end}/1"], mean, variance

    with np.errstate(all="ignore"):
        expected = forward.resnet_logits(
            forward.prepared(image, HE_MEAN[::-1], bgr=True),
            conv,
            norm,
            (arrays["fc1000/0"], arrays["fc1000/1"]),
            "resnet50",
            epsilon=1e-5,
            stride_in="1x1",
            ceil_mode=True,
        )
    assert_equal(logits(zoo.get("resnet50", weights=path), image), expected)


@pytest.mark.parametrize("model", ["alexnet", "caffenet"])
def test_caffe_alexnet_and_caffenet(tmp_path, model):
    arrays = layouts.random_arrays(layouts.caffe_plain(layouts.ALEXNET))
    path = layouts.save_caffemodel(arrays, tmp_path / "net.caffemodel", old=model == "caffenet")
    image = picture(227)
    expected = forward.plain_logits(
        forward.prepared(image, (104, 117, 123), bgr=True),
        lambda name: (arrays[f"{name}/0"], arrays[f"{name}/1"]),
        forward.alexnet_steps(model),
        forward.caffe_pool,
    )
    assert_equal(logits(zoo.get(model, weights=path), image), expected)


def torch_answer(network, image):
    with torch.no_grad():
        return network(forward.prepared(image, TORCH_MEAN, TORCH_STD)).numpy()


@pytest.mark.parametrize(
    ("theirs", "ours", "zipped"),
    [
        ("resnet18", "resnet18", True),
        ("resnet50", "resnet50", False),
        ("alexnet", "alexnet_one_tower", False),
    ],
)
def test_torchvision(tmp_path, theirs, ours, zipped):
    torch.manual_seed(0)
    network = torchvision_names.randomise(torchvision_names.build(theirs))
    if theirs.startswith("resnet"):
        small_variances(network.state_dict(), "bn1.running_var")
    path = tmp_path / "net.pth"
    torch.save(network.state_dict(), path, _use_new_zipfile_serialization=zipped)
    image = picture()
    model = zoo.get(ours, weights=path)
    assert_equal(logits(model, image), torch_answer(network, image))
    assert zoo.load(path).zoo_meta.model == ours


def test_torchvision_vgg11(tmp_path):
    torch.manual_seed(0)
    network = torchvision_names.randomise(torchvision_names.build("vgg11"))
    # The hundred million numbers of fc6, whose order other tests look at, are one column seen 25,088 times: the file
    # is small, and its tensors have strides of zero.
    for i in (0, 3, 6):
        old = network.classifier[i].weight
        network.classifier[i].weight = torch.nn.Parameter(old[:, :1].detach().clone().expand_as(old))
    path = tmp_path / "vgg11.pth"
    torch.save(network.state_dict(), path)
    assert path.stat().st_size < 40e6
    image = picture()
    assert_equal(logits(zoo.get("vgg11", weights=path), image), torch_answer(network, image))


def onnx_answer(nodes, arrays, x, tmp_path, output):
    """ONNX Runtime's answer, and the file that it was given."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    inputs = [helper.make_tensor_value_info("data", TensorProto.FLOAT, list(x.shape))]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "net", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7)
    path = tmp_path / "net.onnx"
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"data": x.numpy()})[0], path


@pytest.mark.parametrize("model", ["alexnet", "caffenet"])
def test_onnx_alexnet_and_caffenet(tmp_path, model):
    from onnx import helper

    arrays = layouts.random_arrays(layouts.caffe2_alexnet()) | {"OC2_DUMMY_1": np.array([1, 9216], np.int64)}
    nodes, last = [], "data"

    def add(kind, *more, **attributes):
        nonlocal last
        name = f"{kind}_{len(nodes)}"
        nodes.append(helper.make_node(kind, [last, *more], [name], **attributes))
        last = name

    steps = {"lrn": ("LRN", {"size": 5, "alpha": 1e-4, "beta": 0.75, "bias": 1.0})}
    # Caffe's pools cover everything: one zero at the bottom and right of an even map.
    steps["pool"] = ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1})
    order = ("lrn", "pool") if model == "alexnet" else ("pool", "lrn")
    for i, (pad, group) in enumerate([(0, 1), (2, 2), (1, 1), (1, 2), (1, 2)], start=1):
        stride = 4 if i == 1 else 1
        add("Conv", f"conv{i}_w_0", f"conv{i}_b_0", pads=[pad] * 4, group=group, strides=[stride] * 2)
        add("Relu")
        for step in {1: order, 2: order, 5: ("pool",)}.get(i, ()):
            kind, attributes = steps[step]
            add(kind, **attributes)
    add("Reshape", "OC2_DUMMY_1")
    for i in (6, 7, 8):
        add("Gemm", f"fc{i}_w_0", f"fc{i}_b_0", transB=1)
        if i < 8:
            add("Relu")
    image = picture(224)
    expected, path = onnx_answer(nodes, arrays, forward.prepared(image, (104, 117, 123), bgr=True), tmp_path, last)
    assert_equal(logits(zoo.get(model, weights=path, side=224), image), expected)


def test_onnx_resnet50_of_gluon(tmp_path):
    from onnx import helper

    arrays = layouts.random_arrays(layouts.gluon_resnet("resnet50", "resnetv17"))
    small_variances(arrays, "resnetv17_batchnorm0_running_var")
    nodes = []

    def add(kind, *inputs, **attributes):
        nodes.append(helper.make_node(kind, list(inputs), [f"{kind}_{len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    def conv_norm(x, where, number, size, stride=1):
        base = f"resnetv17_{where}conv{number}"
        more = [f"{base}_bias"] if f"{base}_bias" in arrays else []
        x = add("Conv", x, f"{base}_weight", *more, strides=[stride] * 2, pads=[size // 2] * 4)
        norm = f"resnetv17_{where}batchnorm{number}_"
        ends = ("gamma", "beta", "running_mean", "running_var")
        return add("BatchNormalization", x, *(norm + end for end in ends), epsilon=1e-5)

    x = add("Relu", conv_norm("data", "", 0, 7, 2))
    x = add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for stage, count in enumerate((3, 4, 6, 3), start=1):
        number = 0
        for block in range(count):
            # Gluon's BottleneckV1 strides in its first 1x1; its projection is made after its body.
            stride = 2 if block == 0 and stage > 1 else 1
            where, shortcut = f"stage{stage}_", x
            y = add("Relu", conv_norm(x, where, number, 1, stride))
            y = add("Relu", conv_norm(y, where, number + 1, 3))
            y = conv_norm(y, where, number + 2, 1)
            number += 3
            if block == 0:
                shortcut = conv_norm(x, where, number, 1, stride)
                number += 1
            x = add("Relu", add("Add", y, shortcut))
    x = add("Flatten", add("GlobalAveragePool", x))
    last = add("Gemm", x, "resnetv17_dense0_weight", "resnetv17_dense0_bias", transB=1)
    image = picture()
    expected, path = onnx_answer(nodes, arrays, forward.prepared(image, TORCH_MEAN, TORCH_STD), tmp_path, last)
    assert_equal(logits(zoo.get("resnet50", weights=path), image), expected)
