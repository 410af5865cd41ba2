"""Sets of tensorflow-datasets: real files in both formats, read picture by picture."""

import io
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.datasets.class_sources import class_splits, load_classes, open_classes
from zoo.datasets.images import ImageError
from zoo.datasets.tfrecord_index import index_file

tfds = pytest.importorskip("tensorflow_datasets", reason="needs tensorflow-datasets: pip install tensorflow-datasets")


COUNTS = {"train": 23, "test": 7}
NAMES = ["red", "green", "blue"]


def picture(split: str, number: int) -> np.ndarray:
    """A PNG keeps it to the bit."""
    seed = [number, len(split)]
    return np.random.default_rng(seed).integers(0, 256, (5 + number % 3, 7, 3), dtype=np.uint8)


def png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


class TinyPictures(tfds.core.GeneratorBasedBuilder):
    """Small pictures; besides picture and label a name and numbers, which have to be stepped over."""

    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = Path(__file__).parent  # where it looks for a description

    def _info(self):
        features = {
            "image": tfds.features.Image(),
            "label": tfds.features.ClassLabel(names=NAMES),
            "file_name": tfds.features.Text(),
            "weights": tfds.features.Tensor(shape=(3,), dtype=np.float32),
        }
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager):
        return {split: self._generate_examples(split) for split in COUNTS}

    def _generate_examples(self, split):
        for number in range(COUNTS[split]):
            yield (
                number,
                {
                    "image": io.BytesIO(png(picture(split, number))),
                    "label": number % 3,
                    "file_name": f"{number}.png",
                    "weights": np.full(3, number, np.float32),
                },
            )


@pytest.fixture(scope="module", params=["tfrecord", "array_record"])
def prepared(request, tmp_path_factory):
    """The set on disk, in three files a split."""
    folder = tmp_path_factory.mktemp(request.param)
    builder = TinyPictures(data_dir=folder, file_format=request.param)
    config = tfds.download.DownloadConfig(num_shards=3, try_download_gcs=False)
    builder.download_and_prepare(download_config=config)
    return builder


def spec(builder) -> str:
    return f"tfds:{builder.data_dir}"


@pytest.mark.parametrize("split", ["train", "test", "train[5:17]", "train[50%:]"])
def test_pictures_and_labels_are_those_that_were_written(prepared, split):
    data = load_classes(spec(prepared), split)
    assert data.classes == tuple(NAMES)
    # The library shuffles what it writes; its own reader tells which picture is where.
    base = split.partition("[")[0]
    if prepared.info.file_format.value == "tfrecord":
        expected = list(tfds.as_numpy(prepared.as_dataset(split=split)))
    else:
        expected = list(prepared.as_data_source(split))
    assert len(data) == len(expected) > 0
    for index, example in enumerate(expected):
        np.testing.assert_array_equal(data.image(index), example["image"])
        assert data.labels[index] == example["label"]
        number = int(example["weights"][0])
        np.testing.assert_array_equal(data.image(index), picture(base, number))
        assert data.labels[index] == number % 3
    assert len(set(data.image_ids)) == len(data)


def test_splits_are_named_and_others_refused(prepared):
    assert set(class_splits(spec(prepared))) == set(COUNTS)
    with pytest.raises(ValueError, match=r"no split 'valid'; it has .*te"):
        load_classes(spec(prepared), "valid")


def test_classes_are_numbered_as_asked(prepared):
    own = load_classes(spec(prepared), "test")
    turned = load_classes(spec(prepared), "test", ["blue", "red", "green", "grey"])
    assert [turned.classes[label] for label in turned.labels] == [own.classes[label] for label in own.labels]
    with pytest.raises(ValueError, match="other classes: blue, green; known are red, cyan"):
        load_classes(spec(prepared), "test", ["red", "cyan"])


def test_the_files_are_searched_once(prepared, tmp_path, monkeypatch):
    first = open_classes(spec(prepared), tmp_path / "index").load("train")
    kept = list((tmp_path / "index").iterdir())
    assert len(kept) == 1
    # With neither search to be had, what was kept has to do.
    monkeypatch.setattr("zoo.datasets.class_tfds.ThreadPoolExecutor", None)
    again = open_classes(spec(prepared), tmp_path / "index").load("train")
    np.testing.assert_array_equal(again.labels, first.labels)
    np.testing.assert_array_equal(again.image(3), first.image(3))
    with pytest.raises(TypeError):
        open_classes(spec(prepared)).load("train")


def test_a_damaged_index_is_made_again(prepared, tmp_path):
    first = open_classes(spec(prepared), tmp_path).load("test")
    (kept,) = tmp_path.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[:100])
    again = open_classes(spec(prepared), tmp_path).load("test")
    np.testing.assert_array_equal(again.labels, first.labels)
    assert kept.read_bytes() == whole


def test_a_folder_that_cannot_be_written_is_no_obstacle(prepared, tmp_path):
    (tmp_path / "file").write_text("")
    assert len(open_classes(spec(prepared), tmp_path / "file" / "index").load("test")) == COUNTS["test"]


def copied(prepared, tmp_path):
    """The set in a place where it may be damaged, and its training files."""
    folder = tmp_path / "tiny_pictures" / "1.0.0"
    shutil.copytree(prepared.data_dir, folder)
    return f"tfds:{folder}", sorted(folder.glob("*train*0000*"))


