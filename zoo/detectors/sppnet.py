"""SPPnet for detection (He 2014, section 4): Fast R-CNN's forerunner, with a pyramid of bins and fixed convolutions."""

from collections.abc import Sequence

import keras
from keras import layers

from zoo.detectors.fast_rcnn import FastRCNN
from zoo.heads.spatial_pyramid import SpatialPyramidPool, bins_of, checked_levels


@keras.saving.register_keras_serializable("zoo")
class SPPNet(FastRCNN):
    """Spatial pyramid pooling on the feature map of a whole image, and the fully connected layers behind it.

    Arguments, calls and training are those of :class:`zoo.detectors.fast_rcnn.FastRCNN`, but ``pool_size`` are the
    bins a side of each level, the finest first, and ``body`` is made by :func:`pyramid_body`. The convolutions are
    fixed: "for simplicity we only fine-tune the fully-connected layers" (section 4.1).

    Where this is not the paper's:

    - Boxes are regressed as in Fast R-CNN, trained with the classes. (The paper regresses them afterwards from the
      pooled features: ``bbox="none"``, and then :func:`zoo.training.ridge_boxes.fit_boxes` comes near it.)
    - Its classifier is a softmax until :func:`zoo.training.svm.train_svms` replaces it by SVMs. (The paper also drops
      negatives that overlap another by more than .7.)
    - Samples are Fast R-CNN's, 64 RoIs of an image; features are not kept on disk between steps.
    - The paper trains the network with a pyramid on ImageNet. Here the finest level begins with the classifier's fc6,
      and the coarser levels begin at zero, from which they are learnt.
    """

    def _make_pool(self, max_cells: int) -> keras.layers.Layer:
        return SpatialPyramidPool(self.pool_size, self.stride, max_cells, clipped=True, name="roi_pool")


def pyramid_body(body: keras.Model, levels: Sequence[int]) -> keras.Model:
    """Fully connected layers on one grid of bins, as ones on a pyramid of which that grid is the finest level.

    fc6 becomes the sum of two products: of the finest level with a kernel of the same shape and name, for which a
    classifier's weights fit, and of the coarser levels with ``fc6_pyramid``, which begins at zero. That is one layer
    on all bins, its kernel in two pieces.

    Args:
        body: from ``(N, size, size, C)`` through a flattening layer and dense ones.
        levels: bins a side; the first is ``size``.

    Returns:
        A model from ``(N, bins, C)``.

    Raises:
        ValueError: a body that is not so, such as the convolutions of a ResNet, or levels that do not begin with its
            size.
    """
    levels = checked_levels(levels)
    size, channels = body.input_shape[1], body.input_shape[-1]
    chain = body.layers[1:]
    plain = all(isinstance(layer, layers.Dense | layers.Dropout) for layer in chain[1:])
    if not (plain and len(chain) > 1 and isinstance(chain[0], layers.Flatten)):
        raise ValueError("SPPnet wants dense layers behind its pyramid; build the network with head='fc'")
    first, rest = chain[1], chain[2:]
    if levels[0] != size:
        raise ValueError(f"levels={levels}: the finest level of this network has {size} bins a side, as its fc6 wants")
    finest = size * size
    pooled = keras.Input((bins_of(levels), channels), name="pooled")
    x = layers.Dense(
        first.units,
        kernel_initializer=first.kernel_initializer,
        bias_initializer=first.bias_initializer,
        name=first.name,
    )(layers.Flatten(name="flatten")(pooled[:, :finest]))
    if len(levels) > 1:
        coarser = layers.Flatten(name="flatten_pyramid")(pooled[:, finest:])
        name = f"{first.name}_pyramid"
        more = layers.Dense(first.units, use_bias=False, kernel_initializer="zeros", name=name)(coarser)
        x = layers.Add(name=f"{first.name}_sum")([x, more])
    x = layers.Activation(first.activation, name=f"{first.name}_activation")(x)
    for layer in rest:
        x = type(layer).from_config(layer.get_config())(x)
    return keras.Model(pooled, x, name="body")
