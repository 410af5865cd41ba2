"""Detection sets of tensorflow-datasets: written by that library in both formats, read picture by picture."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.datasets import load
from zoo.datasets.loading import splits
from zoo.datasets.notes import AnnotationError
from zoo.datasets.tfds_prepared import find_prepared

tfds = pytest.importorskip("tensorflow_datasets", reason="needs tensorflow-datasets: pip install tensorflow-datasets")

NAMES = ["cat", "dog"]
COUNTS = {"train": 9, "test": 3}
SIZE = (30, 40)
# As (x1, y1, x2, y2) in pixels, label, difficult, crowd; by picture number modulo 3.
OBJECTS = {
    0: [((4, 3, 20, 27), 1, False, False), ((0, 0, 40, 30), 0, True, False)],
    1: [],
    2: [((10, 6, 12, 9), 0, False, True), ((8, 8, 8, 20), 1, False, False)],  # the second has no width
}


def png(number, split):
    image = np.random.default_rng([number, len(split)]).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def example(number, split):
    """What the builder is given; boxes become shares (ymin, xmin, ymax, xmax)."""
    height, width = SIZE
    objects = [
        {
            "bbox": tfds.features.BBox(y1 / height, x1 / width, y2 / height, x2 / width),
            "label": label,
            "is_difficult": difficult,
            "is_crowd": crowd,
            "area": 7 * at + 1,
            "pose": "left",
        }
        for at, ((x1, y1, x2, y2), label, difficult, crowd) in enumerate(OBJECTS[number % 3])
    ]
    return {"image": io.BytesIO(png(number, split)), "image/filename": f"{split}{number}.png", "objects": objects}


def features():
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(),
            "image/filename": tfds.features.Text(),
            "objects": tfds.features.Sequence(
                {
                    "bbox": tfds.features.BBoxFeature(),
                    "label": tfds.features.ClassLabel(names=NAMES),
                    "is_difficult": np.bool_,
                    "is_crowd": np.bool_,
                    "area": np.int64,
                    "pose": tfds.features.Text(),
                }
            ),
        }
    )


class Boxed(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Noise with boxes."""

    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = Path(__file__).parent  # where it looks for a description

    def _info(self):
        return self.dataset_info_from_configs(features=features())

    def _split_generators(self, manager):
        return {split: self._generate_examples(split) for split in COUNTS}

    def _generate_examples(self, split):
        for number in range(COUNTS[split]):
            yield number, example(number, split)


class Voc(Boxed, skip_registration=True):
    """The same under the name of the real one, which divides the devkit's numbers."""

    pkg_dir_path = Path(__file__).parent


