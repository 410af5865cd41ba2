"""By what the proposals of a Faster R-CNN are known again."""

import keras
import numpy as np
from keras import layers
from tiny import tiny_detector

from zoo.detectors.faster_rcnn import FasterRCNN
from zoo.proposals_of import RPNProposals


def grouped(padding="same", **options):
    """The tiny detector with two groups in its first convolution, sliced as AlexNet's are, and weights of ones."""
    plain = tiny_detector()
    images = keras.Input((None, None, 3), name="prepared")
    parts = [images[..., :1], images[..., 1:]]
    parts = [layers.Conv2D(6, 3, 16, padding=padding, name=f"conv_{i}")(part) for i, part in enumerate(parts)]
    features = layers.Concatenate(name="conv")(parts)
    extractor = keras.saving.serialize_keras_object(keras.Model(images, features, name="extractor"))
    pooled = keras.Input((4, 4, 12), name="pooled")
    vectors = layers.Dense(4, name="fc")(layers.Flatten(name="flatten")(pooled))
    body = keras.saving.serialize_keras_object(keras.Model(pooled, vectors, name="body"))
    model = FasterRCNN.from_config({**plain.get_config(), "extractor": extractor, "body": body, **options})
    model.set_weights([np.ones_like(each) for each in model.get_weights()])
    return model


def known_by(model):
    return RPNProposals(model).settings["weights"]


def test_the_same_network_built_twice_is_known_again():
    first, second = grouped(), grouped()
    names = [[each.name for each in model.extractor.operations] for model in (first, second)]
    assert names[0] != names[1]  # Keras counts the slices on
    assert known_by(first) == known_by(second)
    # Also where its weights are the same, another network is another one.
    assert known_by(grouped(padding="valid")) != known_by(first)
    assert known_by(grouped(proposal_min_size=5.0)) != known_by(first)
    kernel = second.extractor.get_layer("conv_1").kernel
    kernel.assign(np.asarray(kernel) * 2)
    assert known_by(second) != known_by(first)
