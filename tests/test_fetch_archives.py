"""One member out of an archive that somebody else made: nothing else is written, and traps are refused."""

import hashlib
import io
import tarfile
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from publisher import Publisher, empty_home, kept

from zoo.archives import extract_member
from zoo.weights_entry import WeightsEntry, WeightsError, locate

BODY = b"PK" + np.random.default_rng(1).bytes(49_998)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """The cache of one test; offline, unless the test has a publisher."""
    home = empty_home(monkeypatch, tmp_path)
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    home.mkdir()
    return home


def entry_of(url, member, **fields):
    return WeightsEntry("voc", member.split("/")[-1], url=url, member=member, **fields)


def flipped_in_the_middle(data):
    at = len(data) * 3 // 4
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def zip_of(path, members, **infos):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = infos.get("mode", 0o100644) << 16
            archive.writestr(info, data)
    return path


def tar_of(path, members, kind=tarfile.REGTYPE, link=""):
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(data) if kind == tarfile.REGTYPE else 0, kind, link
            archive.addfile(info, io.BytesIO(data))
    return path


MAKERS = pytest.mark.parametrize(("maker", "suffix"), [(zip_of, "zip"), (tar_of, "tgz")])
MEMBERS = [("models/a.caffemodel", BODY[::-1]), ("models/net.caffemodel", BODY), ("net.caffemodel", b"other")]


@MAKERS
def test_one_member_is_fetched_out_of_an_archive(home, tmp_path, monkeypatch, maker, suffix):
    monkeypatch.delenv("ZOO_OFFLINE")
    data = maker(tmp_path / "x", MEMBERS).read_bytes()
    with Publisher({f"/v1/all.{suffix}": data}) as publisher:
        url = publisher.url(f"/v1/all.{suffix}?raw=true")
        entry = entry_of(url, "models/net.caffemodel", md5=hashlib.md5(data).hexdigest(), size=len(data))
        path = locate(entry)
        assert path.name == "net.caffemodel"
        assert path.read_bytes() == BODY
        # The other member comes from the archive that is there already, and a damaged one is unpacked again.
        other = locate(replace(entry, member="models/a.caffemodel", file="a.caffemodel"))
        assert other.read_bytes() == BODY[::-1]
        path.write_bytes(flipped_in_the_middle(BODY))
        assert locate(entry).read_bytes() == BODY
        assert len(publisher.seen) == 1
    folder = str(path.parent.relative_to(home))
    names = [f"{folder}/{name}" for name in ("a.caffemodel", "net.caffemodel")]
    assert kept(home) == sorted(
        [f"all.{suffix}", f"all.{suffix}.checked", *names, *(f"{name}.checked" for name in names)]
    )


@MAKERS
def test_an_archive_put_there_by_hand(home, tmp_path, maker, suffix):
    data = maker(tmp_path / "x", MEMBERS).read_bytes()
    entry = entry_of(f"http://h.invalid/all.{suffix}", "models/net.caffemodel")
    with pytest.raises(WeightsError, match=rf"home/all\.{suffix} is not there"):
        locate(entry)
    (home / f"all.{suffix}").write_bytes(data)
    assert locate(entry).read_bytes() == BODY


@MAKERS
@pytest.mark.parametrize(
    "bad", ["/tmp/evil", "../evil", "models/../../evil", "..", "..\\evil", "C:\\evil", "\\evil", "models\\..\\evil"]
)
def test_paths_that_lead_out_are_refused(tmp_path, maker, suffix, bad):
    for order in ([(bad, b"x"), ("net", BODY)], [("net", BODY), (bad, b"x")]):
        archive = maker(tmp_path / f"all.{suffix}", order)
        for member in (bad, "net"):
            with pytest.raises(WeightsError, match=rf"all\.{suffix} holds a file named .*evil|'\.\.'.*not trusted"):
                extract_member(archive, member, tmp_path / "target")
    assert {path.name for path in tmp_path.iterdir()} <= {f"all.{suffix}", "target", "home"}


def test_such_an_archive_leaves_the_cache_clean(home):
    zip_of(home / "all.zip", [("net", BODY), ("../evil", b"x")])
    entry = entry_of("http://h.invalid/all.zip", "net")
    with pytest.raises(WeightsError, match="evil"):
        locate(entry)
    assert kept(home) == ["all.zip", "all.zip.checked"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_tar_are_refused(tmp_path, kind):
    (tmp_path / "secret").write_bytes(b"secret")
    archive = tar_of(tmp_path / "all.tgz", [("net", b"")], kind, link=str(tmp_path / "secret"))
    with pytest.raises(WeightsError, match=r"'net' is no ordinary file"):
        extract_member(archive, "net", tmp_path / "target")


@pytest.mark.parametrize("mode", [0o120777, 0o040755, 0o020644])
def test_links_and_folders_in_zip_are_refused(tmp_path, mode):
    archive = zip_of(tmp_path / "all.zip", [("net", b"/etc/hostname")], mode=mode)
    with pytest.raises(WeightsError, match=r"'net' is no ordinary file"):
        extract_member(archive, "net", tmp_path / "target")


@MAKERS
def test_archives_that_unpack_to_far_more_are_refused(tmp_path, monkeypatch, maker, suffix):
    monkeypatch.setattr("zoo.archives._ALWAYS_FINE", 100_000)
    archive = maker(tmp_path / f"all.{suffix}", [("zeros", bytes(1_000_000)), ("net", BODY[:100])])
    with pytest.raises(WeightsError, match=r"unpacks to 1,000,000 bytes or more at 'zeros'"):
        extract_member(archive, "zeros", tmp_path / "target")
    assert not (tmp_path / "target").exists() or (tmp_path / "target").stat().st_size == 0


def test_a_zip_that_understates_its_size_gives_no_more_than_that(tmp_path):
    archive = zip_of(tmp_path / "all.zip", [("net", bytes(1_000_000))])
    data = archive.read_bytes()
    archive.write_bytes(data.replace((1_000_000).to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    with pytest.raises(WeightsError, match=r"all\.zip cannot be unpacked"):
        extract_member(archive, "net", tmp_path / "target")
    assert (tmp_path / "target").stat().st_size <= 1000


@MAKERS
def test_damaged_archives_and_absent_members(tmp_path, maker, suffix):
    archive = maker(tmp_path / f"all.{suffix}", MEMBERS)
    with pytest.raises(WeightsError, match=r"holds no 'vgg'; it holds models/a\.caffemodel, models/net"):
        extract_member(archive, "vgg", tmp_path / "target")
    whole = archive.read_bytes()
    for damaged in (whole[:60_000], flipped_in_the_middle(whole), b"no archive"):
        archive.write_bytes(damaged)
        with pytest.raises(WeightsError, match=rf"all\.{suffix}"):
            extract_member(archive, "models/net.caffemodel", tmp_path / "target")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@MAKERS
def test_a_member_that_occurs_twice_is_refused(tmp_path, maker, suffix):
    archive = maker(tmp_path / f"all.{suffix}", [("net", BODY), ("net", BODY[::-1])])
    with pytest.raises(WeightsError, match="2 files named 'net'"):
        extract_member(archive, "net", tmp_path / "target")
