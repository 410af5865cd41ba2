"""Faster R-CNN (Ren 2015) as an ordinary Keras model."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from zoo.detectors.deltas import DELTA_DEVIATIONS
from zoo.detectors.detect import detect
from zoo.detectors.preprocessing import Preprocessing
from zoo.heads import anchors as anchor_boxes
from zoo.heads import boxes as box_math
from zoo.heads import losses
from zoo.heads.box_head import BoxHead
from zoo.heads.postprocess import detections
from zoo.heads.proposals import propose
from zoo.heads.roi_pool import RoIMaxPool
from zoo.heads.rpn import RPN
from zoo.heads.targets import roi_targets, rpn_targets

CONVENTIONS = ("continuous", "caffe")

# From inclusive to continuous boxes: the last pixel is one wide.
_LAST_PIXEL = np.array([0, 0, 1, 1], np.float32)


@keras.saving.register_keras_serializable("zoo")
class FasterRCNN(keras.Model):
    """Region proposal network and box head on one feature map, trained jointly.

    Args:
        extractor: model from prepared images to a feature map.
        body: model from pooled features to vectors, shared by all RoIs.
        classes: names of the K classes, without the background.
        preprocessing: how raw images become prepared ones.
        stride: pixels a cell of the feature map spans.
        pool_size: bins a side of RoI pooling.
        anchor_sizes: square roots of the anchors' areas, in pixels of the prepared image.
        anchor_ratios: height / width of the anchors.
        rpn_channels: of the RPN's 3x3 convolution.
        rpn_samples: anchors an image that the RPN's loss looks at.
        rpn_positive_iou: IoU from which an anchor is positive.
        rpn_negative_iou: IoU below which an anchor is negative.
        train_proposals: best boxes before NMS, and proposals after it, in training.
        test_proposals: the same at test.
        proposal_min_size: least side of a proposal,
        min_size_in: in pixels of the ``"prepared"`` or the ``"original"`` image; both references do the latter.
        rank_by: proposals are ranked by ``"softmax"``, or by the foreground's ``"logit"`` as in ChainerCV.
        edge_cells: the last row and column of anchors propose even where their centres lie outside the image, as in
            both references.
        head_samples: RoIs an image that the box head's loss looks at.
        head_foreground: greatest share of foreground among them.
        use_difficult: train on objects marked difficult.
        score_threshold: detections below it are dropped.
        nms_iou: NMS threshold within a class.
        max_detections: D.
        convention: ``"continuous"``, or ``"caffe"``: within the model boxes are py-faster-rcnn's, which include their
            last pixel: its rounded anchors, widths of ``x2 - x1 + 1``, the border at ``W - 1``. What goes in and comes
            out is continuous either way: a box that includes pixel ``x2`` ends at ``x2 + 1``.

    Call:
        images ``(B, H, W, 3)``, RGB 0-255, uint8 or float; or ``{"images": ..., "sizes": (B, 2)}`` for images of
        different true height and width, zero-padded at the right and bottom, with ``"prepared_sizes": (B, 2)`` if
        they are to be resized to these sizes instead of the usual ones. Further keys are ignored. Returns
        ``boxes (B, D, 4)`` in pixels of the original images, ``scores (B, D)``, ``classes (B, D)`` int32 (-1 is
        padding) and ``num_detections (B,)``.

    ``fit`` takes ``(x, y)``: x as above with ``image_id (B,)``, y with ``boxes (B, G, 4)`` in original pixels,
    ``classes (B, G)`` padded with -1, and ``difficult (B, G)`` if any; see ``zoo.datasets.pipeline``.
    """

    def __init__(
        self,
        extractor: keras.Model,
        body: keras.Model,
        classes: Sequence[str],
        preprocessing: Preprocessing,
        *,
        stride: int = 16,
        pool_size: int = 7,
        anchor_sizes: Sequence[float] = (128, 256, 512),
        anchor_ratios: Sequence[float] = (0.5, 1, 2),
        rpn_channels: int = 512,
        rpn_samples: int = 256,
        rpn_positive_iou: float = 0.7,
        rpn_negative_iou: float = 0.3,
        train_proposals: tuple[int, int] = (12000, 2000),
        test_proposals: tuple[int, int] = (6000, 300),
        proposal_min_size: float = 16.0,
        min_size_in: str = "prepared",
        rank_by: str = "softmax",
        edge_cells: bool = False,
        head_samples: int = 128,
        head_foreground: float = 0.25,
        use_difficult: bool = False,
        score_threshold: float = 0.05,
        nms_iou: float = 0.3,
        max_detections: int = 100,
        convention: str = "continuous",
        name: str | None = None,
    ):
        # Boxes must not be rounded to 16 bits under a mixed-precision policy: only the networks inside are cast.
        super().__init__(name=name, autocast=False)
        # XLA would compile anew for every image size, and on a CPU runs these networks slower.
        self.supports_jit = keras.backend.backend() != "tensorflow"
        self.classes = tuple(classes)
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"a detector needs one or more distinct class names, got {self.classes}")
        _check_choice("convention", convention, CONVENTIONS)
        _check_choice("rank_by", rank_by, ("softmax", "logit"))
        _check_choice("min_size_in", min_size_in, ("prepared", "original"))
        self.stride, self.pool_size = int(stride), int(pool_size)
        self.anchor_sizes, self.anchor_ratios = tuple(anchor_sizes), tuple(anchor_ratios)
        self.rpn_channels, self.rpn_samples = rpn_channels, rpn_samples
        self.rpn_positive_iou, self.rpn_negative_iou = rpn_positive_iou, rpn_negative_iou
        self.train_proposals, self.test_proposals = tuple(train_proposals), tuple(test_proposals)
        self.proposal_min_size, self.min_size_in = proposal_min_size, min_size_in
        self.rank_by, self.edge_cells = rank_by, bool(edge_cells)
        self.head_samples, self.head_foreground = head_samples, head_foreground
        self.use_difficult = use_difficult
        self.score_threshold, self.nms_iou = score_threshold, nms_iou
        self.max_detections = max_detections

        self.convention, self._inclusive = convention, convention == "caffe"
        if self._inclusive:
            scales = [size / self.stride for size in self.anchor_sizes]
            self.cell_anchors = anchor_boxes.caffe_cell_anchors(scales, self.anchor_ratios, self.stride)
        else:
            self.cell_anchors = anchor_boxes.cell_anchors(self.anchor_sizes, self.anchor_ratios, self.stride)
        self.preprocessing = preprocessing
        self.extractor = extractor
        self.rpn = RPN(len(self.cell_anchors), rpn_channels, name="rpn")
        # One more than strides make: Caffe's padded pools give AlexNet's map a further cell.
        max_cells = -(-preprocessing.long // self.stride) + 1
        self.roi_pool = RoIMaxPool(self.pool_size, self.stride, max_cells, clipped=True, name="roi_pool")
        self.head = BoxHead(body, len(self.classes), name="head")
        # Seeds the sampling; saved with the weights, so that a resumed training goes on with the same samples.
        self.sampling_step = self.add_weight(
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            name="sampling_step",
            aggregation="only_first_replica",
        )
        names = ("rpn_objectness", "rpn_box", "head_class", "head_box", "proposal_recall")
        self.trackers = {key: keras.metrics.Mean(name=key) for key in names}
        self.build()

    def build(self, input_shape=None):
        """Create all weights at once: they do not depend on the images' size."""
        if self.built:
            return
        features = self.extractor.output_shape
        self.rpn.build(features)
        self.roi_pool.built = True
        self.head.build((None, None, self.pool_size, self.pool_size, features[-1]))
        self.built = True

    def call(self, inputs, training=None):
        """Detections; in training, what :meth:`compute_loss` needs instead."""
        raw = self._propose(inputs, training=bool(training))
        return raw if training else self._detect(raw)

    def _propose(self, inputs, training: bool) -> dict:
        """Everything up to the proposals, in pixels of the prepared images."""
        inputs = inputs if isinstance(inputs, dict) else {"images": inputs}
        images, given = inputs["images"], inputs.get("sizes")
        prepared, sizes, ratio = self.preprocessing(images, given, inputs.get("prepared_sizes"))
        features = self.extractor(prepared, training=training)
        logits, deltas = self.rpn(features)
        rows, columns = ops.shape(features)[1:3]
        anchors = anchor_boxes.grid(self.cell_anchors, rows, columns, self.stride)
        before, after = self.train_proposals if training else self.test_proposals
        # Proposals are taken as fixed: no gradient flows through their coordinates (Ren 2015, section 3.2).
        proposals, scores = propose(
            ops.stop_gradient(logits),
            ops.stop_gradient(deltas),
            anchors,
            sizes,
            before_nms=before,
            after_nms=after,
            min_size=self.proposal_min_size * (ratio[:, 1:] if self.min_size_in == "original" else 1.0),
            rank_by=self.rank_by,
            plus_one=self._inclusive,
            margin=self.stride / 2 - 0.5 if self.edge_cells else 0.0,
        )
        return {
            "features": features,
            "rpn_logits": logits,
            "rpn_deltas": deltas,
            "anchors": anchors,
            "proposals": proposals,
            "proposal_scores": scores,
            "sizes": sizes,
            "ratio": ratio,
            "original_sizes": _sizes_of(images) if given is None else given,
        }

    def _detect(self, raw: dict) -> dict:
        """Detections in continuous pixels of the original images."""
        pooled = self.roi_pool(raw["features"], raw["proposals"])
        logits, deltas = self.head(pooled, training=False)
        original = ops.broadcast_to(ops.cast(raw["original_sizes"], "float32"), ops.shape(raw["sizes"]))
        rois, sizes, scale = raw["proposals"], raw["sizes"], _sides(raw["ratio"])
        if self._inclusive:
            # py-faster-rcnn applies the deltas in the original's pixels; a width + 1 differs between scales.
            rois, sizes = rois / scale, original
        found = detections(
            logits,
            deltas,
            rois,
            raw["proposal_scores"],
            sizes,
            deviations=DELTA_DEVIATIONS,
            score_threshold=self.score_threshold,
            nms_iou=self.nms_iou,
            most=self.max_detections,
            plus_one=self._inclusive,
        )
        if self._inclusive:
            last = ops.where(found["classes"][..., None] >= 0, ops.convert_to_tensor(_LAST_PIXEL), 0.0)
            found["boxes"] = found["boxes"] + last
        else:
            limits = ops.minimum(ops.cast(sizes, "float32") / raw["ratio"], original)
            found["boxes"] = box_math.clip(found["boxes"] / scale, limits)
        return found

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Sum of the four losses of joint training (Ren 2015, section 3.2), each also kept as a metric."""
        if "rpn_logits" not in y_pred:
            # Validation: the detections in y_pred do not hold what the losses need. Compiled, they are not
            # computed at all, since nothing uses them.
            y_pred = self._propose(x, training=False)
        classes = ops.cast(y["classes"], "int32")
        if not self.use_difficult and "difficult" in y:
            classes = ops.where(ops.cast(y["difficult"], "bool"), -1, classes)
        valid = classes >= 0
        boxes = ops.cast(y["boxes"], "float32")
        if self._inclusive:
            boxes = boxes - ops.convert_to_tensor(_LAST_PIXEL)
        boxes = boxes * _sides(y_pred["ratio"])
        image_id = x.get("image_id") if isinstance(x, dict) else None
        if image_id is None:
            image_id = ops.arange(ops.shape(boxes)[0], dtype="int32")
        # Counted before it is read: on TensorFlow the read waits until it is used, so that the other order gave the
        # old step on JAX and the new one here.
        if training:
            self.sampling_step.assign_add(1)
        step = ops.convert_to_tensor(self.sampling_step)
        rpn = rpn_targets(
            y_pred["anchors"],
            boxes,
            valid,
            y_pred["sizes"],
            image_id,
            step,
            samples=self.rpn_samples,
            positive_iou=self.rpn_positive_iou,
            negative_iou=self.rpn_negative_iou,
            plus_one=self._inclusive,
        )
        objectness, rpn_box = losses.rpn_losses(y_pred["rpn_logits"], y_pred["rpn_deltas"], rpn)
        rois = roi_targets(
            y_pred["proposals"],
            y_pred["proposal_scores"],
            boxes,
            classes,
            image_id,
            step,
            samples=self.head_samples,
            foreground_fraction=self.head_foreground,
            plus_one=self._inclusive,
        )
        pooled = self.roi_pool(y_pred["features"], rois.rois, training=training)
        logits, deltas = self.head(pooled, training=training)
        head_class, head_box = losses.head_losses(logits, deltas, rois, DELTA_DEVIATIONS)
        parts = {
            "rpn_objectness": objectness,
            "rpn_box": rpn_box,
            "head_class": head_class,
            "head_box": head_box,
        }
        for key, value in parts.items():
            self.trackers[key].update_state(value)
        recall, objects = losses.proposal_recall(
            y_pred["proposals"], y_pred["proposal_scores"], boxes, valid, plus_one=self._inclusive
        )
        self.trackers["proposal_recall"].update_state(recall, sample_weight=objects)
        total = sum(parts.values())
        for penalty in self.losses:
            total = total + ops.cast(penalty, "float32")
        return total / _replicas()

    def detect(self, images, *, score_threshold: float | None = None, batch_size: int = 1):
        """Detect objects; see :func:`zoo.detectors.detect.detect`."""
        return detect(self, images, score_threshold=score_threshold, batch_size=batch_size)

    def get_config(self):
        """Arguments of ``__init__``, the networks serialised."""
        plain = [
            *("classes", "stride", "pool_size", "anchor_sizes", "anchor_ratios"),
            *("rpn_channels", "rpn_samples", "rpn_positive_iou", "rpn_negative_iou"),
            *("train_proposals", "test_proposals", "proposal_min_size", "min_size_in", "rank_by", "edge_cells"),
            *("head_samples", "head_foreground", "use_difficult"),
            *("score_threshold", "nms_iou", "max_detections", "convention", "name"),
        ]
        config = {key: getattr(self, key) for key in plain}
        parts = {"extractor": self.extractor, "body": self.head.body, "preprocessing": self.preprocessing}
        return {**config, **{key: keras.saving.serialize_keras_object(part) for key, part in parts.items()}}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Rebuild from :meth:`get_config`."""
        parts = {
            key: keras.saving.deserialize_keras_object(config[key], custom_objects=custom_objects)
            for key in ("extractor", "body", "preprocessing")
        }
        return cls(**{**config, **parts})


def _check_choice(what: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{what} must be one of {', '.join(map(repr, allowed))}, got {value!r}")


def _sizes_of(images):
    """Height and width of ``images (B, H, W, 3)``, ``(1, 2)`` float32."""
    return ops.stack([ops.cast(side, "float32") for side in ops.shape(images)[1:3]])[None]


def _sides(ratio):
    """What ``(B, N, 4)`` boxes are multiplied by, ``(B, 1, 4)``, from ``(B, 2)`` for height and width."""
    return ops.concatenate([ratio[:, ::-1]] * 2, axis=1)[:, None]


def _replicas() -> float:
    """Replicas whose gradients are summed: Keras expects a loss already divided by their number."""
    if keras.backend.backend() != "tensorflow":
        return 1.0
    import tensorflow as tf

    return float(np.float32(tf.distribute.get_strategy().num_replicas_in_sync))
