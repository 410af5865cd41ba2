"""Faster R-CNN (Ren 2015) as an ordinary Keras model."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

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

# Deviations of the box head's deltas in joint training, as py-faster-rcnn has them.
DELTA_DEVIATIONS = (0.1, 0.1, 0.2, 0.2)


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
        proposal_min_size: least side of a proposal, in pixels of the prepared image.
        head_samples: RoIs an image that the box head's loss looks at.
        head_foreground: greatest share of foreground among them.
        use_difficult: train on objects marked difficult.
        score_threshold: detections below it are dropped.
        nms_iou: NMS threshold within a class.
        max_detections: D.

    Call:
        images ``(B, H, W, 3)``, RGB 0-255, uint8 or float; or ``{"images": ..., "sizes": (B, 2)}`` for images of
        different true height and width, zero-padded at the right and bottom. Further keys are ignored. Returns
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
        head_samples: int = 128,
        head_foreground: float = 0.25,
        use_difficult: bool = False,
        score_threshold: float = 0.05,
        nms_iou: float = 0.3,
        max_detections: int = 100,
        name: str | None = None,
    ):
        # Boxes must not be rounded to 16 bits under a mixed-precision policy: only the networks inside are cast.
        super().__init__(name=name, autocast=False)
        # XLA would compile anew for every image size, and on a CPU runs these networks slower.
        self.supports_jit = keras.backend.backend() != "tensorflow"
        self.classes = tuple(classes)
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"a detector needs one or more distinct class names, got {self.classes}")
        self.stride, self.pool_size = int(stride), int(pool_size)
        self.anchor_sizes, self.anchor_ratios = tuple(anchor_sizes), tuple(anchor_ratios)
        self.rpn_channels, self.rpn_samples = rpn_channels, rpn_samples
        self.rpn_positive_iou, self.rpn_negative_iou = rpn_positive_iou, rpn_negative_iou
        self.train_proposals, self.test_proposals = tuple(train_proposals), tuple(test_proposals)
        self.proposal_min_size = proposal_min_size
        self.head_samples, self.head_foreground = head_samples, head_foreground
        self.use_difficult = use_difficult
        self.score_threshold, self.nms_iou = score_threshold, nms_iou
        self.max_detections = max_detections

        self.cell_anchors = anchor_boxes.cell_anchors(self.anchor_sizes, self.anchor_ratios, self.stride)
        self.preprocessing = preprocessing
        self.extractor = extractor
        self.rpn = RPN(len(self.cell_anchors), rpn_channels, name="rpn")
        max_cells = -(-preprocessing.long // self.stride)
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
        if training:
            return raw
        found = self._detect(raw)
        scale = ops.concatenate([raw["ratio"][:, ::-1]] * 2, axis=1)
        sizes = ops.cast(raw["sizes"], "float32") / raw["ratio"]
        found["boxes"] = box_math.clip(found["boxes"] / scale[:, None], sizes)
        return found

    def _propose(self, inputs, training: bool) -> dict:
        """Everything up to the proposals, in pixels of the prepared images."""
        images, sizes = (inputs, None) if not isinstance(inputs, dict) else (inputs["images"], inputs.get("sizes"))
        prepared, sizes, ratio = self.preprocessing(images, sizes)
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
            min_size=self.proposal_min_size,
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
        }

    def _detect(self, raw: dict) -> dict:
        """Detections in pixels of the prepared images."""
        pooled = self.roi_pool(raw["features"], raw["proposals"])
        logits, deltas = self.head(pooled, training=False)
        return detections(
            logits,
            deltas,
            raw["proposals"],
            raw["proposal_scores"],
            raw["sizes"],
            deviations=DELTA_DEVIATIONS,
            score_threshold=self.score_threshold,
            nms_iou=self.nms_iou,
            most=self.max_detections,
        )

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
        boxes = ops.cast(y["boxes"], "float32") * ops.concatenate([y_pred["ratio"][:, ::-1]] * 2, axis=1)[:, None]
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
        recall, objects = losses.proposal_recall(y_pred["proposals"], y_pred["proposal_scores"], boxes, valid)
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
            *("train_proposals", "test_proposals", "proposal_min_size"),
            *("head_samples", "head_foreground", "use_difficult"),
            *("score_threshold", "nms_iou", "max_detections", "name"),
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


def _replicas() -> float:
    """Replicas whose gradients are summed: Keras expects a loss already divided by their number."""
    if keras.backend.backend() != "tensorflow":
        return 1.0
    import tensorflow as tf

    return float(np.float32(tf.distribute.get_strategy().num_replicas_in_sync))
