"""From paths, folders and arrays to detections in original pixels: the loop around a detector's ``call``."""

from collections import defaultdict

import numpy as np

from zoo.detections import Detections
from zoo.inputs import Input, list_sources, load_inputs, load_source

# Images in memory at a time: a folder may hold more than the machine does.
_PIECE = 64


def detect(
    model, images, *, score_threshold: float | None = None, batch_size: int = 1
) -> Detections | list[Detections]:
    """Detect objects in images of any size.

    Images are grouped by size, so that none is padded and each gives what it gives alone.

    Args:
        model: a detector: ``classes`` and a ``call`` from images to boxes, scores, classes, num_detections.
        images: a path, a folder, a pattern such as ``photos/*.jpg``, an array ``(H, W, 3)`` of RGB 0-255, or a
            list of paths and arrays.
        score_threshold: drop detections below, in [0, 1]; the model's own threshold by default, and never less.
        batch_size: images of one size that go through the model together.

    Returns:
        One ``Detections`` for one path or array, otherwise a list in the order given.

    Raises:
        ImageError: a single image that cannot be read, an empty folder or list. In a list or folder a bad file
            does not raise: its entry says what is wrong in ``.error``.

    Example:
        >>> import zoo
        >>> model = zoo.get("faster_rcnn_resnet18", weights="digits")
        >>> print(model.detect("street.jpg").table())
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    sources, single = list_sources(images)
    if single:
        inputs, _ = load_inputs(images)
        return _detect_piece(model, inputs, score_threshold, 1)[0]
    found = []
    for start in range(0, len(sources), _PIECE):
        piece = [load_source(s, i) for i, s in enumerate(sources[start : start + _PIECE], start)]
        found += _detect_piece(model, piece, score_threshold, batch_size)
    return found


def _detect_piece(model, inputs: list[Input], score_threshold: float | None, batch_size: int) -> list[Detections]:
    groups = defaultdict(list)
    for i, item in enumerate(inputs):
        if item.image is not None:
            groups[item.image.shape[:2]].append(i)
    results = [Detections(path=item.path, error=item.error) for item in inputs]
    for size, members in groups.items():
        for start in range(0, len(members), batch_size):
            part = members[start : start + batch_size]
            found = model.predict_on_batch(np.stack([inputs[i].image for i in part]))
            for row, i in enumerate(part):
                results[i] = Detections.from_padded(
                    found["boxes"][row],
                    found["scores"][row],
                    found["classes"][row],
                    found["num_detections"][row],
                    model.classes,
                    size,
                    inputs[i].path,
                    score_threshold or 0.0,
                )
    return results
