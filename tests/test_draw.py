"""Pictures of detections, pixel by pixel where it matters."""

import itertools

import numpy as np
import pytest
from PIL import Image

from zoo.drawing import PALETTE, class_color, draw, line_width, save_picture, text_color
from zoo.label_layout import place_labels
from zoo.sheets import contact_sheet

GRAY = np.full((480, 640, 3), 128, np.uint8)


def oklab(rgb):
    """Ottosson 2020."""
    c = np.asarray(rgb, float) / 255
    c = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    lms = np.cbrt(
        c
        @ np.array(
            [
                [0.4122214708, 0.5363325363, 0.0514459929],
                [0.2119034982, 0.6806995451, 0.1073969566],
                [0.0883024619, 0.2817188376, 0.6299787005],
            ]
        ).T
    )
    return (
        lms
        @ np.array(
            [
                [0.2104542553, 0.793617785, -0.0040720468],
                [1.9779984951, -2.428592205, 0.4505937099],
                [0.0259040371, 0.7827717662, -0.808675766],
            ]
        ).T
    )


def test_colours_are_many_and_well_apart():
    assert len(PALETTE) >= 20
    colors = [oklab(class_color(i)) for i in range(len(PALETTE))]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(colors, 2)) > 0.12
    assert class_color(len(PALETTE)) == class_color(0)


def test_label_text_has_contrast_on_every_colour():
    def luminance(rgb):
        c = np.asarray(rgb) / 255
        return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    for index in range(len(PALETTE)):
        low, high = sorted([luminance(class_color(index)), luminance(text_color(class_color(index)))])
        assert (high + 0.05) / (low + 0.05) > 4.5  # WCAG AA


def test_a_box_is_drawn_where_it_is_and_nowhere_else():
    picture = draw(GRAY, [[100, 50, 300, 250]], classes=[0])
    for y, x in ((50, 200), (249, 200), (150, 100), (150, 299)):  # top, bottom, left, right edge
        assert tuple(picture[y, x]) == class_color(0)
    changed = np.argwhere((picture != GRAY).any(-1))
    assert changed.min(0).tolist() == [48, 98]
    assert changed.max(0).tolist() == [251, 301]
    assert (picture[56:244, 106:294] == GRAY[0, 0]).all()  # the inside is left alone
    assert (GRAY == 128).all()  # and so is the input


def test_edges_between_pixels_are_blended():
    whole = draw(GRAY, [[100, 100, 200, 200]], classes=[0]).astype(int)
    half = draw(GRAY, [[100.5, 100, 200, 200]], classes=[0]).astype(int)
    row = 150
    assert (whole[row, 96:105] != half[row, 96:105]).any()
    blue = half[row, 96:106, 2]
    assert len(set(blue)) > 3  # steps, not a jump


def test_lines_and_labels_grow_with_the_picture():
    assert line_width(480, 640) == pytest.approx(2.3)
    assert line_width(1920, 2560) > 2 * line_width(480, 640)
    assert line_width(20, 20) == 1.5
    small, large = (
        draw(np.zeros((s, s, 3), np.uint8), [[0.3 * s, 0.5 * s, 0.8 * s, 0.9 * s]], ["cat"]) for s in (300, 1500)
    )
    assert (large.any(-1)).sum() > 6 * (small.any(-1)).sum()


@pytest.mark.parametrize(
    "box",
    [
        [-50, -50, 700, 500],
        [600, -20, 700, 30],
        [700, 500, 800, 600],
        [5, 5, 5, 5],
        [30, 40, 10, 20],
        [0, 0, 1, 1],
        [np.nan, 0, 5, 5],
        [0, np.inf, 5, 5],
        [-1e9, -1e9, 1e9, 1e9],
    ],
)
def test_boxes_of_any_kind_are_survived(box):
    assert draw(GRAY, [box], ["thing"], [0.5]).shape == GRAY.shape


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (200, 3), (8, 8)])
def test_tiny_pictures_are_survived(shape):
    image = np.zeros((*shape, 3), np.uint8)
    assert draw(image, [[0, 0, shape[1], shape[0]]], ["a rather long name"], [1.0]).shape == image.shape
    assert max(draw(image, [[0, 0, 1, 1]], ["x"], scale="auto").shape) <= 640


