"""Reads one picture, however it was stored, as uint8 RGB; says clearly why when it cannot."""

import io
import re
from pathlib import Path

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")

# Only these decoders are tried: Pillow knows dozens more, some of which start other programs. Imported by
# name, because Image.open(formats=...) fails on one that nothing has registered yet.
_PLUGINS = (
    JpegImagePlugin.JpegImageFile,
    PngImagePlugin.PngImageFile,
    BmpImagePlugin.BmpImageFile,
    WebPImagePlugin.WebPImageFile,
    TiffImagePlugin.TiffImageFile,
    GifImagePlugin.GifImageFile,
)
_FORMATS = tuple(plugin.format for plugin in _PLUGINS)
_READABLE = "JPEG, PNG, BMP, WebP, TIFF and GIF (first frame) are read"
_ORIENTATION = 0x0112
_NUMBERS = re.compile(r"(\d+)")


class ImageError(ValueError):
    """A picture that cannot be read; the message starts with its name, also kept in ``name``."""

    def __init__(self, name: str, problem: str) -> None:
        """``problem`` says what is wrong and what to do."""
        super().__init__(f"{name}: {problem}")
        self.name = name
        self.problem = problem

    def __reduce__(self) -> tuple:
        """Two arguments, not the one message: without this the error would not cross a process border."""
        return type(self), (self.name, self.problem)


def read_image(source: str | Path | bytes, name: str | None = None, exif: bool = True) -> np.ndarray:
    """Decode a picture to uint8 RGB of shape (H, W, 3).

    Grayscale, palette, CMYK and 16-bit pictures become 8-bit RGB (16 bits by their high byte); transparency
    is composited on white; the EXIF orientation that cameras write is applied unless ``exif`` is false; of an
    animation the first frame is taken.

    Args:
        source: a path, or the bytes of an encoded picture.
        name: what to call the picture in an error; the path, or "bytes", if not given.
        exif: whether to turn the picture upright as its EXIF orientation says.

    Raises:
        ImageError: the file is missing, empty, truncated, not a picture, or too large; the message names it.

    >>> import io; from PIL import Image; file = io.BytesIO(); Image.new("L", (4, 3), 7).save(file, "PNG")
    >>> read_image(file.getvalue()).shape
    (3, 4, 3)
    """
    data, name = _bytes(source, name)
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
            picture.load()
            # Read after load(): Pillow itself turns a TIFF upright while loading and then clears the flag.
            orientation = _orientation(picture) if exif else 1
            pixels = _to_rgb(picture, name)
    except ImageError:
        raise
    except Exception as error:  # decoders fail with almost any type on damaged bytes
        raise _explain(error, data, name) from error
    return np.ascontiguousarray(_upright(pixels, orientation))


def image_size(source: str | Path | bytes, name: str | None = None, exif: bool = True) -> tuple[int, int]:
    """``(height, width)`` of a picture as `read_image` would return it, from its header alone."""
    if isinstance(source, bytes):
        data, name = _bytes(source, name)
        stream = io.BytesIO(data)
    else:
        name = str(source) if name is None else name
        _check_path(Path(source), name)
        stream = Path(source)
    try:
        with Image.open(stream, formats=_FORMATS) as picture:
            width, height = picture.size
            # Of a TIFF, Pillow gives the upright size.
            turned = exif and picture.format != "TIFF" and _orientation(picture) >= 5
    except Exception as error:
        raise _explain(error, _bytes(source, name)[0], name) from error
    return (width, height) if turned else (height, width)


def list_images(folder: str | Path) -> list[Path]:
    """The pictures directly in a folder, hidden ones left out; in natural order, 2.jpg before 10.jpg.

    Raises:
        ImageError: there is no such folder, or no picture in it.
    """
    folder = Path(folder)
    if not folder.exists():
        raise ImageError(str(folder), "no such folder")
    if not folder.is_dir():
        raise ImageError(str(folder), "is a file, not a folder")
    found = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    if not found:
        raise ImageError(
            str(folder),
            f"no pictures in this folder; files ending in {', '.join(IMAGE_SUFFIXES)} are taken, "
            "folders inside it are not searched",
        )
    return sorted(found, key=lambda path: natural_key(path.name))


