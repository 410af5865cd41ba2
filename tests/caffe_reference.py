"""py-faster-rcnn, computed anew from its definition with OpenCV, PyTorch and NumPy: VGG-16 and VGG_CNN_M_1024.

As there: images are BGR, boxes (x1, y1, x2, y2) hold their last pixel, and ``w`` holds the blobs of a ``.caffemodel``
as ``layer/0`` (kernel) and ``layer/1`` (bias). Boxes are computed in float64. Nothing here is shared with the package.
"""

import math

import cv2
import numpy as np
import torch
from torch.nn import functional as F

PIXEL_MEANS = np.array([102.9801, 115.9465, 122.7717], "float32")
STRIDE = 16
VGG16 = {1: (64, 64), 2: (128, 128), 3: (256, 256, 256), 4: (512, 512, 512), 5: (512, 512, 512)}
# The nine anchors as the paper's release prints them in Matlab, whose pixels count from 1; the list less one is what
# generate_anchors() returns.
MATLAB_ANCHORS = [
    *((-83, -39, 100, 56), (-175, -87, 192, 104), (-359, -183, 376, 200)),
    *((-55, -55, 72, 72), (-119, -119, 136, 136), (-247, -247, 264, 264)),
    *((-35, -79, 52, 96), (-79, -167, 96, 184), (-167, -343, 184, 360)),
]


def released_shapes(network: str, units=(4096, 4096), classes: int = 20) -> dict[str, tuple[int, ...]]:
    """Blobs of the two networks' releases; ``units`` are those of fc6 and fc7."""
    if network == "vgg16":
        widths = [(f"conv{b}_{i}", width, 3) for b, block in VGG16.items() for i, width in enumerate(block, 1)]
        hidden, size = 512, 7
    else:
        widths = [("conv1", 96, 7), ("conv2", 256, 5), ("conv3", 512, 3), ("conv4", 512, 3), ("conv5", 512, 3)]
        hidden, size = 256, 6
    shapes, channels = {}, 3
    for name, width, kernel in widths:
        shapes[name] = (width, channels, kernel, kernel)
        channels = width
    shapes |= {"rpn_conv/3x3": (hidden, channels, 3, 3), "rpn_cls_score": (18, hidden, 1, 1)}
    shapes |= {"rpn_bbox_pred": (36, hidden, 1, 1)}
    shapes |= {"fc6": (units[0], channels * size * size), "fc7": (units[1], units[0])}
    shapes |= {"cls_score": (classes + 1, units[1]), "bbox_pred": (4 * (classes + 1), units[1])}
    return {f"{name}/{i}": blob for name, shape in shapes.items() for i, blob in enumerate((shape, shape[:1]))}


def _torch(array):
    return torch.from_numpy(np.ascontiguousarray(array, "float32"))


def _conv(x, w, name, **options):
    return F.conv2d(x, _torch(w[f"{name}/0"]), _torch(w[f"{name}/1"]), **options)


