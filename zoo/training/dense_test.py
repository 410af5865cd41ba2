"""A classifier on whole pictures: its dense layers slid over the feature map (Simonyan 2015, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
from keras import layers, ops

from zoo.datasets.class_records import ClassificationDataset
from zoo.datasets.class_views import WholePictures
from zoo.training.classify import ClassScores, check_class_count, evaluate_classifier

# What may stand between the feature map and the scores.
_PASSED = (layers.Dropout, layers.Activation, layers.ReLU)


class DenseMap(keras.layers.Layer):
    """A dense layer as a convolution, with the dense layer's own variables.

    Args:
        dense: the layer; its inputs are a flattened window, or one cell.
        window: (height, width) of the window.

    Call:
        ``(B, Hf, Wf, C)`` to ``(B, Hf - height + 1, Wf - width + 1, units)``.
    """

    def __init__(self, dense: layers.Dense, window: tuple[int, int] = (1, 1)) -> None:
        super().__init__(name=f"{dense.name}_map", dtype=dense.dtype_policy)
        self.dense, self.window = dense, window
        self.built = True  # the variables are the dense layer's

    def call(self, inputs):
        """Slide the dense layer over ``inputs``."""
        height, width = self.window
        rows, units = self.dense.kernel.shape
        # A flattened window counts rows, then columns, then channels, as a convolution's kernel does.
        kernel = ops.reshape(self.dense.kernel, (height, width, rows // (height * width), units))
        outputs = ops.conv(inputs, ops.cast(kernel, inputs.dtype), padding="valid", data_format="channels_last")
        if self.dense.use_bias:
            outputs = outputs + ops.cast(self.dense.bias, outputs.dtype)
        return self.dense.activation(outputs)

    def compute_output_shape(self, input_shape):
        """Smaller by the window."""
        batch, *cells, _ = input_shape
        sides = (None if cell is None else cell - side + 1 for cell, side in zip(cells, self.window, strict=True))
        return (batch, *sides, self.dense.units)


def score_map(model: keras.Model, side: int | None = None) -> keras.Model:
    """The classifier ``model`` for pictures of any size, up to the map of its class scores.

    The layers are shared, not copied: training one trains the other. Fully connected layers slide over the feature map
    (7 x 7 windows and single cells in VGG), a global average becomes the average over windows as large as the feature
    map that the network was trained on, in steps of one cell.

    Args:
        model: ends with a feature map flattened or averaged, dense layers, and a softmax.
        side: of the pictures that it was trained on; ``None`` for its input's, or 224 if that is of any size.

    Returns:
        A model from ``(B, H, W, 3)`` to scores before the softmax, ``(B, Hs, Ws, K)``; 1 x 1 where H = W = side.

    Example:
        >>> import zoo
        >>> score_map(zoo.get("resnet20"), 32).output_shape
        (None, None, None, 10)
    """
    return _converted(model, side, scores_only=True)


def fully_convolutional(model: keras.Model, side: int | None = None) -> keras.Model:
    """The classifier ``model`` for pictures of any size: the softmax of the mean over its `score_map`.

    Pictures of ``side x side`` give what ``model`` gives. Arguments as for `score_map`.
    """
    return _converted(model, side, scores_only=False)


def _converted(model: keras.Model, side: int | None, scores_only: bool) -> keras.Model:
    side = side or model.input_shape[1] or 224
    window: list[tuple[int, int]] = []  # of the dense layer that comes next; empty before the feature map's end

    def call(layer, *args, **options):
        x = args[0]
        if isinstance(layer, layers.Flatten | layers.GlobalAveragePooling2D) and not window:
            cells = _cells(model, layer, side)
            if isinstance(layer, layers.Flatten):
                window.append(cells)
                return x
            window.append((1, 1))
            return layers.AveragePooling2D(cells, 1, name=f"{layer.name}_map")(x)
        if not window or isinstance(layer, _PASSED):
            return layer(*args, **options)
        if isinstance(layer, layers.Dense):
            size, window[0] = window[0], (1, 1)
            return DenseMap(layer, size)(x)
        if isinstance(layer, layers.Softmax):
            return x if scores_only else layer(layers.GlobalAveragePooling2D(dtype="float32", name="mean_score")(x))
        raise ValueError(
            f"{model.name} cannot be made fully convolutional: {layer.name} ({type(layer).__name__}) stands between "
            "its feature map and its scores; dense layers, dropout and a softmax at the end may"
        )

    inputs = keras.Input((None, None, 3), name="images")
    # Without what `compile` has set, which would be cloned along.
    bare = keras.Model(model.input, model.output, name=model.name)
    made = keras.models.clone_model(bare, inputs, clone_function=lambda layer: layer, call_function=call)
    if not window:
        raise ValueError(
            f"{model.name} cannot be made fully convolutional: its feature map is neither flattened nor averaged"
        )
    if keras.backend.backend() == "tensorflow":
        made.jit_compile = False  # XLA, which a GPU has by default, would compile anew for each size of picture
    made.zoo_meta = getattr(model, "zoo_meta", None)
    return made


def _cells(model: keras.Model, layer: keras.layers.Layer, side: int) -> tuple[int, int]:
    """Height and width of the feature map that ``layer`` sees when pictures are ``side x side``."""
    features = keras.Model(model.input, layer.input)
    _, height, width, _ = features.compute_output_shape((1, side, side, 3))
    return height, width


def evaluate_dense(
    model: keras.Model,
    dataset: ClassificationDataset,
    scales: Sequence[int],
    *,
    mirror: bool = True,
    batch_size: int = 64,
    progress: Callable[[int], None] | None = None,
) -> ClassScores:
    """Test ``model`` on whole pictures at several scales.

    At each scale, and mirrored, the class scores are averaged over the picture and the softmax is taken; these
    probabilities are averaged over the scales and their mirror images (Simonyan 2015, section 3.2; He 2016, section
    3.4, whose scales are 224, 256, 384, 480 and 640).

    Args:
        model: a classifier that `fully_convolutional` takes.
        dataset: pictures of any size.
        scales: short sides; for VGG trained at S they are S - 32, S and S + 32, or 256, 384 and 512 if it was trained
            on scales of 256 to 512.
        mirror: mirrored pictures too.
        batch_size: how many of the model's own crops a batch may be as large as.
        progress: called with the number of pictures after each piece.

    Example:
        >>> evaluate_dense(model, load_classes("imagenet", "val"), (256, 384, 512))         # doctest: +SKIP
    """
    check_class_count(model, dataset)
    side = model.input_shape[1] or 224
    views = WholePictures(tuple(scales), mirror)
    if min(views.scales) < side:
        raise ValueError(f"scales={views.scales}: {model.name} sees {side} pixels; give scales of at least that")
    whole = fully_convolutional(model, side)
    return evaluate_classifier(whole, dataset, views=views, batch_size=batch_size, progress=progress)
