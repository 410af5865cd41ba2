"""Readers of other libraries' files: what they give, and that bad files are refused and run nothing."""

import collections
import io
import os
import pickle
import struct
import zipfile

import h5py
import layouts
import numpy as np
import pytest

from zoo.convert.readers import open_arrays
from zoo.convert.readers.caffemodel import messages
from zoo.weights_error import WeightsError

torch = pytest.importorskip("torch", reason="install the test extra: pip install -e '.[test]'")

ARRAYS = {
    "a/W": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2) / 7,
    "a/b": np.array([1.5, -2.5], np.float32),
    "b/W": np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30),
}


def caffe_by_schema(path, old):
    """Through the schema of the package, while ``layouts.save_caffemodel`` writes every byte itself."""
    net = messages()["NetParameter"]()
    for name, array in ARRAYS.items():
        layer = (net.layers if old else net.layer).add(name=name)
        blob = layer.blobs.add()
        blob.data.append(array.astype("<f4").tobytes())
        if old:
            four = (1,) * (4 - array.ndim) + array.shape
            blob.num, blob.channels, blob.height, blob.width = four
        else:
            blob.shape.dim.extend(array.shape)
    path.write_bytes(net.SerializeToString())


def save(kind, path):
    """The arrays in a file of one kind; gives the names that they have there."""
    if kind.startswith("npz"):
        layouts.save_npz(ARRAYS, path, compress=kind == "npz-packed")
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            file.attrs["layer_names"] = [b"a", b"b"]
            for layer in "ab":
                mine = {name: array for name, array in ARRAYS.items() if name.startswith(layer)}
                file.create_group(layer).attrs["weight_names"] = [name.encode() for name in mine]
                for name, array in mine.items():
                    file[f"{layer}/{name}"] = array
        return {"a/W": "a/kernel", "a/b": "a/bias", "b/W": "b/kernel"}
    elif kind.startswith("pth"):
        state = collections.OrderedDict((name, torch.from_numpy(array)) for name, array in ARRAYS.items())
        torch.save(state, path, _use_new_zipfile_serialization=kind == "pth-zip")
    elif kind == "onnx":
        import onnx
        from onnx import helper, numpy_helper

        tensors = [numpy_helper.from_array(array, name) for name, array in ARRAYS.items()]
        onnx.save(helper.make_model(helper.make_graph([], "g", [], [], tensors)), path)
    else:
        named = {f"{name}/0": array for name, array in ARRAYS.items()}
        layouts.save_caffemodel(named, path, old=kind == "caffe-old")
        return {name: f"{name}/0" for name in ARRAYS}
    return {name: name for name in ARRAYS}


KINDS = {
    "npz": ".npz",
    "npz-packed": ".npz",
    "h5": ".h5",
    "pth-zip": ".pth",
    "pth-old": ".pth",
    "onnx": ".onnx",
    "caffe-new": ".caffemodel",
    "caffe-old": ".caffemodel",
}


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_come_back_as_they_were(tmp_path, kind):
    path = tmp_path / f"net{KINDS[kind]}"
    names = save(kind, path)
    with open_arrays(path) as file:
        assert list(file) == [names[name] for name in ARRAYS] or set(file) == set(names.values())
        for name, array in ARRAYS.items():
            assert file.shapes[names[name]] == array.shape
            for _ in range(2):
                np.testing.assert_array_equal(file[names[name]], array)
        with pytest.raises(KeyError):
            file["nothing"]


@pytest.mark.parametrize("old", [False, True])
def test_caffe_by_hand_and_by_schema_are_the_same_bytes_to_the_reader(tmp_path, old):
    caffe_by_schema(tmp_path / "schema.caffemodel", old)
    layouts.save_caffemodel({f"{n}/0": a for n, a in ARRAYS.items()}, tmp_path / "hand.caffemodel", old=old)
    with open_arrays(tmp_path / "schema.caffemodel") as a, open_arrays(tmp_path / "hand.caffemodel") as b:
        assert a.shapes == b.shapes == {f"{n}/0": array.shape for n, array in ARRAYS.items()}
        assert all(np.array_equal(a[name], b[name]) for name in a)


def test_caffe_doubles_pieces_and_old_shapes(tmp_path):
    varint, field = layouts.varint, layouts.field
    # A dense kernel (1, 1, 2, 3) of doubles; a bias (1, 1, 1, 2) whose data comes in two pieces.
    kernel = b"".join(varint(i << 3) + varint(n) for i, n in enumerate((1, 1, 2, 3), 1))
    kernel += field(8, struct.pack("<6d", *range(6)))
    bias = b"".join(varint(i << 3) + varint(n) for i, n in enumerate((1, 1, 1, 2), 1))
    bias += field(5, struct.pack("<f", 7)) + field(5, struct.pack("<f", 8))
    layer = field(4, b"ip") + field(6, kernel) + field(6, bias)
    (tmp_path / "x.caffemodel").write_bytes(field(2, layer))
    with open_arrays(tmp_path / "x.caffemodel") as file:
        assert file["ip/0"].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert file["ip/1"].tolist() == [7, 8]
    oldest = field(2, field(1, field(1, b"conv1")))
    (tmp_path / "v0.caffemodel").write_bytes(oldest)
    with pytest.raises(WeightsError, match="first layer format of 2013"):
        open_arrays(tmp_path / "v0.caffemodel")


