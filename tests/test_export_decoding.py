"""Decoding inside the graph gives the pixels that everybody else's decoder gives; what is no image is a status."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from zoo.datasets.images import read_image
from zoo.export.decoding import MAX_PIXELS, OK, TOO_LARGE, UNREADABLE, decode

decoder = tf.function(decode, input_signature=[tf.TensorSpec((), tf.string)], autograph=False)


def picture(height=37, width=50, channels=3, seed=0):
    """Smooth colours with some grain: what JPEG is made for, and not trivial."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 6, channels), np.uint8)
    smooth = np.stack(
        [np.asarray(Image.fromarray(coarse[..., c]).resize((width, height), Image.BICUBIC)) for c in range(channels)],
        -1,
    )
    return np.clip(smooth.astype(int) + rng.integers(-9, 10, smooth.shape), 0, 255).astype(np.uint8)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(data):
    pixels, status = decoder(tf.constant(data))
    return pixels.numpy(), int(status)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encoded(Image.fromarray(picture()), "JPEG", quality=90), id="jpeg"),
        pytest.param(encoded(Image.fromarray(picture()), "JPEG", quality=75, subsampling=0), id="jpeg 4:4:4"),
        pytest.param(encoded(Image.fromarray(picture()), "JPEG", progressive=True), id="progressive"),
        pytest.param(encoded(Image.fromarray(picture()[..., 0]), "JPEG"), id="gray jpeg"),
        pytest.param(encoded(Image.fromarray(picture()), "PNG"), id="png"),
        pytest.param(encoded(Image.fromarray(picture()[..., 0]), "PNG"), id="gray png"),
        pytest.param(encoded(Image.fromarray(picture()).convert("P"), "PNG"), id="palette"),
        pytest.param(encoded(Image.fromarray(picture()).quantize(16), "PNG", bits=4), id="4 bit palette"),
        pytest.param(encoded(Image.fromarray(picture()).quantize(4), "PNG", bits=2), id="2 bit palette"),
        pytest.param(encoded(Image.fromarray(picture()).quantize(4), "PNG", bits=2, transparency=1), id="1 clear"),
        pytest.param(encoded(Image.fromarray(picture()).convert("1"), "PNG"), id="black and white"),
        pytest.param(encoded(Image.fromarray(picture()).convert("CMYK"), "JPEG"), id="cmyk jpeg"),
        pytest.param(
            encoded(Image.fromarray(picture(channels=1)[..., 0].astype(np.uint16) * 257), "PNG"), id="16 bits"
        ),
    ],
)
def test_pixels_are_those_of_our_reader(data):
    pixels, status = decoded(data)
    assert status == OK
    np.testing.assert_array_equal(pixels, read_image(data))


def test_transparent_pixels_are_laid_on_white():
    data = encoded(Image.fromarray(picture(channels=4), "RGBA"), "PNG")
    pixels, status = decoded(data)
    assert status == OK
    # Pillow blends in whole numbers of another scale.
    assert np.abs(pixels.astype(int) - read_image(data)).max() <= 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(orientation, order, kind):
    exif = Image.Exif()
    exif.endian = {"little": "<", "big": ">"}[order]
    exif[0x010F] = "a maker"  # the orientation is not the first entry
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(picture()), kind, exif=exif)
    pixels, status = decoded(data)
    assert status == OK
    np.testing.assert_array_equal(pixels, read_image(data))
    assert pixels.shape == ((37, 50, 3) if orientation < 5 else (50, 37, 3))


def test_a_block_behind_the_pixels_of_a_png_counts_too():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(picture()), "PNG", exif=exif)
    start = data.index(b"eXIf") - 4
    stop = start + 12 + int.from_bytes(data[start : start + 4], "big")
    end = data.index(b"IEND") - 4
    moved = data[:start] + data[stop:end] + data[start:stop] + data[end:]
    assert moved.index(b"eXIf") > moved.index(b"IDAT")
    pixels, _ = decoded(moved)
    np.testing.assert_array_equal(pixels, read_image(moved))
    assert pixels.shape == (50, 37, 3)


@pytest.mark.parametrize("seed", range(6))
def test_damaged_exif_is_no_error(seed):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = bytearray(encoded(Image.fromarray(picture()), "JPEG", exif=exif))
    start = data.index(b"Exif\0\0") + 6
    rng = np.random.default_rng(seed)
    data[start : start + 24] = rng.integers(0, 256, 24, np.uint8).tobytes()
    pixels, status = decoded(bytes(data))
    assert status == OK
    assert sorted(pixels.shape) == [3, 37, 50]


JPEG = encoded(Image.fromarray(picture()), "JPEG")
PNG = encoded(Image.fromarray(picture()), "PNG")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff", id="one byte"),
        pytest.param(b"hello, world", id="text"),
        pytest.param(b"/etc/passwd", id="a path"),
        pytest.param(JPEG[: len(JPEG) // 2], id="half a jpeg"),
        pytest.param(PNG[: len(PNG) // 2], id="half a png"),
        pytest.param(PNG[:12], id="a png's first bytes"),
        pytest.param(JPEG[:3], id="a jpeg's first bytes"),
        pytest.param(PNG[:60] + bytes(20) + PNG[80:], id="a png with a hole"),
        pytest.param(encoded(Image.fromarray(picture()), "GIF"), id="gif"),
        pytest.param(encoded(Image.fromarray(picture()), "BMP"), id="bmp"),
    ],
)
def test_what_is_no_image_is_a_status(data):
    pixels, status = decoded(data)
    assert status == UNREADABLE
    np.testing.assert_array_equal(pixels, np.zeros((1, 1, 3), np.uint8))


@pytest.mark.parametrize("data", [JPEG, PNG], ids=["jpeg", "png"])
def test_too_many_pixels_are_not_decoded(data):
    for most, wanted in ((37 * 50, OK), (37 * 50 - 1, TOO_LARGE)):
        pixels, status = decode(tf.constant(data), most)
        assert int(status) == wanted
        assert pixels.shape == ((37, 50, 3) if wanted == OK else (1, 1, 3))


def test_a_small_file_that_claims_to_be_huge_is_refused_by_its_header():
    # 20,000 x 20,000 pixels, and no data: decoding would fail only after the memory was asked for.
    header = bytearray(PNG)
    header[16:24] = (20_000).to_bytes(4, "big") * 2
    assert MAX_PIXELS < 20_000**2
    assert decoded(bytes(header))[1] == TOO_LARGE
