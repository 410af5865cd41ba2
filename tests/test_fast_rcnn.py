"""Fast R-CNN as a Keras model: what goes in, what is trained at each stage, what is asked of it at test."""

import keras
import numpy as np
import pytest
from test_fast_rcnn_targets import batch
from tiny import tiny_fast

from zoo.datasets.proposals_selective import SelectiveSearch
from zoo.detectors.fast_rcnn import FastRCNN
from zoo.heads import sampling


def decisive(**options) -> FastRCNN:
    """A detector that finds something."""
    model = tiny_fast(**options)
    rng = np.random.default_rng(2)
    for layer in (model.head.score, model.head.loc):
        if layer is not None:
            layer.kernel.assign(rng.normal(0, 0.7, layer.kernel.shape))
    return model


def arrays(found) -> dict[str, np.ndarray]:
    return {key: np.asarray(value) for key, value in found.items()}


@pytest.fixture(scope="module")
def model():
    return decisive()


@pytest.mark.parametrize("convention", ["continuous", "fast-rcnn"])
def test_a_batch_is_each_image_alone(convention):
    """Padded pixels and proposals change nothing."""
    x, _ = batch()
    x["images"][1, 48:] = 0
    x["sizes"] = np.array([[64, 96], [48, 96]], "int32")
    x["proposals"][1, :, 1::2] = np.clip(x["proposals"][1, :, 1::2], 0, 48)
    x["proposals"][1, 42:] = [3, 3, 40, 40]
    # Of one convolution of patches without bias, features do not change where zeros follow.
    model = decisive(convention=convention)
    images = keras.Input((None, None, 3))
    patches = keras.layers.Conv2D(32, 16, 16, "same", use_bias=False, activation="relu", name="conv")(images)
    model = FastRCNN.from_config({**model.get_config(), "extractor": _serialized(keras.Model(images, patches))})
    for layer in (model.head.score, model.head.loc):
        layer.kernel.assign(np.random.default_rng(2).normal(0, 0.2, layer.kernel.shape))
    together = arrays(model(x))
    assert (together["num_detections"] > 3).all()
    for i, (height, width) in enumerate(x["sizes"]):
        one = {"images": x["images"][i : i + 1, :height, :width]}
        one["proposals"] = x["proposals"][i : i + 1, : x["num_proposals"][i]]
        alone = arrays(model(one))
        np.testing.assert_array_equal(together["classes"][i], alone["classes"][0])
        np.testing.assert_allclose(together["boxes"][i], alone["boxes"][0], atol=1e-2)
        assert (together["boxes"][i] <= [width, height, width, height]).all()


def _serialized(model: keras.Model):
    return keras.saving.serialize_keras_object(model)


def test_boxes_without_area_are_no_proposals(model):
    x, _ = batch()
    x["proposals"][:, 5:] = [[30, 10, 30, 40], [10, 10, 40, 10], [20, 20, 10, 30], [200, 5, 220, 9], [0, 0, 0, 0]] * 9
    raw = model(x, training=True)
    scores = np.asarray(raw["proposal_scores"])
    assert (scores[:, :5] == 1).all()
    assert (scores[:, 5:] == -1).all()
    del x["num_proposals"]
    assert (np.asarray(model(x, training=True)["proposal_scores"]) == scores).all()


def test_only_the_first_proposals_are_looked_at():
    x, _ = batch()
    few = decisive(proposals=7)
    wanted = arrays(decisive()({**x, "proposals": x["proposals"][:, :7], "num_proposals": np.array([7, 7], "int32")}))
    found = arrays(few(x))
    assert (found["num_detections"] > 0).all()
    np.testing.assert_allclose(found["boxes"], wanted["boxes"], atol=1e-4)
    # Trained on is every one of them.
    assert few(x, training=True)["proposals"].shape == (2, 50, 4)


