"""What the tests hold the code against: plain NumPy loops over the definitions, which share no line with it."""

import math

import numpy as np

F32 = np.float32


def iou(a, b, one=0.0):
    """Intersection over union of two boxes; ``one`` is 1 in the inclusive pixel convention."""

    def area(box):
        return max(box[2] - box[0] + one, 0.0) * max(box[3] - box[1] + one, 0.0)

    width = min(a[2], b[2]) - max(a[0], b[0]) + one
    height = min(a[3], b[3]) - max(a[1], b[1]) + one
    inter = max(width, 0.0) * max(height, 0.0)
    union = area(a) + area(b) - inter
    return inter / union if union > 0 else 0.0


def ious(a, b, one=0.0):
    """All pairs, ``(N, M)`` float64."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    return np.array([[iou(p, q, one) for q in b] for p in a]).reshape(len(a), len(b))


def clip(box, size, one=0.0):
    """A box inside an image of ``size``, height and width."""
    x = [min(max(v, 0.0), size[1] - one) for v in (box[0], box[2])]
    y = [min(max(v, 0.0), size[0] - one) for v in (box[1], box[3])]
    return [x[0], y[0], x[1], y[1]]


def encode(box, reference, one=0.0):
    """Girshick 2014's deltas from centres and sizes."""
    w, h = box[2] - box[0] + one, box[3] - box[1] + one
    wa, ha = reference[2] - reference[0] + one, reference[3] - reference[1] + one
    dx = (box[0] + box[2]) / 2 - (reference[0] + reference[2]) / 2
    dy = (box[1] + box[3]) / 2 - (reference[1] + reference[3]) / 2
    return [dx / wa, dy / ha, math.log(w / wa), math.log(h / ha)]


def decode(delta, reference, one=0.0):
    """The box that ``delta`` makes of ``reference``; like py-faster-rcnn's, it ends at centre + width / 2."""
    wa, ha = reference[2] - reference[0] + one, reference[3] - reference[1] + one
    x = (reference[0] + reference[2] + one) / 2 + delta[0] * wa
    y = (reference[1] + reference[3] + one) / 2 + delta[1] * ha
    w = wa * math.exp(min(delta[2], math.log(62.5)))
    h = ha * math.exp(min(delta[3], math.log(62.5)))
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def softmax(logits):
    """Over the last axis, in float64."""
    e = np.exp(np.asarray(logits, float) - np.max(logits, -1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def greedy_nms(boxes, scores, threshold, keep, one=0.0):
    """Indices kept of boxes sorted by score: each that no kept one overlaps by more than ``threshold``."""
    kept = []
    for i in range(len(boxes)):
        clear = all(iou(boxes[i], boxes[k], one) <= threshold for k in kept)
        if scores[i] >= 0 and clear and len(kept) < keep:
            kept.append(i)
    return kept


def away(x):
    """Nearest whole number, halves away from zero; in float64, where adding .5 to a float32 is exact."""
    x = float(x)
    return math.floor(x + 0.5) if x >= 0 else math.ceil(x - 0.5)


def bins(start, end, cells, size, stride):
    """First and last (excluded) cell of every bin along one axis, by facts.md's float32 rule, clipped."""
    s, e = (away(F32(v) * F32(1 / stride)) for v in (start, end))
    width = F32(max(e - s + 1, 1)) / F32(size)
    edges = []
    for p in range(size):
        low = int(np.floor(F32(p) * width)) + s
        high = int(np.ceil(F32(p + 1) * width)) + s
        edges.append((min(max(low, 0), cells), min(max(high, 0), cells)))
    return edges


def roi_pool(features, rois, size, stride, upstream=None):
    """RoI max pooling, and what ``upstream`` sends back: to the first largest cell of a bin in row order."""
    batch, rows, columns, channels = features.shape
    out = np.zeros((batch, rois.shape[1], size, size, channels), features.dtype)
    back = np.zeros(features.shape, np.float64)
    for b in range(batch):
        for r, (x1, y1, x2, y2) in enumerate(rois[b]):
            for i, (top, bottom) in enumerate(bins(y1, y2, rows, size, stride)):
                for j, (left, right) in enumerate(bins(x1, x2, columns, size, stride)):
                    if bottom <= top or right <= left:
                        continue
                    cells = features[b, top:bottom, left:right].reshape(-1, channels)
                    first = cells.argmax(0)
                    out[b, r, i, j] = cells[first, range(channels)]
                    if upstream is not None:
                        row, column = top + first // (right - left), left + first % (right - left)
                        np.add.at(back, (b, row, column, np.arange(channels)), upstream[b, r, i, j])
    return out, back


def murmur(x):
    """MurmurHash3's finaliser on a Python int, with its published constants."""
    x &= 0xFFFFFFFF
    x = ((x ^ x >> 16) * 0x85EBCA6B) & 0xFFFFFFFF
    x = ((x ^ x >> 13) * 0xC2B2AE35) & 0xFFFFFFFF
    return x ^ x >> 16


def uniform(image_id, step, count, salt):
    """The documented hash of (image, step, element)."""
    key = murmur(image_id + murmur(step + murmur(salt)))
    return [(murmur(key + murmur(i + 1)) & 0xFFFFFF) / 2**24 for i in range(count)]


def random_boxes(rng, count, width, height, whole=False):
    """Boxes with some extent inside a canvas, float32; ``whole`` coordinates make ties likely."""
    x, y = rng.uniform(0, width, (count, 2)), rng.uniform(0, height, (count, 2))
    x.sort(1), y.sort(1)
    boxes = np.stack([x[:, 0], y[:, 0], x[:, 1] + 1, y[:, 1] + 1], 1)
    return (np.round(boxes) if whole else boxes).astype("float32")
