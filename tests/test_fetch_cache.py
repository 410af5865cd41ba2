"""The cache of weights: what is in it is checked, stamped and converted once, and never silently wrong."""

import errno
import hashlib
import io
import os
import threading
import time
from dataclasses import asdict, replace
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from publisher import empty_home, kept

from zoo import weights_entry
from zoo.cache import cache_folder
from zoo.weights_entry import WeightsEntry, WeightsError, converted, locate

BODY = b"PK" + np.random.default_rng(1).bytes(49_998)
SHA256, MD5 = hashlib.sha256(BODY).hexdigest(), hashlib.md5(BODY).hexdigest()
ENTRY = WeightsEntry("voc", "net.npz", SHA256, len(BODY), url="http://publisher.invalid/net.npz")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """The cache of one test; offline."""
    home = empty_home(monkeypatch, tmp_path)
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    home.mkdir()
    return home


@pytest.fixture
def put(home):
    """Puts a file into the cache by hand."""

    def write(data, name="net.npz"):
        (home / name).write_bytes(data)
        return home / name

    return write


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def unchanged_in_size_and_time(path, data):
    """Write ``data`` as a failing disk would: nothing but the content differs."""
    state = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def flipped(data):
    return data[:-100] + bytes([data[-100] ^ 1]) + data[-99:]


def test_the_folder_is_zoo_home_or_in_the_users_cache(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "home"
    monkeypatch.delenv("ZOO_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "zoo"
    monkeypatch.setenv("ZOO_HOME", "~/weights")
    assert cache_folder() == tmp_path / "weights"


@pytest.mark.parametrize("hashes", [{}, {"sha256": None, "md5": MD5}])
def test_a_file_put_there_by_hand_is_checked_and_taken(home, put, hashes):
    entry = replace(ENTRY, **hashes)
    for wrong in (BODY[:-1], flipped(BODY), b"<html><title>Moved</title>"):
        path = put(wrong)
        with pytest.raises(WeightsError, match=r"'voc'.*net\.npz is not as registered.*delete it"):
            locate(entry)
        assert path.read_bytes() == wrong  # it is the user's
    put(BODY)
    assert locate(entry) == path
    assert kept(home) == ["net.npz", "net.npz.checked"]


def test_a_checked_file_is_not_hashed_again(put, monkeypatch):
    put(BODY)
    locate(ENTRY)
    monkeypatch.setattr(weights_entry, "check", None)
    assert locate(ENTRY).read_bytes() == BODY


@pytest.mark.parametrize("change", [BODY[:-1], BODY[: len(BODY) // 2], flipped(BODY), BODY[::-1], b""])
def test_a_file_that_changes_later_is_noticed(put, change):
    put(BODY)
    locate(ENTRY)
    put(change)
    with pytest.raises(WeightsError, match=r"net\.npz is not as registered"):
        locate(ENTRY)


def test_a_stamp_says_what_it_was_checked_against(put):
    path = put(BODY)
    locate(ENTRY)
    with pytest.raises(WeightsError, match="SHA-256"):
        locate(replace(ENTRY, sha256="0" * 64))  # another release under the same name
    with pytest.raises(WeightsError, match="MD5"):
        locate(replace(ENTRY, md5="0" * 32))
    assert locate(replace(ENTRY, md5=MD5)) == path
    stamp = path.with_name("net.npz.checked")
    for content in ("", "[]", "{}", '{"hashes": 3}', '{"hashes": {}}'):
        stamp.write_text(content)
        unchanged_in_size_and_time(path, flipped(BODY))
        with pytest.raises(WeightsError, match="SHA-256"):
            locate(ENTRY)
        unchanged_in_size_and_time(path, BODY)
        locate(ENTRY)


def test_where_no_hash_is_known_the_first_one_counts(put):
    entry = replace(ENTRY, sha256=None, size=None)
    weights = npz(a=np.arange(1000), b=np.ones(5))
    for wrong, reason in ((weights[:-40], "zip"), (flipped_array(weights), "CRC-32"), (b"", "empty")):
        put(wrong)
        with pytest.raises(WeightsError, match=reason):
            locate(entry)
    put(weights)
    with pytest.raises(WeightsError, match=rf"it has {len(weights):,} bytes, not {len(weights) + 1:,}"):
        locate(replace(entry, size=len(weights) + 1))
    path = locate(replace(entry, size=len(weights)))
    put(npz(a=np.arange(1000), b=np.zeros(5)))
    with pytest.raises(WeightsError, match=r"not the file that was found good on 20.*net\.npz\.checked"):
        locate(entry)
    path.with_name("net.npz.checked").unlink()
    assert locate(entry) == path


def flipped_array(data):
    """One bit of the first array's values differs."""
    at = data.index(np.arange(1000).tobytes()) + 800
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_hdf5_without_a_hash(home):
    entry = replace(ENTRY, sha256=None, size=None, file="net.h5")
    with h5py.File(home / "net.h5", "w") as file:
        file["kernel"] = np.ones(5000)
    whole = (home / "net.h5").read_bytes()
    (home / "net.h5").write_bytes(whole[:-1000])
    with pytest.raises(WeightsError, match="no whole HDF5 file"):
        locate(entry)
    (home / "net.h5").write_bytes(whole)
    assert locate(entry).name == "net.h5"


def test_a_cache_that_cannot_be_written_is_used_all_the_same(home, put, monkeypatch):
    put(BODY)
    # Permissions do not bind root, under whom tests may run.
    monkeypatch.setattr(weights_entry.os, "access", lambda path, mode: False)
    assert locate(ENTRY).read_bytes() == BODY
    put(flipped(BODY))
    with pytest.raises(WeightsError, match="SHA-256"):
        locate(ENTRY)


def test_a_cache_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="set ZOO_HOME"):
        locate(ENTRY)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"file": "../net.npz"}, "plain file name"),
        ({"file": "/net.npz"}, "plain file name"),
        ({"sha256": "0" * 63}, "64"),
        ({"md5": "G" * 32}, "32"),
        ({"url": None, "sha256": None}, "sha256"),
        ({"url": "https://host"}, "url="),
        ({"url": "https://host/..%2Fall.zip", "member": "net.npz"}, "plain file name"),
        ({"url": "https://host/dir/", "member": "net.npz"}, "url="),
    ],
)
def test_an_entry_that_cannot_work_is_refused_where_it_is_written(fields, message):
    with pytest.raises(ValueError, match=message):
        replace(ENTRY, **fields)