def test_any_number_of_proposals(model):
    """Compiled once for any number, the answers are those for that number."""
    import tensorflow as tf

    x, _ = batch()
    signature = {
        "images": tf.TensorSpec((None, None, None, 3), tf.uint8),
        "proposals": tf.TensorSpec((None, None, 4), tf.float32),
    }
    model = decisive(proposals=60, max_detections=12)
    compiled = tf.function(lambda x: model(x), input_signature=[signature])
    shapes = {key: value.shape[1:] for key, value in compiled.get_concrete_function().structured_outputs.items()}
    assert shapes == {"boxes": (12, 4), "scores": (12,), "classes": (12,), "num_detections": ()}
    # As many as come go into suppression, not as many as may come: filled up it took most of a small network's time.
    graph = compiled.get_concrete_function().graph
    sizes = {side for op in graph.get_operations() for each in op.outputs for side in each.shape.as_list() or ()}
    assert 12 in sizes
    assert not sizes & {60, 120}
    nothing = compiled({"images": tf.constant(x["images"]), "proposals": tf.zeros((2, 0, 4))})
    np.testing.assert_array_equal(nothing["num_detections"], 0)
    for count in (1, 42, 60, 75):
        proposals = np.concatenate([x["proposals"]] * 2, axis=1)[:, :count] + 0.0
        given = {"images": x["images"], "proposals": proposals}
        wanted, found = (
            arrays(model(given)),
            arrays(compiled({key: tf.constant(value) for key, value in given.items()})),
        )
        assert (wanted["num_detections"] > 0).all()
        for key in wanted:
            np.testing.assert_allclose(found[key], wanted[key], atol=1e-3, err_msg=f"{count} {key}")


def test_without_proposals_it_says_what_to_do(model):
    x, _ = batch()
    for given in (x["images"], {"images": x["images"]}):
        with pytest.raises(ValueError, match=r"looks at proposals that others make.*'proposals'.*model\.detect"):
            model(given)


def test_detect_takes_a_function_or_boxes_of_each_image(model, tmp_path):
    x, _ = batch()
    seen = []

    def propose(image):
        seen.append((image.shape, image.dtype))
        return x["proposals"][0]

    first, second = x["images"]
    found = model.detect(first, proposals=propose)
    assert seen == [((64, 96, 3), np.uint8)]
    assert len(found) > 0
    same = model.detect(first, proposals=x["proposals"][0]), model.detect(first, proposals=[x["proposals"][0]])
    for other in same:
        np.testing.assert_array_equal(other.boxes, found.boxes)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    mixed = model.detect([first, tmp_path / "broken.png", second], proposals=[x["proposals"][0], [], np.zeros((0, 4))])
    np.testing.assert_allclose(mixed[0].boxes, found.boxes, atol=1e-3)
    assert "broken.png" in mixed[1].error
    assert len(mixed[2]) == 0, "no proposals, no detections"


def test_detect_refuses_what_are_no_boxes(model):
    x, _ = batch()
    with pytest.raises(ValueError, match="2 entries for 3 images"):
        model.detect([*x["images"], x["images"][0]], proposals=list(x["proposals"]))
    with pytest.raises(ValueError, match=r"proposals of image 1 have shape \(5, 3\).*\(P, 4\)"):
        model.detect(list(x["images"]), proposals=[x["proposals"][0], np.zeros((5, 3))])
    with pytest.raises(ValueError, match="give finite boxes"):
        model.detect(x["images"][0], proposals=lambda image: np.full((3, 4), np.nan))


def test_by_default_selective_search_proposes(model):
    picture = np.full((120, 160, 3), 90, "uint8")
    picture[20:70, 30:90], picture[60:110, 100:150] = (220, 40, 40), (30, 60, 200)
    found = model.detect(picture)
    search = SelectiveSearch("fast")
    assert len(search(picture)) > 3
    assert len(found) > 0
    np.testing.assert_array_equal(found.boxes, model.detect(picture, proposals=search).boxes)


def trained(model: FastRCNN, steps: int = 2) -> dict[str, float]:
    """By how much each weight moves in a training."""
    x, y = batch()
    before = {weight.path: np.asarray(weight).copy() for weight in model.weights}
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9, weight_decay=0.01), run_eagerly=True)
    model.fit(x, y, batch_size=2, epochs=steps, verbose=0)
    return {weight.path: float(abs(np.asarray(weight) - before[weight.path]).max()) for weight in model.weights}


