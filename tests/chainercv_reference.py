"""ChainerCV's Faster R-CNN on VGG-16 (0.13), computed anew from its definition with OpenCV, PyTorch and NumPy loops.

As there: arrays are (C, H, W), boxes (y1, x1, y2, x2), deltas (dy, dx, dh, dw); ``w`` holds the file's arrays by their
published names. Boxes are computed in float64. Nothing here is shared with the package.
"""

import math

import cv2
import numpy as np
import torch
from torch.nn import functional as F

MEAN = np.array([122.7717, 115.9465, 102.9801], "float32")
# Channels of the convolutions; in the detector pools stand between the blocks, not behind the last.
BLOCKS = {1: (64, 64), 2: (128, 128), 3: (256, 256, 256), 4: (512, 512, 512), 5: (512, 512, 512)}
STRIDE, POOL = 16, 7


def published_shapes(classes: int = 20, units: int = 4096) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the 40 arrays in the released files; fewer ``units`` than 4096 make small ones."""
    shapes, channels = {}, 3
    for block, widths in BLOCKS.items():
        for i, width in enumerate(widths, 1):
            shapes[f"extractor/conv{block}_{i}/conv/W"] = (width, channels, 3, 3)
            channels = width
    shapes |= {"rpn/conv1/W": (512, 512, 3, 3), "rpn/score/W": (18, 512, 1, 1), "rpn/loc/W": (36, 512, 1, 1)}
    shapes |= {"head/fc6/W": (units, 512 * POOL * POOL), "head/fc7/W": (units, units)}
    shapes |= {"head/cls_loc/W": (4 * (classes + 1), units), "head/score/W": (classes + 1, units)}
    return {name: shape for kernel, s in shapes.items() for name, shape in ((kernel, s), (kernel[:-1] + "b", s[:1]))}


def random_weights(shapes, seed: int = 0) -> dict[str, np.ndarray]:
    """Numbers that neither blow activations up nor let them die: He's deviation, small biases."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, shape in shapes.items():
        deviation = math.sqrt(2 / math.prod(shape[1:])) if len(shape) > 1 else 0.1
        found[name] = rng.standard_normal(shape, "float32") * np.float32(deviation)
    return found


