"""What both protocols make of a request's body."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zoo.export.serving.batching import Results
from zoo.export.serving.pictures import Picture
from zoo.export.serving.refused import Refused

# The input of pictures as files, beside the artifact's own ``images``; a SavedModel's ``serve_encoded`` has it too.
ENCODED = "image_bytes"


@dataclass(frozen=True, eq=False)
class Asked:
    """A prediction to make.

    Attributes:
        pictures: in order; ``Refused`` for one that is no good, which only a ``tolerant`` request has.
        answer: from each picture's results, in order and ``Refused`` again for those without, to the JSON object.
        tolerant: whether the others are answered where a picture is no good.
    """

    pictures: list[Picture | Refused]
    answer: Callable[[list[Results | Refused]], dict[str, Any]]
    tolerant: bool = False


def limit_count(count: int, most: int) -> None:
    """Raise ``Refused`` for no pictures, or too many."""
    if not count:
        raise Refused(400, "the request holds no image; send at least one")
    if count > most:
        raise Refused(413, f"{count:,} images in one request are more than {most}; send them in several")