class Plain(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Pictures without boxes."""

    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = Path(__file__).parent

    def _info(self):
        plain = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=NAMES)}
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(plain))

    def _split_generators(self, manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield 0, {"image": io.BytesIO(png(0, "train")), "label": 0}


def prepare(builder_class, folder, file_format="tfrecord", shards=1):
    builder = builder_class(data_dir=folder, file_format=file_format)
    config = tfds.download.DownloadConfig(num_shards=shards, try_download_gcs=False)
    builder.download_and_prepare(download_config=config)
    return Path(builder.data_dir)


@pytest.fixture(scope="module", params=["tfrecord", "array_record"])
def prepared(request, tmp_path_factory):
    """The folder of the set on disk, in three files a split."""
    return prepare(Boxed, tmp_path_factory.mktemp(request.param), request.param, 3)


@pytest.mark.parametrize(("split", "count"), [("train", 9), ("test", 3), ("train[2:7]", 5), (None, 12)])
def test_all_is_as_it_was_written(prepared, split, count):
    data = load(f"tfds:{prepared}", split)
    assert data.classes == tuple(NAMES)
    assert len(data) == count
    assert len({sample.image_id for sample in data.samples}) == count
    for index, sample in enumerate(data.samples):
        name = sample.image_id.rstrip("0123456789")
        number = int(sample.image_id[len(name) :])
        wanted = [(at, *item) for at, item in enumerate(OBJECTS[number % 3]) if item[0][0] < item[0][2]]
        assert sample.size == SIZE
        np.testing.assert_allclose(sample.boxes, np.reshape([item[1] for item in wanted], (-1, 4)), atol=1e-4)
        assert sample.classes.tolist() == [item[2] for item in wanted]
        assert sample.difficult.tolist() == [item[3] for item in wanted]
        assert sample.crowd.tolist() == [item[4] for item in wanted]
        assert sample.areas.tolist() == [7 * item[0] + 1 for item in wanted]
        expected = np.asarray(Image.open(io.BytesIO(png(number, name))))
        np.testing.assert_array_equal(data.image(index), expected)
    assert set(splits(f"tfds:{prepared}")) == {"train", "test"}


def test_broken_boxes_are_noted(prepared):
    data = load(f"tfds:{prepared}", "test")
    (note,) = data.notes
    assert note.kind == "zero-area"
    assert "object 2 of test2 (dog, 8.0, 8.0, 8.0, 20.0) has no area; dropped" in note


def test_classes_given(prepared):
    data = load(f"tfds:{prepared}", "test", classes=("dog", "cow", "cat"))
    (sample,) = (sample for sample in data.samples if sample.image_id == "test0")
    assert sample.classes.tolist() == [0, 2]
    with pytest.raises(AnnotationError, match=r"object \d has the unknown class 'cat'; known: dog"):
        load(f"tfds:{prepared}", "test", classes=("dog",))
    with pytest.raises(AnnotationError, match="no split 'val'; splits: "):
        load(f"tfds:{prepared}", "val")


def test_the_devkits_pixel_is_taken_off_voc(tmp_path):
    data = load(f"tfds:{prepare(Voc, tmp_path)}", "test")
    (sample,) = (sample for sample in data.samples if sample.image_id == "test0")
    # 4, 3, 20, 27 in the devkit's file; and its first pixel is 1, so 0 is beyond the picture.
    np.testing.assert_allclose(sample.boxes, [[3, 2, 20, 27], [0, 0, 40, 30]], atol=1e-4)


def test_found_by_name(prepared, monkeypatch):
    home = prepared.parent.parent
    monkeypatch.setenv("TFDS_DATA_DIR", str(home))
    assert find_prepared("boxed") == find_prepared("boxed:1.0.0") == prepared
    newer = prepared.parent / "1.10.0"
    shutil.copytree(prepared, newer)
    shutil.copytree(prepared, prepared.parent / "1.9.0")
    try:
        assert find_prepared("boxed") == newer
    finally:
        shutil.rmtree(newer)
        shutil.rmtree(prepared.parent / "1.9.0")
    assert len(load("tfds:boxed", "test")) == 3


def test_what_is_not_there_is_answered_with_what_to_place_where(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(AnnotationError) as caught:
        load("tfds:voc/2007")
    for words in (str(tmp_path / "voc" / "2007"), "dataset_info.json", "TFDS_DATA_DIR", "zoo data get tfds:voc/2007"):
        assert words in str(caught.value)
    with pytest.raises(AnnotationError, match=r"1\.2\.3"):
        load("tfds:voc/2007:1.2.3")
    for name in ("a b", "huggingface:x/y", "x/../y", ""):
        with pytest.raises(AnnotationError, match="as in tfds:voc/2007"):
            load(f"tfds:{name}")
    with pytest.raises(ValueError, match="given as tfds:voc/2007"):
        load("voc/2007")


def test_sets_without_boxes(tmp_path):
    with pytest.raises(AnnotationError, match=r"is no detection set: .* its features are image, label"):
        load(f"tfds:{prepare(Plain, tmp_path)}")


def test_record_files_that_were_cut(tmp_path):
    folder = prepare(Boxed, tmp_path)
    (file,) = folder.glob("*test.tfrecord*")
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(AnnotationError, match=r"test\.tfrecord.*: record 2 is damaged or cut short"):
        load(f"tfds:{folder}", "test")
    file.unlink()
    with pytest.raises(AnnotationError, match=r"test\.tfrecord.* cannot be read"):
        load(f"tfds:{folder}", "test")
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(AnnotationError, match="cannot open it"):
        load(f"tfds:{folder}", "test")
