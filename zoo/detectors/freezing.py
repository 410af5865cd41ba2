"""Freezing the first layers of a network (Girshick 2015, section 4.5)."""

from collections.abc import Collection, Iterable

import keras


def freeze_layers(network: keras.Model, start: str, whose: str) -> tuple[str, ...]:
    """Freeze all layers of ``network`` before ``start``, and give the names of those that have weights.

    ``start`` is a layer, or a stage such as ``"conv3"``; ``whose`` names the network in the error if it has neither.
    """
    names = [layer.name for layer in network.layers]
    # A stage's own name may be that of its last layer: the halves conv2_1 and conv2_2 are put together in conv2.
    places = [i for i, name in enumerate(names) if name == start or name.startswith(f"{start}_")]
    if not places:
        weighted = [layer.name for layer in network.layers if layer.weights]
        raise ValueError(f"train_from={start!r} is no layer of {whose}; it has {', '.join(weighted)}")
    frozen = network.layers[: places[0]]
    for layer in frozen:
        layer.trainable = False
    return tuple(layer.name for layer in frozen if layer.weights)


def set_trainable(variables: Iterable[keras.Variable], paths: Collection[str], trainable: bool) -> None:
    """Freeze or release those of ``variables`` that have these paths; what was frozen by layers stays as it is."""
    for variable in variables:
        if variable.path in paths:
            variable.trainable = trainable
