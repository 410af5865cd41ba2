"""The boxes that a Fast R-CNN looks at: those that a request brings along, or those that the server proposes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from zoo.export.serving.bodies import kind, only_numbers
from zoo.export.serving.pictures import Wanted
from zoo.export.serving.refused import Refused

# The input beside the artifact's ``images``; a SavedModel's signatures call it so too.
PROPOSALS = "proposals"
Propose = Callable[[np.ndarray], np.ndarray]
# Filled up to a multiple of this, few different shapes come up; and the number depends on no other picture's.
_MULTIPLE = 100
_HOW = "boxes [[x1, y1, x2, y2], ...] in pixels of the upright picture, best first"


def boxes_of(value: Any, where: str, wanted: Wanted) -> np.ndarray | None:
    """What a request says of one picture's proposals.

    Args:
        value: nested lists or an array; ``None`` where it says nothing.
        where: what to call the picture in errors, such as ``instances[0]``.
        wanted: whether there are to be some.

    Returns:
        Boxes ``(P, 4)`` float32, P from 0 to as many as the model looks at; ``None`` where there are none to be read.

    Raises:
        Refused: they are missing, too many, no boxes, or not for this model.

    >>> wanted = Wanted("uint8", None, 10_000, proposals=1, max_proposals=100)
    >>> boxes_of([[0, 0, 9.5, 9], [1, 1, 5, 5]], "instances[0]", wanted)
    array([[0. , 0. , 9.5, 9. ]], dtype=float32)
    """
    if wanted.proposals is None:
        if value is not None:
            raise Refused(400, f"{where} has {PROPOSALS!r}; this model finds its own, leave them out")
        return None
    if value is None:
        if not wanted.proposes:
            raise Refused(
                400,
                f"{where} has no {PROPOSALS!r}, and this model looks at boxes that something else proposes: send "
                f"{_HOW}, or have the server propose them (`zoo serve --proposals METHOD`)",
            )
        return None
    if not isinstance(value, list | np.ndarray):
        raise Refused(400, f"the {PROPOSALS} of {where} are a {kind(value)}; give {_HOW}")
    limit_boxes(len(value), where, wanted)
    found = finite_numbers(value, f"the {PROPOSALS} of {where}")
    if found.shape == (0,):
        found = found.reshape(0, 4)
    if found.ndim != 2 or found.shape[1] != 4:
        raise Refused(400, f"the {PROPOSALS} of {where} have shape {list(found.shape)}; give {_HOW}")
    return found[: wanted.proposals]


def limit_boxes(count: int, where: str, wanted: Wanted) -> None:
    """Raise ``Refused`` for too many boxes of one picture."""
    if count > wanted.max_proposals:
        raise Refused(
            413, f"{where} has {count:,} {PROPOSALS}, more than the {wanted.max_proposals:,} that this server reads"
        )


def finite_numbers(value: Any, where: str) -> np.ndarray:
    """Nested lists as an array float32.

    Raises:
        Refused: lists of unequal lengths, or something else than finite numbers.
    """
    if not only_numbers(value):
        raise Refused(400, f"{where} hold something else than numbers; give {_HOW}")
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise Refused(400, f"{where}: its lists are not all of one length; give {_HOW}") from error
    if array.dtype.kind not in "iuf":
        raise Refused(400, f"{where} hold something else than numbers; give {_HOW}")
    with np.errstate(over="ignore"):
        found = array.astype(np.float32)
    if not np.isfinite(found).all():
        raise Refused(400, f"{where} hold numbers that are not finite; give {_HOW}")
    return found


def filled_up(boxes: np.ndarray, looked_at: int) -> np.ndarray:
    """Boxes ``(P, 4)`` with rows of zeros behind, which a model takes for none; ``looked_at`` rows at the most.

    >>> filled_up(np.ones((101, 4), np.float32), 2000).shape, filled_up(np.ones((5, 4), np.float32), 60).shape
    ((200, 4), (60, 4))
    """
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)[:looked_at]
    length = min(max(-(-len(boxes) // _MULTIPLE), 1) * _MULTIPLE, looked_at)
    found = np.zeros((length, 4), np.float32)
    found[: len(boxes)] = boxes
    return found