def prepare(image, short: int = 600, long: int = 1000):
    """(H, W, 3) RGB to ``((3, H', W'), scale)``: truncated sizes, the scale is that of the width."""
    height, width = image.shape[:2]
    scale = short / min(height, width)
    if scale * max(height, width) > long:
        scale = long / max(height, width)
    size = int(height * scale), int(width * scale)
    resized = cv2.resize(image.astype("float32"), (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return (resized - MEAN).transpose(2, 0, 1), size[1] / width


def _torch(array):
    return torch.from_numpy(np.ascontiguousarray(array, "float32"))


def _layer(x, w, name, **options):
    return F.conv2d(x, _torch(w[f"{name}/W"]), _torch(w[f"{name}/b"]), **options)


def conv5_3(prepared, w):
    """The feature map (512, h, w); pools cover all of their input."""
    x = _torch(prepared)[None]
    for block, widths in BLOCKS.items():
        if block > 1:
            x = F.max_pool2d(x, 2, 2, ceil_mode=True)
        for i in range(1, len(widths) + 1):
            x = F.relu(_layer(x, w, f"extractor/conv{block}_{i}/conv", padding=1))
    return x[0].numpy()


def rpn(features, w):
    """Scores (A, 2), {background, foreground}, and deltas (A, 4), anchors in the order row, column, anchor."""
    hidden = F.relu(_layer(_torch(features)[None], w, "rpn/conv1", padding=1))
    scores, deltas = (_layer(hidden, w, f"rpn/{name}")[0].permute(1, 2, 0) for name in ("score", "loc"))
    return scores.reshape(-1, 2).numpy(), deltas.reshape(-1, 4).numpy()


def anchors(rows: int, columns: int, scales=(8, 16, 32), ratios=(0.5, 1, 2)):
    """(A, 4): centre (8, 8) plus whole cells, height 16 s sqrt(r), width 16 s / sqrt(r)."""
    found = []
    for row in range(rows):
        for column in range(columns):
            for ratio in ratios:
                for scale in scales:
                    h, w = 16 * scale * math.sqrt(ratio), 16 * scale / math.sqrt(ratio)
                    y, x = 8 + STRIDE * row, 8 + STRIDE * column
                    found.append([y - h / 2, x - w / 2, y + h / 2, x + w / 2])
    return np.array(found)


def decode(boxes, deltas):
    """Boxes (..., 4) moved by (..., 4) deltas."""
    h, w = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    y = boxes[..., 0] + h / 2 + deltas[..., 0] * h
    x = boxes[..., 1] + w / 2 + deltas[..., 1] * w
    h, w = h * np.exp(deltas[..., 2]), w * np.exp(deltas[..., 3])
    return np.stack([y - h / 2, x - w / 2, y + h / 2, x + w / 2], -1)


def clip(boxes, height: float, width: float):
    """Boxes inside an image."""
    return np.clip(boxes, 0, [height, width, height, width])


def nms(boxes, threshold: float, most: int | None = None):
    """Indices kept of boxes that are sorted by score."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = []
    for i in range(len(boxes)):
        if most is not None and len(kept) == most:
            break
        low = np.maximum(boxes[i, :2], boxes[kept, :2])
        high = np.minimum(boxes[i, 2:], boxes[kept, 2:])
        inter = np.prod(np.maximum(high - low, 0), axis=1)
        if not (inter / (area[i] + area[kept] - inter) >= threshold).any():
            kept.append(i)
    return kept


def candidates(scores, deltas, anchor, size, scale, before: int = 6000, least: float = 16):
    """What NMS chooses proposals from: boxes and their raw foreground scores, by which they are ranked."""
    boxes = clip(decode(anchor, deltas.astype(float)), *size)
    sides = boxes[:, 2:] - boxes[:, :2]
    large = np.nonzero((sides >= least * scale).all(1))[0]
    order = large[np.argsort(-scores[large, 1].astype(float), kind="stable")][:before]
    return boxes[order], scores[order, 1].astype(float)


def proposals(scores, deltas, anchor, size, scale, after: int = 300):
    """(P, 4) out of (A, 2) scores and (A, 4) deltas."""
    boxes, _ = candidates(scores, deltas, anchor, size, scale)
    return boxes[nms(boxes, 0.7, after)]


def _away(x) -> int:
    """Nearest whole number, halves away from zero, as on GPUs."""
    return int(math.copysign(math.floor(abs(x) + 0.5), x))


def pool(features, rois):
    """(R, 512, 7, 7) maxima: bins as Caffe's kernel has them, in float32."""
    channels, rows, columns = features.shape
    out = np.zeros((len(rois), channels, POOL, POOL), "float32")
    for r, roi in enumerate(np.asarray(rois, "float32")):
        y1, x1, y2, x2 = (_away(float(v * np.float32(1 / STRIDE))) for v in roi)
        bin_h, bin_w = (np.float32(max(b - a + 1, 1)) / np.float32(POOL) for a, b in ((y1, y2), (x1, x2)))
        for i in range(POOL):
            top, bottom = (int(np.floor(np.float32(i) * bin_h)), int(np.ceil(np.float32(i + 1) * bin_h)))
            top, bottom = (min(max(v + y1, 0), rows) for v in (top, bottom))
            for j in range(POOL):
                left, right = (int(np.floor(np.float32(j) * bin_w)), int(np.ceil(np.float32(j + 1) * bin_w)))
                left, right = (min(max(v + x1, 0), columns) for v in (left, right))
                if bottom > top and right > left:
                    out[r, :, i, j] = features[:, top:bottom, left:right].max((1, 2))
    return out


def head(pooled, w):
    """Class scores (R, K + 1) and deltas (R, K + 1, 4)."""
    x = _torch(pooled).flatten(1)
    for name in ("fc6", "fc7"):
        x = F.relu(F.linear(x, _torch(w[f"head/{name}/W"]), _torch(w[f"head/{name}/b"])))
    scores, deltas = (
        F.linear(x, _torch(w[f"head/{name}/W"]), _torch(w[f"head/{name}/b"])).numpy() for name in ("score", "cls_loc")
    )
    return scores, deltas.reshape(len(deltas), -1, 4)


def classified(scores, deltas, rois, size, scale):
    """Probabilities (R, K + 1) and boxes (R, K + 1, 4) in the original's pixels; ``size`` is the prepared image's."""
    e = np.exp(scores.astype(float) - scores.max(1, keepdims=True))
    boxes = decode(rois[:, None] / scale, deltas * np.array([0.1, 0.1, 0.2, 0.2]))
    return e / e.sum(1, keepdims=True), clip(boxes, size[0] / scale, size[1] / scale)


def detections(scores, deltas, rois, size, scale):
    """``[(score, class without background, box)]`` in the original's pixels, best first."""
    probability, boxes = classified(scores, deltas, rois, size, scale)
    found = []
    for k in range(1, scores.shape[1]):
        order = np.argsort(-probability[:, k], kind="stable")
        order = order[probability[order, k] > 0.05]
        found += [(probability[i, k], k - 1, boxes[i, k]) for i in order[nms(boxes[order, k], 0.3)]]
    return sorted(found, key=lambda each: -each[0])


def detect(image, w, short: int = 600, long: int = 1000, most: int = 300):
    """All steps."""
    prepared, scale = prepare(image, short, long)
    features = conv5_3(prepared, w)
    scores, deltas = rpn(features, w)
    size = prepared.shape[1:]
    rois = proposals(scores, deltas, anchors(*features.shape[1:]), size, scale, after=most)
    return detections(*head(pool(features, rois), w), rois, size, scale)


def sharpen(w, image, short: int = 600, long: int = 1000) -> None:
    """Scale the last layers of random weights until scores and deltas spread as a trained detector's do."""
    prepared, scale = prepare(image, short, long)
    features = conv5_3(prepared, w)
    size = prepared.shape[1:]

    def spread(name, outputs, to):
        factor = np.float32(to) / outputs.std(0)
        kernel = w[f"{name}/W"]
        w[f"{name}/W"] = kernel * factor.reshape(-1, *[1] * (kernel.ndim - 1))
        w[f"{name}/b"] = (w[f"{name}/b"] - outputs.mean(0)) * factor

    scores, deltas = rpn(features, w)
    # An anchor's two scores vary by themselves: the foreground's alone ranks otherwise than the softmax.
    spread("rpn/score", scores.reshape(-1, 18), 2.0)
    spread("rpn/loc", deltas.reshape(-1, 36), 0.3)
    rois = proposals(*rpn(features, w), anchors(*features.shape[1:]), size, scale, after=100)
    scores, deltas = head(pool(features, rois), w)
    spread("head/score", scores, 2.5)
    spread("head/cls_loc", deltas.reshape(len(deltas), -1), 1.0)
