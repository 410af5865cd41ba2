"""Top-1 and top-5 error, crops, whole pictures, ensembles: against plain calculations."""

import json
import time

import keras
import numpy as np
import pytest

import zoo
from zoo.datasets.class_records import ClassificationDataset
from zoo.datasets.class_views import CentreCrop, Shifts, TenCrop, WholePictures, resize_short
from zoo.training.classify import average_scores, evaluate_classifier, score_probabilities
from zoo.training.dense_test import evaluate_dense, fully_convolutional, score_map
from zoo.weights_io import WeightsMeta

NAMES = tuple("abcdefgh")


def dataset(sizes, classes=NAMES, seed: int = 0) -> ClassificationDataset:
    """Random pictures of the sizes (H, W)."""
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    labels = rng.integers(0, len(classes), len(images))
    ids = [f"picture {index}" for index in range(len(images))]
    return ClassificationDataset("random", classes, labels, ids, lambda index: images[index])


def network(side: int | None = 16, classes: int = 8, seed: int = 1) -> keras.Model:
    """No padding anywhere: a window of a picture gives what the same pixels alone give."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((side, side, 3))
    x = keras.layers.Rescaling(1 / 255, -0.5)(inputs)
    x = keras.layers.Conv2D(5, 3, activation="relu")(x)
    x = keras.layers.AveragePooling2D(2, 2)(x)
    x = keras.layers.Conv2D(6, 3, strides=2, activation="relu")(x)
    if side is None:
        x = keras.layers.GlobalAveragePooling2D()(x)
    else:
        x = keras.layers.Flatten()(x)
        x = keras.layers.Dense(7, "relu", bias_initializer="random_normal")(x)
        x = keras.layers.Dropout(0.5)(x)
    x = keras.layers.Dense(classes, kernel_initializer="random_normal", bias_initializer="random_normal")(x)
    return keras.Model(inputs, keras.layers.Softmax()(x), name="tiny")


def softmax(scores):
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


# Errors


def test_errors_agree_with_sorting():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(8), 300).astype(np.float32)
    labels = rng.integers(0, 8, 300)
    scores = score_probabilities(probabilities, labels, NAMES)
    order = np.argsort(-probabilities, axis=1)
    assert scores.top1_error == pytest.approx(np.mean(order[:, 0] != labels))
    assert scores.top5_error == pytest.approx(
        np.mean([label not in row[:5] for label, row in zip(labels, order, strict=True)])
    )
    own = [row[label] for label, row in zip(labels, probabilities, strict=True)]
    assert scores.loss == pytest.approx(-np.mean(np.log(own)), rel=1e-5)
    counts = np.zeros((8, 8), int)
    for label, row in zip(labels, order, strict=True):
        counts[label, row[0]] += 1
    np.testing.assert_array_equal(scores.confusion, counts)


@pytest.mark.parametrize(
    ("probabilities", "top1", "top5"),
    [
        ([0.5, 0.5, 0, 0, 0, 0, 0, 0], 1.0, 0.0),
        ([0.2, 0.2, 0.2, 0.2, 0.2, 0, 0, 0], 1.0, 0.0),
        ([1 / 6] * 6 + [0, 0], 1.0, 1.0),
        ([1 / 8] * 8, 1.0, 1.0),
        ([0.3, 0.2, 0.2, 0.1, 0.1, 0.1, 0, 0], 0.0, 0.0),
        ([0, 0.2, 0.2, 0.2, 0.2, 0.2, 0, 0], 1.0, 1.0),
        ([float("nan")] * 8, 1.0, 1.0),
    ],
)
def test_ties_count_against_the_model(probabilities, top1, top5):
    """A network that says the same for every class has recognised nothing; nor has one that says nan."""
    scores = score_probabilities(np.array([probabilities], np.float32), np.array([0]), NAMES)
    assert (scores.top1_error, scores.top5_error) == (top1, top5)


def test_of_five_classes_all_are_among_the_first_five():
    scores = score_probabilities(np.full((3, 4), 0.25), np.array([0, 1, 2]), tuple("abcd"))
    assert (scores.top1_error, scores.top5_error) == (1.0, 0.0)


def test_scores_become_json():
    record = score_probabilities(np.array([[0.7, 0.3], [0.6, 0.4]]), np.array([0, 1]), ("a", "b")).to_dict()
    assert record["accuracy"] == {"a": 1.0, "b": 0.0}
    assert record["confusion"] == [[1, 0], [1, 0]]
    assert json.loads(json.dumps(record)) == record


# Views


def test_centre_crop_is_the_middle():
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    np.testing.assert_array_equal(CentreCrop(32, short=40)(image)[0], image[4:36, 12:44])
    # Pictures of just the right size are not blown up first: CIFAR-10.
    np.testing.assert_array_equal(CentreCrop(32)(image[:32, :32])[0], image[:32, :32])
    assert CentreCrop(28)(image).shape == (1, 28, 28, 3)
    with pytest.raises(ValueError, match="short=20 is less than the crop's size 32"):
        CentreCrop(32, short=20)(image)


def test_short_side_defaults_to_256_for_224():
    image = np.random.default_rng(0).integers(0, 256, (300, 500, 3), dtype=np.uint8)
    scaled = resize_short(image, 256)
    assert scaled.shape == (256, 427, 3)
    np.testing.assert_array_equal(CentreCrop(224)(image)[0], scaled[16:240, 101:325])
    # Caffe's AlexNets see 227 pixels of the same 256.
    np.testing.assert_array_equal(CentreCrop(227)(image)[0], scaled[14:241, 100:327])
    np.testing.assert_array_equal(TenCrop(227)(image)[0], scaled[:227, 85:312])


def test_ten_crops_are_the_papers():
    """Corners of the middle 256 x 256 of the scaled picture, its middle, all mirrored."""
    image = np.random.default_rng(0).integers(0, 256, (256, 300, 3), dtype=np.uint8)
    square = image[:, 22:278]
    crops = [square[:224, :224], square[:224, 32:], square[32:, :224], square[32:, 32:], square[16:240, 16:240]]
    crops += [np.fliplr(crop) for crop in crops]
    np.testing.assert_array_equal(TenCrop(224)(image), np.stack(crops))


def test_shifts_move_the_picture_over_a_plain_ground():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    views = Shifts(8, by=2, fill=(9, 8, 7))(image)
    assert views.shape == (18, 8, 8, 3)
    np.testing.assert_array_equal(views[4], image)
    np.testing.assert_array_equal(views[9:], views[:9, :, ::-1])
    for number, view in enumerate(views[:9]):
        down, right = 2 * (number // 3 - 1), 2 * (number % 3 - 1)
        for y in range(8):
            for x in range(8):
                inside = 0 <= y - down < 8 and 0 <= x - right < 8
                np.testing.assert_array_equal(view[y, x], image[y - down, x - right] if inside else (9, 8, 7))
    wide = np.repeat(image, 2, axis=1)
    np.testing.assert_array_equal(Shifts(8, short=10)(wide)[4], CentreCrop(8, short=10)(wide)[0])
    with pytest.raises(ValueError, match="by=8: give 1 to 7 pixels"):
        Shifts(8, by=8)


def test_scaling_keeps_the_shape_of_things():
    ramp = np.broadcast_to(np.linspace(0, 250, 200, dtype=np.uint8)[None, :, None], (100, 200, 3))
    for short in (50, 77, 150):
        scaled = resize_short(np.ascontiguousarray(ramp), short)
        assert scaled.shape[:2] == (short, 2 * short)
        expected = np.interp((np.arange(2 * short) + 0.5) * 100 / short - 0.5, np.arange(200), ramp[0, :, 0])
        assert np.abs(scaled[short // 2, :, 0] - expected).max() <= 1.5
    thin = np.zeros((1000, 3, 3), np.uint8)
    assert resize_short(thin, 2).shape == (667, 2, 3)


# Evaluation


@pytest.mark.parametrize("views", [None, TenCrop(16), Shifts(16)])
@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_probabilities_are_means_over_the_views(views, batch_size):
    model, data = network(), dataset([(16, 16), (20, 18), (30, 50), (16, 17), (90, 33)])
    told = []
    scores = evaluate_classifier(model, data, views=views, batch_size=batch_size, progress=told.append)
    for index in range(len(data)):
        seen = (views or CentreCrop(16))(data.image(index))
        expected = np.mean([model(view[None])[0] for view in seen], axis=0)
        np.testing.assert_allclose(scores.probabilities[index], expected, atol=1e-6)
    assert sum(told) == len(data)
    assert scores.top1_error == np.mean(scores.probabilities.argmax(axis=1) != data.labels)


def test_pictures_keep_their_order_however_they_are_read():
    """More of them than are read ahead, some of which take longer."""
    model, data = network(), dataset([(16, 16)] * 90)

    def read(index):
        time.sleep(0.02 * (index % 7 == 0))
        return data.image(index)

    slow = ClassificationDataset("slow", NAMES, data.labels, data.image_ids, read)
    expected = model(np.stack([data.image(index) for index in range(90)]))
    np.testing.assert_allclose(evaluate_classifier(model, slow, batch_size=32).probabilities, expected, atol=1e-6)


def test_a_picture_that_cannot_be_read_stops_the_test():
    data = dataset([(16, 16)] * 50)

    def read(index):
        if index == 40:
            raise ValueError("picture 40 is damaged")
        return data.image(index)

    broken = ClassificationDataset("broken", NAMES, data.labels, data.image_ids, read)
    with pytest.raises(ValueError, match="picture 40 is damaged"):
        evaluate_classifier(network(), broken, batch_size=8)


def test_classes_have_to_agree():
    with pytest.raises(ValueError, match="the model has 8 classes, random has 3"):
        evaluate_classifier(network(), dataset([(16, 16)], classes=("a", "b", "c")))
    with pytest.raises(ValueError, match="the data set is empty"):
        evaluate_classifier(network(), dataset([]))
    model = network()
    model.zoo_meta = WeightsMeta(classes=NAMES[::-1])
    with pytest.raises(ValueError, match="the model knows the classes h, g"):
        evaluate_classifier(model, dataset([(16, 16)]))


def test_an_ensemble_averages_probabilities():
    data = dataset([(16, 16)] * 30)
    members = [evaluate_classifier(network(seed=seed), data) for seed in (1, 2, 3)]
    together = average_scores(members, data.labels)
    expected = sum(member.probabilities.astype(np.float64) for member in members) / 3
    np.testing.assert_allclose(together.probabilities, expected, rtol=1e-6)
    assert together.top1_error == np.mean(expected.argmax(axis=1) != data.labels)
    assert together.seconds == pytest.approx(sum(member.seconds for member in members))
    with pytest.raises(ValueError, match="same pictures and classes"):
        average_scores([members[0], evaluate_classifier(network(), data.subset(range(5)))], data.labels)
    with pytest.raises(ValueError, match="at least one"):
        average_scores([], data.labels)


# Dense test


def test_without_padding_the_map_holds_what_every_window_gives():
    """The network on each 16 x 16 window in steps of its stride, 4, is the map of the whole picture."""
    model = network()
    image = np.random.default_rng(3).integers(0, 256, (1, 29, 40, 3)).astype(np.float32)
    logits = keras.Model(model.input, model.layers[-2].output)
    scores = np.asarray(score_map(model)(image))[0]
    assert scores.shape == (4, 7, 8)
    for row in range(4):
        for column in range(7):
            window = image[:, 4 * row : 4 * row + 16, 4 * column : 4 * column + 16]
            np.testing.assert_allclose(scores[row, column], np.asarray(logits(window))[0], atol=1e-5)
    whole = fully_convolutional(model)(image)[0]
    np.testing.assert_allclose(whole, softmax(scores.mean(axis=(0, 1))), atol=1e-6)


def test_an_averaging_network_averages_over_windows():
    """He 2016, section 3.4: the average pool slides as well, as a 7 x 7 pool of stride 1 does."""
    model = network(side=None)
    image = np.random.default_rng(3).integers(0, 256, (1, 29, 40, 3)).astype(np.float32)
    features = np.asarray(keras.Model(model.input, model.layers[-4].output)(image))[0]
    kernel, bias = (np.asarray(weight) for weight in model.layers[-2].weights)
    assert features.shape == (6, 9, 6)
    # 16 pixels give 3 x 3 cells.
    windows = np.array([[features[r : r + 3, c : c + 3].mean(axis=(0, 1)) for c in range(7)] for r in range(4)])
    np.testing.assert_allclose(score_map(model, 16)(image)[0], windows @ kernel + bias, atol=1e-5)


@pytest.fixture(scope="module")
def vgg16():
    return zoo.get("vgg16", classes=10)


@pytest.mark.parametrize("name", ["alexnet", "vgg16", "resnet18", "resnet20"])
def test_a_picture_of_the_networks_own_size_gives_the_same(name, request):
    model = request.getfixturevalue("vgg16") if name == "vgg16" else zoo.get(name, classes=10)
    for layer in model.layers:  # so that a bias in the wrong place would show
        if isinstance(layer, keras.layers.Dense):
            layer.bias.assign(np.linspace(-1, 1, layer.units))
    side = model.input_shape[1] or 224
    image = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    scores = np.asarray(keras.Model(model.input, model.layers[-2].output)(image))
    assert score_map(model)(image).shape == (1, 1, 1, 10)
    np.testing.assert_allclose(score_map(model)(image)[:, 0, 0], scores, atol=1e-5 * np.abs(scores).max())
    whole = fully_convolutional(model)
    np.testing.assert_allclose(whole(image), softmax(scores), atol=1e-5)
    assert whole.count_params() == model.count_params()
    assert {id(v) for v in whole.variables} == {id(v) for v in model.variables}


def test_vgg_slides_its_dense_layers_over_the_features(vgg16):
    """A picture of 256 pixels gives 2 x 2 scores: those of the 7 x 7 windows of pool5.

    They are not the scores of the picture's four 224 x 224 windows: these see zeros where the picture goes on. Only
    cells whose view does not reach a window's edge are the same, and fc6 sees the others too.
    """
    model = vgg16
    image = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3), dtype=np.uint8)
    pool = keras.Model(model.input, model.get_layer("pool5").output)
    features = np.asarray(_features(model, "pool5")(image))
    assert features.shape == (1, 8, 8, 512)
    head_inputs = keras.Input((7, 7, 512))
    x = head_inputs
    for name in ("flatten", "fc6", "drop6", "fc7", "drop7", "fc8"):
        x = model.get_layer(name)(x)
    head = keras.Model(head_inputs, x)
    scores = np.asarray(score_map(model)(image))
    assert scores.shape == (1, 2, 2, 10)
    windows = np.concatenate([features[:, r : r + 7, c : c + 7] for r in range(2) for c in range(2)])
    np.testing.assert_allclose(scores.reshape(4, 10), head(windows), atol=1e-5 * np.abs(scores).max())
    # pool5's cells see 212 pixels: of a window at (32, 32), with 224 pixels, its middle cell sees none beyond.
    alone = np.asarray(pool(image[:, 32:, 32:]))
    np.testing.assert_allclose(alone[0, 3, 3], features[0, 4, 4], atol=1e-5 * features.max())
    assert np.abs(alone[0, 0, 0] - features[0, 1, 1]).max() > 1e-2 * features.max()


def _features(model, layer):
    """The model up to ``layer`` for any size, its layers called one after the other."""
    inputs = keras.Input((None, None, 3))
    x = inputs
    for each in model.layers[1:]:
        x = each(x)
        if each.name == layer:
            return keras.Model(inputs, x)
    raise AssertionError(layer)


def test_a_dense_test_averages_scales_and_mirror_images():
    model, data = network(), dataset([(20, 31), (50, 24), (20, 31), (17, 17)])
    scales = (16, 19, 27)
    scores = evaluate_dense(model, data, scales, batch_size=3)
    logits = keras.Model(model.input, model.layers[-2].output)
    for index in range(len(data)):
        expected = []
        for scale in scales:
            image = resize_short(data.image(index), scale)
            for picture in (image, image[:, ::-1]):
                rows, columns = ((side - 16) // 4 + 1 for side in picture.shape[:2])
                windows = [picture[4 * r : 4 * r + 16, 4 * c : 4 * c + 16] for r in range(rows) for c in range(columns)]
                expected.append(softmax(np.asarray(logits(np.stack(windows))).mean(axis=0)))
        np.testing.assert_allclose(scores.probabilities[index], np.mean(expected, axis=0), atol=1e-5)
    once = evaluate_dense(model, data, (16,), mirror=False)
    assert np.abs(once.probabilities - scores.probabilities).max() > 1e-4


def test_what_cannot_slide_is_refused():
    model = network()
    with pytest.raises(ValueError, match=r"scales=\(12, 20\): tiny sees 16 pixels"):
        evaluate_dense(model, dataset([(20, 20)]), (12, 20))
    with pytest.raises(ValueError, match="give short sides"):
        WholePictures(())
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.Dense(3)(keras.layers.Reshape((6,))(keras.layers.Flatten()(inputs[:, :2, :1])))
    odd = keras.Model(inputs, keras.layers.Softmax()(x), name="odd")
    with pytest.raises(ValueError, match="odd cannot be made fully convolutional: reshape"):
        fully_convolutional(odd)
    flat = keras.Input((4, 4, 3))
    plain = keras.Model(flat, keras.layers.Softmax()(keras.layers.GlobalMaxPooling2D()(flat)), name="plain")
    with pytest.raises(ValueError, match="plain cannot be made fully convolutional: its feature map is neither"):
        fully_convolutional(plain)
