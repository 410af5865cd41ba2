"""Files of published names and shapes, filled with random numbers: what the publishers' servers would give.

Names are written out here from each library's definition, not taken from the code under test;
``test_convert_names.py`` compares them with the recorded names of the real files where those are at hand.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping

import numpy as np
from numpy.lib import format as npy

from zoo.convert.layout import ArrayFile

Shapes = dict[str, tuple[int, ...]]
VGG = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
RESNET = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}
_POOL = np.random.default_rng(7).standard_normal(1_000_003).astype(np.float32)


def random_arrays(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """Numbers that keep a deep network's activations near one: kernels by fan-in, variances and gammas around one.

    Large kernels are cut out of one row of a million random numbers, whose length is prime: quick, and still no two
    rows or columns are alike.
    """
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        if len(shape) >= 2:
            fan_in = size // shape[-1] if name.endswith("kernel") else size // shape[0]
            values = np.resize(np.roll(_POOL, int(rng.integers(1_000_000))), size) * np.sqrt(2 / fan_in)
        elif not shape:
            values = np.asarray(rng.integers(1, 100))
        elif name.endswith(("gamma", "avg_var", "running_var", "moving_variance")) or "bn" in name or "scale" in name:
            values = rng.uniform(0.7, 1.3, size)
        else:
            values = rng.normal(0, 0.1, size)
        arrays[name] = np.asarray(values, np.int64 if not shape else np.float32).reshape(shape)
    return arrays


def vgg_convs(model: str):
    """Name, inputs and outputs of every convolution of a VGG."""
    before = 3
    for block, count in enumerate(VGG[model], start=1):
        width = min(64 * 2 ** (block - 1), 512)
        for i in range(1, count + 1):
            yield f"conv{block}_{i}", before, width
            before = width


def resnet_convs(model: str):
    """Stage, block (from 1), index in the block (0 the projection), inputs, outputs and size of every convolution."""
    yield 1, 0, 1, 3, 64, 7
    bottleneck = model not in ("resnet18", "resnet34")
    before = 64
    for stage, count in enumerate(RESNET[model], start=2):
        width = 64 * 2 ** (stage - 2)
        out = 4 * width if bottleneck else width
        for block in range(1, count + 1):
            if bottleneck:
                yield stage, block, 1, before, width, 1
                yield stage, block, 2, width, width, 3
                yield stage, block, 3, width, out, 1
            else:
                yield stage, block, 1, before, width, 3
                yield stage, block, 2, width, width, 3
            if block == 1 and before != out:
                yield stage, block, 0, before, out, 1
            before = out


def chainer_vgg16() -> Shapes:
    shapes: Shapes = {}
    for name, before, width in vgg_convs("vgg16"):
        shapes |= {f"{name}/conv/W": (width, before, 3, 3), f"{name}/conv/b": (width,)}
    for name, before, width in (("fc6", 25088, 4096), ("fc7", 4096, 4096), ("fc8", 4096, 1000)):
        shapes |= {f"{name}/W": (width, before), f"{name}/b": (width,)}
    return shapes


def chainer_resnet(model: str, classes: int = 1000) -> Shapes:
    shapes: Shapes = {}
    for stage, block, index, before, width, size in resnet_convs(model):
        base = f"res{stage}/{'a' if block == 1 else f'b{block - 1}'}/" if stage > 1 else ""
        base += "conv1" if stage == 1 else f"conv{index}" if index else "residual_conv"
        shapes[f"{base}/conv/W"] = (width, before, size, size)
        if stage == 1 and model == "resnet50":
            shapes[f"{base}/conv/b"] = (width,)
        shapes |= {f"{base}/bn/{role}": (width,) for role in ("gamma", "beta", "avg_mean", "avg_var")}
        shapes[f"{base}/bn/N"] = ()
    return shapes | {"fc6/W": (classes, before_top(model)), "fc6/b": (classes,)}


def gluon_resnet(model: str, prefix: str) -> Shapes:
    """MXNet's Gluon counts convolutions within a stage; those of 1x1 in a block's body have biases."""
    shapes: Shapes = {}
    counts: dict[int, int] = {}
    bottleneck = model not in ("resnet18", "resnet34")
    for stage, _, index, before, width, size in resnet_convs(model):
        number = counts.get(stage, 0)
        counts[stage] = number + 1
        where = f"{prefix}_" if stage == 1 else f"{prefix}_stage{stage - 1}_"
        shapes[f"{where}conv{number}_weight"] = (width, before, size, size)
        if bottleneck and stage > 1 and index in (1, 3):
            shapes[f"{where}conv{number}_bias"] = (width,)
        for role in ("gamma", "beta", "running_mean", "running_var"):
            shapes[f"{where}batchnorm{number}_{role}"] = (width,)
    return shapes | {f"{prefix}_dense0_weight": (1000, before_top(model)), f"{prefix}_dense0_bias": (1000,)}


def caffe2_alexnet() -> Shapes:
    shapes: Shapes = {}
    for name, shape in ALEXNET.items():
        shapes |= {f"{name}_w_0": shape, f"{name}_b_0": shape[:1]}
    return shapes


ALEXNET = {
    "conv1": (96, 3, 11, 11),
    "conv2": (256, 48, 5, 5),
    "conv3": (384, 256, 3, 3),
    "conv4": (384, 192, 3, 3),
    "conv5": (256, 192, 3, 3),
    "fc6": (4096, 9216),
    "fc7": (4096, 4096),
    "fc8": (1000, 4096),
}
VGG_M = {
    "conv1": (96, 3, 7, 7),
    "conv2": (256, 96, 5, 5),
    "conv3": (512, 256, 3, 3),
    "conv4": (512, 512, 3, 3),
    "conv5": (512, 512, 3, 3),
    "fc6": (4096, 18432),
    "fc7": (1024, 4096),
    "fc8": (1000, 1024),
}


def caffe_plain(layers: Mapping[str, tuple[int, ...]]) -> Shapes:
    return {f"{name}/{i}": shape[: 1 if i else None] for name, shape in layers.items() for i in (0, 1)}


def caffe_resnet(model: str) -> Shapes:
    """He's release: letters for blocks, numbers (``b1``) in stages of the deeper networks that have many."""
    shapes: Shapes = {}
    for stage, block, index, before, width, size in resnet_convs(model):
        numbered = model != "resnet50" and stage in (3, 4)
        letter = "abcdefgh"[block - 1] if not numbered else ("a" if block == 1 else f"b{block - 1}")
        end = f"{stage}{letter}_branch" + (f"2{'abc'[index - 1]}" if index else "1")
        conv, norm = (f"res{end}", end) if stage > 1 else ("conv1", "_conv1")
        shapes[f"{conv}/0"] = (width, before, size, size)
        if stage == 1 and model == "resnet50":
            shapes[f"{conv}/1"] = (width,)
        shapes |= {f"bn{norm}/0": (width,), f"bn{norm}/1": (width,), f"bn{norm}/2": (1,)}
        shapes |= {f"scale{norm}/0": (width,), f"scale{norm}/1": (width,)}
    return shapes | {"fc1000/0": (1000, 2048), "fc1000/1": (1000,)}


