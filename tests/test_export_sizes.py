"""Artifacts for one size of pictures: others are refused in words, and what is composed for them has that size."""

import json
from pathlib import Path

import numpy as np
import pytest

from zoo.cli.export import _representative
from zoo.datasets.digits import digit_scenes
from zoo.export import ExportError
from zoo.export.metadata import FORMAT
from zoo.export.runners import Artifact
from zoo.export.samples import representative_pictures


class FixedArtifact(Artifact):
    """Finds nothing, in pictures of any size: only what is asked before it runs can refuse one."""

    def __init__(self, size=(90, 120)):
        self._size = size
        super().__init__(Path("fixed.onnx"))

    def _read_metadata(self):
        shape = [None, *(self._size or (None, None)), 3]
        found = {"zoo_export": FORMAT, "task": "detection", "classes": ["a"]}
        return json.dumps({**found, "input": {"shape": shape, "dtype": "uint8"}})

    def _run(self, inputs):
        count = len(inputs["images"])
        shapes = {"boxes": (count, 0, 4), "scores": (count, 0), "classes": (count, 0), "num_detections": (count,)}
        return {name: np.zeros(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("shape", [(120, 90, 3), (90, 121, 3), (45, 60, 3), (1, 1, 3)])
def test_pictures_of_another_size_are_refused(shape):
    """Transposed ones too, which have as many pixels."""
    image = np.zeros(shape, np.uint8)
    artifact = FixedArtifact()
    said = rf"fixed\.onnx takes images of height and width \(90, 120\) only.*\(1, {shape[0]}, {shape[1]}, 3\).*scale"
    for ask in (artifact.predict_on_batch, lambda images: artifact.detect(images[0])):
        with pytest.raises(ExportError, match=said):
            ask(image[None])
    with pytest.raises(ExportError, match="only"):
        artifact.predict_on_batch({"images": image[None]})
    with pytest.raises(ExportError, match="only"):
        artifact.predict_on_batch(image)  # no batch


def test_pictures_of_its_size_are_not():
    image = np.zeros((90, 120, 3), np.uint8)
    assert len(FixedArtifact().detect(image)) == 0
    assert FixedArtifact().predict_on_batch(np.stack([image, image]))["scores"].shape == (2, 0)
    assert len(FixedArtifact(None).detect(image[:7])) == 0


@pytest.mark.parametrize("size", [(70, 100), (96, 40)])
def test_the_scenes_that_show_ranges_have_the_artifacts_size(size, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no folder is called digits
    shown = list(representative_pictures(_representative(["digits"], size), size))
    assert {image.shape for image in shown} == {(*size, 3)}
    assert len({image.tobytes() for image in shown}) == 50


def test_without_a_size_they_have_many(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = _representative(["digits"], None)
    scenes = digit_scenes("train", 50)
    for number in (0, 1, 49):
        np.testing.assert_array_equal(shown[number], scenes.image(number))
    assert _representative(["photos"], (70, 100)) == ["photos"]
    assert _representative(None, (70, 100)) is None