def read_all(path):
    with open_arrays(path) as file:
        return {name: np.asarray(file[name]) for name in file}


def read_or_refuse(path):
    """The arrays, or ``None`` if the file is refused by name; any other exception is a fault of the reader."""
    try:
        return read_all(path)
    except WeightsError as refused:
        message = str(refused)
    assert str(path) in message
    return None


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_short_is_named(tmp_path, kind):
    path = tmp_path / f"net{KINDS[kind]}"
    save(kind, path)
    whole = path.read_bytes()
    for length in (*range(0, len(whole), max(1, len(whole) // 25)), len(whole) - 1):
        path.write_bytes(whole[:length])
        found = read_or_refuse(path)
        if found is None:
            continue
        # A protobuf file that ends between two fields is whole to its reader: an array is missing, which the layout
        # notices. The ends of zip and PyTorch files are needed.
        assert kind in ("onnx", "caffe-new", "caffe-old"), length
        assert len(found) < len(ARRAYS), length


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_an_error_or_another_number_and_nothing_else(tmp_path, kind):
    path = tmp_path / f"net{KINDS[kind]}"
    names = save(kind, path)
    whole = path.read_bytes()
    missed = []
    for position in range(0, len(whole), max(1, len(whole) // 150)):
        path.write_bytes(whole)
        layouts.flip_bit(path, position)
        found = read_or_refuse(path)
        if found is None:
            continue
        same = all(np.array_equal(found.get(names[name]), array) for name, array in ARRAYS.items())
        if not same:
            missed.append(position)
    # Archives with check sums give no wrong number; the other formats have none, and the hash of the entry tells.
    if kind in ("npz", "npz-packed", "pth-zip"):
        assert not missed


class Evil:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def legacy(content: bytes) -> bytes:
    """The old format around a pickle: magic number, version, system."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    return b"".join(pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, system)) + content


def zipped(content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("net/data.pkl", content)
        archive.writestr("net/data/0", bytes(8))
    return out.getvalue()


@pytest.mark.parametrize("wrap", [legacy, zipped])
@pytest.mark.parametrize(
    ("payload", "named"),
    [
        (lambda mark: Evil(os.system, f"touch {mark}"), r"(posix|nt)\.system"),
        (lambda mark: Evil(eval, f"open({str(mark)!r}, 'w')"), r"_*builtin(s|__)\.eval"),
        (lambda mark: Evil(exec, f"open({str(mark)!r}, 'w')"), r"_*builtin(s|__)\.exec"),
        (lambda mark: Evil(open, str(mark), "w"), r"\w*io\.open"),
        (lambda mark: Evil(np.save, str(mark), 1), r"numpy\.save"),
        (lambda mark: Evil(getattr, torch.Tensor, "numpy"), r"_*builtin(s|__)\.getattr"),
        (lambda mark: Evil(torch.load, str(mark)), r"torch\.\w+\.load"),
        (lambda mark: Evil(pickle.loads, b""), r"_?pickle\.loads"),
    ],
)
def test_a_pickle_that_calls_functions_is_refused_and_runs_nothing(tmp_path, wrap, payload, named):
    mark = tmp_path / "was-here"
    path = tmp_path / "evil.pth"
    for protocol in (0, 2, 4):
        path.write_bytes(wrap(pickle.dumps({"conv1.weight": payload(mark)}, protocol)))
        with pytest.raises(WeightsError, match=rf"evil\.pth asks for {named} to be called.*nothing of it was run"):
            open_arrays(path)
        assert not mark.exists()
    # The payload does work where pickles are trusted.
    if payload(mark).call[0] is os.system:
        pickle.loads(pickle.dumps(payload(mark)))
        assert mark.exists()


@pytest.mark.parametrize("dotted", ["_rebuild_tensor_v2.__globals__", "torch.load", "__builtins__"])
def test_names_with_dots_are_refused(tmp_path, dotted):
    # Protocol 4 looks dotted names up attribute by attribute.
    content = b"\x80\x04" + b"\x8c\x0ctorch._utils" + b"\x8c" + bytes([len(dotted)]) + dotted.encode() + b"\x93."
    (tmp_path / "evil.pth").write_bytes(zipped(content))
    with pytest.raises(WeightsError, match="to be called"):
        open_arrays(tmp_path / "evil.pth")


class Tampered:
    """A tensor of one number whose attributes the pickle changes after it was made: it would reach far outside."""


class TamperingPickler(pickle.Pickler):
    def persistent_id(self, obj):
        return ("storage", torch.FloatStorage, "0", "cpu", 2) if obj == "STORAGE" else None

    def reducer_override(self, obj):
        if isinstance(obj, Tampered):
            state = {"shape": (10**6,), "strides": (10**6,), "offset": 0}
            return torch._utils._rebuild_tensor_v2, ("STORAGE", 0, (1,), (1,), False, {}), state
        return NotImplemented


def test_a_tensor_cannot_be_made_to_reach_outside_its_numbers(tmp_path):
    out = io.BytesIO()
    TamperingPickler(out, 2).dump({"w": Tampered()})
    (tmp_path / "evil.pth").write_bytes(zipped(out.getvalue()))
    with pytest.raises(WeightsError, match=r"evil\.pth"):
        read_all(tmp_path / "evil.pth")


def test_only_state_dictionaries_are_taken(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"state_dict": {"w": torch.ones(2)}, "epoch": 3}, path)
    assert read_all(path)["w"].tolist() == [1, 1]
    for content, message in (
        ([torch.ones(2)], "holds a list, not a dictionary of tensors"),
        ({"w": torch.ones(2), "epoch": 3}, "epoch are no tensors"),
        (torch.nn.Linear(2, 2), r"torch\.nn\.modules\.linear\.Linear"),
    ):
        torch.save(content, path)
        with pytest.raises(WeightsError, match=message):
            open_arrays(path)


def test_all_kinds_of_numbers_and_views(tmp_path):
    base = torch.arange(12, dtype=torch.float32)
    state = {
        "half": base.half(),
        "brain": base.bfloat16(),
        "double": base.double(),
        "long": base.long(),
        "scalar": torch.tensor(5),
        "turned": base.reshape(3, 4).t(),
        "slice": base[3:9:2],
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(base),
    }
    for zip_format in (True, False):
        torch.save(state, tmp_path / "x.pth", _use_new_zipfile_serialization=zip_format)
        found = read_all(tmp_path / "x.pth")
        for name, value in state.items():
            expected = value.detach().float() if name == "brain" else value.detach()
            np.testing.assert_array_equal(found[name], expected.numpy(), err_msg=name)


@pytest.mark.parametrize("name", ["../up.npy", "/etc/x.npy", "a/../../b.npy", "C:\\x.npy", "\\\\host\\x.npy"])
@pytest.mark.parametrize("suffix", [".npz", ".pth"])
def test_members_that_lead_out_of_the_archive_are_refused(tmp_path, name, suffix):
    path = tmp_path / f"evil{suffix}"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl" if suffix == ".pth" else "w.npy", b"\x80\x02}.")
        archive.writestr(zipfile.ZipInfo(name), b"x")
    with pytest.raises(WeightsError, match=r"leads out of the archive.*nothing was read"):
        open_arrays(path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_objects_in_npz_are_not_unpickled(tmp_path):
    mark = tmp_path / "was-here"
    np.savez(tmp_path / "x.npz", w=np.array([Evil(os.system, f"touch {mark}")], object))
    with pytest.raises(WeightsError, match="objects are not unpickled"):
        open_arrays(tmp_path / "x.npz")
    assert not mark.exists()


def test_headers_that_promise_too_much_allocate_nothing(tmp_path):
    header = b"\x93NUMPY\x01\x00"
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }"
    text += b" " * (-(len(header) + 2 + len(text) + 1) % 64) + b"\n"
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("w.npy", header + struct.pack("<H", len(text)) + text + bytes(16))
    with pytest.raises(WeightsError, match=r"'w' claims the shape \(1000000000000,\) but holds 16 bytes"):
        open_arrays(tmp_path / "x.npz")


def test_fortran_order_and_scalars(tmp_path):
    np.savez(tmp_path / "x.npz", f=np.asfortranarray(ARRAYS["a/W"]), n=np.int64(3))
    found = read_all(tmp_path / "x.npz")
    np.testing.assert_array_equal(found["f"], ARRAYS["a/W"])
    assert found["n"] == 3


def test_external_data_of_onnx_is_not_followed(tmp_path):
    import onnx
    from onnx import helper, numpy_helper

    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    onnx.save(helper.make_model(helper.make_graph([], "g", [], [], [tensor])), tmp_path / "x.onnx")
    with pytest.raises(WeightsError, match="keeps 'w' in another file"):
        open_arrays(tmp_path / "x.onnx")


@pytest.mark.parametrize(
    ("content", "suffix", "message"),
    [
        (b"", ".npz", "is empty"),
        (b"<!DOCTYPE html><title>Sign in</title>", ".npz", "an HTML page titled 'Sign in'"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", ".onnx", "x.onnx"),
        (b"\x1f\x8b\x08" + bytes(20), ".caffe", "packed archive"),
        (bytes(100), ".dat", "no known format; known: Keras"),
        (b"\x89HDF\r\n\x1a\n" + bytes(200), ".h5", "HDF5"),
        (b"PK\x03\x04" + bytes(50), ".npz", "damaged or cut short"),
        (b"words", ".caffemodel", "x.caffemodel"),
    ],
)
def test_files_that_are_no_weights_are_named(tmp_path, content, suffix, message):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message) as caught:
        open_arrays(path)
    assert str(path) in str(caught.value)
    with pytest.raises(WeightsError, match="does not exist"):
        open_arrays(tmp_path / "absent.npz")
