"""From files of all kinds to detections, with a real if tiny detector; and the detector as a Keras citizen."""

import keras
import numpy as np
import pytest
from PIL import Image
from tiny import tiny_detector

from zoo.datasets.images import ImageError


@pytest.fixture(scope="module")
def detector():
    model = tiny_detector()
    # Random last layers call everything alike; these call something.
    rng = np.random.default_rng(0)
    for layer in (model.rpn.score, model.rpn.loc, model.head.score, model.head.loc):
        layer.kernel.assign(rng.normal(0, 0.3, layer.kernel.shape))
    return model


def picture(height: int = 70, width: int = 90) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_every_kind_of_picture_gives_boxes_inside_it(detector, tmp_path):
    rgb = Image.fromarray(picture())
    kinds = {
        "gray.png": rgb.convert("L"),
        "alpha.png": rgb.convert("RGBA"),
        "deep.png": Image.fromarray(np.arange(70 * 90, dtype="uint16").reshape(70, 90) * 10),
        "dot.png": Image.fromarray(picture(1, 1)),
        "line.png": Image.fromarray(picture(2, 300)),
        "plain.jpg": rgb,
    }
    for name, image in kinds.items():
        image.save(tmp_path / name)
    for name, found in zip(sorted(kinds), sorted(detector.detect(tmp_path), key=lambda f: f.path.name), strict=True):
        assert found.path.name == name
        assert found.error is None
        height, width = found.size
        assert kinds[name].size == (width, height)
        assert (found.boxes >= 0).all()
        assert (found.boxes <= [width, height, width, height]).all()
        assert np.isfinite(found.scores).all()


def test_a_turned_photo_is_detected_as_a_person_sees_it(detector, tmp_path):
    upright = picture(60, 100)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show the stored pixels rotated by 90 degrees clockwise
    Image.fromarray(np.rot90(upright)).save(tmp_path / "turned.png", exif=exif)
    found, expected = detector.detect(tmp_path / "turned.png"), detector.detect(upright)
    assert found.size == (60, 100)
    assert len(expected) > 0
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-3)


def test_one_bad_file_loses_nothing_of_the_others(detector, tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_text("no picture at all")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "c.jpg").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(picture()).save(tmp_path / "d.jpg")
    found = detector.detect(tmp_path)
    assert [f.path.name for f in found] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert [f.error is None for f in found] == [True, False, False, True]
    assert "b.jpg" in found[1].error
    assert "c.jpg" in found[2].error
    np.testing.assert_allclose(found[0].boxes, found[3].boxes, atol=1e-3)
    assert len(found[0]) > 0
    with pytest.raises(ImageError, match=r"b\.jpg"):
        detector.detect(tmp_path / "b.jpg")


def test_an_empty_folder_is_named(detector, tmp_path):
    with pytest.raises(ImageError, match=str(tmp_path)):
        detector.detect(tmp_path)


def test_score_threshold_only_drops(detector):
    everything = detector.detect(picture())
    threshold = float(np.median(everything.scores))
    some = detector.detect(picture(), score_threshold=threshold)
    assert 0 < len(some) < len(everything)
    np.testing.assert_array_equal(some.boxes, everything.boxes[everything.scores >= threshold])


def test_padded_batch_keeps_each_image_to_its_true_size(detector):
    small, large = picture(40, 50), picture(80, 100)
    canvas = np.zeros((2, 80, 100, 3), "uint8")
    canvas[0, :40, :50], canvas[1] = small, large
    found = detector.predict_on_batch({"images": canvas, "sizes": np.array([[40, 50], [80, 100]], "int32")})
    for row, (height, width) in enumerate(((40, 50), (80, 100))):
        boxes = found["boxes"][row][: found["num_detections"][row]]
        assert len(boxes)
        assert (boxes <= [width, height, width, height]).all()
    alone = detector.predict_on_batch(large[None])
    np.testing.assert_allclose(found["boxes"][1], alone["boxes"][0], atol=1e-2)


def test_saved_and_loaded_twice_over(detector, tmp_path):
    expected = detector.detect(picture())
    detector.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert (
        loaded.get_config()
        == keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loaded)).get_config()
    )
    found = loaded.detect(picture())
    assert found.class_names == expected.class_names
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-4)


def test_mixed_precision_keeps_boxes_in_32_bits():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = tiny_detector()
        model.compile(optimizer=keras.optimizers.SGD(0.01))
        x = {"images": picture(600, 900)[None], "sizes": np.array([[600, 900]], "int32")}
        y = {"boxes": np.array([[[100, 100, 400, 500]]], "float32"), "classes": np.array([[1]], "int32")}
        assert model(x, training=True)["features"].dtype == "bfloat16"
        assert model.predict_on_batch(x)["boxes"].dtype == np.float32
        assert np.isfinite(model.train_on_batch(x, y)).all()
    finally:
        keras.config.set_dtype_policy(policy)


def test_losses_without_objects_and_with_difficult_ones():
    model = tiny_detector()
    images = picture()[None]
    boxes = np.array([[[10, 10, 60, 60]]], "float32")

    def losses(label: int, difficult: bool) -> dict[str, float]:
        y = {"boxes": boxes, "classes": np.array([[label]], "int32"), "difficult": np.array([[difficult]])}
        model.reset_metrics()
        model.compute_loss(images, y, model(images, training=True), training=True)
        return {key: float(tracker.result()) for key, tracker in model.trackers.items()}

    with_object, without, difficult = losses(1, False), losses(-1, False), losses(1, True)
    assert with_object["rpn_box"] > 0
    assert with_object["head_box"] > 0
    for values in (without, difficult):
        assert values["rpn_box"] == values["head_box"] == values["proposal_recall"] == 0
        assert values["rpn_objectness"] > 0
        assert values["head_class"] > 0


def test_bad_descriptions_of_a_detector_are_refused():
    with pytest.raises(ValueError, match="distinct class names"):
        tiny_detector(("cat", "cat"))
    with pytest.raises(ValueError, match="distinct class names"):
        tiny_detector(())
