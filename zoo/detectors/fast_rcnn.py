"""Fast R-CNN (Girshick 2015) as an ordinary Keras model: it looks at proposals that come from elsewhere."""

from collections.abc import Mapping, Sequence

import keras
from keras import ops

from zoo.detectors.detect import ProposalsOf, detect
from zoo.detectors.freezing import set_trainable
from zoo.detectors.normalised_targets import ONE, NormalisedTargets
from zoo.detectors.preprocessing import Preprocessing
from zoo.detectors.roi_detector import LAST_PIXEL, RoIDetector, check_choice, number_of, sides, sizes_of
from zoo.heads import boxes as box_math
from zoo.heads import losses
from zoo.heads.postprocess import SCORINGS
from zoo.heads.pyramid import nearest_level, stack_maps
from zoo.heads.target_statistics import denormalised, normalised
from zoo.heads.targets import roi_targets

CONVENTIONS = ("continuous", "caffe", "fast-rcnn")
STAGES = ("joint", "class", "box")


@keras.saving.register_keras_serializable("zoo")
class FastRCNN(NormalisedTargets, RoIDetector):
    """A box head on the feature map of a whole image, at the places that proposals name.

    Args:
        extractor: model from prepared images to a feature map.
        body: model from pooled features to vectors, shared by all RoIs.
        classes: names of the K classes, without the background.
        preprocessing: how raw images become prepared ones.
        scales: short sides of an image pyramid, in which each RoI goes to the scale that shows it nearest to
            224 x 224 pixels (section 2.4); empty for the one scale of ``preprocessing``, whose ``long`` holds for all.
        stride: pixels a cell of the feature map spans.
        pool_size: bins a side of RoI pooling.
        proposals: how many of an image's proposals are looked at, at the most, the first ones (figure 3).
        head_samples: RoIs an image that the loss looks at: R = 128 in a batch of N = 2 images.
        head_foreground: greatest share of foreground among them: overlap with an object of at least .5.
        background_from: least overlap of background, which goes up to .5 ("hard example mining", section 2.3).
        box_weight: lambda of equation 1, what the box loss is multiplied by.
        bbox: ``"multi"``, a regression of boxes class by class, trained with the classification; or ``"none"``.
        refine: whether boxes are regressed at test; without it a detection is a proposal (table 6).
        stage: what is trained, see :meth:`set_stage`.
        scoring: ``"softmax"``; or ``"svm"``, the class layer holds support vector machines (table 8), see
            :func:`zoo.training.svm.train_svms` and :func:`zoo.heads.postprocess.class_scores`.
        use_difficult: train on objects marked difficult.
        score_threshold: detections below it are dropped.
        nms_iou: NMS threshold within a class.
        max_detections: D.
        convention: ``"continuous"``; ``"caffe"``, py-faster-rcnn's inclusive boxes (see
            :class:`zoo.detectors.faster_rcnn.FasterRCNN`); or ``"fast-rcnn"``, those of the Fast R-CNN release, whose
            overlaps are inclusive but whose deltas are relative to ``x2 - x1``. What goes in and comes out is
            continuous.

    Call:
        ``{"images": (B, H, W, 3), "proposals": (B, P, 4), "num_proposals": (B,)}``, images RGB 0-255, proposals in
        pixels of the images, best first, padded with boxes of no area; ``num_proposals`` may be left out. For images
        of different true height and width ``"sizes": (B, 2)``; with ``"prepared_sizes": (B, 2)`` they are resized to
        these, at one scale (training at random scales: ``short`` of ``zoo.datasets.pipeline.Batches``). Returns
        ``boxes (B, D, 4)`` in pixels of the images, ``scores (B, D)``, ``classes (B, D)`` int32 (-1 is padding) and
        ``num_detections (B,)``.

    ``fit`` takes ``(x, y)``: x as above with ``image_id (B,)``, y with ``boxes (B, G, 4)``, ``classes (B, G)`` padded
    with -1, and ``difficult (B, G)`` if any. Training divides the deltas of each class by its deviation, having taken
    its mean away: tell :meth:`measure_targets` the data first. Until then deviations are those of py-faster-rcnn.
    """

    PLAIN = (
        *RoIDetector.PLAIN,
        *("scales", "proposals", "background_from", "box_weight", "bbox", "refine", "stage", "scoring"),
    )

    def __init__(
        self,
        extractor: keras.Model,
        body: keras.Model,
        classes: Sequence[str],
        preprocessing: Preprocessing,
        *,
        scales: Sequence[int] = (),
        stride: int = 16,
        pool_size: int | Sequence[int] = 7,
        proposals: int = 2000,
        head_samples: int = 64,
        head_foreground: float = 0.25,
        background_from: float = 0.1,
        box_weight: float = 1.0,
        bbox: str = "multi",
        refine: bool = True,
        stage: str = "joint",
        scoring: str = "softmax",
        use_difficult: bool = False,
        score_threshold: float = 0.05,
        nms_iou: float = 0.3,
        max_detections: int = 100,
        convention: str = "continuous",
        name: str | None = None,
    ):
        check_choice("convention", convention, CONVENTIONS)
        check_choice("bbox", bbox, ("multi", "none"))
        check_choice("scoring", scoring, SCORINGS)
        if proposals < 1:
            raise ValueError(f"proposals is at least 1, got {proposals}")
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
        self.scales, self.proposals = tuple(int(side) for side in scales), int(proposals)
        self.background_from, self.box_weight = background_from, box_weight
        self.bbox, self.refine, self.scoring = bbox, bool(refine), scoring
        self._deltas_inclusive = convention == "caffe"
        self.pyramid = [_at_scale(preprocessing, short) for short in self.scales]
        boxes = bbox == "multi"
        self._add_head(body, ("head_class", *(["head_box"] if boxes else []), "proposal_recall"), boxes)
        if boxes:
            self._add_statistics()
        self.build()
        self._frozen: tuple[str, ...] = ()
        self.set_stage(stage)

    def set_stage(self, stage: str) -> None:
        """Choose what the next training trains (table 6); compile the model afterwards.

        ``"joint"``: both tasks. ``"class"``: the classification alone, lambda being 0; the regression stays as it is.
        ``"box"``: the regression alone, all else frozen and run as at test (no dropout): the second stage after
        ``"class"``.
        """
        check_choice("stage", stage, STAGES)
        if self.bbox == "none" and stage == "box":
            raise ValueError("there is no regression of boxes to train: build the model with bbox='multi'")
        # Variable by variable: what the caller froze by layers stays so.
        set_trainable(self.variables, self._frozen, True)
        regression = set() if self.head.loc is None else {variable.path for variable in self.head.loc.variables}
        trainable = {variable.path for variable in self.trainable_variables}
        self._frozen = tuple({"joint": set(), "class": trainable & regression, "box": trainable - regression}[stage])
        set_trainable(self.variables, self._frozen, False)
        self.stage = stage

    def call(self, inputs, training=None):
        """Detections; in training, what :meth:`compute_loss` needs instead."""
        raw = self._look(inputs, training=bool(training))
        return raw if training else self._detect(raw)

    def _look(self, inputs, training: bool) -> dict:
        """Feature maps, and the proposals in original pixels and the model's convention."""
        if not isinstance(inputs, Mapping) or "proposals" not in inputs:
            raise ValueError(
                f"{self.name} looks at proposals that others make: give it a dict with 'images' and 'proposals' "
                "(B, P, 4). model.detect(images) finds them itself; zoo.datasets.pipeline.Batches reads them"
            )
        images, given, wanted = (inputs.get(key) for key in ("images", "sizes", "prepared_sizes"))
        maps, ratios = self._maps(images, given, wanted, training)
        proposals = ops.cast(inputs["proposals"], "float32")
        batch, count = ops.shape(proposals)[:2]
        original = ops.cast(sizes_of(images) if given is None else given, "float32")
        original = ops.broadcast_to(original, (batch, 2))
        proposals = box_math.clip(proposals, original)
        real = ops.min(proposals[..., 2:] - proposals[..., :2], axis=-1) > 0.0
        if inputs.get("num_proposals") is not None:
            number = ops.cast(inputs["num_proposals"], "int32")
            real = real & (ops.arange(count, dtype="int32")[None] < number[:, None])
        if self._inclusive:
            proposals = proposals - ops.convert_to_tensor(LAST_PIXEL)
        return {
            "features": maps,
            "ratios": ratios,
            "proposals": ops.where(real[..., None], proposals, 0.0),
            "proposal_scores": ops.where(real, 1.0, -1.0),
            "original_sizes": original,
        }

    def _maps(self, images, given, wanted, training: bool):
        """L feature maps of images of sizes ``given``, and prepared by original height and width ``(L, B, 2)``."""
        scales = self.pyramid if self.pyramid and wanted is None else [self.preprocessing]
        maps, ratios = [], []
        for scale in scales:
            prepared, _, ratio = scale(images, given, wanted)
            maps.append(self.extractor(prepared, training=training and self.stage != "box"))
            ratios.append(ratio)
        return maps, ops.stack(ratios)

    def _pool(self, raw: dict, rois, training: bool = False):
        """Pooled features of ``rois (B, R, 4)`` in original pixels."""
        maps, ratios = raw["features"], raw["ratios"]
        if len(maps) == 1:
            return self.roi_pool(maps[0], rois * sides(ratios[0]), training=training)
        level = nearest_level(rois, ratios, self._inclusive)
        stacked, extents = stack_maps(maps)
        batch = ops.shape(rois)[0]
        image = level * batch + ops.arange(batch, dtype="int32")[:, None]
        ratio = ops.take(ops.reshape(ratios, (-1, 2)), image, axis=0)
        scaled = rois * ops.concatenate([ratio[..., ::-1]] * 2, axis=-1)
        extent = ops.take(extents, level, axis=0)
        return self.roi_pool(stacked, scaled, image=image, extent=extent, training=training)

    def _detect(self, raw: dict) -> dict:
        """Detections in continuous pixels of the original images."""
        rois, scores = raw["proposals"][:, : self.proposals], raw["proposal_scores"][:, : self.proposals]
        logits, deltas = self.head(self._pool(raw, rois), training=False)
        refined = self.refine and self.bbox == "multi"
        deltas = denormalised(deltas, self.box_means, self.box_deviations) if refined else ops.zeros_like(deltas)
        if rois.shape[1] is None:
            # There may be none, and NMS looks at one at least.
            parts = ((logits, 0.0), (deltas, 0.0), (rois, 0.0), (scores, -1.0))
            logits, deltas, rois, scores = (_with_another(part, value) for part, value in parts)
        # With py-faster-rcnn's deltas a box that is not moved would grow by a pixel; the releases leave it as it is.
        widths = self._deltas_inclusive and refined
        about = {"deltas_plus_one": widths, "scoring": self.scoring}
        return self._found(logits, deltas, rois, scores, raw["original_sizes"], ONE, **about)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The multi-task loss (section 2.3, equation 1), or one task's; each is also kept as a metric."""
        if self.scoring == "svm":
            raise ValueError(
                f"{self.name} scores classes by support vector machines, which a softmax loss would spoil: train the "
                "model that they were made for, and make them anew (zoo svm)"
            )
        if "features" not in y_pred:
            # Validation: the detections in y_pred do not hold what the losses need.
            y_pred = self._look(x, training=False)
        boxes, classes, image_id = self._ground_truth(x, y)
        proposals, scores = y_pred["proposals"], y_pred["proposal_scores"]
        rois = roi_targets(
            proposals,
            scores,
            boxes,
            classes,
            image_id,
            self._count_step(training),
            samples=self.head_samples,
            foreground_fraction=self.head_foreground,
            background_iou=(self.background_from, 0.5),
            plus_one=self._inclusive,
            deltas_plus_one=self._deltas_inclusive,
        )
        active = training and self.stage != "box"
        logits, deltas = self.head(self._pool(y_pred, rois.rois, training), training=active)
        if self.bbox == "multi":
            rois = normalised(rois, self.box_means, self.box_deviations)
        head_class, head_box = losses.head_losses(logits, deltas, rois, ONE)
        images = number_of(image_id)
        self.trackers["head_class"].update_state(head_class, sample_weight=images)
        if self.bbox == "multi":
            self.trackers["head_box"].update_state(head_box, sample_weight=images)
        recall, objects = losses.proposal_recall(proposals, scores, boxes, classes >= 0, plus_one=self._inclusive)
        self.trackers["proposal_recall"].update_state(recall, sample_weight=objects)
        weighted = {"head_class": head_class, "head_box": self.box_weight * head_box}
        tasks = {"joint": weighted, "class": ("head_class",), "box": ("head_box",)}[self.stage]
        tasks = tasks if self.bbox == "multi" else ("head_class",)
        return self._total(sum(weighted[task] for task in tasks))

    def detect(
        self,
        images,
        *,
        proposals: ProposalsOf | None = None,
        score_threshold: float | None = None,
        batch_size: int = 1,
    ):
        """Detect objects; see :func:`zoo.detectors.detect.detect`.

        ``proposals``: a function from an image ``(H, W, 3)`` uint8 RGB to boxes ``(P, 4)``, or such boxes for each
        image; by default selective search in its fast mode.
        """
        return detect(
            self,
            images,
            score_threshold=score_threshold,
            batch_size=batch_size,
            proposals=proposals,
            most=self.proposals,
        )


def _at_scale(preprocessing: Preprocessing, short: int) -> Preprocessing:
    """The same preparation at another short side."""
    return Preprocessing.from_config({**preprocessing.get_config(), "short": short, "name": f"short_{short}"})


def _with_another(values, value: float):
    """``values (B, n, ...)`` with one more on the second axis."""
    return ops.concatenate([values, ops.full((ops.shape(values)[0], 1, *values.shape[2:]), value)], axis=1)
