"""A detector's own threshold, lowered for a while: what its graph drops nobody can bring back afterwards."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_log = logging.getLogger("zoo")


@contextmanager
def lowered_threshold(model: object, wanted: float) -> Iterator[None]:
    """Let a detector give, within the block, all detections that score ``wanted`` or more.

    ``model.score_threshold`` is lowered if it is greater. It is read when predictions are compiled, so that they are
    compiled anew for the block; what was compiled before is put back behind it. Where the threshold is no greater
    nothing happens. An exported artifact's cannot be lowered: a warning of the logger ``zoo`` says so.

    >>> with lowered_threshold(model, 0.001):    # doctest: +SKIP
    ...     found = model.detect("street.jpg", score_threshold=0.001)
    """
    fixed = _fixed_threshold(model)
    if fixed is not None and fixed > wanted:
        _log.warning(
            "%s gives no detections that score less than %g, which is fixed in its graph, though %g was asked for; "
            "set score_threshold of the Keras model and export it again",
            getattr(model, "path", model),
            fixed,
            wanted,
        )
    own = getattr(model, "__dict__", {}).get("score_threshold")
    if own is None or own <= wanted:
        yield
        return
    # Compiled predictions: Keras's, and those of several replicas (`zoo.distribute.prediction`).
    compiled, shared = getattr(model, "predict_function", None), vars(model).pop("_zoo_predict", None)
    model.score_threshold, model.predict_function = wanted, None
    try:
        yield
    finally:
        model.score_threshold, model.predict_function = own, compiled
        vars(model).pop("_zoo_predict", None)
        if shared is not None:
            vars(model)["_zoo_predict"] = shared


def _fixed_threshold(model: object) -> float | None:
    """The threshold in the graph of an opened artifact of `zoo.export`; ``None`` of other models."""
    metadata = getattr(model, "metadata", None)
    return metadata.get("postprocessing", {}).get("score_threshold") if isinstance(metadata, Mapping) else None
