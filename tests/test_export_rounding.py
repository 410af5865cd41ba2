"""What rounding alone decides is no difference between an artifact and its model; everything else is."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from export_helpers import picture
from test_export_fast_rcnn import decided
from test_export_matching import CLASSES, A, B, fake_artifact, results

import zoo
from zoo.export import ParityError
from zoo.export.finishing import report_path
from zoo.export.matching import compare_detections
from zoo.export.parity import compare
from zoo.export.rounding import shaken
from zoo.export.samples import SamplePicture

C = (1, 0.7, (5, 60, 40, 95))


def wrong(expected, found, *others):
    return len(compare_detections(expected, found, CLASSES, shaken=others).wrong)


def test_what_the_model_itself_lacks_at_times_may_be_missing():
    assert wrong(results(A, B), results(A)) == 1
    assert wrong(results(A, B), results(A), results(A, B), results(A, B)) == 1
    assert wrong(results(A, B), results(A), results(A, B), results(A)) == 0
    assert wrong(results(A, B, C), results(A), results(A, B)) == 1


def test_what_the_model_itself_has_at_times_may_be_there():
    assert wrong(results(A), results(A, B)) == 1
    assert wrong(results(A), results(A, B), results(A), results(A, C)) == 1
    assert wrong(results(A), results(A, B), results(A), results(A, B)) == 0


@pytest.mark.parametrize(
    "other", [(1, 0.8, (60.6, 20, 90, 80)), (1, 0.798, B[2]), (0, *B[1:])], ids=["box", "score", "class"]
)
def test_a_mistake_in_what_comes_and_goes_stays_one(other):
    """The model may lack B; that does not allow for another in its place."""
    assert wrong(results(A, B), results(A, other), results(A)) == 1


def test_both_sides_of_a_tie():
    agreement = compare_detections(results(A, B), results(A, C), CLASSES, shaken=[results(A, C)])
    assert (agreement.matched, agreement.tied, agreement.wrong) == (1, 2, ())


def test_the_model_is_asked_again_only_as_often_as_it_takes():
    pictures = [SamplePicture("x", np.zeros((100, 100, 3), np.uint8))]
    asked = []

    def others(picture):
        for found in (results(A, B), results(A, C), results(A, B)):
            asked.append(picture)
            yield found

    assert compare(fake_artifact(results(A, B), "float32"), pictures, [(results(A, B), 0.1)], others)["ok"]
    assert not asked
    report = compare(fake_artifact(results(A, C), "float32"), pictures, [(results(A, B), 0.1)], others)
    assert (report["tied"], len(asked), len(report["images"][0]["shaken"])) == (2, 2, 2)
    with pytest.raises(ParityError, match="of 2 detections on 1 pictures 1 differ"):
        compare(fake_artifact(results(A), "float32"), pictures, [(results(A, B), 0.1)], lambda picture: [results(A, B)])


def test_inputs_change_by_next_to_nothing():
    given = []
    seen = SimpleNamespace(reference=lambda *inputs: given.append(inputs))
    pixels, boxes = picture(30, 40), np.arange(40, dtype=np.float32).reshape(10, 4)
    list(shaken(seen, SamplePicture("x", pixels, boxes)))
    assert len(given) == 16
    for image, proposals in given:
        assert image.dtype == proposals.dtype == np.float32
        assert 0 < np.abs(image - pixels.astype(np.float64)).max() <= 1.01e-3  # float32 has steps of 1.5e-5 here
        assert sorted(proposals.tolist()) == boxes.tolist()
        assert proposals.tolist() != boxes.tolist()
    assert len({image.tobytes() for image, _ in given}) == 16
    list(shaken(seen, SamplePicture("x", pixels)))
    assert all(len(inputs) == 1 for inputs in given[16:])


def test_proposals_that_the_feature_map_shows_alike(tmp_path, monkeypatch):
    """They have equal scores, and their order, which is that of rounding elsewhere, decides which one stays."""
    model = decided()
    image = picture(90, 120)
    first = np.array([[4.0, 4, 60, 60], [40, 20, 100, 80], [8, 30, 70, 86]], np.float32)
    pairs = [np.stack([first, first + 1.0], axis=1).reshape(-1, 4)]
    exported = zoo.export.tflite(model, tmp_path / "fast.tflite", images=[image], proposals=pairs)
    opened = zoo.export.open_artifact(exported.path)
    straight = opened.predict_on_batch
    monkeypatch.setattr(
        opened, "predict_on_batch", lambda given: straight({**given, "proposals": given["proposals"][:, ::-1]})
    )
    report = zoo.export.check_parity(model, opened, [image], proposals=pairs)
    assert report["tied"] > 0
    monkeypatch.setattr("zoo.export.parity.shaken", lambda seen, picture: ())
    with pytest.raises(ParityError, match="differ"):
        zoo.export.check_parity(model, opened, [image], proposals=pairs)


def test_the_report_keeps_what_the_model_gave_otherwise(tmp_path):
    """Without the model, too, `zoo verify` allows for what the export allowed for."""
    pictures, boxes = [picture(90, 120)], [np.array([[4, 4, 60, 60], [40, 20, 100, 80]], np.float32)]
    path = zoo.export.tflite(decided(), tmp_path / "fast.tflite", images=pictures, proposals=boxes).path
    file = report_path(path)
    report = json.loads(file.read_text())
    (entry,) = report["images"]
    entry["shaken"] = [json.loads(json.dumps(entry["reference"]))]
    entry["reference"]["scores"][0] -= 0.01
    file.write_text(json.dumps(report))
    assert zoo.export.verify(path, images=pictures, proposals=boxes)["tied"] == 2
    entry["shaken"] = []
    file.write_text(json.dumps(report))
    with pytest.raises(ParityError, match="1 pictures 2 differ"):
        zoo.export.verify(path, images=pictures, proposals=boxes)
