"""Anchors against the literals of py-faster-rcnn and loops over ChainerCV's definition."""

import math

import numpy as np
import pytest
import tensorflow as tf

from zoo.heads import anchors

# The list in the comment of py-faster-rcnn's generate_anchors.py. It is Matlab's, whose pixels count from 1: its
# base box is (1, 1, 16, 16), that of the Python code (0, 0, 15, 15), so that the code returns one less throughout.
MATLAB = [
    [-83, -39, 100, 56],
    [-175, -87, 192, 104],
    [-359, -183, 376, 200],
    [-55, -55, 72, 72],
    [-119, -119, 136, 136],
    [-247, -247, 264, 264],
    [-35, -79, 52, 96],
    [-79, -167, 96, 184],
    [-167, -343, 184, 360],
]


def chainercv(sizes, ratios, stride):
    """Centre at half a stride, height ``s sqrt(r)``, width ``s / sqrt(r)``, index ratio * sizes + size."""
    out = []
    for ratio in ratios:
        for size in sizes:
            w, h = size / math.sqrt(ratio), size * math.sqrt(ratio)
            out.append([stride / 2 - w / 2, stride / 2 - h / 2, stride / 2 + w / 2, stride / 2 + h / 2])
    return np.array(out)


def test_caffe_anchors_are_the_published_ones():
    found = anchors.caffe_cell_anchors()
    assert found.dtype == np.float32
    assert found.tolist() == (np.array(MATLAB) - 1).tolist()


def test_caffe_anchors_of_other_scales():
    # Scale 4 halves the sides of scale 8: 64 pixels inclusive around (7.5, 7.5).
    assert anchors.caffe_cell_anchors(scales=(4,), ratios=(1,)).tolist() == [[-24, -24, 39, 39]]


@pytest.mark.parametrize(
    ("sizes", "ratios", "stride"),
    [((128, 256, 512), (0.5, 1, 2), 16), ((24, 48), (0.25, 3), 8), ((33,), (1,), 32)],
)
def test_cell_anchors(sizes, ratios, stride):
    found = anchors.cell_anchors(sizes, ratios, stride)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, chainercv(sizes, ratios, stride), atol=1e-4)


def test_cell_anchors_by_hand():
    assert anchors.cell_anchors([128], [1]).tolist() == [[-56, -56, 72, 72]]
    # Ratio is height / width: 4 makes 16 pixels of area into 8 high and 2 wide.
    assert anchors.cell_anchors([4], [4], 16).tolist() == [[7, 4, 9, 12]]
    assert len(anchors.cell_anchors()) == 9


@pytest.mark.parametrize("make", [anchors.cell_anchors, anchors.caffe_cell_anchors])
@pytest.mark.parametrize("bad", [(), (0,), (32, -1)])
def test_bad_sizes_and_ratios(make, bad):
    with pytest.raises(ValueError, match="positive"):
        make(bad)
    with pytest.raises(ValueError, match="ratios"):
        make((1.0,), bad)


@pytest.mark.parametrize(("rows", "columns"), [(3, 5), (5, 3), (1, 1)])
def test_grid_in_row_major_order(rows, columns):
    cell = np.array([[-1, -2, 3, 4], [0, 0, 7, 5]], "float32")
    expected = [
        [a[0] + 16 * x, a[1] + 16 * y, a[2] + 16 * x, a[3] + 16 * y]
        for y in range(rows)
        for x in range(columns)
        for a in cell
    ]
    assert np.asarray(anchors.grid(cell, rows, columns, 16)).tolist() == expected
    unknown = tf.function(lambda r, c: anchors.grid(cell, r, c, 16))
    found = unknown(tf.constant(rows), tf.constant(columns))
    assert found.numpy().tolist() == expected


def test_inside_keeps_what_touches_the_border():
    boxes = np.array(
        [
            [0, 0, 20, 10],  # exactly the first image
            [0, 0, 20.1, 10],
            [0, 0, 20, 10.1],
            [-0.1, 0, 5, 5],
            [0, -0.1, 5, 5],
            [0, 0, 10, 20],  # exactly the second
        ],
        "float32",
    )
    found = np.asarray(anchors.inside(boxes, np.array([[10, 20], [20, 10]], "int32")))
    assert found.tolist() == [[True] + [False] * 5, [False] * 5 + [True]]


def test_inside_in_the_inclusive_convention_ends_at_the_last_pixel():
    boxes = np.array([[0, 0, 19, 9], [0, 0, 19.1, 9], [0, 0, 20, 9], [0, 0, 19, 10], [0, 0, 9, 19]], "float32")
    found = np.asarray(anchors.inside(boxes, np.array([[10, 20]], "int32"), plus_one=True))
    assert found.tolist() == [[True, False, False, False, False]]


@pytest.mark.parametrize("cell", [[[-24, -24, 40, 40]], [[-24, -24, 39, 39]]])
def test_a_margin_lets_in_every_cell_that_begins_inside(cell):
    # Continuous centres lie at 8, 24, ..., inclusive ones at 7.5, 23.5, ...; cells begin at 0, 16, 32, ...
    row = anchors.grid(np.array(cell, "float32"), 1, 4, 16)
    for width, inside in ((1, 1), (16, 1), (17, 2), (32, 2), (33, 3), (40, 3), (48, 3), (49, 4)):
        found = np.asarray(anchors.centred_inside(row, np.array([[16, width]]), 7.5))
        assert found.tolist() == [[True] * inside + [False] * (4 - inside)], width


def test_centred_inside_looks_at_the_centre_alone():
    centres = np.array([[19.5, 9.5], [20, 5], [19, 10], [5, 15], [8, 8]], "float32")
    boxes = np.concatenate([centres - 30, centres + 30], axis=1)
    found = np.asarray(anchors.centred_inside(boxes, np.array([[10, 20], [20, 10]], "int32")))
    assert found.tolist() == [[True, False, False, False, True], [False, False, False, True, True]]
