"""The fast reader gives the careful reader's pixels and errors, whatever the file is."""

import io
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from zoo.datasets import fast_images
from zoo.datasets.fast_images import read_image_fast
from zoo.datasets.images import ImageError, read_image

_ORIENTATION = 0x0112


def scene(height=61, width=83, seed=0):
    """Smooth colours with some grain: what a camera gives."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    smooth = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).astype(int)
    return np.clip(smooth + rng.integers(-9, 10, smooth.shape), 0, 255).astype(np.uint8)


def encoded(picture, kind="JPEG", **options):
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def jpegs():
    photo = Image.fromarray(scene())
    yield "plain", encoded(photo)
    yield "fine", encoded(photo, quality=98, subsampling=0)
    yield "halved", encoded(photo, subsampling=1)
    yield "coarse", encoded(photo, quality=8)
    yield "progressive", encoded(photo, progressive=True, quality=60)
    yield "optimised", encoded(photo, optimize=True)
    yield "restarts", encoded(photo, restart_marker_blocks=2)
    yield "grey", encoded(photo.convert("L"))
    yield "rgb", encoded(photo, keep_rgb=True)
    yield "profile", encoded(photo, icc_profile=b"no profile at all", dpi=(300, 300), comment=b"\xff\xd9 inside")
    for size in ((1, 1), (1, 40), (17, 1), (8, 8), (16, 33)):
        yield f"{size[0]}x{size[1]}", encoded(Image.fromarray(scene(*size)))


@pytest.fixture
def careful(monkeypatch):
    """How often the careful reader was asked."""
    asked = []

    def read(*args, **options):
        asked.append(args)
        return read_image(*args, **options)

    monkeypatch.setattr(fast_images, "read_image", read)
    return asked


@pytest.mark.parametrize(("name", "data"), list(jpegs()), ids=lambda value: value if isinstance(value, str) else "")
def test_ordinary_jpegs_have_the_same_pixels(tmp_path, careful, name, data):
    path = tmp_path / f"{name}.jpg"
    path.write_bytes(data)
    image = read_image_fast(path)
    np.testing.assert_array_equal(image, read_image(path))
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert not careful


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_pictures_are_upright(tmp_path, careful, orientation):
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    path = tmp_path / "phone.jpg"
    path.write_bytes(encoded(Image.fromarray(scene()), exif=exif))
    np.testing.assert_array_equal(read_image_fast(path), read_image(path))
    assert len(careful) == (orientation > 1)


def unusual():
    photo = Image.fromarray(scene())
    yield "cmyk", encoded(photo.convert("CMYK"))
    yield "png", encoded(photo, "PNG")
    yield "transparent", encoded(photo.convert("RGBA"), "PNG")
    yield "gif", encoded(photo, "GIF")
    yield "two", encoded(photo, "MPO", save_all=True, append_images=[photo.rotate(180)])
    yield "tail", encoded(photo) + b"appended by a camera"


@pytest.mark.parametrize(("name", "data"), list(unusual()), ids=lambda value: value if isinstance(value, str) else "")
def test_everything_else_goes_the_careful_way(tmp_path, careful, name, data):
    path = tmp_path / f"{name}.jpg"
    path.write_bytes(data)
    np.testing.assert_array_equal(read_image_fast(path), read_image(path))
    assert len(careful) == 1


def outcome(read, path):
    try:
        return read(path)
    except ImageError as error:
        return str(error)


def test_broken_files_give_the_careful_readers_errors(tmp_path):
    data = encoded(Image.fromarray(scene()))
    scan = data.index(b"\xff\xda") + 40
    broken = {
        "empty": b"",
        "text": b"no picture",
        "start": b"\xff\xd8\xff",
        "ends": b"\xff\xd8\xff\xd9",
        "half": data[: len(data) // 2],
        "last": data[:-1],
        "header": data[:300] + b"\xff\xd9",
        "marker": data[:scan] + b"\xff\x9d" + data[scan + 2 :],  # OpenCV says nothing and leaves the rest grey
    }
    for name, content in broken.items():
        path = tmp_path / f"{name}.jpg"
        path.write_bytes(content)
        with pytest.raises(ImageError) as careful:
            read_image(path)
        with pytest.raises(ImageError) as fast:
            read_image_fast(path)
        assert str(fast.value) == str(careful.value)
        assert fast.value.name == str(path)
    for path in (tmp_path / "missing.jpg", tmp_path):
        assert outcome(read_image_fast, path) == outcome(read_image, path)


def test_damaged_bytes_are_treated_alike(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged.jpg"
    for options in ({}, {"progressive": True}):
        sound = encoded(Image.fromarray(scene()), **options)
        for _ in range(150):
            data = bytearray(sound)
            for place in rng.integers(2, len(data) - 2, rng.integers(1, 4)):
                data[place] = rng.integers(256)
            path.write_bytes(data)
            fast, careful = outcome(read_image_fast, path), outcome(read_image, path)
            assert type(fast) is type(careful)
            np.testing.assert_array_equal(fast, careful)


def test_a_picture_too_large_is_refused_by_the_careful_reader(tmp_path, careful, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    path = tmp_path / "huge.jpg"
    path.write_bytes(encoded(Image.fromarray(scene())))
    with pytest.raises(ImageError, match=r"huge\.jpg: 5,063 pixels are more than"):
        read_image_fast(path)
    monkeypatch.undo()
    monkeypatch.setattr(fast_images, "_MOST_PIXELS", 5000)
    monkeypatch.setattr(fast_images, "_decode", None)  # would fail if it were called
    read_image_fast(path)


def test_real_photos_have_the_same_pixels():
    shared = os.environ.get("ZOO_SHARED_DATA")
    if not shared:
        pytest.skip("real pictures are not here: set ZOO_SHARED_DATA to the folder that holds bccd/ and coco128/")
    for folder in ("bccd/JPEGImages", "coco128/images"):
        for path in sorted((Path(shared) / folder).iterdir())[:64]:
            np.testing.assert_array_equal(read_image_fast(path), read_image(path), err_msg=str(path))
