"""R-CNN (Girshick 2014): every proposal is cut out, warped and put through the whole network by itself."""

import keras
import numpy as np
from keras import ops

from zoo.detectors.fast_rcnn import FastRCNN
from zoo.detectors.roi_detector import LAST_PIXEL


@keras.saving.register_keras_serializable("zoo")
class RCNN(FastRCNN):
    """The network of a classifier on warped crops of proposals.

    It is a :class:`zoo.detectors.fast_rcnn.FastRCNN` whose features of an RoI are those of its own crop: arguments,
    calls, samples and losses are as there, but ``preprocessing`` is a :class:`zoo.detectors.warping.Warping`, and there
    is one scale. A crop (warped, with context, the mean colour beyond the image) goes through ``extractor``, is
    max-pooled into ``pool_size`` bins a side, and through ``body``. With 224 pixels, VGG's 14 x 14 cells become the
    7 x 7 of its own pool5, and a ResNet's stay as they are for conv5: it is the classifier. (AlexNet's padding here
    gives 15 cells at 227 pixels where its classifier has 13: bins of 3 x 3 as those of its pool5, but some of them
    farther apart.)

    It is slow by nature: a crop takes as long as an image of its size, and there may be 2000 of them. At test
    ``preprocessing.at_once`` of them are computed at a time, so that memory does not depend on their number.

    The paper's steps: fine-tune with ``bbox="none"``, the default of the registered models; replace the softmax by
    SVMs (:func:`zoo.training.svm.train_svms`); add the regression (:func:`zoo.training.ridge_boxes.fit_boxes`).

    Where this is not the paper's:

    - A mini-batch is of as many images as ``fit`` gives it, with ``head_samples`` crops of each, where the paper
      draws 32 positives and 96 others from all images together: batches of 16 with ``head_samples=8`` come near.
    - The regression looks at fc7 in place of pool5.
    - Features are not kept on disk.
    """

    slow = True  # of use to progress bars

    def _maps(self, images, given, wanted, training: bool):
        """The images themselves, in the network's colours, and ratios of 1."""
        return [self.preprocessing.colours(images)], ops.ones((1, ops.shape(images)[0], 2))

    def _pool(self, raw: dict, rois, training: bool = False):
        """Pooled features of the crops of ``rois (B, R, 4)``: ``(B, R, size, size, C)``."""
        batch, count = ops.shape(rois)[:2]
        flat = ops.reshape(rois, (-1, 4))
        if self._inclusive:
            flat = flat + ops.convert_to_tensor(LAST_PIXEL)
        image = ops.repeat(ops.arange(batch, dtype="int32"), count)
        found = self._of_crops(raw, flat, image, True) if training else self._by_parts(raw, flat, image)
        return ops.reshape(found, (batch, count, *found.shape[1:]))

    def _of_crops(self, raw: dict, rois, image, training: bool):
        """``(N, size, size, C)`` float32 of boxes ``(N, 4)``."""
        crops = self.preprocessing.crops(raw["features"][0], rois, image, raw["original_sizes"])
        maps = self.extractor(crops, training=training and self.stage != "box")
        rows, columns = (self.stride * (cells - 1) for cells in maps.shape[1:3])
        whole = ops.convert_to_tensor(np.array([0, 0, columns, rows], np.float32))
        whole = ops.broadcast_to(whole, (ops.shape(rois)[0], 1, 4))
        return ops.cast(self.roi_pool(maps, whole, training=training)[:, 0], "float32")

    def _by_parts(self, raw: dict, rois, image):
        """The same, some boxes at a time."""
        number, at_once = ops.shape(rois)[0], self.preprocessing.at_once
        parts = (number + at_once - 1) // at_once  # of positive numbers: ONNX rounds quotients of others towards 0
        missing = parts * at_once - number
        rois = ops.concatenate([rois, ops.zeros((missing, 4))], axis=0)
        image = ops.concatenate([image, ops.zeros((missing,), "int32")], axis=0)
        rois, image = ops.reshape(rois, (parts, at_once, 4)), ops.reshape(image, (parts, at_once))

        def of_part(part):
            return self._of_crops(raw, part[0], part[1], False)

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            channels = self.extractor.output_shape[-1]
            shape = (at_once, self.pool_size, self.pool_size, channels)
            # One part after the other: TensorFlow would have ten in memory.
            found = tf.map_fn(
                of_part, (rois, image), fn_output_signature=tf.TensorSpec(shape, tf.float32), parallel_iterations=1
            )
        else:
            found = ops.map(of_part, (rois, image))
        return ops.reshape(found, (-1, *found.shape[2:]))[:number]
