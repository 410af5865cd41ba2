"""A folder of proposals: computed once, found by picture and settings, never half there."""

import json
import threading
import time

import numpy as np
import pytest
from marked import Marked

from zoo.datasets import load
from zoo.datasets.proposals import ProposalError, open_proposals
from zoo.datasets.proposals_cache import ProposalFolder, method_key, methods_in, picture_key
from zoo.datasets.proposals_dense import DenseBoxes
from zoo.datasets.proposals_make import make_proposals
from zoo.datasets.records import DetectionDataset


class Corner:
    """One box at the top left, as wide as the picture is bright; counts its calls."""

    name = "corner"

    def __init__(self, side=4, fail_at=None, wait=0.0):
        self.side, self.calls, self.fail_at, self.wait = side, 0, fail_at, wait
        self.lock = threading.Lock()

    @property
    def settings(self):
        return {"side": self.side}

    def __call__(self, image):
        with self.lock:
            self.calls += 1
            if self.calls == self.fail_at:
                raise RuntimeError("struck")
        time.sleep(self.wait)
        return np.array([[0, 0, image.mean() / 25, self.side]], np.float32)

    def scored(self, image):
        return self(image), np.array([0.5], np.float32)


def marked():
    return Marked([(20, 30), (20, 30), (28, 18), (20, 30)])


def test_computed_once_and_found_again(tmp_path):
    data, method, steps = marked(), Corner(), []
    made = make_proposals(data, method, tmp_path, workers=3, progress=lambda: steps.append(1))
    assert (made.computed, method.calls, len(steps), len(made)) == (4, 4, 4, 4)
    again = make_proposals(data, Corner(), tmp_path)
    assert again.computed == 0
    folder = open_proposals(tmp_path)
    assert len(folder) == 4
    for index in range(4):
        image, sample = data.load(index)
        want = [[0, 0, np.float32(image.mean() / 25), 4]]
        for boxes in (made[index], again[index], folder.boxes(sample, image)):
            assert boxes.dtype == np.float32
            assert boxes.tolist() == want
        assert folder.read(picture_key(image))[1].tolist() == [0.5]
    assert [boxes.shape for boxes in made] == [(1, 4)] * 4


def test_other_settings_are_other_proposals(tmp_path):
    data = marked()
    make_proposals(data, Corner(4), tmp_path)
    made = make_proposals(data, Corner(5), tmp_path)
    assert made.computed == 4
    assert made[0][0, 3] == 5
    assert ProposalFolder(tmp_path, Corner(4)).boxes(data.sample(0), data.image(0))[0, 3] == 4
    assert {about["settings"]["side"] for about in methods_in(tmp_path).values()} == {4, 5}
    for wanted in (None, "corner", "dense"):
        with pytest.raises(ProposalError, match=r"choose one of its folders corner-\w+, corner-\w+"):
            open_proposals(tmp_path, wanted)
    assert open_proposals(tmp_path, method_key(Corner(5))).path == made.folder.path
    assert open_proposals(made.folder.path).boxes(data.sample(0), data.image(0))[0, 3] == 5
    make_proposals(data, DenseBoxes(smallest=5, most=10), tmp_path)
    assert len(open_proposals(tmp_path, "dense").boxes(data.sample(0), data.image(0))) == 10


def test_a_changed_picture_has_none(tmp_path):
    data = marked()
    made = make_proposals(data, Corner(), tmp_path)
    folder, image = open_proposals(tmp_path), data.image(2).copy()
    assert len(folder.boxes(data.sample(2), image)) == 1
    assert folder(image).tolist() == made[2].tolist()
    image[3, 3, 1] ^= 1
    with pytest.raises(ProposalError, match="no proposals for this 18x28 picture"):
        folder(image)
    with pytest.raises(ProposalError, match="no proposals for image m2; run `zoo proposals`"):
        folder.boxes(data.sample(2), image)
    # The same bytes in another shape are another picture.
    assert picture_key(image) != picture_key(image.reshape(18, 28, 3))


@pytest.mark.parametrize("workers", [1, 3])
def test_a_picture_that_comes_twice_is_computed_once(tmp_path, workers):
    data, method = marked(), Corner(wait=0.02)
    twice = DetectionDataset("twice", data.classes, [data.sample(index // 5) for index in range(20)])
    twice.load = lambda index: data.load(index // 5)
    made = make_proposals(twice, method, tmp_path, workers=workers)
    assert (made.computed, method.calls, len(made)) == (4, 4, 20)
    assert made[17].tolist() == made[15].tolist() != made[1].tolist()


def test_stopped_half_way_it_goes_on(tmp_path):
    data = marked()
    with pytest.raises(RuntimeError, match="struck"):
        make_proposals(data, Corner(fail_at=3), tmp_path, workers=1)
    kept = len(open_proposals(tmp_path))
    assert 2 <= kept <= 3  # what was begun beside it is finished
    method = Corner()
    assert make_proposals(data, method, tmp_path, workers=1).computed == 4 - kept
    assert method.calls == 4 - kept


def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch):
    data = marked()

    def half(path, **arrays):
        path.write_bytes(b"half of it")
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez_compressed", half)
        with pytest.raises(OSError, match="no space"):
            make_proposals(data, Corner(), tmp_path, workers=1)
    assert len(open_proposals(tmp_path)) == 0
    # Left behind by a process that was killed: neither counted nor read.
    key = picture_key(data.image(0))
    aside = open_proposals(tmp_path).path / key[:2] / f".123-{key}.npz"
    aside.parent.mkdir(exist_ok=True)
    aside.write_bytes(b"half of it")
    assert len(open_proposals(tmp_path)) == 0
    assert make_proposals(data, Corner(), tmp_path).computed == 4


def test_damage_is_named(tmp_path):
    data = marked()
    made = make_proposals(data, Corner(), tmp_path)
    file = made.folder.path / made.keys[1][:2] / f"{made.keys[1]}.npz"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(ProposalError, match=rf"{made.keys[1]}\.npz: cannot be read"):
        made[1]
    np.savez(file, other=np.ones(3))
    with pytest.raises(ProposalError, match="holds no boxes"):
        made[1]
    about = made.folder.path / "method.json"
    about.write_text("{")
    with pytest.raises(ProposalError, match=r"method\.json: not JSON"):
        open_proposals(tmp_path)
    about.write_text(json.dumps({"format": 99}))
    with pytest.raises(ProposalError, match="not written by this version"):
        open_proposals(tmp_path)


def test_a_method_that_proposes_nonsense_is_named(tmp_path):
    method = Corner()
    method.scored = lambda image: (np.full((2, 4), np.nan), None)
    with pytest.raises(ProposalError, match=r"corner: proposes no .* for image m0"):
        make_proposals(marked(), method, tmp_path, workers=1)


def test_composed_pictures_are_kept_as_well(tmp_path):
    data = load("digits:3")
    made = make_proposals(data, DenseBoxes(most=20), tmp_path)
    assert [len(boxes) for boxes in made] == [20] * 3
    assert made.folder.read(made.keys[0])[1] is None
    assert make_proposals(load("digits:4"), DenseBoxes(most=20), tmp_path).computed == 1
