"""Class folders and archives of them: which picture has which class, and what is said of those that do not fit."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.datasets import load
from zoo.datasets.class_names import number_classes
from zoo.datasets.class_records import ClassificationDataset
from zoo.datasets.class_sources import class_splits, load_classes, open_classes
from zoo.datasets.images import ImageError, natural_key
from zoo.datasets.loading import splits

CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def png(level: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (3, 2), (level, level, level)).save(stream, "PNG")
    return stream.getvalue()


def write(root: Path, files: dict[str, int | bytes]) -> Path:
    """Files under ``root``: pictures of one grey level, or any bytes."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(content) if isinstance(content, int) else content)
    return root


def pack(path: Path, files: dict[str, int | bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, png(content) if isinstance(content, int) else content)
    return path


@pytest.fixture(params=["folder", "zip"])
def make(request, tmp_path):
    """Makes a data set of files, as a folder or as an archive."""

    def make(files):
        if request.param == "folder":
            return write(tmp_path / "photos", files)
        return pack(tmp_path / "photos.zip", files)

    return make


def listed(data: ClassificationDataset) -> list[tuple[str, str, int]]:
    """Name, class and grey level of every picture."""
    return [
        (name, data.classes[label], int(data.image(index)[0, 0, 0]))
        for index, (name, label) in enumerate(zip(data.image_ids, data.labels, strict=True))
    ]


def test_folders_at_the_top_are_classes(make):
    data = load_classes(make({"dog/10.png": 1, "dog/9.png": 2, "cat/b.JPG": 3, "cat/readme.txt": b"no picture"}))
    assert data.classes == ("cat", "dog")
    assert listed(data) == [("cat/b.JPG", "cat", 3), ("dog/9.png", "dog", 2), ("dog/10.png", "dog", 1)]
    assert (data.name, len(data), data.notes) == ("photos", 3, ())


def test_splits_hold_class_folders(make):
    path = make({"train/dog/1.png": 1, "train/cat/1.png": 2, "test/cat/1.png": 3})
    assert class_splits(path) == ("test", "train")
    train = load_classes(path, "train")
    assert listed(train) == [("cat/1.png", "cat", 2), ("dog/1.png", "dog", 1)]
    # Classes of which a split has no picture keep their number.
    test = load_classes(path, "test", train.classes)
    assert (test.classes, listed(test)) == (("cat", "dog"), [("cat/1.png", "cat", 3)])
    with pytest.raises(ValueError, match="has the splits test, train; choose one"):
        load_classes(path)
    with pytest.raises(ValueError, match="no split 'val'; it has test, train"):
        load_classes(path, "val")


@pytest.mark.parametrize("around", ["pack/", "a/b/", "photos/"])
def test_folders_around_everything_are_packing(make, around):
    path = make({f"{around}{split}/{name}/1.png": 5 for split in ("train", "val") for name in ("cat", "dog")})
    assert class_splits(path) == ("train", "val")
    assert listed(load_classes(path, "val")) == [("cat/1.png", "cat", 5), ("dog/1.png", "dog", 5)]


def test_a_single_folder_is_a_split_if_it_is_called_like_one(make):
    path = make({"train/cat/1.png": 1, "train/dog/1.png": 2})
    assert class_splits(path) == ("train",)


def test_a_single_folder_of_another_name_is_packing(make):
    path = make({"my photos/cat/1.png": 1, "my photos/dog/1.png": 2})
    assert class_splits(path) == ()
    assert listed(load_classes(path)) == [("cat/1.png", "cat", 1), ("dog/1.png", "dog", 2)]


def test_pictures_elsewhere_are_told(make):
    path = make({"preview.png": 1, "cat/1.png": 2, "cat/2.png": 2, "dog/1.png": 3, "dog/old/1.png": 4})
    data = load_classes(path)
    assert len(data) == 3
    (note,) = data.notes
    assert "preview.png" in note or "dog/old/1.png" in note
    assert "and 1 more left out" in note


def test_hidden_files_are_no_pictures(make):
    path = make({"cat/1.png": 1, "cat/._1.png": b"x", "__MACOSX/cat/._2.png": b"x", ".trash/cat/3.png": 1})
    assert load_classes(path).image_ids == ("cat/1.png",)


def test_numbers_in_names_count_by_value(make):
    names = ["class10/1.png", "class9/1.png", "class9/10.png", "class9/2.png"]
    data = load_classes(make(dict.fromkeys(names, 1)))
    assert data.classes == ("class9", "class10")
    assert data.image_ids == ("class9/1.png", "class9/2.png", "class9/10.png", "class10/1.png")


def test_natural_order_is_that_of_a_plain_definition():
    def slow(text):
        parts, digits = [""], False
        for sign in text.lower():
            if sign.isdecimal() != digits:
                parts.append("")
                digits = not digits
            parts[-1] += sign
        return [(i % 2, int(part) if i % 2 else part) for i, part in enumerate(parts)], text

    rng = np.random.default_rng(0)
    names = ["".join(rng.choice(list("aB.1203_ ²"), rng.integers(1, 9))) for _ in range(400)]
    assert sorted(names, key=natural_key) == sorted(names, key=slow)


@pytest.mark.parametrize("files", [{}, {"1.png": 1, "2.png": 2}, {"cat/notes.txt": b"x"}])
def test_without_class_folders_it_says_what_to_give(make, files):
    path = make(files)
    Path(path).mkdir(exist_ok=True) if path.suffix != ".zip" else None
    with pytest.raises(ValueError, match=r"no pictures in class folders; give a folder .* tfds:NAME"):
        load_classes(path)


def test_what_is_neither_folder_nor_archive_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere does not exist; give a folder"):
        load_classes(tmp_path / "nowhere")
    (tmp_path / "photos.zip").write_bytes(b"PK\x03\x04 but not for long")
    with pytest.raises(ValueError, match=r"photos.zip is a file, but no zip archive"):
        open_classes(tmp_path / "photos.zip")


def test_an_archive_cut_short_is_refused(tmp_path):
    path = pack(tmp_path / "photos.zip", {f"cat/{i}.png": i for i in range(9)})
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(ValueError, match=r"photos.zip is a file, but no zip archive"):
        load_classes(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_is_named_when_it_is_read(tmp_path, method):
    path = pack(tmp_path / "photos.zip", {"cat/1.png": 1, "cat/2.png": 200}, method)
    content = bytearray(path.read_bytes())
    begin = content.index(b"cat/2.png") + len("cat/2.png")
    content[begin + 4 : begin + 40] = bytes(36)
    path.write_bytes(content)
    data = load_classes(path)
    assert data.image(0)[0, 0, 0] == 1
    with pytest.raises(ImageError, match=r"photos.zip/cat/2.png: cannot be read from the archive"):
        data.image(1)


def test_a_locked_member_is_named(tmp_path):
    path = pack(tmp_path / "photos.zip", {"cat/1.png": 1})
    content = bytearray(path.read_bytes())
    for sign, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(sign) + place] |= 1  # "encrypted"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"cat/1.png: cannot be read from the archive .*password"):
        load_classes(path).image(0)


def test_a_damaged_picture_is_named_when_it_is_read(make):
    data = load_classes(make({"cat/1.png": b"not a picture", "cat/2.png": 7}))
    assert data.image(1)[0, 0, 0] == 7
    with pytest.raises(ImageError, match=r"photos(\.zip)?/cat/1.png: not an image that can be read"):
        data.image(0)


def test_names_that_climb_out_lead_nowhere(tmp_path):
    """Nothing is unpacked; and no file beside the archive is read in a member's place."""
    outside = write(tmp_path, {"secret/cat/1.png": 99})
    folder = outside / "data"
    folder.mkdir()
    files = {"../secret/cat/1.png": 1, "/secret/cat/1.png": 2, "x/../../secret/cat/1.png": 3, "dog/1.png": 4}
    data = load_classes(pack(folder / "photos.zip", files))
    assert 99 not in {level for _, _, level in listed(data)}
    assert not any(".." in name for name in data.image_ids)
    assert sorted(os.listdir(folder)) == ["photos.zip"]
    with pytest.raises(ValueError, match="no pictures in class folders"):
        load_classes(pack(folder / "climb.zip", {"../secret/cat/1.png": 1}))


def test_linked_folders_are_followed_but_not_for_ever(tmp_path):
    root = write(tmp_path / "photos", {"cat/1.png": 1})
    write(tmp_path / "elsewhere", {"1.png": 2})
    (root / "dog").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "round").symlink_to(root, target_is_directory=True)
    data = load_classes(root)
    assert listed(data) == [("cat/1.png", "cat", 1), ("dog/1.png", "dog", 2)]
    assert data.notes == ()