class PyFasterRCNN:
    """The steps of a release, each callable by itself.

    Args:
        w: blobs by name.
        short: wanted short side of the prepared image.
        long: greatest long side.
    """

    def __init__(self, w, short: int = 600, long: int = 1000):
        self.w, self.short, self.long = w, short, long
        self.vgg = "conv1_1/0" in w
        self.size = 7 if self.vgg else 6

    def prepare(self, image):
        """(H, W, 3) RGB to ``((3, H', W'), scale)``."""
        bgr = image[..., ::-1].astype("float32") - PIXEL_MEANS
        scale = self.short / min(image.shape[:2])
        if np.round(scale * max(image.shape[:2])) > self.long:
            scale = self.long / max(image.shape[:2])
        resized = cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        return resized.transpose(2, 0, 1), scale

    def features(self, prepared):
        """The last convolution's map, (512, h, w)."""
        x, w = _torch(prepared)[None], self.w
        if self.vgg:
            for block, widths in VGG16.items():
                if block > 1:
                    x = F.max_pool2d(x, 2, 2, ceil_mode=True)
                for i in range(1, len(widths) + 1):
                    x = F.relu(_conv(x, w, f"conv{block}_{i}", padding=1))
            return x[0].numpy()
        for name, padding in (("conv1", 0), ("conv2", 1)):
            x = F.relu(_conv(x, w, name, stride=2, padding=padding))
            x = F.local_response_norm(x, 5, alpha=5e-4, beta=0.75, k=2.0)
            x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        for name in ("conv3", "conv4", "conv5"):
            x = F.relu(_conv(x, w, name, padding=1))
        return x[0].numpy()

    def rpn(self, features):
        """Scores (2, 9, h, w), {background, foreground}, and deltas (36, h, w) as the layers give them."""
        hidden = F.relu(_conv(_torch(features)[None], self.w, "rpn_conv/3x3", padding=1))
        scores, deltas = (_conv(hidden, self.w, f"rpn_{name}")[0].numpy() for name in ("cls_score", "bbox_pred"))
        return scores.reshape(2, 9, *scores.shape[1:]), deltas

    def candidates(self, scores, deltas, size, scale, before: int = 6000):
        """What NMS chooses proposals from: boxes and the foreground's probabilities, by which they are ranked."""
        e = np.exp(scores.astype(float) - scores.max(0))
        foreground = (e[1] / e.sum(0)).transpose(1, 2, 0).reshape(-1)
        deltas = deltas.transpose(1, 2, 0).reshape(-1, 4).astype(float)
        boxes = clip(decode(self.anchors(*scores.shape[2:]), deltas), *size)
        sides = boxes[:, 2:] - boxes[:, :2] + 1
        large = np.nonzero((sides >= 16 * scale).all(1))[0]
        order = large[np.argsort(-foreground[large], kind="stable")][:before]
        return boxes[order], foreground[order]

    def proposals(self, scores, deltas, size, scale, after: int = 300):
        """The proposal layer: (P, 4)."""
        boxes, _ = self.candidates(scores, deltas, size, scale)
        return boxes[nms(boxes, 0.7, after)]

    def anchors(self, rows: int, columns: int):
        """(A, 4) in the order row, column, anchor."""
        base = np.array(MATLAB_ANCHORS, float) - 1
        shifts = [np.tile([column, row], 2) * STRIDE for row in range(rows) for column in range(columns)]
        return np.concatenate([base + shift for shift in shifts])

    def pool(self, features, rois):
        """(P, 512, size, size): Caffe's RoI pooling, in float32."""
        channels, rows, columns = features.shape
        out = np.zeros((len(rois), channels, self.size, self.size), "float32")
        for r, roi in enumerate(np.asarray(rois, "float32")):
            x1, y1, x2, y2 = (int(math.copysign(math.floor(abs(v) + 0.5), v)) for v in (roi / STRIDE).tolist())
            height, width = (np.float32(max(b - a + 1, 1)) / np.float32(self.size) for a, b in ((y1, y2), (x1, x2)))
            for i in range(self.size):
                top, bottom = _edges(i, height, y1, rows)
                for j in range(self.size):
                    left, right = _edges(j, width, x1, columns)
                    if bottom > top and right > left:
                        out[r, :, i, j] = features[:, top:bottom, left:right].max((1, 2))
        return out

    def head(self, pooled):
        """Class scores (P, K + 1) and deltas (P, K + 1, 4), ready to be applied."""
        x = _torch(pooled).flatten(1)
        for name in ("fc6", "fc7"):
            x = F.relu(F.linear(x, _torch(self.w[f"{name}/0"]), _torch(self.w[f"{name}/1"])))
        scores, deltas = (
            F.linear(x, _torch(self.w[f"{name}/0"]), _torch(self.w[f"{name}/1"])).numpy()
            for name in ("cls_score", "bbox_pred")
        )
        return scores, deltas.reshape(len(deltas), -1, 4)

    def classified(self, scores, deltas, rois, size, scale):
        """``im_detect``: probabilities (P, K + 1) and inclusive boxes (P, K + 1, 4) in the original's pixels.

        ``size`` is the original's height and width.
        """
        e = np.exp(scores.astype(float) - scores.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True), clip(decode((rois / scale)[:, None], deltas.astype(float)), *size)

    def detections(self, scores, deltas, rois, size, scale, most: int = 100):
        """The loop of ``test_net``: ``[(score, class, box)]``."""
        probability, boxes = self.classified(scores, deltas, rois, size, scale)
        found = []
        for k in range(1, scores.shape[1]):
            order = np.argsort(-probability[:, k], kind="stable")
            order = order[probability[order, k] > 0.05]
            found += [(probability[i, k], k - 1, boxes[i, k]) for i in order[nms(boxes[order, k], 0.3)]]
        return sorted(found, key=lambda each: -each[0])[:most]

    def detect(self, image):
        """All steps."""
        prepared, scale = self.prepare(image)
        features = self.features(prepared)
        rois = self.proposals(*self.rpn(features), prepared.shape[1:], scale)
        outputs = self.head(self.pool(features, rois))
        return self.detections(*outputs, rois, image.shape[:2], scale)

    def sharpen(self, image) -> None:
        """Scale the last layers of random blobs until scores and deltas spread as a trained detector's do."""
        prepared, scale = self.prepare(image)
        features = self.features(prepared)

        def spread(name, outputs, to):
            factor = (np.asarray(to) / outputs.std(0)).astype("float32")
            kernel = self.w[f"{name}/0"]
            self.w[f"{name}/0"] = kernel * factor.reshape(-1, *[1] * (kernel.ndim - 1))
            self.w[f"{name}/1"] = ((self.w[f"{name}/1"] - outputs.mean(0)) * factor).astype("float32")

        scores, deltas = self.rpn(features)
        spread("rpn_cls_score", scores.reshape(18, -1).T, 2.0)
        spread("rpn_bbox_pred", deltas.reshape(36, -1).T, 0.3)
        rois = self.proposals(*self.rpn(features), prepared.shape[1:], scale, after=100)
        scores, deltas = self.head(self.pool(features, rois))
        spread("cls_score", scores, 2.5)
        # A release's deltas are to be applied as they are: .1 and .2 is what its training divided by.
        spread("bbox_pred", deltas.reshape(len(deltas), -1), np.tile([0.1, 0.1, 0.2, 0.2], scores.shape[1]))


