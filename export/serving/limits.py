"""How much the server takes on: each number has a default that suits one machine with a few GB to spare."""

from __future__ import annotations

from dataclasses import dataclass, fields

# Pillow itself refuses to open a picture of more.
_MOST_PIXELS = 178_956_970


@dataclass(frozen=True)
class Limits:
    """What is refused, and how long requests wait.

    Beside the model's own memory, requests take at most about ``2 * max_requests * max_body + 3 * room_pixels`` bytes:
    2.7 GB by default, and only when all of them are as large as can be.

    Attributes:
        max_body: bytes of a request; more is answered 413.
        max_pixels: of one picture, told by its header before it is decoded; more is answered 413.
        max_images: in one request; more is answered 413.
        max_proposals: of one picture, for a Fast R-CNN; more is answered 413. The model looks at the first ones alone.
        room_pixels: of all pictures that are decoded and wait or run. Requests wait for room; one that could never
            have it is answered 413.
        max_requests: predictions in the server at once, reading, waiting or running; one more is answered 503 with
            ``Retry-After``.
        max_batch: images of one size that run together.
        batch_proposals: proposals of all images that run together, for a Fast R-CNN, whose memory is mostly theirs; an
            image alone may have more.
        max_delay: seconds that an image waits for others of its size, so that they can run together.
        timeout: seconds from a request's beginning to its answer; then it is answered 504, or 408 where its body has
            not arrived.
        max_depth: how deep lists and objects are nested in a request's JSON; a batch of images takes 7.

    Example:
        >>> Limits(max_batch=16).max_delay
        0.005
    """

    max_body: int = 16 * 2**20
    max_pixels: int = 25_000_000
    max_images: int = 32
    max_proposals: int = 10_000
    room_pixels: int = 200_000_000
    max_requests: int = 64
    max_batch: int = 8
    batch_proposals: int = 2000
    max_delay: float = 0.005
    timeout: float = 30.0
    max_depth: int = 16

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name == "max_delay" else 1e-3 if field.name == "timeout" else 1
            if not least <= value < float("inf"):
                raise ValueError(f"{field.name}={value!r}: give a number from {least:g} on")
        if self.max_pixels > _MOST_PIXELS:
            raise ValueError(f"max_pixels={self.max_pixels:,}: pictures of more than {_MOST_PIXELS:,} are not decoded")
        if self.room_pixels < self.max_pixels:
            raise ValueError(
                f"room_pixels={self.room_pixels:,} is less than max_pixels={self.max_pixels:,}: the largest picture "
                "would never have room"
            )
