"""From paths, folders and arrays to detections in original pixels: the loop around a detector's ``call``."""

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from zoo.detections import Detections
from zoo.distribute.prediction import predict_batch
from zoo.inputs import Input, list_sources, load_inputs, load_source

# Images in memory at a time: a folder may hold more than the machine does.
_PIECE = 64
# Proposals are padded to a multiple of this, so that few different shapes come up: JAX compiles for each.
_MULTIPLE = 100

ProposalsOf = Callable[[np.ndarray], np.ndarray] | Sequence[np.ndarray] | np.ndarray


def detect(
    model,
    images,
    *,
    score_threshold: float | None = None,
    batch_size: int = 1,
    proposals: ProposalsOf | None = None,
    most: int = 0,
) -> Detections | list[Detections]:
    """Detect objects in images of any size.

    Images are grouped by size, so that none is padded and each gives what it gives alone.

    Args:
        model: a detector: ``classes`` and a ``call`` from images to boxes, scores, classes, num_detections.
        images: a path, a folder, a pattern such as ``photos/*.jpg``, an array ``(H, W, 3)`` of RGB 0-255, or a
            list of paths and arrays.
        score_threshold: drop detections below, in [0, 1]; the model's own threshold by default, and never less (within
            :func:`zoo.detectors.threshold.lowered_threshold` its own is less; :func:`zoo.evaluate` sees to that).
        batch_size: images of one size that go through the model together.
        proposals: for a model that looks at proposals of others: a function from an image ``(H, W, 3)`` uint8 RGB to
            boxes ``(P, 4)`` in its pixels, best first; or a list of such boxes, one entry an image (for a single image
            also the boxes themselves); by default, if ``most`` is not 0, selective search in its fast mode.
        most: proposals of an image that are looked at; further ones are left out. 0 for a model that finds its own.

    Returns:
        One ``Detections`` for one path or array, otherwise a list in the order given.

    Raises:
        ImageError: a single image that cannot be read, an empty folder or list. In a list or folder a bad file
            does not raise: its entry says what is wrong in ``.error``.
        ValueError: proposals that are no boxes, or not as many entries as images.

    Example:
        >>> import zoo
        >>> model = zoo.get("faster_rcnn_resnet18", weights="digits")
        >>> print(model.detect("street.jpg").table())
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if most and proposals is None:
        from zoo.datasets.proposals_selective import SelectiveSearch

        proposals = SelectiveSearch("fast", most=most)
    sources, single = list_sources(images)
    given = _given(proposals, len(sources), single)
    if single:
        inputs, _ = load_inputs(images)
        return _detect_piece(model, inputs, _boxes(given, inputs, 0), most, score_threshold, 1)[0]
    found = []
    for start in range(0, len(sources), _PIECE):
        piece = [load_source(s, i) for i, s in enumerate(sources[start : start + _PIECE], start)]
        found += _detect_piece(model, piece, _boxes(given, piece, start), most, score_threshold, batch_size)
    return found


def _given(proposals: ProposalsOf | None, count: int, single: bool):
    """``None``, a function, or a list of as many arrays as there are images."""
    if proposals is None or callable(proposals):
        return proposals
    if single and np.ndim(proposals) == 2:
        return [proposals]
    if len(proposals) != count:
        raise ValueError(f"proposals has {len(proposals)} entries for {count} images; give boxes (P, 4) for each")
    return proposals


def _boxes(given, inputs: list[Input], start: int) -> list[np.ndarray] | None:
    """Boxes (P, 4) float32 of each image; none for one that could not be read."""
    if given is None:
        return None
    found = []
    for i, item in enumerate(inputs, start):
        if item.image is None:
            boxes = np.zeros((0, 4), np.float32)
        else:
            boxes = np.asarray(given(item.image) if callable(given) else given[i], np.float32)
        if boxes.size and (boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all()):
            where = item.path if item.path is not None else f"image {i}"
            raise ValueError(f"proposals of {where} have shape {boxes.shape}; give finite boxes (P, 4), x1 y1 x2 y2")
        found.append(boxes.reshape(-1, 4))
    return found


def _padded(boxes: list[np.ndarray], most: int) -> dict[str, np.ndarray]:
    """Proposals of a batch as a model takes them: padded with boxes of no area to the same number."""
    counts = [min(len(each), most) for each in boxes]
    length = min(max(-(-max(counts) // _MULTIPLE), 1) * _MULTIPLE, most)
    padded = np.zeros((len(boxes), length, 4), np.float32)
    for row, each, count in zip(padded, boxes, counts, strict=True):
        row[:count] = each[:count]
    return {"proposals": padded, "num_proposals": np.array(counts, np.int32)}


def _detect_piece(
    model,
    inputs: list[Input],
    boxes: list[np.ndarray] | None,
    most: int,
    score_threshold: float | None,
    batch_size: int,
) -> list[Detections]:
    groups = defaultdict(list)
    for i, item in enumerate(inputs):
        if item.image is not None:
            groups[item.image.shape[:2]].append(i)
    results = [Detections(path=item.path, error=item.error) for item in inputs]
    for size, members in groups.items():
        for start in range(0, len(members), batch_size):
            part = members[start : start + batch_size]
            x = np.stack([inputs[i].image for i in part])
            if boxes is not None:
                x = {"images": x, **_padded([boxes[i] for i in part], most)}
            found = predict_batch(model, x, any_size=True)
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
