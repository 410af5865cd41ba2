"""Samples and losses of Faster R-CNN in plain PyTorch (Ren 2015, section 3.1; Girshick 2015, section 2.3).

Each random choice takes the candidates with the highest of the numbers ``chance``, so that a check can hand in the
numbers that the other side has drawn.
"""

import torch
from peers.train_boxes import encode, overlaps
from torch.nn import functional as F

DEVIATIONS = (0.1, 0.1, 0.2, 0.2)
POSITIVE, NEGATIVE, FOREGROUND = 0.7, 0.3, 0.5


def best_of(which: torch.Tensor, chance: torch.Tensor, most: int) -> torch.Tensor:
    """At most so many of the places where ``which`` is true, by their chance."""
    places = which.nonzero()[:, 0]
    return places[chance[places].argsort(descending=True)[:most]]


def smooth_l1(difference: torch.Tensor, sigma: float) -> torch.Tensor:
    """Girshick 2015, equation 3, with py-faster-rcnn's sigma; summed over the four deltas."""
    return F.smooth_l1_loss(difference, torch.zeros_like(difference), reduction="none", beta=sigma**-2).sum(-1)


def rpn_losses(logits, deltas, anchors, boxes, size, chance, samples: int):
    """Objectness and box loss of one picture, both over the number of sampled anchors."""
    height, width = size
    limit = torch.tensor([width, height])
    inside = (anchors[:, :2] >= 0).all(1) & (anchors[:, 2:] <= limit).all(1)
    shared = overlaps(anchors, boxes)
    shared[~inside] = -1.0
    best, own = shared.max(dim=1)
    highest = shared.max(dim=0).values
    claimed = ((shared == highest) & (highest > 0)).any(dim=1)
    positive = inside & ((best >= POSITIVE) | claimed)
    negative = inside & (best < NEGATIVE) & ~positive
    positive = best_of(positive, chance, samples // 2)
    negative = best_of(negative, chance, samples - len(positive))
    chosen = torch.cat([positive, negative])
    label = torch.zeros(len(chosen), dtype=torch.long)
    label[: len(positive)] = 1
    box = smooth_l1(deltas[positive] - encode(boxes[own[positive]], anchors[positive]), 3.0)
    return F.cross_entropy(logits[chosen], label), box.sum() / len(chosen)


def sample_rois(proposals, boxes, classes, chance, samples: int, share: float):
    """RoIs of one picture, their labels (0 is background) and normalised target deltas; objects join the proposals."""
    candidates = torch.cat([proposals, boxes])
    best, own = overlaps(candidates, boxes).max(dim=1)
    foreground = best_of(best >= FOREGROUND, chance, round(samples * share))
    background = best_of(best < FOREGROUND, chance, samples - len(foreground))
    chosen = torch.cat([foreground, background])
    label = classes[own[chosen]] + 1
    label[len(foreground) :] = 0
    rois = candidates[chosen]
    return rois, label, encode(boxes[own[chosen]], rois) / torch.tensor(DEVIATIONS)


def head_losses(logits, deltas, label, targets):
    """Classification and box loss of one picture's RoIs."""
    own = deltas[torch.arange(len(label)), label]
    box = smooth_l1(own - targets, 1.0)[label > 0]
    return F.cross_entropy(logits, label), box.sum() / len(label)