def natural_key(text: str) -> tuple:
    """Sort key that orders the numbers inside names by value; ties are broken by the plain text."""
    # Words at even places and numbers at odd ones, so that like is compared with like.
    parts = _NUMBERS.split(text.lower())
    parts[1::2] = map(int, parts[1::2])
    return tuple(parts), text


def _bytes(source: str | Path | bytes, name: str | None) -> tuple[bytes, str]:
    """The encoded bytes of ``source`` and the name to use in errors."""
    if isinstance(source, bytes | bytearray | memoryview):
        data, name = bytes(source), "bytes" if name is None else name
    elif isinstance(source, str | Path):
        name = str(source) if name is None else name
        _check_path(Path(source), name)
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            raise ImageError(name, f"cannot be opened ({error.strerror or error})") from error
    else:
        raise TypeError(f"read_image takes a path or bytes, not {type(source).__name__}")
    if not data:
        raise ImageError(name, "the file is empty (0 bytes)")
    return data, name


def _check_path(path: Path, name: str) -> None:
    if re.match(r"[a-z]+:/", str(path)) and not path.exists():
        raise ImageError(name, "is an address, not a file; download it first and give the file's path")
    if path.is_dir():
        raise ImageError(name, "is a folder, not a picture; give a file in it")
    if not path.exists():
        raise ImageError(name, "no such file")


def _to_rgb(picture: Image.Image, name: str) -> np.ndarray:
    """Pixels as uint8 (H, W, 3), not yet turned upright."""
    if picture.mode.startswith("I"):
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(name, "has 32-bit integer pixels; save it with 8 or 16 bits per channel")
        return np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if picture.mode == "F":
        raise ImageError(name, "has floating-point pixels; save it with 8 or 16 bits per channel")
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        page = Image.new("RGBA", layer.size, "white")
        return np.asarray(Image.alpha_composite(page, layer))[..., :3]
    return np.asarray(picture.convert("RGB"))


def _orientation(picture: Image.Image) -> int:
    """EXIF orientation 1 to 8; 1 where there is none or the block is damaged: the pixels may be fine."""
    try:
        value = picture.getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1
    return value if value in range(1, 9) else 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo EXIF orientation (TIFF 6.0, tag 274) on an (H, W, 3) array."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _explain(error: Exception, data: bytes, name: str) -> ImageError:
    """The decoder's complaint in words that help the person who gave the file."""
    if isinstance(error, Image.DecompressionBombError):
        count = re.search(r"\d+", str(error))
        pixels = f"{int(count[0]):,} pixels" if count else "its header's size"
        return ImageError(name, f"{pixels} are more than is read at once; scale it down or cut it into tiles")
    if isinstance(error, Image.UnidentifiedImageError):
        looks = f" (it looks like {kind})" if (kind := _sniff(data)) else ""
        return ImageError(name, f"not an image that can be read{looks}; {_READABLE}")
    if "truncated" in str(error).lower() or isinstance(error, EOFError):
        return ImageError(name, f"the image is truncated: the file ends too early ({len(data):,} bytes; {error})")
    return ImageError(name, f"the image is damaged ({error or type(error).__name__})")


def _sniff(data: bytes) -> str | None:
    """A guess at what bytes that are no picture are."""
    head = data[:1024]
    starts = {
        b"%PDF": "a PDF document",
        b"PK\x03\x04": "a zip archive",
        b"\x1f\x8b": "a gzip archive",
        b"\x89HDF": "an HDF5 file",
        b"\x93NUMPY": "a NumPy array",
        b"8BPS": "a Photoshop file",
    }
    for start, kind in starts.items():
        if head.startswith(start):
            return kind
    if head[4:8] == b"ftyp":
        return "a HEIC, AVIF or video file"
    if re.match(rb"\s*(<!doctype html|<html)", head, re.IGNORECASE):
        return "a web page"
    if re.match(rb"(\xef\xbb\xbf)?\s*(<\?xml|<svg)", head):
        return "an XML or SVG file"
    text = head.decode("utf-8", errors="ignore")
    printable = sum(char.isprintable() or char in "\r\n\t" for char in text)
    return "text" if len(text) > 0.9 * len(head) and printable > 0.95 * len(text) else None