def test_stages_train_what_they_say(tmp_path):
    """Table 6: the classification alone, then the regression on all else as it is."""
    model = tiny_fast()
    model.extractor.get_layer("conv1").trainable = False
    model.set_stage("class")
    moved = trained(model)
    regression = {path for path in moved if "/loc/" in path}
    counter = {path for path in moved if "sampling_step" in path}
    fixed = {path for path in moved if path.startswith(("conv1/", "tiny_fast/box_"))}
    assert len(regression) == 2
    # Not even weight decay may reach it, as it would on JAX.
    assert regression.isdisjoint(weight.path for weight in model.trainable_weights)
    assert len(fixed) == 4
    assert {path for path, by in moved.items() if by == 0.0} == regression | fixed

    model.set_stage("box")
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", compile=False)
    assert loaded.stage == "box"
    assert {weight.path for weight in loaded.trainable_weights} == regression
    moved = trained(model)
    assert {path for path, by in moved.items() if by > 0.0} == regression | counter

    model.set_stage("joint")
    moved = trained(model)
    assert {path for path, by in moved.items() if by == 0.0} == fixed, "what the caller froze stays frozen"
    with pytest.raises(ValueError, match="stage must be one of 'joint', 'class', 'box', got 'second'"):
        model.set_stage("second")


def test_losses_of_the_stages():
    x, y = batch()
    losses = {}
    for stage in ("joint", "class", "box"):
        model = tiny_fast(stage=stage, box_weight=3.0)
        losses[stage] = float(model.compute_loss(x, y, model(x, training=True), training=True))
        parts = {key: float(tracker.result()) for key, tracker in model.trackers.items()}
        wanted = {"class": parts["head_class"], "box": 3 * parts["head_box"]}
        wanted["joint"] = sum(wanted.values())
        assert losses[stage] == pytest.approx(wanted[stage], rel=1e-5)
    assert losses["joint"] == pytest.approx(losses["class"] + losses["box"], rel=1e-4)


def test_dropout_rests_in_the_box_stage():
    pooled = keras.Input((4, 4, 32))
    dropped = keras.layers.Dropout(0.5)(keras.layers.GlobalAveragePooling2D()(pooled))
    body = keras.Model(pooled, dropped, name="body")
    x, y = batch()
    for stage, differs in (("joint", True), ("box", False)):
        model = FastRCNN.from_config({**tiny_fast().get_config(), "body": _serialized(body), "stage": stage})
        model.head.loc.kernel.assign(np.random.default_rng(0).normal(0, 9, model.head.loc.kernel.shape))
        raw, losses = model(x, training=True), []
        for _ in range(2):
            model.sampling_step.assign(0)
            losses.append(float(model.compute_loss(x, y, raw, training=True)))
        assert (losses[0] != losses[1]) == differs


@pytest.mark.parametrize("convention", ["continuous", "caffe"])
def test_softmax_only(convention):
    """Without a regression there are neither its weights nor its loss, and detections are proposals."""
    x, y = batch()
    model = decisive(bbox="none", score_threshold=0.0, convention=convention)
    assert not any("loc" in weight.path or "box_" in weight.path for weight in model.weights)
    assert set(model.trackers) == {"head_class", "proposal_recall"}
    loss = float(model.compute_loss(x, y, model(x, training=True), training=True))
    assert loss == pytest.approx(float(model.trackers["head_class"].result()))
    for call in (lambda: model.measure_targets([(x, y)]), lambda: model.set_stage("box")):
        with pytest.raises(ValueError, match="no regression of boxes"):
            call()
    unrefined = decisive(refine=False, score_threshold=0.0, convention=convention)
    unrefined.head.score.kernel.assign(model.head.score.kernel)
    for each in (model, unrefined):
        found = arrays(each(x))
        for i in range(2):
            given = {tuple(np.round(box, 2).tolist()) for box in x["proposals"][i, : x["num_proposals"][i]]}
            count = found["num_detections"][i]
            assert count > 5
            assert {tuple(np.round(box, 2).tolist()) for box in found["boxes"][i, :count]} <= given