def _edges(p: int, step, start: int, cells: int):
    low, high = int(np.floor(np.float32(p) * step)), int(np.ceil(np.float32(p + 1) * step))
    return min(max(low + start, 0), cells), min(max(high + start, 0), cells)


def decode(boxes, deltas):
    """Boxes (..., 4) moved by (..., 4) deltas; widths hold the last pixel, the result's far side does not lose it."""
    w, h = boxes[..., 2] - boxes[..., 0] + 1, boxes[..., 3] - boxes[..., 1] + 1
    x = boxes[..., 0] + 0.5 * w + deltas[..., 0] * w
    y = boxes[..., 1] + 0.5 * h + deltas[..., 1] * h
    w, h = w * np.exp(deltas[..., 2]), h * np.exp(deltas[..., 3])
    return np.stack([x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h], -1)


def clip(boxes, height: float, width: float):
    """Boxes inside an image, whose last pixel is ``W - 1``."""
    return np.clip(boxes, 0, np.array([width, height, width, height]) - 1)


def nms(boxes, threshold: float, most: int | None = None):
    """Indices kept of boxes that are sorted by score."""
    area = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    kept: list[int] = []
    for i in range(len(boxes)):
        if most is not None and len(kept) == most:
            break
        sides = np.minimum(boxes[i, 2:], boxes[kept, 2:]) - np.maximum(boxes[i, :2], boxes[kept, :2]) + 1
        inter = np.prod(np.maximum(sides, 0), axis=1)
        if not (inter / (area[i] + area[kept] - inter) > threshold).any():
            kept.append(i)
    return kept
