"""Backgrounds for composed scenes, and ink that can be read on them."""

import cv2
import numpy as np

CONTRAST = 70.0  # gray levels (ITU-R 601 luma) between ink and what is under it, at least
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def background(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A plain, graded, cloudy, striped or grained background: float32 (H, W, 3), 0 to 255.

    Its gray levels stay within about 50 of each other, so that one ink colour can be read all over it.
    """
    base = colour(rng.uniform(25, 230), rng)
    other = colour(float(np.clip(base @ _LUMA + rng.uniform(-45, 45), 10, 245)), rng)
    kind = rng.integers(5)
    if kind == 0:
        weight = np.zeros(size, np.float32)
    elif kind == 1:
        weight = _gradient(size, rng)
    elif kind == 2:
        weight = _clouds(size, rng)
    elif kind == 3:
        weight = _stripes(size, rng)
    else:
        weight = 0.5 * _clouds(size, rng) + 0.5 * _gradient(size, rng)
    # In place and in float32: this is most of the time a scene takes.
    image = cv2.merge([weight * (b - a) + a for a, b in zip(base.tolist(), other.tolist(), strict=True)])
    if rng.random() < 0.5:
        image += _grain(size, rng.uniform(2, 8), rng)
    return image


def colour(luma: float, rng: np.random.Generator) -> np.ndarray:
    """A random colour of a given gray level: float32 (3,), 0 to 255."""
    tint = rng.uniform(-1, 1, 3).astype(np.float32)
    tint -= tint @ _LUMA
    tint *= rng.uniform(0, 70) / max(float(np.abs(tint).max()), 1e-3)
    # Less tint where it would leave the range: then the gray level is exact.
    room = np.where(tint > 0, 255 - luma, luma) / np.maximum(np.abs(tint), 1e-3)
    return luma + tint * min(1.0, float(room.min()))


def ink_colour(under: np.ndarray, beside: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """A colour that stands out from the colour ``under`` it, darker or lighter: float32 (3,).

    Of a few such colours the one least like any of ``beside`` (the inks it touches) is taken.
    """
    luma = float(under @ _LUMA)
    ranges = [(0.0, luma - CONTRAST), (luma + CONTRAST, 255.0)]
    spans = np.array([max(high - low, 0.0) for low, high in ranges])
    candidates = []
    for _ in range(8 if beside else 1):
        low, high = ranges[int(rng.random() * spans.sum() > spans[0])]
        candidates.append(colour(rng.uniform(low, high), rng))
    return max(candidates, key=lambda one: min((np.linalg.norm(one - other) for other in beside), default=0.0))


def _gradient(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """From 0 to 1 in a random direction: (H, W)."""
    angle = rng.uniform(0, 2 * np.pi)
    ys = np.linspace(-np.sin(angle), np.sin(angle), size[0], dtype=np.float32)
    xs = np.linspace(-np.cos(angle), np.cos(angle), size[1], dtype=np.float32)
    ramp = ys[:, None] + xs
    return (ramp - ramp.min()) / (ramp.max() - ramp.min())


def _clouds(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Soft blobs from 0 to 1: (H, W)."""
    cells = int(rng.integers(3, 9))
    coarse = rng.random((cells, cells), np.float32)
    return np.clip(cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC), 0, 1)


def _stripes(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Soft waves or ruled lines from 0 to 1, at a random angle: (H, W)."""
    angle, period = rng.uniform(0, np.pi), rng.uniform(12, 60)
    ys = np.arange(size[0], dtype=np.float32)[:, None] * np.float32(np.sin(angle) * 2 * np.pi / period)
    xs = np.arange(size[1], dtype=np.float32) * np.float32(np.cos(angle) * 2 * np.pi / period)
    # sin(y + x) from its parts: two short rows of sines instead of one for every pixel.
    wave = np.sin(ys) * np.cos(xs) + np.cos(ys) * np.sin(xs)
    sharp = rng.choice([1.0, 4.0])
    return np.clip(0.5 + 0.5 * sharp * wave, 0, 1)


def _grain(size: tuple[int, int], strength: float, rng: np.random.Generator) -> np.ndarray:
    """Gray noise of one value per pixel: (H, W, 1)."""
    raw = np.frombuffer(rng.bytes(size[0] * size[1]), np.uint8).reshape(*size, 1)
    return (raw.astype(np.float32) - 127.5) * np.float32(strength / 127.5 * 1.7)