def test_an_entry_is_plain_data():
    assert WeightsEntry(**asdict(ENTRY)) == ENTRY


# Conversion


def doubled(source, aside):
    """A converter for these tests; Keras, too, looks at the end of the name."""
    assert aside.name.endswith(".weights.h5")
    aside.write_bytes(source.read_bytes() * 2)


def test_converted_once(home, put):
    put(BODY)
    calls = []

    def make(source, aside):
        calls.append(source)
        doubled(source, aside)

    path = converted(ENTRY, make, model="net")
    assert path.parent == home / "converted"
    assert path.name.startswith("net-voc-")
    assert path.read_bytes() == BODY * 2
    (home / "net.npz").unlink()  # no longer needed
    assert converted(ENTRY, make, model="net") == path
    assert calls == [home / "net.npz"]


def test_a_converted_file_is_for_one_original_model_and_converter(put):
    put(BODY)
    paths = [
        converted(ENTRY, doubled),
        converted(ENTRY, doubled, version=2),
        converted(ENTRY, doubled, model="other"),
        converted(replace(ENTRY, layout="chainercv"), doubled),
        converted(replace(ENTRY, options={"pool": "covering"}), doubled),
    ]
    put(BODY[::-1])
    other = replace(ENTRY, sha256=hashlib.sha256(BODY[::-1]).hexdigest())
    paths.append(converted(other, doubled))
    assert len(set(paths)) == 6
    assert paths[-1].read_bytes() == BODY[::-1] * 2


def test_without_a_hash_the_originals_own_is_the_key(home, put):
    entry = replace(ENTRY, sha256=None, size=None)
    put(npz(a=np.ones(3)))
    first = converted(entry, doubled)
    (home / "net.npz").unlink()
    (home / "net.npz.checked").unlink()
    put(npz(a=np.zeros(3)))
    second = converted(entry, doubled)
    assert first != second
    assert second.read_bytes() == npz(a=np.zeros(3)) * 2


@pytest.mark.parametrize("damage", [lambda data: data[:-1], flipped, lambda data: b""])
def test_a_damaged_converted_file_is_made_again(put, damage):
    put(BODY)
    path = converted(ENTRY, doubled)
    path.write_bytes(damage(path.read_bytes()))
    assert converted(ENTRY, doubled).read_bytes() == BODY * 2


def test_a_converted_file_that_was_only_touched_is_kept(put):
    put(BODY)
    path = converted(ENTRY, doubled)
    os.utime(path)
    assert converted(ENTRY, None) == path


def test_a_conversion_that_fails_leaves_nothing(home, put):
    put(BODY)

    def fails(source, aside):
        doubled(source, aside)
        raise WeightsError("conv1 is missing")

    with pytest.raises(WeightsError, match="conv1 is missing"):
        converted(ENTRY, fails)
    assert kept(home) == ["net.npz", "net.npz.checked"]


def test_a_conversion_on_a_full_disk(home, put, monkeypatch):
    put(BODY)

    def fills(source, aside):
        doubled(source, aside)
        raise OSError(errno.ENOSPC, "disk")

    with pytest.raises(WeightsError, match=r"'voc'.*No space left.*ZOO_HOME"):
        converted(ENTRY, fills)
    monkeypatch.setattr("zoo.cache.shutil.disk_usage", lambda path: SimpleNamespace(free=len(BODY) - 1))
    with pytest.raises(WeightsError, match=r"needs 50,000 bytes.* 49,999 free"):
        converted(ENTRY, doubled)
    assert kept(home) == ["net.npz", "net.npz.checked"]


def test_what_a_killed_conversion_left_is_cleared_away(home, put):
    put(BODY)
    path = converted(ENTRY, doubled)
    path.unlink()
    left = path.with_name(f".4711-{path.name}")
    left.write_bytes(b"half")
    converted(ENTRY, doubled)
    assert not left.exists()


def test_many_threads_convert_once(put):
    put(BODY)
    calls = []

    def slow(source, aside):
        calls.append(source)
        time.sleep(0.05)
        doubled(source, aside)

    threads = [threading.Thread(target=converted, args=(ENTRY, slow)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
