"""`zoo data get`: fetched, checked and unpacked from a publisher on this machine; nothing half-made, nothing unsafe."""

import hashlib
import io
import shutil
import stat
import tarfile
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import pytest
from publisher import Page, Publisher, empty_home

from zoo.cli.main import main
from zoo.data_archives import DATA_SETS, Archive, DataSet, get_data
from zoo.datasets import load
from zoo.file_checks import Expected
from zoo.unpack import ArchiveError, unpack
from zoo.weights_error import WeightsError


@pytest.fixture(autouse=True)
def quiet(monkeypatch, tmp_path):
    """No proxy, no mirror, no waiting."""
    empty_home(monkeypatch, tmp_path)


def tar(members, kind="w"):
    """A tar archive of name -> bytes, or name -> TarInfo for odd ones."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=kind) as archive:
        for name, content in members.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            data = b"" if info is content else content
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def zipped(members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def jpeg():
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (40, 30)).save(stream, "JPEG")
    return stream.getvalue()


BOX = b"<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>20</xmax><ymax>21</ymax></bndbox>"
XML = b"<annotation><object><name>cat</name>" + BOX + b"</object></annotation>"
TRAINVAL = {
    "VOCdevkit/VOC2007/Annotations/a.xml": XML,
    "VOCdevkit/VOC2007/JPEGImages/a.jpg": jpeg(),
    "VOCdevkit/VOC2007/ImageSets/Main/trainval.txt": b"a\n",
}
TEST = {
    "VOCdevkit/VOC2007/Annotations/b.xml": XML,
    "VOCdevkit/VOC2007/JPEGImages/b.jpg": jpeg(),
    "VOCdevkit/VOC2007/ImageSets/Main/test.txt": b"b\n",
}


@pytest.fixture
def shop():
    """A publisher with two archives, and the table that describes them."""
    archives = {"/trainval.tar": tar(TRAINVAL), "/test.tar": tar(TEST)}
    with Publisher(archives) as publisher:
        known = tuple(
            Archive(publisher.url(path), Expected(len(data), md5=hashlib.md5(data).hexdigest()))
            for path, data in archives.items()
        )
        proof = (("Annotations/*.xml", 2), ("JPEGImages/*.jpg", 2))
        publisher.table = {"voc": DataSet("VOCdevkit/VOC2007", "VOCdevkit/VOC2007", proof, "free", known)}
        yield publisher


def test_fetched_checked_and_unpacked(shop, tmp_path):
    said = []
    folder = get_data("voc", tmp_path / "data", shop.table, said.append)
    assert folder == tmp_path / "data" / "VOCdevkit" / "VOC2007"
    assert [sample.image_id for sample in load(tmp_path / "data" / "VOCdevkit").samples] == ["a", "b"]
    assert len(load(folder, "test")) == 1
    assert sorted(path.name for path in (tmp_path / "data" / "VOCdevkit").iterdir()) == ["VOC2007"]
    assert any("unpacking" in line for line in said)
    asked = len(shop.seen)
    assert get_data("voc", tmp_path / "data", shop.table) == folder
    assert len(shop.seen) == asked


def test_an_archive_put_there_by_hand_is_used(shop, tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    home = tmp_path / "data"
    with pytest.raises(ValueError, match="ZOO_OFFLINE") as caught:
        get_data("voc", home, shop.table)
    for words in ("trainval.tar", str(home / "archives"), "MD5", shop.url("/trainval.tar")):
        assert words in str(caught.value)
    (home / "archives").mkdir(parents=True, exist_ok=True)
    (home / "archives" / "trainval.tar").write_bytes(tar(TRAINVAL))
    (home / "archives" / "test.tar").write_bytes(tar(TEST)[:-1] + b"x")
    with pytest.raises(ValueError, match=r"test\.tar: is not the file wanted: it has MD5"):
        get_data("voc", home, shop.table)
    (home / "archives" / "test.tar").write_bytes(tar(TEST))
    assert get_data("voc", home, shop.table).is_dir()
    assert shop.seen == []


def test_without_network_it_says_what_to_place_where(shop, tmp_path):
    shop.pages["/trainval.tar"] = Page(statuses=[404] * 9)
    with pytest.raises(WeightsError) as caught:
        get_data("voc", tmp_path, shop.table)
    assert str(tmp_path / "archives" / "trainval.tar") in str(caught.value)
    assert "MD5" in str(caught.value)
    assert not (tmp_path / "VOCdevkit").exists()


def test_nothing_half_made_is_left(shop, tmp_path):
    missing = {name: data for name, data in TEST.items() if "JPEG" not in name}
    bad = tar(missing)
    shop.pages["/test.tar"] = Page(bad)
    good, old = shop.table["voc"].archives
    new = replace(old, expected=Expected(len(bad), md5=hashlib.md5(bad).hexdigest()))
    shop.table["voc"] = replace(shop.table["voc"], archives=(good, new))
    with pytest.raises(ValueError, match=r"has 1 files JPEGImages/\*\.jpg, 2 belong there"):
        get_data("voc", tmp_path, shop.table)
    assert list((tmp_path / "VOCdevkit").iterdir()) == []


def test_what_a_killed_unpacking_left_is_cleared_away(shop, tmp_path):
    kept = [tmp_path / "VOCdevkit" / name for name in (".4711-voc2", ".git-voc", "4711-voc")]
    left = tmp_path / "VOCdevkit" / ".4711-voc"
    for folder in (left, *kept):
        (folder / "VOCdevkit" / "VOC2007").mkdir(parents=True)
        (folder / "half.jpg").write_bytes(b"half")
    said = []
    get_data("voc", tmp_path, shop.table, said.append)
    assert not left.exists()
    assert all((folder / "half.jpg").exists() for folder in kept)
    assert any(line.startswith(f"{left}: ") for line in said)


def test_advice_is_about_the_folder_of_data_sets(shop, tmp_path, monkeypatch):
    """Not about that of weights, which would change nothing."""
    full = SimpleNamespace(free=5)
    monkeypatch.setattr("zoo.cache.shutil.disk_usage", lambda path: full)
    with pytest.raises(
        WeightsError, match=r"trainval\.tar needs .* 5 free; make room, or give .*--to.* on another disk"
    ):
        get_data("voc", tmp_path, shop.table)
    full.free = 1 << 40
    folder = get_data("voc", tmp_path / "fetched", shop.table)
    shutil.rmtree(folder)
    full.free = 5
    with pytest.raises(WeightsError, match=r"VOCdevkit.* needs .* 5 free; make room, or give .*--to.* on another disk"):
        get_data("voc", tmp_path / "fetched", shop.table)
    (tmp_path / "archives").mkdir(exist_ok=True)
    shutil.rmtree(tmp_path / "archives" / ".locks", ignore_errors=True)
    (tmp_path / "archives" / ".locks").write_text("")
    with pytest.raises(WeightsError, match=r"cannot be written .*; give .*--to.* that you may write to") as caught:
        get_data("voc", tmp_path, shop.table)
    assert "ZOO_HOME" not in str(caught.value)


def test_a_page_instead_of_an_archive(shop, tmp_path):
    shop.pages["/trainval.tar"] = Page(b"<html><title>Sign in</title></html>")
    with pytest.raises(WeightsError, match=r"not the file but an HTML page titled 'Sign in' came") as caught:
        get_data("voc", tmp_path, shop.table)
    assert "weights" not in str(caught.value)


def test_a_folder_that_lost_files_is_told(shop, tmp_path):
    folder = get_data("voc", tmp_path, shop.table)
    (folder / "JPEGImages" / "a.jpg").unlink()
    with pytest.raises(ValueError, match="remove the folder, and it is unpacked again"):
        get_data("voc", tmp_path, shop.table)


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("../evil", b"x", "leads out of its folder"),
        ("/etc/evil", b"x", "leads out"),
        ("a/../../evil", b"x", "leads out"),
        (r"..\evil", b"x", "leads out"),
        (r"C:\evil", b"x", "leads out"),
        ("a", link("a", "/etc"), "is a link or a device"),
        ("a", link("a", "b", tarfile.LNKTYPE), "is a link or a device"),
        ("a", link("a", "", tarfile.FIFOTYPE), "is a link or a device"),
    ],
)
@pytest.mark.parametrize("kind", ["w", "w:gz"])
def test_unsafe_tar_archives_are_refused(tmp_path, name, content, words, kind):
    file = tmp_path / "x.tar"
    file.write_bytes(tar({"good": b"1", name: content}, kind))
    with pytest.raises(ArchiveError, match=words) as caught:
        unpack(file, tmp_path / "out")
    assert str(file) in str(caught.value)
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path.parent / "evil").exists()


def test_unsafe_zip_archives_are_refused(tmp_path):
    file = tmp_path / "x.zip"
    file.write_bytes(zipped({"../evil": b"x"}))
    with pytest.raises(ArchiveError, match="leads out"):
        unpack(file, tmp_path / "out")
    symbolic = zipfile.ZipInfo("a")
    symbolic.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(symbolic, "/etc")
    with pytest.raises(ArchiveError, match="is a link or a device"):
        unpack(file, tmp_path / "out")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(80 << 20))
    with pytest.raises(ArchiveError, match="unpacks to 83,886,080 bytes or more"):
        unpack(file, tmp_path / "out")
    assert not (tmp_path / "out" / "zeros").exists()


def test_good_and_damaged_archives(tmp_path):
    file = tmp_path / "x.zip"
    file.write_bytes(zipped({"a/b.txt": b"words", "c": b""}))
    assert unpack(file, tmp_path / "out") == 2
    assert (tmp_path / "out" / "a" / "b.txt").read_bytes() == b"words"
    file = tmp_path / "x.tar.gz"
    file.write_bytes(tar({"a": b"x" * 10_000}, "w:gz")[:-30])
    with pytest.raises(ArchiveError, match="cannot be unpacked"):
        unpack(file, tmp_path / "out2")
    file.write_bytes(b"words")
    with pytest.raises(ArchiveError, match="cannot be unpacked"):
        unpack(file, tmp_path / "out2")


def test_the_table():
    for name, data_set in DATA_SETS.items():
        for archive in data_set.archives:
            assert archive.expected.size
            assert len(archive.expected.sha256) == 64, name
            assert archive.expected.md5 is None or len(archive.expected.md5) == 32


def test_commands(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert main(["data", "list"]) == 0
    assert "voc2007" in capsys.readouterr().out
    assert main(["data", "get", "voc2007", "--to", str(tmp_path / "d")]) == 2
    assert "VOCtrainval_06-Nov-2007.tar" in capsys.readouterr().err
    assert main(["data", "get", "voc1999"]) == 2
    assert "there are voc2007, voc2012, coco2017" in capsys.readouterr().err
    assert main(["data", "get", "tfds:voc/2007"]) == 2
    assert str(tmp_path / "voc" / "2007") in capsys.readouterr().err
    assert main(["data", "convert", "digits:5", str(tmp_path / "out"), "--to", "coco"]) == 0
    assert "train, val, test" in capsys.readouterr().out
    assert len(load(tmp_path / "out", "val")) == 5
    assert main(["data", "convert", str(tmp_path / "out"), str(tmp_path / "two"), "--to", "voc", "--split", "val"]) == 0
    assert len(load(tmp_path / "two", "val")) == 5