def test_statistics_leave_predictions_as_they_are():
    x, y = batch()
    model = decisive()
    before = arrays(model(x))
    model.measure_targets([(x, y)], new=False)
    assert abs(np.asarray(model.box_deviations) - [0.1, 0.1, 0.2, 0.2]).max() > 0.01
    after = arrays(model(x))
    np.testing.assert_allclose(after["boxes"], before["boxes"], atol=1e-3)
    kernel = np.asarray(model.head.loc.kernel)
    model.set_target_statistics(np.zeros((2, 4)), np.ones((2, 4)), new=True)
    np.testing.assert_array_equal(model.head.loc.kernel, kernel)
    assert abs(arrays(model(x))["boxes"] - before["boxes"]).max() > 1
    for wrong in (np.zeros((2, 4)), np.full((2, 4), np.nan)):
        with pytest.raises(ValueError, match="deviations positive"):
            model.set_target_statistics(np.zeros((2, 4)), wrong)
    with pytest.raises(ValueError, match=r"of shape \(2, 4\), not \(3, 4\)"):
        model.set_target_statistics(np.zeros((3, 4)), np.ones((3, 4)))


def test_difficult_objects_are_left_out_unless_wanted():
    x, y = batch()
    without = {**y, "classes": np.where(np.arange(3) == 1, -1, y["classes"])}
    difficult = {**y, "difficult": np.tile(np.arange(3) == 1, (2, 1))}

    def measured(truth, **options):
        model = tiny_fast(**options)
        model.measure_targets([(x, truth)])
        loss = float(model.compute_loss(x, truth, model(x, training=True), training=True))
        return [loss, *np.asarray(model.box_deviations).reshape(-1)]

    np.testing.assert_allclose(measured(difficult), measured(without), rtol=1e-5)
    np.testing.assert_allclose(measured(difficult, use_difficult=True), measured(y), rtol=1e-5)
    assert abs(np.subtract(measured(difficult), measured(y))).max() > 1e-3


def test_samples_depend_on_image_and_step_alone(monkeypatch):
    steps = []
    original = sampling.uniform
    monkeypatch.setattr("zoo.heads.targets.uniform", lambda *a, **k: steps.append(int(a[1])) or original(*a, **k))
    x, y = batch()
    model = tiny_fast()
    for _ in range(2):
        model.compute_loss(x, y, model(x, training=True), training=True)
    model.compute_loss(x, y, model(x), training=False)
    assert steps == [1, 2, 2], "validation does not count"


def test_validation_and_mixed_precision():
    x, y = batch()
    policy = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        model = tiny_fast(scales=(64, 96), long=160)
        assert model.extractor.compute_dtype == "bfloat16"
        model.measure_targets([(x, y)])
        model.compile(keras.optimizers.SGD(0.01))
        history = model.fit(x, y, batch_size=2, epochs=2, validation_data=(x, y), verbose=0).history
        found = model.predict(x, batch_size=2, verbose=0)
    finally:
        keras.mixed_precision.set_dtype_policy(policy)
    assert {"loss", "head_class", "head_box", "proposal_recall", "val_loss"} <= set(history)
    assert np.isfinite([value for values in history.values() for value in values]).all()
    assert found["boxes"].dtype == np.float32
    assert found["classes"].dtype == np.int32


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("convention", "matlab", "convention must be one of 'continuous', 'caffe', 'fast-rcnn', got 'matlab'"),
        ("bbox", "one", "bbox must be one of 'multi', 'none', got 'one'"),
        ("proposals", 0, "proposals is at least 1, got 0"),
    ],
)
def test_options_that_mean_nothing_are_refused(option, value, says):
    with pytest.raises(ValueError, match=says):
        tiny_fast(**{option: value})