def test_classes_may_be_given(make):
    path = make({"cat/1.png": 1, "dog/1.png": 2})
    data = load_classes(path, classes=["dog", "cow", "cat"])
    assert (data.classes, data.labels.tolist()) == (("dog", "cow", "cat"), [2, 0])
    with pytest.raises(ValueError, match="has other classes: cat; known are dog, cow"):
        load_classes(path, classes=["dog", "cow"])


def test_synsets_go_with_words_in_their_order():
    found = ["n02123045", "n01440764", "n01443537"]
    known, numbers = number_classes(found, ["tench", "crane", "crane"], "here")
    assert known == ("tench", "crane", "crane")
    assert numbers == {"n01440764": 0, "n01443537": 1, "n02123045": 2}
    # By name where names agree, and not at all where the count differs.
    assert number_classes(found, sorted(found, reverse=True), "here")[1]["n02123045"] == 0
    with pytest.raises(ValueError, match="here has other classes: n01440764, n01443537, n02123045"):
        number_classes(found, ["tench", "crane"], "here")
    with pytest.raises(ValueError, match="'crane' occurs twice"):
        number_classes(["crane"], ["crane", "crane"], "here")


def test_records_refuse_labels_that_point_nowhere():
    with pytest.raises(ValueError, match="labels from 0 to 2, 2 classes"):
        ClassificationDataset("here", ["a", "b"], [0, 2], ["x", "y"], lambda index: None)
    with pytest.raises(ValueError, match="labels from -1 to 0, 1 classes"):
        ClassificationDataset("here", ["a"], [0, -1], ["x", "y"], lambda index: None)
    with pytest.raises(ValueError, match="1 labels but 2 pictures"):
        ClassificationDataset("here", ["a"], [0], ["x", "y"], lambda index: None)


