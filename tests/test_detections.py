"""The result of detection."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.detections import Detections


def three(**fields):
    boxes = [[1, 2, 11, 22], [3, 4, 5.25, 6], [0, 0, 9, 9]]
    return Detections(boxes, [0.9, 0.6, 0.3], [1, 0, 1], ("dog", "cat", "dog"), (30, 40), **fields)


def test_types_are_settled():
    found = three(path="a/b.jpg")
    assert found.boxes.dtype == np.float32
    assert found.boxes.shape == (3, 4)
    assert found.classes.dtype == np.int32
    assert found.path == Path("a/b.jpg")
    empty = Detections(size=(3, 4))
    assert empty.boxes.shape == (0, 4)
    assert len(empty) == 0
    assert empty.table() == "nothing found"


def test_lengths_must_agree():
    with pytest.raises(ValueError, match=r"\[1, 1, 1, 2\]"):
        Detections([[0, 0, 1, 1]], [0.5], [0], ("a", "b"))


def test_padded_output_is_cut_sorted_and_filtered():
    boxes = np.arange(20.0).reshape(5, 4)
    scores = np.array([0.2, 0.9, 0.5, 0.99, 0.99])  # the last two are padding
    found = Detections.from_padded(boxes, scores, [0, 1, 0, -1, -1], 3, ["x", "y"], (5, 6), score_threshold=0.4)
    assert found.class_names == ("y", "x")
    np.testing.assert_array_equal(found.boxes, boxes[[1, 2]].astype(np.float32))
    np.testing.assert_allclose(found.scores, [0.9, 0.5])


def test_above_keeps_what_reaches_the_score():
    found = three(path="x.jpg").above(0.6)
    np.testing.assert_allclose(found.scores, [0.9, 0.6])
    assert found.class_names == ("dog", "cat")
    assert (found.size, found.path) == ((30, 40), Path("x.jpg"))


def test_text_forms():
    assert repr(three(path="a.jpg")) == "Detections(a.jpg 40x30: 2 dog, 1 cat)"
    lines = three().table().splitlines()
    assert lines[1].split() == ["dog", "0.900", "1.0", "2.0", "11.0", "22.0"]
    assert lines[2].split() == ["cat", "0.600", "3.0", "4.0", "5.2", "6.0"]
    failed = Detections(path="a.jpg", error="a.jpg: truncated")
    assert "truncated" in repr(failed)
    assert "truncated" in failed.table()


def test_dict_is_plain_json():
    plain = json.loads(json.dumps(three(path="a.jpg").to_dict()))
    assert plain["size"] == {"height": 30, "width": 40}
    assert plain["detections"][1] == {"class": "cat", "class_index": 0, "score": 0.6, "box": [3, 4, 5.25, 6]}
    assert "error" not in plain
    assert Detections(error="gone").to_dict()["error"] == "gone"


def test_draw_reads_the_file_again_and_saves(tmp_path):
    Image.new("RGB", (40, 30), (200, 10, 10)).save(tmp_path / "a.png")
    found = three(path=tmp_path / "a.png")
    picture = found.draw(path=tmp_path / "out" / "found.png")
    assert picture.shape == (480, 640, 3)  # small pictures are enlarged
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "found.png")), picture)
    image = np.full((30, 40, 3), 90, np.uint8)
    assert not np.array_equal(three().draw(image), picture)


def test_draw_refuses_what_it_cannot_draw():
    with pytest.raises(ValueError, match=r"come from an array"):
        three().draw()
    with pytest.raises(ValueError, match=r"50x30.*40x30"):
        three().draw(np.zeros((30, 50, 3), np.uint8))
    with pytest.raises(ValueError, match=r"a.jpg: truncated"):
        Detections(error="a.jpg: truncated").draw()