def test_a_missing_file_is_named(prepared, tmp_path):
    where, files = copied(prepared, tmp_path)
    files[1].unlink()
    with pytest.raises(ValueError, match=f"{files[1].name} is missing"):
        load_classes(where, "train")


@pytest.mark.parametrize("prepared", ["tfrecord"], indirect=True)
def test_a_file_cut_short_is_named(prepared, tmp_path):
    where, files = copied(prepared, tmp_path)
    files[2].write_bytes(files[2].read_bytes()[:-9])
    with pytest.raises(ValueError, match=rf"{files[2].name}: record \d+ is damaged or cut short"):
        load_classes(where, "train")
    files[2].write_bytes(b"")
    with pytest.raises(ValueError, match=rf"{files[2].name} holds 0 records, not the \d+"):
        load_classes(where, "train")


@pytest.mark.parametrize("prepared", ["tfrecord"], indirect=True)
def test_a_damaged_picture_is_named(prepared, tmp_path):
    where, files = copied(prepared, tmp_path)
    data = load_classes(where, "train")
    content = bytearray(files[0].read_bytes())
    begin = content.find(b"\x89PNG")
    content[begin : begin + 4] = b"none"
    files[0].write_bytes(content)
    with pytest.raises(ImageError, match="train/0"):
        data.image(0)


@pytest.mark.parametrize("prepared", ["tfrecord"], indirect=True)
def test_only_the_asked_pictures_are_in_memory(prepared, tmp_path):
    """Twenty megabytes of pictures, of which one is read."""
    import tensorflow as tf

    path, big = tmp_path / "big.tfrecord", b"x" * 1_000_000
    feature = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[big])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[-1])),
    }
    record = tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for _ in range(20):
            writer.write(record)
    tracemalloc.start()
    rows = index_file(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200_000
    assert (rows["label"] == -1).all()
    assert (rows["size"] == len(big)).all()
    content = path.read_bytes()
    assert all(content[start : start + 10] == big[:10] and content[start - 1] != ord("x") for start in rows["start"])


def test_numbers_are_read_however_they_are_written(tmp_path):
    """A label that is not packed, as old writers had it; and one of several bytes."""
    import tensorflow as tf

    def field(number, content):
        return bytes([number << 3 | 2, len(content)]) + content

    packed = tf.train.Feature(int64_list=tf.train.Int64List(value=[300])).SerializeToString()
    loose = field(3, b"\x08\xac\x02")
    assert packed != loose
    image = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"pixels"])).SerializeToString()
    for label in (packed, loose):
        entries = [field(1, b"label") + field(2, label), field(1, b"image") + field(2, image)]
        for order in (entries, entries[::-1]):
            record = field(1, b"".join(field(1, entry) for entry in order))
            assert tf.train.Example.FromString(record).features.feature["label"].int64_list.value[0] == 300
            with tf.io.TFRecordWriter(str(tmp_path / "one")) as writer:
                writer.write(record)
            (row,) = index_file(tmp_path / "one")
            assert row["label"] == 300
            assert (tmp_path / "one").read_bytes()[row["start"] :][: row["size"]] == b"pixels"


def test_records_without_label_are_refused(tmp_path):
    import tensorflow as tf

    feature = {"image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"pixels"]))}
    with tf.io.TFRecordWriter(str(tmp_path / "one")) as writer:
        writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    with pytest.raises(ValueError, match=r"one: record 0 .*no feature 'label'"):
        index_file(tmp_path / "one")


@pytest.mark.parametrize("name", ["nonsuch_set", "cifar10", "imagenet2012"])
def test_sets_that_cannot_be_had_say_why(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(ValueError, match=f"no prepared data in {tmp_path}/{name}/VERSION.* zoo data get tfds:{name}"):
        load_classes(f"tfds:{name}")


def test_a_set_is_found_by_its_name(prepared, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(Path(prepared.data_dir).parent.parent))
    assert len(load_classes("tfds:tiny_pictures", "test")) == COUNTS["test"]
    assert load_classes("tfds:tiny_pictures:1.0.0", "test").name == "tiny_pictures:1.0.0 test"


class Boxed(TinyPictures, skip_registration=True):
    """Pictures without a class of their own."""

    pkg_dir_path = Path(__file__).parent

    def _info(self):
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict({"image": tfds.features.Image()}))

    def _generate_examples(self, split):
        yield 0, {"image": io.BytesIO(png(picture(split, 0)))}


def test_sets_without_classes_are_refused(tmp_path):
    builder = Boxed(data_dir=tmp_path, file_format="tfrecord")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    with pytest.raises(ValueError, match="has the features image, not a picture image and a class label"):
        load_classes(spec(builder))


def test_a_folder_without_a_set_is_refused(tmp_path):
    with pytest.raises(ValueError, match=f"no prepared data in {tmp_path}/VERSION"):
        load_classes(f"tfds:{tmp_path}")


def test_without_the_library_it_says_what_to_install(prepared, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorflow_datasets", None)
    with pytest.raises(ValueError, match="pip install tensorflow-datasets"):
        load_classes(spec(prepared))
