"""Reading pictures: every way of storing one gives the right pixels, every broken file a clear message."""

import io
import pickle
import warnings

import numpy as np
import pytest
from PIL import Image

from zoo.datasets.images import IMAGE_SUFFIXES, ImageError, image_size, list_images, read_image


def save(picture, kind, **options):
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture
def photo():
    """5 rows, 7 columns, every pixel different."""
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_keep_every_pixel(photo, kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    image = read_image(save(Image.fromarray(photo), kind, **options))
    np.testing.assert_array_equal(image, photo)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous


def test_lossy_and_palette_formats(photo):
    smooth = np.tile(np.linspace(20, 220, 64).astype(np.uint8)[None, :, None], (48, 1, 3))
    jpeg = read_image(save(Image.fromarray(smooth), "JPEG", quality=95))
    assert np.abs(jpeg.astype(int) - smooth).max() <= 4
    frames = [Image.new("RGB", (6, 4), "red"), Image.new("RGB", (6, 4), "blue")]
    gif = read_image(save(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert gif.shape == (4, 6, 3)
    assert gif[0, 0].tolist() == [255, 0, 0]


def test_multi_picture_jpeg_of_cameras():
    frames = [Image.new("RGB", (16, 8), "red"), Image.new("RGB", (16, 8), "blue")]
    image = read_image(save(frames[0], "MPO", save_all=True, append_images=frames[1:]))
    assert image.shape == (8, 16, 3)
    assert image[4, 4, 0] > 250


def test_one_pixel():
    assert read_image(save(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG")).tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize(("mode", "pixel"), [("L", 90), ("1", 1), ("P", 5)])
def test_gray_bilevel_and_palette_become_rgb(mode, pixel):
    picture = Image.new(mode, (4, 3), pixel)
    expected = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(read_image(save(picture, "PNG")), expected)


def test_cmyk_jpeg():
    image = read_image(save(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG"))
    assert image.shape == (16, 16, 3)
    assert image[8, 8, 0] < 10
    assert image[8, 8, 1:].min() > 245


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_gray_is_scaled_by_its_high_byte(kind):
    values = np.array([[0, 255, 256, 4096], [32768, 65535, 65280, 300]], np.uint16)
    image = read_image(save(Image.fromarray(values), kind))
    np.testing.assert_array_equal(image, np.repeat((values >> 8)[..., None], 3, 2))


def test_16_bit_rgb():
    import cv2

    values = np.random.default_rng(1).integers(0, 65536, (3, 4, 3)).astype(np.uint16)
    data = cv2.imencode(".png", values[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(read_image(data), values >> 8)


def test_32_bit_and_float_pixels_are_refused():
    big = np.full((2, 2), 1 << 20, np.int32)
    for array in (big, np.zeros((2, 2), np.float32)):
        with pytest.raises(ImageError, match=r"scan\.tif: has .* save it with 8 or 16 bits"):
            read_image(save(Image.fromarray(array), "TIFF"), name="scan.tif")


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_composited_on_white(mode):
    colour = (200, 100, 0) if mode == "RGBA" else (100,)
    picture = Image.new(mode, (3, 1))
    for x, alpha in enumerate((0, 128, 255)):
        picture.putpixel((x, 0), (*colour, alpha))
    image = read_image(save(picture, "PNG"))
    rgb = np.array(colour if mode == "RGBA" else colour * 3)
    assert image[0, 0].tolist() == [255, 255, 255]
    assert np.abs(image[0, 1] - (255 + (rgb - 255) * 128 / 255)).max() <= 1
    assert image[0, 2].tolist() == rgb.tolist()


def test_a_palettes_transparent_colour_is_white():
    picture = Image.new("P", (2, 1), 0)
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.putpixel((1, 0), 1)
    image = read_image(save(picture, "PNG", transparency=0))
    assert image.tolist() == [[[255, 255, 255], [40, 50, 60]]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation, kind):
    """What a viewer shows is the same picture for all eight ways of storing it."""
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :8] = 255  # the top left
    upright[8:, 24:] = 120  # the bottom right
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = save(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif)
    image = read_image(data)
    assert image.shape == upright.shape
    assert np.abs(image.astype(int) - upright).max() < 12
    assert image_size(data) == (16, 32)
    if kind != "TIFF":  # Pillow turns TIFF files itself
        assert read_image(data, exif=False).shape == stored.shape


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_nonsense_orientation_is_ignored(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert read_image(save(Image.new("RGB", (4, 2)), "PNG", exif=exif)).shape == (2, 4, 3)


def check(path, *words):
    with pytest.raises(ImageError) as caught:
        read_image(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    for word in words:
        assert word in message
    return message


def test_a_text_file_named_jpg(tmp_path):
    (tmp_path / "street.jpg").write_text("this is no picture\n" * 9)
    check(tmp_path / "street.jpg", "not an image", "looks like text", "JPEG, PNG, BMP, WebP, TIFF and GIF")


@pytest.mark.parametrize(
    ("content", "guess"),
    [
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"%PDF-1.7 rest", "a PDF"),
        (b"\x00\x00\x00\x18ftypheic" + bytes(20), "HEIC"),
        (b"PK\x03\x04" + bytes(9), "a zip"),
        (b'<?xml version="1.0"?><svg/>', "XML or SVG"),
    ],
)
def test_the_guess_at_other_files(tmp_path, content, guess):
    (tmp_path / "a.png").write_bytes(content)
    check(tmp_path / "a.png", guess)


def test_binary_rubbish_is_not_called_text(tmp_path):
    (tmp_path / "a.png").write_bytes(np.random.default_rng(0).bytes(500))
    assert "looks like" not in check(tmp_path / "a.png", "not an image")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF"])
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_truncated_files(tmp_path, kind, share):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    data = save(Image.fromarray(noise), kind)
    path = tmp_path / f"cut.{kind.lower()}"
    path.write_bytes(data[: int(len(data) * share)])
    check(path)


def test_a_truncated_jpeg_is_called_truncated(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    data = save(Image.fromarray(noise), "JPEG")
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    check(tmp_path / "cut.jpg", "truncated")


def test_missing_empty_and_folder(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    check(tmp_path / "empty.jpg", "empty")
    check(tmp_path / "folder.jpg", "is a folder")
    check(tmp_path / "nothing.jpg", "no such file")
    with pytest.raises(ImageError, match="download it first"):
        read_image("https://example.org/a.jpg")
    with pytest.raises(ImageError, match=r"^upload 7: the file is empty"):
        read_image(b"", name="upload 7")
    with pytest.raises(TypeError, match="path or bytes"):
        read_image(3)


def test_a_decompression_bomb_is_refused_by_name_and_size(tmp_path, monkeypatch):
    (tmp_path / "huge.png").write_bytes(save(Image.new("L", (100, 50)), "PNG"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(tmp_path / "huge.png", "5,000 pixels")


def test_other_decoders_are_not_tried(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    check(tmp_path / "a.jpg", "not an image")


def test_an_error_survives_pickling():
    error = pickle.loads(pickle.dumps(ImageError("a.jpg", "is bad")))
    assert (str(error), error.name) == ("a.jpg: is bad", "a.jpg")


def test_size_is_read_from_the_header_alone(tmp_path):
    data = save(Image.fromarray(np.zeros((30, 40, 3), np.uint8)), "PNG")
    (tmp_path / "cut.png").write_bytes(data[:60])
    assert image_size(tmp_path / "cut.png") == (30, 40)
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(ImageError, match=r"text\.png: not an image"):
        image_size(tmp_path / "text.png")


def test_a_folders_pictures_in_natural_order(tmp_path):
    for name in ("10.jpg", "2.JPG", "1.png", "a.webp", ".hidden.jpg", "notes.txt", "a10.gif", "a9.gif"):
        (tmp_path / name).touch()
    (tmp_path / "sub.jpg").mkdir()
    names = [path.name for path in list_images(tmp_path)]
    assert names == ["1.png", "2.JPG", "10.jpg", "a9.gif", "a10.gif", "a.webp"]


def test_folders_without_pictures(tmp_path):
    with pytest.raises(ImageError, match="no pictures in this folder") as caught:
        list_images(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert all(suffix in str(caught.value) for suffix in IMAGE_SUFFIXES)
    with pytest.raises(ImageError, match="no such folder"):
        list_images(tmp_path / "missing")
    (tmp_path / "a.jpg").touch()
    with pytest.raises(ImageError, match="is a file"):
        list_images(tmp_path / "a.jpg")
