"""What of a Faster R-CNN is trained in its two stages."""

import pytest
from tiny import tiny_detector


def trained(model):
    return {variable.path for variable in model.trainable_variables}


def test_there_and_back_leaves_what_was_frozen():
    model = tiny_detector()
    everything = trained(model)
    layer = model.head.body.get_layer("fc")
    layer.trainable = False  # as batch normalisation is with norm="frozen"
    before = trained(model)
    assert len(everything - before) == 2
    for _ in range(2):
        model.set_stage("rpn")
        model.set_stage("rpn")
        assert trained(model) == {path for path in everything if path.startswith(("conv", "rpn/", "tiny/rpn/"))}
        assert len(trained(model)) == 8 + 6
        model.set_stage("joint")
        assert not layer.trainable
        assert trained(model) == before
    layer.trainable = True
    assert trained(model) == everything
    with pytest.raises(ValueError, match="stage must be one of 'joint', 'rpn', got 'box'"):
        model.set_stage("box")
