"""Faster R-CNN (Ren 2015) as an ordinary Keras model."""

from collections.abc import Sequence

import keras
from keras import ops

from zoo.detectors.deltas import DELTA_DEVIATIONS
from zoo.detectors.detect import detect
from zoo.detectors.freezing import set_trainable
from zoo.detectors.preprocessing import Preprocessing
from zoo.detectors.roi_detector import RoIDetector, check_choice, number_of, sides, sizes_of
from zoo.heads import anchors as anchor_boxes
from zoo.heads import boxes as box_math
from zoo.heads import losses
from zoo.heads.proposals import propose
from zoo.heads.rpn import RPN
from zoo.heads.targets import roi_targets, rpn_targets

CONVENTIONS = ("continuous", "caffe")
STAGES = ("joint", "rpn")


@keras.saving.register_keras_serializable("zoo")
class FasterRCNN(RoIDetector):
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

    PLAIN = (
        *RoIDetector.PLAIN,
        *("anchor_sizes", "anchor_ratios", "rpn_channels", "rpn_samples", "rpn_positive_iou", "rpn_negative_iou"),
        *("train_proposals", "test_proposals", "proposal_min_size", "min_size_in", "rank_by", "edge_cells"),
    )

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
        check_choice("convention", convention, CONVENTIONS)
        check_choice("rank_by", rank_by, ("softmax", "logit"))
        check_choice("min_size_in", min_size_in, ("prepared", "original"))
        super().__init__(
            extractor,
            classes,
            preprocessing,
            stride=stride,
            pool_size=pool_size,
            head_samples=head_samples,
            head_foreground=head_foreground,
            use_difficult=use_difficult,
            score_threshold=score_threshold,
            nms_iou=nms_iou,
            max_detections=max_detections,
            convention=convention,
            name=name,
        )
        self.anchor_sizes, self.anchor_ratios = tuple(anchor_sizes), tuple(anchor_ratios)
        self.rpn_channels, self.rpn_samples = rpn_channels, rpn_samples
        self.rpn_positive_iou, self.rpn_negative_iou = rpn_positive_iou, rpn_negative_iou
        self.train_proposals, self.test_proposals = tuple(train_proposals), tuple(test_proposals)
        self.proposal_min_size, self.min_size_in = proposal_min_size, min_size_in
        self.rank_by, self.edge_cells = rank_by, bool(edge_cells)
        if self._inclusive:
            scales = [size / self.stride for size in self.anchor_sizes]
            self.cell_anchors = anchor_boxes.caffe_cell_anchors(scales, self.anchor_ratios, self.stride)
        else:
            self.cell_anchors = anchor_boxes.cell_anchors(self.anchor_sizes, self.anchor_ratios, self.stride)
        self.rpn = RPN(len(self.cell_anchors), rpn_channels, name="rpn")
        self._add_head(body, ("rpn_objectness", "rpn_box", "head_class", "head_box", "proposal_recall"))
        self.build()
        self._frozen: tuple[str, ...] = ()
        self.stage = "joint"

    def set_stage(self, stage: str) -> None:
        """Choose what the next training trains; compile the model afterwards.

        ``"joint"``: RPN, box head and convolutions together. ``"rpn"``: all but the box head, which is not run: steps
        1 and 3 of the alternating training (Ren 2015, section 3.2; :func:`zoo.train_alternating`).
        """
        check_choice("stage", stage, STAGES)
        # Variable by variable: what was frozen by layers, such as batch normalisation in the head, stays so.
        set_trainable(self.head.variables, self._frozen, True)
        self._frozen = tuple(each.path for each in self.head.trainable_variables) if stage == "rpn" else ()
        set_trainable(self.head.variables, self._frozen, False)
        self.stage = stage

    def build(self, input_shape=None):
        """Create all weights at once: they do not depend on the images' size."""
        if not self.built:
            self.rpn.build(self.extractor.output_shape)
        super().build(input_shape)

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
            "original_sizes": sizes_of(images) if given is None else given,
        }

    def _detect(self, raw: dict) -> dict:
        """Detections in continuous pixels of the original images."""
        pooled = self.roi_pool(raw["features"], raw["proposals"])
        logits, deltas = self.head(pooled, training=False)
        original = ops.broadcast_to(ops.cast(raw["original_sizes"], "float32"), ops.shape(raw["sizes"]))
        rois, scores, sizes, scale = raw["proposals"], raw["proposal_scores"], raw["sizes"], sides(raw["ratio"])
        if self._inclusive:
            # py-faster-rcnn applies the deltas in the original's pixels; a width + 1 differs between scales.
            return self._found(logits, deltas, rois / scale, scores, original, DELTA_DEVIATIONS)
        found = self._found(logits, deltas, rois, scores, sizes, DELTA_DEVIATIONS)
        limits = ops.minimum(ops.cast(sizes, "float32") / raw["ratio"], original)
        found["boxes"] = box_math.clip(found["boxes"] / scale, limits)
        return found

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Sum of the losses of joint training (Ren 2015, section 3.2) or of the RPN, each also kept as a metric."""
        if "rpn_logits" not in y_pred:
            # Validation: the detections in y_pred do not hold what the losses need. Compiled, they are not
            # computed at all, since nothing uses them.
            y_pred = self._propose(x, training=False)
        boxes, classes, image_id = self._ground_truth(x, y)
        boxes, valid = boxes * sides(y_pred["ratio"]), classes >= 0
        step = self._count_step(training)
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
        parts = {"rpn_objectness": objectness, "rpn_box": rpn_box}
        if self.stage == "joint":
            parts |= self._head_losses(y_pred, boxes, classes, image_id, step, training)
        for key, value in parts.items():
            self.trackers[key].update_state(value, sample_weight=number_of(image_id))
        recall, objects = losses.proposal_recall(
            y_pred["proposals"], y_pred["proposal_scores"], boxes, valid, plus_one=self._inclusive
        )
        self.trackers["proposal_recall"].update_state(recall, sample_weight=objects)
        return self._total(sum(parts.values()))

    def _head_losses(self, y_pred, boxes, classes, image_id, step, training) -> dict:
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
        return {"head_class": head_class, "head_box": head_box}

    def detect(self, images, *, score_threshold: float | None = None, batch_size: int = 1):
        """Detect objects; see :func:`zoo.detectors.detect.detect`."""
        return detect(self, images, score_threshold=score_threshold, batch_size=batch_size)
