"""Prepared sets by name: configurations, what `zoo data get` says, and a kept index that was damaged."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from zoo.cli.main import main
from zoo.datasets.class_tfds import _kept
from zoo.datasets.notes import AnnotationError
from zoo.datasets.tfds_prepared import find_prepared


@pytest.fixture
def home(monkeypatch, tmp_path):
    """Where tensorflow-datasets keeps its sets."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("ZOO_OFFLINE", raising=False)
    return tmp_path


def prepare(folder):
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{}")
    return folder


def test_the_only_configuration_is_taken(home):
    old, new = prepare(home / "voc" / "2007" / "4.0.0"), prepare(home / "voc" / "2007" / "5.0.0")
    (home / "voc" / "2012").mkdir()  # nothing in it yet
    assert find_prepared("voc") == find_prepared("voc/2007") == find_prepared(str(home / "voc")) == new
    assert find_prepared("voc:4.0.0") == old
    with pytest.raises(AnnotationError, match="no prepared data"):
        find_prepared("voc:1.0.0")


def test_of_several_configurations_one_has_to_be_named(home):
    for year in ("2007", "2012"):
        prepare(home / "voc" / year / "5.0.0")
    with pytest.raises(AnnotationError, match=f"prepared in {home}/voc; say which: tfds:voc/2007 or tfds:voc/2012"):
        find_prepared("voc")
    with pytest.raises(AnnotationError, match=r"say which: tfds:voc/2007:5\.0\.0 or tfds:voc/2012:5\.0\.0"):
        find_prepared("voc:5.0.0")
    assert find_prepared("voc/2012") == home / "voc" / "2012" / "5.0.0"


def test_a_set_is_fetched_by_a_name_without_configuration(home, monkeypatch, capsys):
    prepare(home / "voc" / "2012" / "5.0.0")
    prepare(home / "voc" / "2009" / "5.0.0")

    def builder(name, data_dir):
        assert (name, Path(data_dir)) == ("voc", home)
        folder = home / "voc" / "2007" / "5.0.0"
        info = SimpleNamespace(full_name="voc/2007/5.0.0")
        return SimpleNamespace(download_and_prepare=lambda: prepare(folder), data_dir=str(folder), info=info)

    monkeypatch.setitem(sys.modules, "tensorflow_datasets", SimpleNamespace(builder=builder))
    assert main(["data", "get", "tfds:voc"]) == 0
    assert capsys.readouterr().out.strip() == f"Data: {home}/voc/2007/5.0.0 (tfds:voc/2007:5.0.0)"


def test_a_damaged_index_is_made_anew(tmp_path):
    path = tmp_path / "index.npz"
    np.savez_compressed(path, rows=np.zeros(99))
    data = bytearray(path.read_bytes())
    name, extra = np.frombuffer(bytes(data[26:30]), "<u2")
    data[30 + name + extra] |= 0b110  # a block of the kind that deflate does not have
    path.write_bytes(data)
    for _ in range(2):
        np.testing.assert_array_equal(_kept(path, lambda: {"rows": np.arange(3)})["rows"], [0, 1, 2])
    with np.load(path) as kept:
        np.testing.assert_array_equal(kept["rows"], [0, 1, 2])