def before_top(model: str) -> int:
    """Inputs of a ResNet's last layer."""
    return 512 if model in ("resnet18", "resnet34") else 2048


def shapes_only(shapes: Shapes, name: str = "file") -> ArrayFile:
    """An open file that has shapes and no values."""
    return ArrayFile(name, shapes, lambda array: (_ for _ in ()).throw(AssertionError(f"{array} was read")))


def save_npz(arrays: Mapping[str, np.ndarray], path, compress: bool = False):
    """As ``numpy.savez`` writes it, an array at a time."""
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind, compresslevel=1) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                npy.write_array(file, np.asarray(array), allow_pickle=False)
    return path


def varint(number: int) -> bytes:
    """Protocol buffers' number: seven bits a byte, the lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def caffe_blob(array: np.ndarray, *, old: bool) -> bytes:
    """A BlobProto by hand: data is field 5, the shape field 7 or, in old files, fields 1 to 4."""
    data = field(5, np.ascontiguousarray(array, "<f4").tobytes())
    if not old:
        return field(7, field(1, b"".join(varint(n) for n in array.shape))) + data
    four = (1,) * (4 - array.ndim) + array.shape
    return b"".join(varint(i << 3) + varint(n) for i, n in enumerate(four, start=1)) + data


def save_caffemodel(arrays: Mapping[str, np.ndarray], path, *, old: bool = False):
    """A .caffemodel by hand; ``old``: V1LayerParameter (field 2 of the net), else LayerParameter (field 100)."""
    layers: dict[str, list[np.ndarray]] = {}
    for name, array in arrays.items():
        layers.setdefault(name.rpartition("/")[0], []).append(array)
    name_field, type_field, blob_field, layer_field = (
        (4, varint(5 << 3) + varint(4), 6, 2)
        if old
        else (
            1,
            field(2, b"Convolution"),
            7,
            100,
        )
    )
    with open(path, "wb") as file:
        file.write(field(1, b"net"))
        # A layer without weights, as most are.
        file.write(field(layer_field, field(name_field, b"relu1") + type_field))
        for name, blobs in layers.items():
            content = field(name_field, name.encode()) + type_field
            content += b"".join(field(blob_field, caffe_blob(blob, old=old)) for blob in blobs)
            file.write(field(layer_field, content))
    return path


def flip_bit(path, position: int) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << (position % 8)
    path.write_bytes(bytes(data))