def test_scale_enlarges_the_picture_and_the_boxes():
    image = np.zeros((60, 80, 3), np.uint8)
    picture = draw(image, [[20, 20, 60, 40]], classes=[0], scale=4)
    assert picture.shape == (240, 320, 3)
    assert picture[80, 160, 2] > 150  # blue, on the edge that was at 20
    assert not picture[84:156, 84:236].any()
    assert draw(image, [], scale="auto").shape == (480, 640, 3)
    assert draw(np.zeros((900, 700, 3), np.uint8), [], scale="auto").shape == (900, 700, 3)
    with pytest.raises(ValueError, match=r"scale"):
        draw(image, [], scale=0)


def test_same_class_same_colour_in_any_picture():
    one = draw(GRAY, [[10, 10, 100, 100]], ["dog"], [0.9], classes=[3])
    two = draw(GRAY, [[10, 10, 100, 100], [200, 200, 300, 300]], ["dog", "cat"], [0.9, 0.8], classes=[3, 1])
    assert tuple(one[60, 10]) == tuple(two[60, 10]) == class_color(3)
    assert tuple(two[250, 200]) == class_color(1)


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match=r"uint8"):
        draw(GRAY.astype(float), [])
    with pytest.raises(ValueError, match=r"2 labels for 1 boxes"):
        draw(GRAY, [[0, 0, 1, 1]], ["a", "b"])
    with pytest.raises(ValueError, match=r"x\.txt.*\.png"):
        save_picture(GRAY, "x.txt")


def overlap(a, b):
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def layout(boxes, size=(60, 18), image=(480, 640)):
    corners = place_labels(np.asarray(boxes, float), [size] * len(boxes), image, 1)
    return [(x, y, x + size[0], y + size[1]) for x, y in corners]


def test_a_label_sits_on_its_box():
    assert layout([[100, 100, 200, 200]])[0] == (99, 81, 159, 99)  # above, flush left
    assert layout([[100, 5, 200, 100]])[0][1] >= 5  # no room above: inside


def test_labels_stay_inside_and_off_each_other():
    rng = np.random.default_rng(0)
    corner = rng.uniform([-20, -20], [600, 440], (30, 2))
    frames = layout(np.concatenate([corner, corner + rng.uniform(40, 120, (30, 2))], 1))
    for x1, y1, x2, y2 in frames:
        assert 0 <= x1 < x2 <= 640
        assert 0 <= y1 < y2 <= 480
    assert sum(overlap(a, b) > 0 for a, b in itertools.combinations(frames, 2)) <= 2


def test_the_same_box_twice_shows_both_labels():
    frames = layout([[100, 100, 300, 300]] * 6)
    assert not any(overlap(a, b) for a, b in itertools.combinations(frames, 2))


def test_a_contact_sheet_holds_all_pictures():
    reds = [np.full((h, w, 3), (200 + i, 0, 0), np.uint8) for i, (h, w) in enumerate([(60, 80), (80, 60), (10, 40)])]
    sheet = contact_sheet(reds, ["first", "second", "third"], columns=2, cell=100, gap=10)
    for i in range(3):
        assert (sheet == (200 + i, 0, 0)).all(-1).sum() > 1500
    assert (sheet[:10] == 255).all()
    with pytest.raises(ValueError, match=r"2 captions for 3"):
        contact_sheet(reds, ["a", "b"])
    with pytest.raises(ValueError, match=r"at least one"):
        contact_sheet([])


def test_pictures_are_saved_whole(tmp_path):
    path = save_picture(GRAY, tmp_path / "new" / "a.jpg")
    assert Image.open(path).size == (640, 480)
    assert [p.name for p in path.parent.iterdir()] == ["a.jpg"]
