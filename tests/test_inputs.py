"""What may be given to a detector."""

import numpy as np
import pytest
from PIL import Image

from zoo.datasets.images import ImageError
from zoo.inputs import as_image, list_sources, load_inputs


@pytest.fixture
def folder(tmp_path):
    for name, color in (("b10.png", (10, 0, 0)), ("b2.png", (2, 0, 0))):
        Image.new("RGB", (5, 4), color).save(tmp_path / name)
    (tmp_path / "broken.jpg").write_text("not a picture")
    (tmp_path / "notes.txt").write_text("left alone")
    return tmp_path


def test_a_single_picture_is_single(folder):
    inputs, single = load_inputs(str(folder / "b2.png"))
    assert single
    assert inputs[0].path == folder / "b2.png"
    assert inputs[0].image[0, 0].tolist() == [2, 0, 0]
    assert load_inputs(np.zeros((4, 5, 3), np.uint8))[1]
    with pytest.raises(ImageError, match=r"broken\.jpg: "):
        load_inputs(folder / "broken.jpg")
    with pytest.raises(ImageError, match=r"absent\.png: no such file"):
        load_inputs(folder / "absent.png")


def test_one_bad_file_does_not_lose_the_others(folder):
    inputs, single = load_inputs(folder)
    assert not single
    assert [item.path.name for item in inputs] == ["b2.png", "b10.png", "broken.jpg"]
    assert [item.error is None for item in inputs] == [True, True, False]
    assert inputs[2].image is None
    assert "broken.jpg" in inputs[2].error


def test_lists_mix_paths_arrays_and_folders(folder):
    array = np.full((2, 3, 3), 7, np.uint8)
    inputs, single = load_inputs([array, folder / "b10.png", np.zeros((2, 2, 7)), folder])
    assert not single
    assert [None if item.image is None else int(item.image[0, 0, 0]) for item in inputs] == [
        7,
        10,
        None,
        2,
        10,
        None,
    ]
    assert "array number 2" in inputs[2].error


def test_patterns_and_batches(folder):
    assert [path.name for path in list_sources(str(folder / "b*.png"))[0]] == ["b2.png", "b10.png"]
    with pytest.raises(ImageError, match=r"\*\.gif: no file matches"):
        load_inputs(str(folder / "*.gif"))
    inputs, single = load_inputs(np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3))
    assert not single
    assert inputs[1].image[0, 0].tolist() == [36, 37, 38]


def test_nothing_is_an_error(tmp_path):
    with pytest.raises(ImageError, match=rf"{tmp_path}.*\.jpg.*\.png"):
        load_inputs(tmp_path)
    with pytest.raises(ImageError, match=r"empty list"):
        load_inputs([])
    with pytest.raises(ImageError, match=r"no image"):
        load_inputs(np.zeros((0, 4, 4, 3), np.uint8))


def test_arrays_become_rgb():
    gray = np.array([[0, 100], [200, 255]], np.uint8)
    for array in (gray, gray[..., None], gray.astype(np.float64), gray.astype(np.int64)):
        np.testing.assert_array_equal(as_image(array), np.stack([gray] * 3, -1))
    # Half transparent black on white is gray, wholly transparent anything is white.
    rgba = np.array([[[0, 0, 0, 128], [9, 9, 9, 0], [7, 8, 9, 255]]], np.uint8)
    assert as_image(rgba).tolist() == [[[127, 127, 127], [255, 255, 255], [7, 8, 9]]]
    assert as_image(np.full((1, 1, 3), 7.6)).tolist() == [[[8, 8, 8]]]
    assert as_image(Image.new("L", (3, 2), 5)).tolist() == [[[5] * 3] * 3] * 2


def test_files_and_arrays_agree_on_transparency(tmp_path):
    rgba = np.random.default_rng(0).integers(0, 256, (9, 9, 4), np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    from_file = load_inputs(tmp_path / "a.png")[0][0].image.astype(int)
    assert np.abs(from_file - as_image(rgba)).max() <= 1
    assert np.abs(from_file - as_image(Image.open(tmp_path / "a.png"))).max() <= 1


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((4, 4, 3), np.nan), "48 of 48 values are NaN"),
        (np.full((4, 4, 3), 0.5), r"0\.\.255.*multiply by 255"),
        (np.full((4, 4, 3), -1), "values from -1 to -1"),
        (np.full((4, 4, 3), 4000, np.uint16), "divide 16-bit values by 257"),
        (np.zeros((4, 4, 3), bool), "type bool"),
        (np.zeros((3, 40, 50)), "channels first"),
        (np.zeros((4, 5, 2)), "shape"),
        (np.zeros(7), "shape"),
        (np.zeros((0, 5, 3)), "no pixels"),
        (np.array([["a"]]), "type <U1"),
        (object(), "no image"),
        (None, "no image"),
    ],
)
def test_arrays_that_are_no_images_are_refused(array, message):
    with pytest.raises(ImageError, match=message):
        load_inputs(array)


def test_black_floats_are_an_image():
    assert not load_inputs(np.zeros((4, 4, 3)))[0][0].image.any()
