"""What Fast and Faster R-CNN share: a box head that looks at RoIs of a feature map, its training and detections."""

from collections.abc import Iterable, Sequence

import keras
import numpy as np
from keras import ops

from zoo.detectors.preprocessing import Preprocessing
from zoo.heads.box_head import BoxHead
from zoo.heads.postprocess import detections
from zoo.heads.roi_pool import RoIMaxPool

# From inclusive to continuous boxes: the last pixel is one wide.
LAST_PIXEL = np.array([0, 0, 1, 1], np.float32)


class RoIDetector(keras.Model):
    """The common part of the detectors; see :class:`zoo.detectors.faster_rcnn.FasterRCNN` for the arguments.

    A subclass makes its own layers after ``super().__init__`` and then calls :meth:`_add_head`. Arguments that
    ``get_config`` gives back are attributes of the same name, listed in ``PLAIN``.
    """

    PLAIN: tuple[str, ...] = (
        *("classes", "stride", "pool_size", "head_samples", "head_foreground", "use_difficult"),
        *("score_threshold", "nms_iou", "max_detections", "convention", "name"),
    )

    def __init__(
        self,
        extractor: keras.Model,
        classes: Sequence[str],
        preprocessing: Preprocessing,
        *,
        stride: int,
        pool_size: int | Sequence[int],
        head_samples: int,
        head_foreground: float,
        use_difficult: bool,
        score_threshold: float,
        nms_iou: float,
        max_detections: int,
        convention: str,
        name: str | None,
    ):
        # Boxes must not be rounded to 16 bits under a mixed-precision policy: only the networks inside are cast.
        super().__init__(name=name, autocast=False)
        # XLA would compile anew for every image size, and on a CPU runs these networks slower.
        self.supports_jit = keras.backend.backend() != "tensorflow"
        self.classes = tuple(classes)
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"a detector needs one or more distinct class names, got {self.classes}")
        self.stride = int(stride)
        self.pool_size = int(pool_size) if np.ndim(pool_size) == 0 else tuple(int(side) for side in pool_size)
        self.head_samples, self.head_foreground = head_samples, head_foreground
        self.use_difficult = use_difficult
        self.score_threshold, self.nms_iou = score_threshold, nms_iou
        self.max_detections = max_detections
        self.convention, self._inclusive = convention, convention != "continuous"
        self.preprocessing = preprocessing
        self.extractor = extractor

    def _add_head(self, body: keras.Model, metrics: Iterable[str], boxes: bool = True) -> None:
        """Make RoI pooling, the box head, the counter of steps and the means of what is measured in training."""
        # One more than strides make: Caffe's padded pools give AlexNet's map a further cell.
        max_cells = -(-self.preprocessing.long // self.stride) + 1
        self.roi_pool = self._make_pool(max_cells)
        self.head = BoxHead(body, len(self.classes), boxes, name="head")
        # Seeds the sampling; saved with the weights, so that a resumed training goes on with the same samples.
        self.sampling_step = self.add_weight(
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            name="sampling_step",
            aggregation="only_first_replica",
        )
        self.trackers = {key: keras.metrics.Mean(name=key) for key in metrics}

    def _make_pool(self, max_cells: int) -> keras.layers.Layer:
        """The layer from a feature map of up to ``max_cells`` a side, and RoIs, to what the body takes."""
        return RoIMaxPool(self.pool_size, self.stride, max_cells, clipped=True, name="roi_pool")

    def build(self, input_shape=None):
        """Create all weights at once: they do not depend on the images' size."""
        if self.built:
            return
        self.roi_pool.built = True
        self.head.build((None, None, *self.head.body.input_shape[1:]))
        self.built = True

    def _ground_truth(self, x, y):
        """What training is told: boxes ``(B, G, 4)`` in original pixels and the model's convention, classes, ids.

        Objects that are not to be trained on have class -1, as padding has. ``image_id (B,)`` is x's, or the place.
        """
        classes = ops.cast(y["classes"], "int32")
        if not self.use_difficult and "difficult" in y:
            classes = ops.where(ops.cast(y["difficult"], "bool"), -1, classes)
        boxes = ops.cast(y["boxes"], "float32")
        if self._inclusive:
            boxes = boxes - ops.convert_to_tensor(LAST_PIXEL)
        image_id = x.get("image_id") if isinstance(x, dict) else None
        if image_id is None:
            image_id = ops.arange(ops.shape(boxes)[0], dtype="int32")
        return boxes, classes, image_id

    def _count_step(self, training: bool):
        """The number that seeds this step's samples."""
        # Counted before it is read: on TensorFlow the read waits until it is used, so that the other order gave the
        # old step on JAX and the new one here.
        if training:
            self.sampling_step.assign_add(1)
        return ops.convert_to_tensor(self.sampling_step)

    def _total(self, loss):
        """What the optimiser minimises: ``loss`` and the layers' penalties, this replica's share of them."""
        for penalty in self.losses:
            loss = loss + ops.cast(penalty, "float32")
        return loss / _replicas()

    def _found(self, logits, deltas, rois, scores, sizes, deviations, **options) -> dict:
        """Detections from the box head's outputs, in the pixels of ``rois`` and ``sizes``, but always continuous."""
        found = detections(
            logits,
            deltas,
            rois,
            scores,
            sizes,
            deviations=deviations,
            score_threshold=self.score_threshold,
            nms_iou=self.nms_iou,
            most=self.max_detections,
            plus_one=self._inclusive,
            **options,
        )
        if self._inclusive:
            last = ops.where(found["classes"][..., None] >= 0, ops.convert_to_tensor(LAST_PIXEL), 0.0)
            found["boxes"] = found["boxes"] + last
        return found

    def get_config(self):
        """Arguments of ``__init__``, the networks serialised."""
        config = {key: getattr(self, key) for key in self.PLAIN}
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


def check_choice(what: str, value: str, allowed: Sequence[str]) -> None:
    """Raise for a value that is none of ``allowed``."""
    if value not in allowed:
        raise ValueError(f"{what} must be one of {', '.join(map(repr, allowed))}, got {value!r}")


def number_of(image_id):
    """How many images ``image_id (B,)`` has: what the mean of a batch weighs, so that a short one counts less."""
    return ops.cast(ops.shape(image_id)[0], "float32")


def sizes_of(images):
    """Height and width of ``images (B, H, W, 3)``, ``(1, 2)`` float32."""
    return ops.stack([ops.cast(side, "float32") for side in ops.shape(images)[1:3]])[None]


def sides(ratio):
    """What ``(B, N, 4)`` boxes are multiplied by, ``(B, 1, 4)``, from ``(B, 2)`` for height and width."""
    return ops.concatenate([ratio[:, ::-1]] * 2, axis=1)[:, None]


def _replicas() -> float:
    """Replicas whose gradients are summed: Keras expects a loss already divided by their number."""
    if keras.backend.backend() != "tensorflow":
        return 1.0
    import tensorflow as tf

    return float(np.float32(tf.distribute.get_strategy().num_replicas_in_sync))
