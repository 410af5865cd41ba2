"""Batches for training classifiers: the same for the same seed, and changed as the papers say."""

import re

import numpy as np
import pytest

import zoo
from zoo.cli.classes import AUGMENTATIONS, class_batches
from zoo.datasets.class_augment import (
    PHOTO_AUGMENTATIONS,
    ColourComponents,
    ScaleCrop,
    colour_components,
    photo_augmentation,
    shift_colours,
)
from zoo.datasets.class_batches import ClassBatches, CropFlip
from zoo.datasets.class_records import ClassificationDataset
from zoo.datasets.class_views import resize_short
from zoo.training.recipes import RECIPES, named_recipe
from zoo.training.tasks import as_batches

NONE = ColourComponents((0.0, 0.0, 0.0), tuple(map(tuple, np.eye(3).tolist())))


def photos(count: int = 10, size: tuple[int, int] = (40, 60), seed: int = 0) -> ClassificationDataset:
    """Noise in colours that go together, as those of photographs do."""
    rng = np.random.default_rng(seed)
    mix = np.array([[40, 35, 30], [12, 0, -14], [4, -8, 5]])
    noise = rng.normal(size=(count, *size, 3)) @ mix + rng.normal(size=(count, 1, 1, 3)) @ mix + 128
    images = np.clip(noise, 0, 255).astype(np.uint8)
    ids = [f"{index}.png" for index in range(count)]
    return ClassificationDataset("photos", ("a", "b"), np.arange(count) % 2, ids, images.__getitem__)


def augmentation(name: str):
    return CropFlip(32, 4, (9, 8, 7)) if name == "crop-flip" else photo_augmentation(name, 32, photos())


# Batches


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_seed_epoch_and_step_decide_a_batch(name):
    make = [ClassBatches(photos(), 4, augmentation(name), seed=7, workers=workers) for workers in (1, 3)]
    kept = [make[0].batch(epoch, step) for epoch in range(2) for step in range(2)]
    # In another order, by other workers, through TensorFlow.
    for number in (3, 0, 2, 1):
        images, labels = make[1].batch(*divmod(number, 2))
        np.testing.assert_array_equal(images, kept[number][0])
        np.testing.assert_array_equal(labels, kept[number][1])
    for (images, labels), expected in zip(make[1].dataset(1, repeat=False), kept[2:], strict=True):
        np.testing.assert_array_equal(images, expected[0])
        np.testing.assert_array_equal(labels, expected[1])
        assert (images.shape, images.dtype) == ((4, 32, 32, 3), "uint8")
    ((images, _),) = make[1].dataset(1, repeat=False, start_step=1)
    np.testing.assert_array_equal(images, kept[3][0])
    images, _ = next(iter(make[1].dataset(0, start_step=1)))
    np.testing.assert_array_equal(images, kept[1][0])
    other = ClassBatches(photos(), 4, augmentation(name), seed=8).batch(0, 0)[0]
    assert not np.array_equal(other, kept[0][0])
    assert not np.array_equal(kept[2][0], kept[0][0])


def test_each_picture_is_changed_by_itself():
    """Of one and the same picture, no two steps and no two places in a batch show the same crops."""
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    same = ClassificationDataset("same", ("a",), [0] * 16, [str(i) for i in range(16)], lambda index: image)
    batches = ClassBatches(same, 8, CropFlip(32, 4))
    made = [batches.batch(epoch, step)[0] for epoch in range(2) for step in range(2)]
    assert len({batch.tobytes() for batch in made}) == 4
    for batch in made:
        assert len({crop.tobytes() for crop in batch}) > 5


def test_an_epoch_has_every_picture_once():
    batches = ClassBatches(photos(12), 4, augmentation("scale-crop"), seed=1)
    for epoch in range(3):
        names = [name for step in range(3) for name in batches.image_ids(epoch, step)]
        assert sorted(names) == sorted(batches.source.image_ids)
        labels = np.concatenate([batches.batch(epoch, step)[1] for step in range(3)])
        assert [batches.source.labels[batches.source.image_ids.index(name)] for name in names] == labels.tolist()
    assert batches.image_ids(0, 0) != batches.image_ids(1, 0)


