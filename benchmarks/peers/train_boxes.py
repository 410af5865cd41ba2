"""Boxes in plain PyTorch: anchors, overlaps, deltas, non-maximum suppression, RoI pooling.

Written from Ren 2015 and Girshick 2015 for ``benchmarks/peer_training.py``; boxes are (x1, y1, x2, y2), continuous.
"""

import math

import numpy as np
import torch
from torch.nn import functional as F

LARGEST_SCALE = math.log(1000 / 16)


def make_anchors(rows: int, columns: int, stride: int, sizes, ratios) -> torch.Tensor:
    """``(rows * columns * k, 4)``, cell after cell in row order; in a cell ratio after ratio, each in all sizes."""
    cell = []
    for ratio in ratios:
        for size in sizes:
            width, height = size / math.sqrt(ratio), size * math.sqrt(ratio)
            cell.append([(stride - width) / 2, (stride - height) / 2, (stride + width) / 2, (stride + height) / 2])
    y, x = torch.meshgrid(torch.arange(rows) * stride, torch.arange(columns) * stride, indexing="ij")
    shifts = torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4)
    return (shifts + torch.tensor(cell)).reshape(-1, 4).float()


def overlaps(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Intersection over union, ``(N, M)`` for ``(N, 4)`` and ``(M, 4)``."""
    low, high = torch.maximum(a[:, None, :2], b[:, :2]), torch.minimum(a[:, None, 2:], b[:, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    area = [(each[:, 2:] - each[:, :2]).prod(-1) for each in (a, b)]
    return shared / (area[0][:, None] + area[1] - shared).clamp(min=1e-9)


def encode(boxes: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """Deltas that turn references into boxes (Ren 2015, equation 2)."""
    size, own = boxes[..., 2:] - boxes[..., :2], references[..., 2:] - references[..., :2]
    centre, place = (boxes[..., 2:] + boxes[..., :2]) / 2, (references[..., 2:] + references[..., :2]) / 2
    return torch.cat([(centre - place) / own, torch.log(size / own)], dim=-1)


def decode(deltas: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """The inverse of `encode`."""
    own, place = references[..., 2:] - references[..., :2], (references[..., 2:] + references[..., :2]) / 2
    centre = deltas[..., :2] * own + place
    half = deltas[..., 2:].clamp(max=LARGEST_SCALE).exp() * own / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def clip(boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Boxes inside a picture of ``size``, height and width."""
    height, width = size
    return torch.stack(
        [side.clamp(0, most) for side, most in zip(boxes.unbind(-1), (width, height) * 2, strict=True)], dim=-1
    )


def suppress(boxes: torch.Tensor, threshold: float, most: int) -> list[int]:
    """Places of the boxes, best first as given, that overlap no better kept one by more than ``threshold``."""
    x1, y1, x2, y2 = boxes.numpy().T.copy()
    area = (x2 - x1) * (y2 - y1)
    left, kept = np.arange(len(boxes)), []
    while len(left) and len(kept) < most:
        best, left = left[0], left[1:]
        kept.append(int(best))
        width = np.minimum(x2[best], x2[left]) - np.maximum(x1[best], x1[left])
        height = np.minimum(y2[best], y2[left]) - np.maximum(y1[best], y1[left])
        shared = width.clip(0) * height.clip(0)
        left = left[shared <= threshold * (area[best] + area[left] - shared)]
    return kept


def propose(logits, deltas, anchors, size, before: int, after: int, threshold: float, least: float):
    """Proposals of one picture and their scores, best first (Ren 2015, section 3.3)."""
    scores, boxes = logits.softmax(-1)[:, 1], clip(decode(deltas, anchors), size)
    large = ((boxes[:, 2:] - boxes[:, :2]) >= least).all(-1)
    scores, boxes = scores[large], boxes[large]
    scores, order = scores.topk(min(before, len(scores)))
    boxes = boxes[order]
    kept = suppress(boxes, threshold, after)
    return boxes[kept], scores[kept]


def roi_max_pool(features: torch.Tensor, rois: list[torch.Tensor], bins: int, stride: int) -> torch.Tensor:
    """Girshick 2015, section 2.1: ``(R, C, bins, bins)`` of the RoIs ``(R_i, 4)`` of each of ``features (B, C, H, W)``.

    PyTorch's adaptive pooling divides a crop as Caffe's layer divides an RoI. A border of minus infinity stands for the
    cells beyond the map that an RoI at its edge is rounded to.
    """
    framed = F.pad(features, (0, 1, 0, 1), value=-math.inf)
    pooled = []
    for image, boxes in enumerate(rois):
        for left, top, right, bottom in torch.floor(boxes / stride + 0.5).long().tolist():
            crop = framed[image : image + 1, :, top : max(top, bottom) + 1, left : max(left, right) + 1]
            pooled.append(F.adaptive_max_pool2d(crop, bins))
    pooled = torch.cat(pooled)
    return torch.where(torch.isneginf(pooled), 0.0, pooled)
