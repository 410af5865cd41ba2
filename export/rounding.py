"""What rounding alone decides: what a Keras model finds otherwise when its inputs change by next to nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from zoo.export.matching import Results
from zoo.export.samples import SamplePicture
from zoo.export.subject import Subject

# In grey levels of 0 to 255. Scores move by some 1e-5 then, as they do from one runtime to the next.
_NOISE = 1e-3
# A tie that falls either way in a quarter of these goes unnoticed in one of a hundred.
_TIMES = 16


def shaken(seen: Subject, picture: SamplePicture) -> Iterator[Results]:
    """What the model finds in ``picture`` when nothing of it has changed that a picture could show, 16 times.

    Every pixel is off by at most a thousandth of a grey level, and proposals come in another order. A proposal that is
    just among the best, a box that is just suppressed, one of two with equal scores: what comes and goes here differs
    between runtimes as well, and is no mistake of an artifact.

    Example:
        >>> for results in shaken(subject(model), picture):    # doctest: +SKIP
        ...     print(results["num_detections"])
    """
    random = np.random.default_rng(0)
    for _ in range(_TIMES):
        noise = random.uniform(-_NOISE, _NOISE, picture.pixels.shape)
        changed = replace(picture, pixels=(picture.pixels + noise).astype(np.float32))
        if picture.proposals is not None:
            changed = replace(changed, proposals=random.permutation(picture.proposals))
        yield seen.reference(*(each[0] for each in changed.inputs("float32").values()))
