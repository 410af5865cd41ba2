"""Choosing proposals: methods by name, the first so many, pictures without any."""

import numpy as np
import pytest
from alternating_run import Squares

from zoo.datasets.pipeline import Batches
from zoo.datasets.proposals import Computed, ProposalError, open_proposals
from zoo.datasets.proposals_cache import method_key
from zoo.datasets.proposals_choice import METHODS, First, check_proposals, named_method, source_name
from zoo.datasets.proposals_dense import DenseBoxes
from zoo.datasets.proposals_files import save_npz
from zoo.datasets.proposals_make import make_proposals


class Own:
    """A source of the user's own, which knows one picture."""

    def boxes(self, sample, image):
        assert image.shape == (64, 80, 3)
        if sample.image_id != "s0":
            raise ProposalError(f"nothing for {sample.image_id}")
        return np.array([[0, 0, 9, 9.0]])


def test_methods_by_name():
    image = Squares(1).image(0)
    for name in METHODS:
        boxes = named_method(name, 7)(image)
        assert boxes.shape[1] == 4
        assert len(boxes) <= 7
        assert named_method(name, 7).name.startswith(name)
    with pytest.raises(ValueError, match=r"no proposal method 'rpn'; choose selective-fast.*dense"):
        named_method("rpn")


def test_the_first_of_many_are_those_of_few():
    """A folder made for many serves all numbers."""
    image, sample = Squares(1).load(0)
    for name in ("selective-fast", "dense"):
        few, many = (named_method(name, most) for most in (5, 2000))
        assert len(many(image)) > 5
        np.testing.assert_array_equal(First(Computed(many), 5).boxes(sample, image), few(image))
    with pytest.raises(ValueError, match="at least 1, not 0"):
        First(Computed(many), 0)


def test_every_picture_is_looked_for(tmp_path):
    data = Squares(6)
    folder = make_proposals(data.subset((0, 1, 3, 4)), DenseBoxes(most=9), tmp_path / "p", workers=1).folder
    check_proposals(folder, data.subset((4, 0)))
    with pytest.raises(ProposalError, match=r"2 of 6 pictures .*\(s2, s5\).*no proposals for image s2"):
        check_proposals(First(folder, 3), data)
    table = open_proposals(save_npz(tmp_path / "t.npz", {"s0": (np.array([[0, 0, 9, 9.0]]), None)}))
    check_proposals(table, data.subset((0,)))
    with pytest.raises(ProposalError, match=r"squares: 5 of 6 .*\(s1, s2, s3, \.\.\.\).*t\.npz"):
        check_proposals(table, data)
    with pytest.raises(ProposalError, match=r"5 of 6 .*nothing for s1"):
        check_proposals(Own(), data)
    check_proposals(Computed(DenseBoxes()), data)
    # A file cut off in the middle is found too.
    broken = next(folder.path.glob("??/*.npz"))
    broken.write_bytes(broken.read_bytes()[:50])
    with pytest.raises(ProposalError, match=r"1 of 4 .*cannot be read"):
        check_proposals(folder, data.subset((0, 1, 3, 4)))


def test_batches_tell_their_proposals(tmp_path):
    """So that a training is not resumed on others."""
    data, method = Squares(2), DenseBoxes(most=9)
    folder = make_proposals(data, method, tmp_path / "here", workers=1).folder
    settings = Batches(data, proposals=First(folder, 5), most_proposals=5).settings
    assert settings["proposals"] == f"{method_key(method)}, first 5"
    assert settings["most_proposals"] == 5
    assert source_name(Computed(method)) == source_name(open_proposals(tmp_path / "here")) == method_key(method)
    assert source_name(Computed(method)) != source_name(Computed(DenseBoxes(most=8)))
    # Of files, other boxes are other proposals.
    box = np.array([[1, 2, 3, 4.0]])
    names = [
        source_name(open_proposals(save_npz(tmp_path / folder / "t.npz", {"a": (boxes, None)})))
        for folder, boxes in (("one", box), ("two", box), ("three", box + 1), ("four", np.repeat(box, 2, 0)))
    ]
    assert names[0] == names[1]
    assert len(set(names)) == 3
    assert names[0].startswith("t.npz (1 pictures, ")
    assert source_name(Own()) == "Own"
    assert "proposals" not in Batches(data).settings