def test_what_does_not_fill_a_batch_takes_turns():
    batches = ClassBatches(photos(11), 4, augmentation("crop-flip"))
    assert len(batches) == batches.steps_per_epoch == 2
    seen = {name for epoch in range(9) for step in range(2) for name in batches.image_ids(epoch, step)}
    assert len(seen) == 11


def test_endless_data_goes_through_the_epochs():
    batches = ClassBatches(photos(8), 4, augmentation("crop-flip"), seed=2)
    for number, (images, _) in zip(range(5), batches.dataset(start_epoch=1), strict=False):
        np.testing.assert_array_equal(images, batches.batch(1 + number // 2, number % 2)[0])


def test_bad_sizes_are_refused():
    for size in (0, 11):
        with pytest.raises(ValueError, match=f"batch_size={size}; give 1 to 10"):
            ClassBatches(photos(), size, CropFlip(32))
    with pytest.raises(ValueError, match="workers is at least 1"):
        ClassBatches(photos(), 2, CropFlip(32), workers=0)


def test_a_picture_that_cannot_be_read_is_told_as_it_was_raised():
    def read(index):
        raise ValueError("3.png: the image is damaged")

    broken = ClassificationDataset("broken", ("a",), [0, 0], ["1", "2"], read)
    batches = ClassBatches(broken, 2, CropFlip(32))
    with pytest.raises(Exception, match="damaged"):
        next(iter(batches.dataset()))
    assert str(batches.error) == "3.png: the image is damaged"


def test_pictures_are_decoded_once_if_they_fit():
    reads = []

    def read(index):
        reads.append(index)
        return np.zeros((32, 32, 3), np.uint8)

    data = ClassificationDataset("counted", ("a",), [0] * 6, list("abcdef"), read)
    batches = ClassBatches(data, 3, CropFlip(32), cache_bytes=4 * 32 * 32 * 3)
    for epoch in range(3):
        list(batches.numpy_batches(epoch))
    assert len(reads) == 6 + 2 * 2  # four stay, two are read again


# Crop and flip (He 2016, section 4.2)


def test_crops_come_from_the_padded_picture():
    image = np.random.default_rng(0).integers(0, 250, (32, 32, 3), dtype=np.uint8)
    padded = np.empty((40, 40, 3), np.uint8)
    padded[:] = (255, 254, 253)
    padded[4:36, 4:36] = image
    views = {
        (top, left, mirrored): window[:, ::-1] if mirrored else window
        for top in range(9)
        for left in range(9)
        for mirrored in (False, True)
        for window in [padded[top : top + 32, left : left + 32]]
    }
    known = {view.tobytes(): place for place, view in views.items()}
    rng, augment = np.random.default_rng(5), CropFlip(32, 4, (255, 254, 253))
    places = [known[augment(image, rng).tobytes()] for _ in range(3000)]
    assert len(set(places)) == 162
    # As often as one another: 81 places, two ways round.
    counts = np.bincount([9 * top + left for top, left, _ in places], minlength=81)
    assert np.sum((counts - 3000 / 81) ** 2 / (3000 / 81)) < 130  # chi square, 80 degrees: one in 3000
    assert abs(np.mean([mirrored for *_, mirrored in places]) - 0.5) < 0.04
    unmirrored = CropFlip(32, 4, (255, 254, 253), flip=False)
    assert not any(known[unmirrored(image, rng).tobytes()][2] for _ in range(100))


def test_crops_without_mirroring_are_the_same_crops():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for seed in range(8):
        flipped, plain = (CropFlip(32, 4, flip=flip)(image, np.random.default_rng(seed)) for flip in (True, False))
        assert any(np.array_equal(plain, each) for each in (flipped, flipped[:, ::-1]))


def test_a_picture_too_small_for_its_crop_is_refused():
    with pytest.raises(ValueError, match="a picture of 20 x 30 is too small for crops of 32"):
        CropFlip(32, 4)(np.zeros((30, 20, 3), np.uint8), np.random.default_rng(0))


# Photographs


@pytest.mark.parametrize("centre", [False, True])
def test_crops_come_from_the_scaled_picture(centre):
    image = np.random.default_rng(0).integers(0, 256, (36, 60, 3), dtype=np.uint8)
    known = {}
    for short in (30, 31, 32):
        scaled = resize_short(image, short)
        if centre:
            left = (scaled.shape[1] - short) // 2
            scaled = scaled[:, left : left + short]
        for top in range(scaled.shape[0] - 27):
            for left in range(scaled.shape[1] - 27):
                window = scaled[top : top + 28, left : left + 28]
                known[window.tobytes()] = (short, top, left, False)
                known[window[:, ::-1].tobytes()] = (short, top, left, True)
    rng, augment = np.random.default_rng(1), ScaleCrop(28, (30, 32), centre=centre)
    places = [known[augment(image, rng).tobytes()] for _ in range(4000)]
    shares = np.bincount([short for short, *_ in places], minlength=33)[30:] / 4000
    np.testing.assert_allclose(shares, 1 / 3, atol=0.03)
    if centre:
        assert len(set(places)) == len(known)
    for short in (30, 32):
        columns = [left for each, _, left, _ in places if each == short]
        assert (min(columns), max(columns)) == (0, (short if centre else resize_short(image, short).shape[1]) - 28)
    assert abs(np.mean([mirrored for *_, mirrored in places]) - 0.5) < 0.03


def test_without_mirroring_or_noise_the_crops_stay():
    image = np.random.default_rng(0).integers(60, 190, (36, 60, 3), dtype=np.uint8)
    for seed in range(6):
        plain = ScaleCrop(28, (30, 34), flip=False)(image, np.random.default_rng(seed))
        flipped = ScaleCrop(28, (30, 34))(image, np.random.default_rng(seed))
        assert any(np.array_equal(plain, each) for each in (flipped, flipped[:, ::-1]))
        noisy = ScaleCrop(28, (30, 34), flip=False, colours=NONE)(image, np.random.default_rng(seed))
        np.testing.assert_array_equal(noisy, plain)


@pytest.mark.parametrize("short", [(20, 40), (40, 30), (0, 0)])
def test_short_sides_have_to_hold_the_crop(short):
    with pytest.raises(ValueError, match="at least the crop's side 28, in order"):
        ScaleCrop(28, short)


def test_colour_components_are_those_of_the_pixels():
    data = photos(30)
    pixels = np.concatenate([data.image(index).reshape(-1, 3) for index in range(30)]) / 255.0
    covariance = np.cov(pixels.T, bias=True)
    found = colour_components(data, pixels=10_000)
    directions = np.array(found.directions)
    assert found.variances[0] > found.variances[1] > found.variances[2] > 0
    np.testing.assert_allclose(directions @ directions.T, np.eye(3), atol=1e-9)
    for variance, direction in zip(found.variances, directions, strict=True):
        np.testing.assert_allclose(covariance @ direction, variance * direction, atol=1e-9)
    # A tenth of the pixels of a half of the pictures tells nearly the same, and always the same.
    some = colour_components(data, pictures=15, pixels=240)
    np.testing.assert_allclose(some.variances, found.variances, rtol=0.2)
    assert some == colour_components(data, pictures=15, pixels=240)


def test_what_a_resumed_training_compares_does_not_depend_on_last_digits():
    found = colour_components(photos(30))
    rng = np.random.default_rng(0)

    def noisy(values):
        return np.array(values) + rng.uniform(-1e-12, 1e-12, np.shape(values))

    other = ColourComponents(tuple(noisy(found.variances)), tuple(map(tuple, noisy(found.directions))))
    assert other != found
    assert repr(other) == repr(found)
    shown = np.array(re.findall(r"-?\d+\.\d+(?:e-\d+)?", repr(found)), float).reshape(3, 3)
    np.testing.assert_allclose(shown, np.array(found.variances)[:, None] * found.directions, atol=5.1e-7)
    # Grey has one direction; the two others, without variance, are any.
    s, t = 1 / np.sqrt(2), 1 / np.sqrt(6)
    grey, across, along = (1 / np.sqrt(3),) * 3, (s, -s, 0.0), (t, t, -2 * t)
    one, two = (ColourComponents((0.1, 1e-18, -1e-18), (grey, *rest)) for rest in ((across, along), (along, across)))
    assert repr(one) == repr(two)
    assert "-0.0" not in repr(one)
    assert repr(ColourComponents((0.2, 0.0, 0.0), (grey, across, along))) != repr(one)


def test_the_sign_of_equal_parts_does_not_depend_on_last_digits(monkeypatch):
    directions = np.array([[0.6, 0.0, 0.8], [0.0, 1.0, 0.0], [0.5**0.5, 0.0, -(0.5**0.5)]])[::-1]
    for epsilon in (1e-15, -1e-15):
        vectors = directions.copy()
        vectors[0, 0] += epsilon  # which of two equal parts is the larger
        monkeypatch.setattr(np.linalg, "eigh", lambda matrix, found=vectors: (np.array([0.1, 0.2, 0.3]), found.T))
        found = np.array(colour_components(photos(3)).directions)
        np.testing.assert_allclose(found[2], [0.5**0.5, 0.0, -(0.5**0.5)], atol=1e-12)


def test_a_data_set_of_one_colour_has_no_noise():
    grey = ClassificationDataset("grey", ("a",), [0], ["1"], lambda index: np.full((5, 5, 3), 90, np.uint8))
    components = colour_components(grey)
    np.testing.assert_allclose(components.variances, 0, atol=1e-12)
    assert np.isfinite(components.directions).all()
    with pytest.raises(ValueError, match="empty"):
        colour_components(grey.subset([]))


def test_colour_noise_is_krizhevskys():
    """Section 4.1: [p1, p2, p3][a1 l1, a2 l2, a3 l3] on every pixel, a drawn from N(0, .1) once a picture."""
    components = colour_components(photos(30))
    grey = np.full((40, 40, 3), 128, np.uint8)
    augment = ScaleCrop(32, (40, 40), colours=components)
    rng = np.random.default_rng(0)
    shifts = []
    for _ in range(3000):
        crop = augment(grey, rng)
        assert (crop == crop[0, 0]).all()
        shifts.append(crop[0, 0].astype(float) - 128)
    shifts = np.array(shifts) / 255
    expected = sum(
        (0.1 * variance) ** 2 * np.outer(direction, direction)
        for variance, direction in zip(components.variances, np.array(components.directions), strict=True)
    )
    rounding = np.eye(3) / 12 / 255**2
    np.testing.assert_allclose(np.cov(shifts.T), expected + rounding, atol=0.1 * (expected + rounding).max())
    np.testing.assert_allclose(shifts.mean(axis=0), 0, atol=4 * np.sqrt(expected.max() / 3000))


def test_noise_on_imagenets_colours_is_a_few_levels():
    """With the components that are handed around for ImageNet, .2175, .0188 and .0045: 3 levels of grey, not 800."""
    diagonal = tuple(map(tuple, np.eye(3).tolist()))
    shift = ColourComponents((0.2175, 0.0188, 0.0045), diagonal).shift(np.array([0.1, 0.1, 0.1]))
    np.testing.assert_allclose(shift, [5.546, 0.479, 0.115], atol=1e-3)


def test_shifts_stop_at_black_and_white():
    image = np.array([[[0, 100, 250], [4, 255, 7]]], np.uint8)
    np.testing.assert_array_equal(
        shift_colours(image, np.array([-4.4, 2.6, 9.5])), [[[0, 103, 255], [0, 255, 16]]]
    )  # 7 + 9.5 is rounded to the even neighbour


# Names and recipes


@pytest.mark.parametrize(
    ("name", "short", "centre", "colours"),
    [
        ("alexnet", (256, 256), True, True),
        ("vgg", (256, 256), False, True),
        ("resnet", (256, 480), False, True),
        ("scale-crop", (256, 480), False, False),
    ],
)
def test_named_augmentations_are_the_papers(name, short, centre, colours):
    for size in (224, 227):
        made = photo_augmentation(name, size, photos())
        assert (made.size, made.short, made.centre, made.flip) == (size, short, centre, True)
        assert (made.colours is not None) == colours
    assert photo_augmentation(name, 112, photos()).short == (short[0] // 2, short[1] // 2)
    assert photo_augmentation(name, 224, photos(), flip=False, short=(256, 512)).short == (256, 512)


def test_unknown_augmentations_are_refused():
    with pytest.raises(ValueError, match="unknown augmentation 'cutout'; there are alexnet, vgg, resnet, scale-crop"):
        photo_augmentation("cutout", 224, photos())


@pytest.mark.parametrize(
    ("side", "options", "expected"),
    [
        (32, {}, CropFlip(32, 4, (125, 123, 114))),
        (32, {"flip": False}, CropFlip(32, 4, (125, 123, 114), flip=False)),
        (224, {}, ScaleCrop(224, (256, 480))),
        (224, {"augmentation": "scale-crop", "short": [256], "flip": False}, ScaleCrop(224, (256, 256), flip=False)),
        (224, {"augmentation": "scale-crop", "short": [256, 512]}, ScaleCrop(224, (256, 512))),
        (224, {"augmentation": "crop-flip"}, CropFlip(224, 28, (125, 123, 114))),
    ],
)
def test_the_command_chooses_by_what_the_network_sees(side, options, expected):
    batches = class_batches(side, photos(), 2, seed=4, workers=3, **options)
    assert batches.augment == expected
    assert (batches.seed, batches.workers, batches.batch_size) == (4, 3, 2)


def test_the_command_refuses_what_does_not_go_together():
    with pytest.raises(ValueError, match="crop-flip does not scale"):
        class_batches(32, photos(), 2, seed=0, workers=1, short=[40])
    with pytest.raises(ValueError, match="--short 1 2 3: give one number"):
        class_batches(224, photos(), 2, seed=0, workers=1, short=[1, 2, 3])


@pytest.mark.parametrize(
    ("name", "rate", "decay", "batch", "length", "augment"),
    [
        ("imagenet-alexnet", 0.01, 5e-4, 128, {"epochs": 90}, "alexnet"),
        ("imagenet-vgg", 0.01, 5e-4, 256, {"steps": 370_000}, "vgg"),
        ("imagenet-resnet", 0.1, 1e-4, 256, {"steps": 600_000}, "resnet"),
        ("cifar10", 0.1, 1e-4, 128, {"steps": 64_000}, "crop-flip"),
    ],
)
def test_recipes_are_the_papers(name, rate, decay, batch, length, augment):
    named = named_recipe(name)
    recipe = named.recipe
    assert (recipe.learning_rate, recipe.weight_decay, recipe.momentum) == (rate, decay, 0.9)
    assert (named.batch_size, named.length, named.augmentation) == (batch, length, augment)
    assert (recipe.schedule, recipe.warmup_steps) == ("step", 0)


def test_every_recipe_can_be_followed():
    for named in RECIPES.values():
        assert named.augmentation in AUGMENTATIONS
        assert (named.steps is None) != (named.epochs is None)
        assert named.source
    assert set(AUGMENTATIONS) == {"crop-flip", *PHOTO_AUGMENTATIONS}
    # 1,281,167 pictures: the paper says that 370k steps are 74 epochs.
    assert round(named_recipe("imagenet-vgg").steps * 256 / 1_281_167) == 74


@pytest.mark.parametrize(
    ("name", "expected"), [("resnet20", CropFlip(32, 4, (125, 123, 114))), ("resnet18", ScaleCrop(224, (256, 480)))]
)
def test_zoo_train_chooses_by_what_the_network_sees(name, expected):
    batches = as_batches(zoo.get(name, classes=("a", "b")), photos(), 2, seed=5)
    assert batches.augment == expected
    assert (batches.seed, batches.batch_size) == (5, 2)