def test_a_part_of_a_data_set_keeps_all_classes(make):
    data = load_classes(make({"cat/1.png": 1, "cat/2.png": 2, "dog/1.png": 3}))
    part = data.subset([2, 0], "part")
    assert listed(part) == [("dog/1.png", "dog", 3), ("cat/1.png", "cat", 1)]
    assert listed(part.subset([1])) == [("cat/1.png", "cat", 1)]
    assert (part.name, part.classes) == ("part", data.classes)
    for index in (3, -1):
        with pytest.raises(IndexError, match=f"pictures 0 to 2, not {index}"):
            data.subset([0, index])
    assert "'part': 2 images, 2 classes" in repr(part)


def test_cifar10_is_whole(cifar10_zip):
    source = open_classes(cifar10_zip)
    assert source.splits == ("test", "train")
    for split, count in (("train", 50_000), ("test", 10_000)):
        data = source.load(split)
        assert data.classes == CIFAR
        assert np.bincount(data.labels).tolist() == [count // 10] * 10
        assert data.image(count - 1).shape == (32, 32, 3)
        assert data.notes == ()


def test_one_call_opens_what_has_classes_too(make):
    where = make({"train/cat/a.png": 10, "train/dog/b.png": 20, "test/dog/c.png": 30})
    assert splits(where, task="classification") == class_splits(where) == ("test", "train")
    data = load(where, "train", ["dog", "cat"], task="classification")
    assert listed(data) == [("cat/a.png", "cat", 10), ("dog/b.png", "dog", 20)]
    with pytest.raises(ValueError, match="images, keep_empty, difficult and on_error are about boxes"):
        load(where, "train", images=where, task="classification")
    with pytest.raises(ValueError, match="task is 'detection' or 'classification', not 'boxes'"):
        load(where, "train", task="boxes")
    words = "task='classification'" if where.is_dir() else "cannot be read as a data set"
    with pytest.raises(ValueError, match=words):
        load(where, "train")
