"""Which layers are trained: freezing by the name of the first one (Girshick 2015, section 4.5)."""

from __future__ import annotations

import keras

from zoo.detectors.freezing import freeze_layers

PAPER = "paper"


def freeze_before(model: keras.Model, start: str) -> tuple[str, ...]:
    """Freeze all layers of a network before ``start``, and give the names of those that have weights.

    Frozen layers keep their weights; batch normalisation among them uses its moving statistics.

    Args:
        model: a detector, whose extractor is meant, or a classifier.
        start: name of a layer, or of a stage such as ``"conv3"`` for ``conv3_1`` and what follows; ``"fc6"`` or another
            layer of a detector's head for the head alone (Girshick 2015, table 5); or ``"paper"``.

    Example:
        >>> freeze_before(zoo.get("faster_rcnn_vgg16"), "conv3_1")    # doctest: +SKIP
        ('conv1_1', 'conv1_2', 'conv2_1', 'conv2_2')
    """
    network = getattr(model, "extractor", model)
    if start == PAPER:
        start = paper_start(model)
        if start is None:
            return ()
    body = getattr(getattr(model, "head", None), "body", None)
    if body is not None and start in {layer.name for layer in body.layers if layer.weights}:
        convolutions = [layer for layer in network.layers if layer.weights]
        for layer in convolutions:
            layer.trainable = False
        return (*(layer.name for layer in convolutions), *freeze_layers(body, start, model.name))
    return freeze_layers(network, start, model.name)


def paper_start(model: keras.Model) -> str | None:
    """The first layer that Girshick 2015 (section 4.5) trains: VGG's conv3_1, conv2 of AlexNet and VGG_CNN_M_1024.

    ``None``, for all layers, of networks that it does not have; ResNets' batch normalisation stays fixed if they
    were built with ``norm="frozen"`` (He 2016, appendix A).
    """
    names = {layer.name for layer in getattr(model, "extractor", model).layers}
    if "conv3_1" in names:
        return "conv3_1"
    return "conv2" if {"conv1", "conv2", "conv5"} <= names else None
