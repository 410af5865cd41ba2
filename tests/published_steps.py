"""What the tests of published detectors share: pictures, our detector's steps laid open, and what NMS may answer."""

from types import SimpleNamespace

import cv2
import numpy as np

VOC = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
# Small pictures keep the tests cheap: anchors are then as large as the picture, as they are in no release.
SMALL = {"short": 200, "long": 300}


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Coloured clouds with some noise: features differ from place to place, as they do in photos."""
    rng = np.random.default_rng(seed)
    clouds = cv2.resize(rng.uniform(0, 255, (6, 8, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(clouds + rng.normal(0, 20, clouds.shape), 0, 255).astype("uint8")


def steps_of(model, image) -> SimpleNamespace:
    """What our detector computes between an image and its detections; padding is taken off."""
    outputs = model._propose(image[None], training=False)
    raw = {key: np.asarray(value)[0] for key, value in outputs.items() if key != "anchors"}
    count = int((raw["proposal_scores"] >= 0).sum())
    pooled = model.roi_pool(outputs["features"], outputs["proposals"])[:, :count]
    logits, deltas = (np.asarray(part)[0] for part in model.head(pooled))
    found = {key: np.asarray(value)[0] for key, value in model.predict_on_batch(image[None]).items()}
    number = int(found["num_detections"])
    return SimpleNamespace(
        prepared=np.asarray(model.preprocessing(image[None])[0])[0].transpose(2, 0, 1),
        ratio=raw["ratio"],
        features=raw["features"].transpose(2, 0, 1),
        rpn_logits=raw["rpn_logits"],
        rpn_deltas=raw["rpn_deltas"],
        anchors=np.asarray(outputs["anchors"]),
        proposals=raw["proposals"][:count],
        pooled=np.asarray(pooled)[0].transpose(0, 3, 1, 2),
        logits=logits,
        deltas=deltas,
        scores=found["scores"][:number],
        classes=found["classes"][:number],
        boxes=found["boxes"][:number],
    )


def close(ours, theirs, share: float = 1e-4) -> None:
    """Equal up to a share of the largest: how far convolutions of two libraries may lie apart."""
    np.testing.assert_allclose(ours, theirs, atol=share * np.abs(theirs).max(), rtol=0)


def overlaps(a, b, one: float):
    """IoU of all pairs, (N, M)."""
    a, b = np.asarray(a, float)[:, None], np.asarray(b, float)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + one
    inter = np.prod(np.maximum(sides, 0), -1)
    areas = (np.prod(x[..., 2:] - x[..., :2] + one, -1) for x in (a, b))
    return inter / (sum(areas) - inter)


def is_nms(kept, candidates, scores, threshold: float, one: float = 0.0, *, most=None, full=None, limit=None):
    """``kept`` (P, 4) is what greedy NMS makes of ``candidates`` (N, 4), in the order of their ``scores``.

    Said by its two rules, not by running it: two libraries may fall out on two sides of a threshold that an overlap
    meets to six digits, and of equal ranks. ``most``: only so many are kept; ``full``: only those of at least this
    score; ``limit``: the greatest coordinates, to which boxes were cut afterwards. Gives the scores of the kept ones.
    """
    tiny = 1e-5
    if not len(kept):
        assert (scores <= (-1 if full is None else full + tiny)).all(), "none was kept of some"
        return scores[:0]
    order = np.argsort(-scores, kind="stable")
    candidates, scores = candidates[order], scores[order]
    seen = candidates if limit is None else np.minimum(candidates, limit)
    distance = np.abs(np.asarray(kept, float)[:, None] - seen[None]).max(-1)
    index = distance.argmin(1)
    assert distance.min(1).max() < 5e-3, "each is one of the candidates"
    assert len(set(index)) == len(index), "none twice"
    assert (np.diff(scores[index]) <= tiny).all(), "best first"
    iou = overlaps(candidates[index], candidates, one)
    among = iou[:, index] - np.eye(len(index))
    assert among.max() <= threshold + tiny, "the kept ones leave each other alone"
    better = scores[index][:, None] >= scores[None] - tiny
    explained = (better & (iou >= threshold - tiny)).any(0)
    if len(index) == most:
        full = scores[index].min()
    if full is not None:
        explained |= scores <= full + tiny
    explained[index] = True
    assert explained.all(), f"{(~explained).sum()} candidates were dropped though no better one overlaps them"
    return scores[index]


def are_detections(steps, probability, boxes, one: float = 0.0, most: int | None = None, limit=None) -> None:
    """Our detections are NMS at .3 within each class of all ``boxes`` (R, K + 1, 4) whose probability exceeds .05."""
    assert (np.diff(steps.scores) <= 0).all()
    full = steps.scores.min() if len(steps.scores) == most else None
    for k in range(1, probability.shape[1]):
        good = probability[:, k] > 0.05
        ours = steps.classes == k - 1
        scores = is_nms(steps.boxes[ours], boxes[good, k], probability[good, k], 0.3, one, full=full, limit=limit)
        np.testing.assert_allclose(steps.scores[ours], scores, atol=1e-5)


def mostly_agree(steps, wanted, share: float = 0.9) -> None:
    """Nearly all detections of one are found in the other, ``[(score, class, box)]``, and the other way round.

    Computed apart from the first pixel on, some decisions of NMS fall out differently: each step by itself may not.
    """
    scores, labels = np.array([each[0] for each in wanted]), np.array([each[1] for each in wanted])
    boxes = np.array([each[2] for each in wanted])
    same = (steps.classes[:, None] == labels) & (np.abs(steps.scores[:, None] - scores) < 1e-3)
    same &= np.abs(steps.boxes[:, None] - boxes).max(-1) < 0.05
    assert same.any(1).mean() >= share
    assert same.any(0).mean() >= share
    assert same[0, 0], "the best one above all"
